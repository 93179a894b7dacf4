"""Which of a task's annotations counts, from Label Studio's regions on."""

from __future__ import annotations

from typing import Any

import pytest

from labels.config import LabelConfig
from labels.errors import ItemError
from labels.geometry import Box, ImageSize
from labels.results import Label
from sync.review.annotators import Answer, Policy, choose_answer
from sync.workbench.tasks import Annotation, Task

CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="car"/></RectangleLabels>
    <Choices name="quality" toName="image"><Choice value="keep"/></Choices></View>"""
)
SIZE = ImageSize(400, 200)
BOX = {
    "id": "a" * 24, "type": "rectanglelabels", "from_name": "label", "to_name": "image", "score": 0.5,
    "original_width": 400, "original_height": 200, "image_rotation": 0,
    "value": {"x": 10, "y": 10, "width": 20, "height": 10, "rotation": 0, "rectanglelabels": ["car"]},
}  # fmt: skip
STRANGE = BOX | {"from_name": "somewhere else"}
CAR = Label("a" * 24, "label", ("car",), Box(40, 20, 80, 20))


def annotation(number: int, *regions: Any, is_skip: bool = False, reviewer: str | None = None) -> Annotation:
    return Annotation(
        annotation_id=number,
        result=regions,
        is_skip=is_skip,
        updated_at=f"2026-01-01T00:00:{number:02}.000000Z",
        reviewer=f"person{number}@x" if reviewer is None else reviewer,
        lead_time_s=1.0,
        prediction_id=None,
    )


def choose(policy: Policy, *annotations: Annotation) -> Answer | None:
    return choose_answer(Task(7, "s1", "2026-01-01T00:00:00.000000Z", annotations, ()), policy, CONFIG, SIZE)


@pytest.mark.parametrize("policy", ["latest", "ground_truth", "agreement"])
def test_one_answer_is_taken_as_it_is_and_a_skip_is_none(policy: Policy):
    answer, skip = annotation(1, BOX), annotation(2, is_skip=True)
    assert choose(policy, answer, skip) == Answer((CAR,), answer, annotators=1, disagreement=None)
    assert choose(policy, skip) is None
    assert choose(policy) is None


def test_what_two_people_say_is_fused_where_that_is_the_policy():
    first, second = annotation(1, BOX), annotation(2)
    fused = choose("agreement", first, second)
    assert fused == Answer((CAR,), second, annotators=2, disagreement=1.0, is_fused=True)
    assert choose("latest", first, second) == Answer((), second, annotators=2, disagreement=1.0)


def test_what_is_left_out_is_handed_back():
    chosen = choose("agreement", annotation(1, BOX), annotation(2), annotation(3))
    assert chosen is not None
    assert (chosen.labels, chosen.left_out) == ((), (CAR,))


def test_an_annotation_that_cannot_be_read_keeps_another_one_from_nothing():
    chosen = choose("latest", annotation(1, STRANGE), annotation(2, BOX))
    assert chosen is not None
    assert (chosen.labels, chosen.annotators, chosen.disagreement) == ((CAR,), 2, None)
    (note,) = chosen.notes
    assert note.startswith("task 7: annotation 1 is not compared with the others (task 7, region aaaa")


def test_an_annotation_that_has_a_say_and_cannot_be_read_is_an_error():
    with pytest.raises(ItemError, match="somewhere else"):
        choose("latest", annotation(1, BOX), annotation(2, STRANGE))
    with pytest.raises(ItemError, match="somewhere else"):
        choose("agreement", annotation(1, STRANGE), annotation(2, BOX))


def test_people_without_a_name_are_not_one_person():
    chosen = choose("agreement", annotation(1, BOX, reviewer=""), annotation(2, BOX, reviewer=""))
    assert chosen is not None
    assert (chosen.annotators, chosen.disagreement) == (2, 0.0)


def test_answers_about_the_image_are_fused_too():
    keep = {"id": "q1", "type": "choices", "from_name": "quality", "to_name": "image", "value": {"choices": ["keep"]}}
    chosen = choose("agreement", annotation(1, keep), annotation(2, keep))
    assert chosen is not None
    assert [(label.control, label.classes) for label in chosen.labels] == [("quality", ("keep",))]
