"""The sweep on the real Label Studio: what no event tells of, and what is there twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from labels import fields
from sync.catalogue.samples import SampleState
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from tests.e2e.conftest import RunningStack
from tests.e2e.fresh_project import MODEL_VERSION, FreshProject, open_fresh_project

AT_ONCE = timedelta(0)


@pytest.fixture
def project(stack: RunningStack, tmp_path: Path) -> Iterator[FreshProject]:
    """A pushed project of four images."""
    with open_fresh_project(stack, tmp_path, images=4) as project:
        push(project.context)
        yield project


def tasks_of(project: FreshProject) -> list[tuple[str, int]]:
    return sorted(project.task_ids().items(), key=lambda pair: pair[1])


def problems(project: FreshProject) -> list[str]:
    return sorted(f"{failure.item} {failure.problem}" for failure in verify(project.context).failed)


def test_a_deleted_task_is_noticed_and_its_sample_keeps_its_labels(project: FreshProject):
    (sample_id, task_id), *_ = tasks_of(project)
    project.submit(task_id, lambda regions: regions)
    pull(project.context)
    before = project.context.dataset.labels([sample_id])
    project.sdk.tasks.delete(id=str(task_id))
    assert problems(project) == [f"task {task_id} was deleted in Label Studio, and that is not recorded; run sweep"]
    report = sweep(project.context)
    assert report.details["tasks newly found deleted"] == 1
    assert project.context.dataset.labels([sample_id]) == before
    assert problems(project) == []
    assert sweep(project.context).moved == 0


def test_a_second_task_of_a_sample_goes_while_it_is_empty_and_stays_once_people_worked_on_it(project: FreshProject):
    (first, first_task), (second, second_task), *_ = tasks_of(project)
    copies = [
        {"data": {"image": "/data/x.png", "sample_id": sample_id, "image_sha256": "0"}} for sample_id in (first, second)
    ]
    empty, worked = project.context.label_studio.send_tasks(copies).task_ids
    project.sdk.annotations.create(id=worked, result=[], was_cancelled=False)
    assert problems(project) == [
        f"task {empty} is a second task of its sample, the first is {first_task}",
        f"task {worked} is a second task of its sample, the first is {second_task}",
    ]
    report = sweep(project.context)
    assert report.details["doubled tasks deleted"] == 1
    assert [(failure.item, failure.sample_id) for failure in report.failed] == [(f"task {worked}", second)]
    assert {ref.task_id for ref in project.context.label_studio.fetch_refs_of([empty, worked])} == {worked}


def test_predictions_that_are_there_twice_are_cleaned_and_those_in_use_stay(project: FreshProject):
    tasks = tasks_of(project)[:3]
    for _, task_id in tasks:
        project.context.label_studio.send_predictions(
            [{"task": task_id, "model_version": MODEL_VERSION, "score": 0.5, "result": []}]
        )
    (_, used), (_, begun), (_, free) = tasks
    project.submit(used, lambda regions: regions)
    draft = {"result": [], "lead_time": 1}
    project.sdk._client_wrapper.httpx_client.request(f"api/tasks/{begun}/drafts", method="POST", json=draft)
    assert len(problems(project)) == 3
    assert sweep(project.context).details["doubled predictions left for the next sweep"] == 3
    report = sweep(project.context, grace=AT_ONCE)
    assert report.details["doubled predictions deleted"] == 2
    assert report.details["unfinished"] == 1
    left = {task.task_id: task for task in project.context.label_studio.fetch_tasks([used, begun, free])}
    assert {task_id: len(task.predictions) for task_id, task in left.items()} == {used: 1, begun: 2, free: 1}
    assert left[used].annotations[0].prediction_id == left[used].predictions[0].prediction_id


def test_what_a_pull_did_not_see_is_found(project: FreshProject):
    (sample_id, task_id), (_, other), *_ = tasks_of(project)
    annotation_id = project.submit(other, lambda regions: regions)
    pull(project.context)
    project.submit(task_id, lambda regions: regions[:1])
    project.sdk.annotations.delete(id=annotation_id)
    project.context.ledger.record_cursor("pull", "2999-01-01T00:00:00.000000Z")
    assert pull(project.context).moved == 0
    report = sweep(project.context)
    assert (report.details["reviews found"], report.details["annotations deleted"]) == (1, 1)
    assert len(project.context.dataset.labels([sample_id])[sample_id].labels) == 1


def test_a_state_somebody_changed_in_the_catalogue_is_mended(project: FreshProject):
    (sample_id, task_id), *_ = tasks_of(project)
    project.context.dataset.write_states({sample_id: SampleState(fields.CONFLICT, 7)})
    assert problems(project) == [
        f"sample {sample_id} says conflict, task 7, tagged as a conflict; it is queued, task {task_id}"
    ]
    sweep(project.context)
    assert project.context.dataset.states([sample_id]) == {sample_id: SampleState("queued", task_id)}
    assert problems(project) == []


def test_a_task_the_ledger_forgot_is_recorded_again(project: FreshProject):
    (sample_id, task_id), *_ = tasks_of(project)
    with project.context.ledger._write() as db:
        db["links"].delete(sample_id)
    assert len(problems(project)) == 2
    sweep(project.context)
    link = project.context.ledger.links([sample_id])[sample_id]
    assert (link.task_id, link.model_version, link.state) == (task_id, MODEL_VERSION, "queued")
    assert problems(project) == []


def test_what_is_on_its_way_is_no_disagreement(project: FreshProject):
    (first, first_task), (_, second_task), *_ = tasks_of(project)
    for task_id in (first_task, second_task):
        project.submit(task_id, lambda regions: regions)
    pull(project.context)
    labels = project.context.dataset.labels([first])[first].labels
    project.context.dataset.write_labels({first: [replace(labels[0], classes=("bus",)), *labels[1:]]})
    project.submit(second_task, lambda regions: regions[:2])
    report = verify(project.context)
    assert (report.moved, report.unchanged, report.failed) == (0, 4, ())
    assert report.details == {"reviews to be pulled": 1, "changes of curators to be sent": 1}


def test_a_label_that_is_lost_from_the_catalogue_without_a_curator_is_found(project: FreshProject):
    (sample_id, task_id), *_ = tasks_of(project)
    project.submit(task_id, lambda regions: regions)
    pull(project.context)
    link = project.context.ledger.links([sample_id])[sample_id]
    base = project.context.ledger.bases([sample_id])[sample_id]
    project.context.ledger.record_bases({sample_id: base[:2]})
    assert link.state == "reviewed"
    assert problems(project) == [f"sample {sample_id} what was agreed is not what people said last"]
