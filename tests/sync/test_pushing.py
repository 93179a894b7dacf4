"""Push where Label Studio forgets half of what it was sent, and where an earlier push forgot to say what it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.pull import pull
from sync.jobs.push import push
from sync.jobs.verify import verify
from sync.workbench.label_studio import MadeTasks
from tests.fakes.project import FakeProject, open_fake_project

MINE = (Label("a" * 24, "label", ("dog",), Box(10, 10, 20, 30)),)
DRAWN = (Label("b" * 24, "label", ("car",), Box(50, 10, 20, 30), confidence=0.5),)


class Forgetful:
    """Label Studio while its database was locked: it makes the tasks, and leaves out what was to be on them."""

    def __init__(self, label_studio: Any) -> None:
        self._label_studio = label_studio

    def __getattr__(self, name: str) -> Any:
        return getattr(self._label_studio, name)

    def send_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> MadeTasks:
        made: MadeTasks = self._label_studio.send_tasks([{"data": task["data"]} for task in tasks])
        return made


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Three images, all with a prediction, the first with labels of a curator."""
    with open_fake_project(images=3) as project:
        project.context.dataset.write_predictions(
            {key: SamplePrediction("fake-1", 0.25, DRAWN) for key in project.sample_ids}
        )
        project.context.dataset.write_labels({project.sample_ids[0]: MINE})
        yield project


def test_what_label_studio_lost_of_new_tasks_is_sent_again(project: FakeProject):
    forgetful: Any = Forgetful(project.context.label_studio)
    report = push(replace(project.context, label_studio=forgetful))
    assert (report.moved, report.failed) == (3, ())
    tasks = {task.sample_id: task for task in project.context.label_studio.fetch_tasks([*project.task_ids().values()])}
    assert [len(tasks[key].predictions) for key in project.sample_ids] == [1, 1, 1]
    assert [len(tasks[key].annotations) for key in project.sample_ids] == [1, 0, 0]
    assert not tasks[project.sample_ids[0]].annotations[0].ground_truth
    assert project.context.dataset.states()[project.sample_ids[0]].review_state == "reviewed"
    assert (push(project.context).moved, pull(project.context).moved) == (0, 0)
    assert verify(project.context).failed == ()


def test_labels_that_never_reached_label_studio_are_nothing_that_both_agreed_on(project: FakeProject):
    first = project.sample_ids[0]
    project.context.label_studio.send_tasks(
        [{"data": {"image": "/data/x.png", "sample_id": key, "image_sha256": "0"}} for key in project.sample_ids]
    )
    push(project.context)
    assert project.context.ledger.bases(project.sample_ids) == {}
    project.annotator.submit(project.task_ids()[first], [])
    pull(project.context)
    assert project.context.dataset.labels([first])[first].labels == MINE


def test_a_ledger_that_was_lost_is_filled_again_from_the_tasks(project: FakeProject):
    push(project.context)
    before = {key: (link.task_id, link.state) for key, link in project.context.ledger.links().items()}
    bases = project.context.ledger.bases(project.sample_ids)
    with project.context.ledger._write() as db:
        for table in ("links", "bases", "pushed_predictions", "cursors"):
            db.table(table).delete_where()
    assert push(project.context).moved == 0
    assert {key: (link.task_id, link.state) for key, link in project.context.ledger.links().items()} == before
    assert project.context.ledger.bases(project.sample_ids) == bases
    assert verify(project.context).failed == ()


def test_a_review_is_read_though_label_studio_did_not_count_it(project: FakeProject):
    push(project.context)
    project.server.clock.sleep(5)
    first = project.sample_ids[1]
    project.annotator.submit_shown(project.task_ids()[first])
    ref = next(ref for ref in project.context.label_studio.fetch_task_refs() if ref.sample_id == first)
    assert replace(ref, annotations=0).may_be_answered
    assert not replace(ref, annotations=0, updated_at=str(ref.created_at)).may_be_answered
