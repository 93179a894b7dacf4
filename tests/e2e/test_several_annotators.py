"""Several people on one task of the real Label Studio: what counts, how far they agree, what each did to the boxes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labels import fields
from labels.errors import LabelingError
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.review.feedback_summary import group_feedback
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import BOXES_PER_IMAGE, SIZE, FreshProject, open_fresh_project
from tests.e2e.several_people import ADMIN, ANN, BEN, Regions, submit_as


@pytest.fixture
def project(stack: RunningStack, tmp_path: Path) -> Iterator[FreshProject]:
    """A pushed project of three images, and three people."""
    with open_fresh_project(stack, tmp_path, images=3) as project:
        push(project.context)
        yield project


def same(regions: Regions) -> Regions:
    return regions


def shift(percent: float) -> Callable[[Regions], Regions]:
    def change(regions: Regions) -> Regions:
        regions[0]["value"]["x"] += percent
        return regions

    return change


def first_task(project: FreshProject) -> tuple[str, int]:
    return min(project.task_ids().items(), key=lambda pair: pair[1])


def test_what_most_agree_on_is_fused_and_the_rest_is_counted(project: FreshProject):
    sample_id, task_id = first_task(project)
    drawn = project.context.dataset.predictions([sample_id])[sample_id].labels
    ghost = {"id": "ghost00001", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
             "original_width": SIZE.width, "original_height": SIZE.height, "image_rotation": 0,
             "value": {"x": 1, "y": 80, "width": 9, "height": 9, "rotation": 0,
                       "rectanglelabels": ["dog"]}}  # fmt: skip
    submit_as(project, ADMIN, task_id, same)
    submit_as(project, ANN, task_id, lambda regions: [*shift(3)(regions), ghost])
    submit_as(project, BEN, task_id, lambda regions: regions[:2])

    report = pull(project.context, annotators="agreement")

    assert (report.moved, report.failed, report.conflicts) == (1, (), ())
    assert report.details["labels of a minority"] == 1
    assert "tasks with several annotations: 1; of each what most agree on counts" in report.notes
    held = {label.id: label for label in project.context.dataset.labels([sample_id])[sample_id].labels}
    assert set(held) == {label.id for label in drawn}
    # Of the three, one stands 3 % of the width to the right.
    assert held[drawn[0].id].geometry.x == pytest.approx(drawn[0].geometry.x + 0.01 * SIZE.width, abs=1e-3)
    document = project.fiftyone[sample_id]
    assert document[fields.ANNOTATORS] == 3
    # The shifted box, 20 wide and moved by 3.6, overlaps the others' by 16.4 / 23.6.
    moved = 16.4 / 23.6
    expected = ((moved + 2) / 4 + 2 / 3 + (moved + 1) / 4) / 3
    assert document[fields.DISAGREEMENT] == pytest.approx(1 - expected, abs=1e-6)
    (task,) = project.context.label_studio.fetch_tasks([task_id])
    assert sorted(len(one.result) for one in task.annotations) == [2, 3, 4]

    before = project.snapshot()
    assert pull(project.context, annotators="agreement").moved == 0
    assert project.snapshot() == before


def test_each_person_has_feedback_of_their_own(project: FreshProject):
    sample_id, task_id = first_task(project)
    submit_as(project, ADMIN, task_id, same)
    submit_as(project, ANN, task_id, lambda regions: regions[:1])
    pull(project.context)
    by_person = group_feedback(project.context.ledger.feedback(), project.context.ledger.reviews(), by="reviewer")
    counts = {name: (one.classes[0].confirmed, one.classes[0].deleted) for name, one in by_person.items()}
    assert counts == {ADMIN: (3, 0), ANN: (1, 2)}
    # By default the latest answer is the one that counts.
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == 1
    assert project.fiftyone[sample_id][fields.DISAGREEMENT] == pytest.approx(2 / 3)


def test_a_starred_answer_goes_before_later_ones_and_another_policy_reads_again(project: FreshProject):
    sample_id, task_id = first_task(project)
    starred = submit_as(project, ADMIN, task_id, same)
    submit_as(project, ANN, task_id, lambda regions: [])
    assert pull(project.context).moved == 1
    assert project.context.dataset.labels([sample_id])[sample_id].labels == ()
    project.sdk.annotations.update(id=starred, ground_truth=True)
    submit_as(project, BEN, task_id, lambda regions: regions[:1])
    assert pull(project.context, annotators="ground_truth").moved == 1
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == BOXES_PER_IMAGE
    assert pull(project.context, annotators="agreement", everything=True).moved == 1
    # Two of three drew the first box, one drew the others.
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == 1


def test_a_skip_beside_an_answer_is_no_vote(project: FreshProject):
    sample_id, task_id = first_task(project)
    submit_as(project, ANN, task_id, same)
    project.skip(task_id)
    pull(project.context, annotators="agreement")
    document = project.fiftyone[sample_id]
    assert (document[fields.ANNOTATORS], document[fields.DISAGREEMENT]) == (1, None)
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == BOXES_PER_IMAGE


def test_a_policy_that_is_not_there_is_refused(project: FreshProject):
    with pytest.raises(LabelingError, match="annotators 'loudest' is not known"):
        pull(project.context, annotators="loudest")
