"""Tasks that were deleted in Label Studio: what only the ledger has left is kept, and what was agreed stays agreed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label, to_result
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

ANSWER = Label("9" * 24, "quality", ("keep",))


def box(number: int, x: float = 3.0) -> Label:
    return Label(f"{number:024x}", "label", ("car",), Box(x, 4, 20, 11))


def stars(rating: int) -> Label:
    return Label("a" * 24, "stars", rating=rating)


def regions(*labels: Label) -> list[dict[str, Any]]:
    return to_result(labels, CONFIG, SIZE)


def said(project: FakeProject) -> set[tuple[Any, ...]]:
    """Return what FiftyOne says of the first image."""
    held = project.dataset.said(project.sample_ids[0])
    return {to_words(label) for label in (() if held is None else held.labels)}


def to_words(label: Label) -> tuple[Any, ...]:
    place = label.geometry.x if isinstance(label.geometry, Box) else None
    return (label.control, label.classes, label.rating, place)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """One image, sent and submitted with two boxes and two answers, and pulled."""
    with open_fake_project(images=1) as project:
        push(project.context)
        (task_id,) = project.task_ids().values()
        project.annotator.submit(task_id, regions(box(1), box(2, x=60), ANSWER, stars(3)))
        pull(project.context)
        push(project.context)
        project.server.clock.sleep(60)
        yield project


def have_conflict(project: FakeProject, *, on_stars: bool = False) -> None:
    """Have both sides change the first box, or the rating, and find that."""
    theirs = [box(1), box(2, x=60), ANSWER, stars(5)] if on_stars else [box(1, x=80), box(2, x=60), ANSWER, stars(3)]
    ours = [box(1), box(2, x=60), ANSWER, stars(1)] if on_stars else [box(1, x=30), box(2, x=60), ANSWER, stars(3)]
    (annotation_id,) = project.server.annotations
    project.annotator.edit(annotation_id, regions(*theirs))
    project.dataset.curate(project.sample_ids[0], ours)
    assert len(pull(project.context).conflicts) == 1


def delete_task(project: FakeProject) -> None:
    (task_id,) = project.server.tasks
    project.annotator.delete_task(task_id)
    sweep(project.context)


def test_a_deleted_task_sent_again_carries_what_was_agreed_where_a_field_was_cleared(project: FakeProject):
    context, (sample_id,) = project.context, project.sample_ids
    before, base = said(project), context.ledger.bases([sample_id])[sample_id]
    delete_task(project)
    project.dataset.clear_regions(sample_id)
    assert push(context, sample_ids=[sample_id]).details["tasks created"] == 1
    (sent,) = project.server.annotations.values()
    assert sorted(region["from_name"] for region in sent["result"]) == ["label", "label", "quality", "stars"]
    assert set(map(to_words, context.ledger.bases([sample_id])[sample_id])) == set(map(to_words, base))
    pull(context, everything=True)
    assert said(project) == before
    assert verify(context).failed == ()


def test_a_deleted_task_sent_again_carries_what_was_agreed_where_all_was_cleared(project: FakeProject):
    context, (sample_id,) = project.context, project.sample_ids
    before = said(project)
    delete_task(project)
    project.dataset.samples[sample_id].said = {}
    push(context, sample_ids=[sample_id])
    pull(context, everything=True)
    assert said(project) == before


@pytest.mark.parametrize("side", ["reviewed", "curated"])
def test_a_conflict_of_a_deleted_task_is_decided_though_fields_were_cleared_beside_it(project: FakeProject, side: str):
    sample_id = project.sample_ids[0]
    have_conflict(project, on_stars=True)
    delete_task(project)
    project.dataset.clear_regions(sample_id)
    report = resolve(project.context, decisions={sample_id: side})
    assert (report.moved, report.failed, report.conflicts) == (1, (), ())
    assert said(project) == {
        to_words(one) for one in (box(1), box(2, x=60), ANSWER, stars(5 if side == "reviewed" else 1))
    }


def test_a_conflict_of_a_deleted_task_is_decided_though_all_was_cleared(project: FakeProject):
    sample_id = project.sample_ids[0]
    have_conflict(project)
    delete_task(project)
    project.dataset.samples[sample_id].said = {}
    (refused,) = resolve(project.context, decisions={sample_id: "reviewed"}).failed
    assert refused.problem.startswith("changed since it was shown")
    report = resolve(project.context, decisions={sample_id: "reviewed"})
    assert (report.moved, report.failed) == (1, ())
    assert said(project) == {to_words(one) for one in (box(1, x=80), box(2, x=60), ANSWER, stars(3))}


def test_a_conflict_whose_task_and_sample_are_gone_is_ended_by_a_decision_which_says_so(project: FakeProject):
    context, sample_id = project.context, project.sample_ids[0]
    have_conflict(project)
    project.dataset.delete(sample_id)
    (failed,) = pull(context).failed
    assert failed.problem.endswith("if that is meant, delete the task")
    delete_task(project)
    assert len(pull(context).conflicts) == 1
    report = resolve(context, decisions={sample_id: "reviewed"})
    assert (report.moved, report.failed, report.conflicts) == (1, (), ())
    said_so = "is not in the dataset any more and its task is gone: its conflicts end, nothing is written"
    assert report.notes == (f"sample {sample_id}: {said_so}",)
    assert (pull(context).conflicts, verify(context).failed) == ((), ())


def test_a_conflict_of_a_deleted_task_waits_while_the_size_of_its_image_is_not_known(project: FakeProject):
    context, sample_id = project.context, project.sample_ids[0]
    have_conflict(project)
    delete_task(project)
    project.dataset.forget_size(sample_id)
    (failed,) = resolve(context, decisions={sample_id: "reviewed"}).failed
    assert failed.problem == "the size of its image is not known; run push, which reads it"
    push(context)
    assert resolve(context, decisions={sample_id: "reviewed"}).moved == 1


@pytest.mark.parametrize("job", [sweep, push])
def test_a_second_task_of_a_sample_ends_no_conflict_of_its_deleted_one(project: FakeProject, job: Any):
    context, sample_id = project.context, project.sample_ids[0]
    have_conflict(project)
    (task,) = project.server.tasks.values()
    copied = {"data": dict(task["data"])}
    project.annotator.delete_task(task["id"])
    # A request that the network delivered twice: the other task of the sample appears late.
    context.label_studio.send_tasks([copied])
    pull(context)
    report = job(context)
    (conflict,) = context.ledger.conflicts()[sample_id]
    assert isinstance(conflict.theirs, Label)
    assert to_words(conflict.theirs) == to_words(box(1, x=80))
    told = [*report.notes, *(one.problem for one in report.failed)]
    assert any("decide" in one for one in told)
    assert len(project.server.tasks) == 1
    assert resolve(context, decisions={sample_id: "reviewed"}).moved == 1
    sweep(context)
    assert context.ledger.links()[sample_id].task_id == project.task_ids()[sample_id]
    assert said(project) == {to_words(one) for one in (box(1, x=80), box(2, x=60), ANSWER, stars(3))}
