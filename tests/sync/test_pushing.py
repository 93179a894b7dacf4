"""Push where Label Studio forgets half of what it was sent, and where an earlier push forgot to say what it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from sync.workbench.label_studio import MadeTasks, NoAnswerError
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
    project.annotator.submit(project.task_ids()[first], [])
    push(project.context)
    assert project.context.ledger.bases(project.sample_ids) == {}
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


@pytest.mark.parametrize("part", [0.0, 0.5, 1.5])
def test_an_image_that_is_damaged_on_disk_is_named_and_no_task_is_made_of_it(project: FakeProject, part: float):
    first = project.sample_ids[0]
    path = project.dataset.samples[first].image.path
    whole = path.read_bytes()
    path.write_bytes((whole * 2)[: int(len(whole) * part)])
    report = push(project.context)
    said = f"has {path.stat().st_size} bytes, and {len(whole)} when it was added: it is damaged or another image"
    assert [(one.item, one.sample_id) for one in report.failed] == [(str(path), first)]
    assert report.failed[0].problem.startswith(said)
    assert project.task_ids().keys() == set(project.sample_ids[1:])

    path.write_bytes(whole)
    again = push(project.context)
    assert (again.moved, again.failed) == (1, ())


def test_a_copy_for_browsers_that_is_broken_off_is_named(project: FakeProject, tmp_path: Path):
    first = project.dataset.samples[project.sample_ids[0]]
    # Of a copy nobody noted the bytes: those that are known are the person's own file's.
    first.image = replace(first.image, source_path=tmp_path / "a.tif", byte_count=7)
    whole = first.image.path.read_bytes()
    for cut in (whole[:-1], b""):
        first.image.path.write_bytes(cut)
        report = push(project.context)
        problem = f"is broken off (expected the PNG copy of {tmp_path / 'a.tif'})"
        assert [(one.item, one.problem) for one in report.failed] == [(str(tmp_path / "a.tif"), problem)]
    first.image.path.write_bytes(whole)
    assert push(project.context).failed == ()


def test_a_review_is_read_though_label_studio_did_not_count_it(project: FakeProject):
    push(project.context)
    project.server.clock.sleep(5)
    first = project.sample_ids[1]
    project.annotator.submit_shown(project.task_ids()[first])
    ref = next(ref for ref in project.context.label_studio.fetch_task_refs() if ref.sample_id == first)
    assert replace(ref, annotations=0).may_be_answered
    assert not replace(ref, annotations=0, updated_at=str(ref.created_at)).may_be_answered


class Silent(Forgetful):
    """The same, and its answer is lost besides."""

    def send_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> MadeTasks:
        super().send_tasks(tasks)
        raise NoAnswerError("Label Studio: no answer (timed out)")


def test_labels_that_label_studio_left_out_are_sent_though_its_answer_was_lost(project: FakeProject):
    first = project.sample_ids[0]
    silent: Any = Silent(project.context.label_studio)
    with pytest.raises(NoAnswerError):
        push(replace(project.context, label_studio=silent))
    assert (push(project.context).failed, push(project.context).moved) == ((), 0)
    (sent,) = project.server.annotations.values()
    assert [region["id"] for region in sent["result"]] == [MINE[0].id]
    assert project.context.ledger.bases([first]) == {first: MINE}
    assert project.dataset.samples[first].state.review_state == "reviewed"
    assert [len(project.server.of_task(project.server.predictions, one)) for one in project.server.tasks] == [1, 1, 1]
    assert verify(project.context).failed == ()


def test_labels_that_were_left_out_and_cannot_be_sent_any_more_are_named(project: FakeProject):
    first = project.sample_ids[0]
    silent: Any = Silent(project.context.label_studio)
    with pytest.raises(NoAnswerError):
        push(replace(project.context, label_studio=silent))
    project.dataset.curate(first, [replace(MINE[0], classes=("zeppelin",))])
    (failed,) = push(project.context).failed
    assert (failed.sample_id, "zeppelin" in failed.problem) == (first, True)
    assert len(project.server.tasks) == 3
    project.annotator.submit(project.task_ids()[first], [])
    pull(project.context)
    held = project.dataset.said(first)
    assert held is not None
    assert [label.classes for label in held.labels] == [("zeppelin",)]


@pytest.mark.parametrize("is_readable", [True, False])
def test_a_task_that_is_found_is_known_though_the_size_of_its_image_is_not(project: FakeProject, is_readable: bool):
    first, second, _ = project.sample_ids
    silent: Any = Silent(project.context.label_studio)
    with pytest.raises(NoAnswerError):
        push(replace(project.context, label_studio=silent))
    project.dataset.forget_size(first)
    path = project.dataset.samples[first].image.path
    whole = path.read_bytes()
    path.write_bytes(whole if is_readable else b"")
    push(project.context, sample_ids=[second])
    path.write_bytes(whole)
    push(project.context)
    assert project.context.ledger.links().keys() == set(project.sample_ids)
    assert len(project.server.tasks) == 3
    assert verify(project.context).failed == ()
