"""What is likely wrong is marked in Label Studio beside what people drew, and nothing that they drew changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fiftyone_plugins.mistakes.ranking import LOCATION, MISSING, SWAPPED, Finding
from labels import fields
from labels.geometry import Box
from labels.results import Label, from_result
from sync.catalogue.samples import SamplePrediction
from sync.jobs.exchange.marks import find_mark, send_marks
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.workbench.label_studio import Task
from tests.fakes.project import CONFIG, FakeProject, open_fake_project

DRAWN = tuple(Label(f"{number}" * 24, "label", ("car",), Box(30.0 * number, 10, 20, 30)) for number in (1, 2, 3))


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Two images that were sent; the first one's three boxes were submitted as they were, and pulled."""
    with open_fake_project(images=2) as project:
        drawn = tuple(replace(label, confidence=0.5) for label in DRAWN)
        project.context.dataset.write_predictions(
            {key: SamplePrediction("fake-1", 0.25, drawn) for key in project.sample_ids}
        )
        push(project.context)
        project.annotator.submit_shown(project.task_ids()[project.sample_ids[0]])
        assert pull(project.context).moved == 1
        yield project


def find(project: FakeProject, kind: str, score: float, label_id: str, **values: Any) -> Finding:
    about = (project.sample_ids[0], "/a.png", "ground_truth", kind, score, "the reason", label_id, "car")
    return Finding(*about, **values)


def read_task(project: FakeProject) -> Task:
    (task,) = project.context.label_studio.fetch_tasks([project.task_ids()[project.sample_ids[0]]])
    return task


def mark(project: FakeProject, *findings: Finding) -> tuple[int, int, int]:
    marked = send_marks(project.context, {project.sample_ids[0]: findings})
    assert marked.failed == []
    return marked.sent, marked.unchanged, marked.without


def test_a_mark_holds_all_that_people_drew_the_suspicious_first_with_the_reason(project: FakeProject) -> None:
    before = read_task(project).annotations
    swapped = find(project, SWAPPED, 0.9, "2" * 24)
    missing = find(project, MISSING, 0.6, "9" * 24, box=(0.5, 0.5, 0.25, 0.25))

    assert mark(project, swapped, missing) == (1, 0, 0)
    held = find_mark(read_task(project))
    assert held is not None
    first, second, *others = held.result
    assert (first["id"], first["score"], first["meta"]) == ("2" * 24, 0.9, {"text": ["Another class: the reason"]})
    assert (second["id"], second["meta"]) == ("9" * 24, {"text": ["Object without a box: the reason"]})
    assert ["score" in region or "meta" in region for region in others] == [False, False]
    drawn = {label.id: replace(label, confidence=None) for label in from_result(held.result, CONFIG, item="it")}
    assert drawn.pop("9" * 24) == Label("9" * 24, "label", ("car",), Box(60, 40, 30, 20))
    assert drawn == {label.id: label for label in DRAWN}
    assert read_task(project).annotations == before
    assert project.context.label_studio.fetch_model_version() == "fake-1"


def test_a_second_time_changes_nothing_and_news_changes_the_mark_in_its_place(project: FakeProject) -> None:
    swapped = find(project, SWAPPED, 0.9, "2" * 24)
    mark(project, swapped)
    first = find_mark(read_task(project))
    assert mark(project, swapped) == (0, 1, 0)

    assert mark(project, find(project, LOCATION, 0.7, "1" * 24)) == (1, 0, 0)
    second = find_mark(read_task(project))
    assert first is not None
    assert second is not None
    assert second.prediction_id == first.prediction_id
    assert second.result[0]["id"] == "1" * 24
    assert verify(project.context).failed == ()


def test_only_the_likeliest_is_marked_where_none_is_likely(project: FakeProject) -> None:
    mark(project, find(project, SWAPPED, 0.2, "2" * 24), find(project, SWAPPED, 0.15, "3" * 24))
    held = find_mark(read_task(project))
    assert held is not None
    assert [region["id"] for region in held.result if "score" in region] == ["2" * 24]


def test_nothing_is_marked_where_nobody_answered_or_the_label_is_gone(project: FakeProject) -> None:
    gone, unseen = find(project, SWAPPED, 0.9, "8" * 24), project.sample_ids[1]
    marked = send_marks(project.context, {project.sample_ids[0]: [gone], unseen: [replace(gone, sample_id=unseen)]})
    assert (marked.sent, marked.without, marked.failed) == (0, 2, [])


def test_a_class_that_the_config_lacks_is_reported_and_the_others_are_marked(project: FakeProject) -> None:
    other = project.task_ids()[project.sample_ids[1]]
    project.annotator.submit_shown(other)
    zebra = replace(find(project, MISSING, 0.6, "9" * 24, box=(0.5, 0.5, 0.25, 0.25)), label="zebra")
    good = replace(find(project, SWAPPED, 0.9, "2" * 24), sample_id=project.sample_ids[1])
    marked = send_marks(project.context, {project.sample_ids[0]: [zebra], project.sample_ids[1]: [good]})
    assert marked.sent == 1
    assert "zebra" in marked.failed[0].problem


def test_what_a_person_made_from_a_mark_is_merged_and_no_feedback_on_a_model(project: FakeProject) -> None:
    mark(project, find(project, MISSING, 0.6, "9" * 24, box=(0.5, 0.5, 0.25, 0.25)))
    project.annotator.submit_shown(read_task(project).task_id)

    assert pull(project.context).conflicts == ()
    said = project.context.dataset.labels([project.sample_ids[0]])[project.sample_ids[0]]
    assert not isinstance(said, Exception)
    assert {label.id for label in said.labels} == {*(label.id for label in DRAWN), "9" * 24}
    held = project.context.ledger.snapshot()
    assert [row["model_version"] for row in held["reviews"]] == ["fake-1", None]
    assert {row["annotation_id"] for row in held["feedback"]} == {held["reviews"][0]["annotation_id"]}
    assert verify(project.context).failed == ()


@pytest.mark.parametrize(("answers", "deleted"), [(False, 0), (True, 1)])
def test_the_sweep_deletes_marks_that_somebody_has_answered_since(
    project: FakeProject, answers: bool, deleted: int
) -> None:
    mark(project, find(project, SWAPPED, 0.9, "2" * 24))
    task = read_task(project)
    if answers:
        project.annotator.edit(task.annotations[0].annotation_id, task.annotations[0].result)
    sweep(project.context, grace=timedelta(hours=-1))
    assert (find_mark(read_task(project)) is None) == bool(deleted)
    assert read_task(project).predictions[0].model_version == "fake-1"


def test_the_sweep_leaves_marks_that_an_annotation_was_made_from(project: FakeProject) -> None:
    mark(project, find(project, SWAPPED, 0.9, "2" * 24))
    project.annotator.submit_shown(read_task(project).task_id)
    pull(project.context)
    sweep(project.context, grace=timedelta(hours=-1))
    held = find_mark(read_task(project))
    assert held is not None
    assert held.model_version == fields.MISTAKES_VERSION
