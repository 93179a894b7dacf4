"""Whether a new label config would lose classes that people used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from labels.config import LabelConfig
from labels.errors import LabelConfigError
from sync.services.label_config_check import check_image_key_stays, count_uses, find_lost, name_images

CONFIG = LabelConfig.from_xml(
    '<View><Image name="image" value="$image"/>'
    '<RectangleLabels name="box" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>'
    '<Choices name="quality" toName="image"><Choice value="keep"/></Choices></View>'
)


def region(control: str, kind: str, value: object) -> dict[str, object]:
    return {"from_name": control, "type": kind, "value": {kind: value}}


def test_annotations_count_as_used_and_predictions_do_not() -> None:
    tasks = [
        {
            "annotations": [
                {"result": [region("box", "rectanglelabels", ["car"]), region("quality", "choices", ["keep"])]},
                {"result": [region("box", "rectanglelabels", ["cat"])]},
            ],
            "drafts": [],
            "predictions": [{"result": [region("box", "rectanglelabels", ["bus"])]}],
        },
        {
            "annotations": [
                {"result": [region("stars", "rating", 4), {"type": "relation", "from_id": "a", "to_id": "b"}]}
            ]
        },
    ]
    uses = count_uses(tasks)
    assert uses == Counter({("box", "car"): 1, ("quality", "keep"): 1, ("box", "cat"): 1, ("stars", None): 1})
    assert find_lost(uses, CONFIG) == {"class 'cat' of control 'box'": 1, "control 'stars'": 1}


def test_the_images_on_which_a_class_is_used_are_named() -> None:
    tasks = [
        {
            "id": 7,
            "data": {"image": "/data/local-files/?d=images/photos-1a/cat.jpg", "sample_id": "s1"},
            "annotations": [{"result": [region("box", "rectanglelabels", ["cat"])]}] * 2,
        },
        {"id": 8, "data": {}, "annotations": [{"result": [region("box", "rectanglelabels", ["cat"])]}]},
        {"id": 9, "data": {"image": "dog.jpg"}, "annotations": []},
    ]
    assert name_images(tasks, "image") == {("box", "cat"): ["cat.jpg", "task 8"]}


def test_a_config_that_only_grows_loses_nothing() -> None:
    assert find_lost(Counter({("box", "car"): 3, ("quality", "keep"): 1}), CONFIG) == {}


@dataclass
class SomeProject:
    """What the check reads of a project."""

    task_number: int
    label_config: str


def with_image(key: str) -> str:
    return f'<View><Image name="image" value="${key}"/><Rating name="stars" toName="image"/></View>'


def test_a_config_that_looks_for_the_image_elsewhere_is_refused_once_there_are_tasks():
    config = LabelConfig.from_xml(with_image("photo"))
    check_image_key_stays(SomeProject(0, with_image("image")), config)
    check_image_key_stays(SomeProject(3, with_image("photo")), config)
    with pytest.raises(LabelConfigError, match='"\\$photo" in the label config and "\\$image" in 3 tasks'):
        check_image_key_stays(SomeProject(3, with_image("image")), config)
