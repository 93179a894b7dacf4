"""How far a job has looked: a cursor passes nothing that was not read, and no clock hides a change for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from labels.geometry import Box
from labels.results import Label, to_result
from sync.jobs.exchange import class_changes
from sync.jobs.exchange.class_changes import Found, look_through
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.review.relabelling import Renaming
from sync.workbench import label_studio
from tests.fakes.project import CONFIG, SIZE, FakeProject, open_fake_project

HALF_A_MINUTE_S = 30


def box(number: int, x: float = 3.0, name: str = "car") -> Label:
    return Label(f"{number:024x}", "label", (name,), Box(x, 4, 20, 11))


def regions(*labels: Label) -> list[dict[str, Any]]:
    return to_result(labels, CONFIG, SIZE)


@pytest.fixture
def project() -> Iterator[FakeProject]:
    """Four images, all of them sent; nothing moves for ten minutes after it."""
    with open_fake_project(images=4) as project:
        push(project.context)
        yield project


@pytest.fixture
def reviewed(project: FakeProject) -> FakeProject:
    """The same, each submitted with a box and pulled."""
    for number, task_id in enumerate(project.task_ids().values()):
        project.annotator.submit(task_id, regions(box(number)))
    pull(project.context)
    push(project.context)
    project.server.clock.sleep(600)
    return project


def test_a_sample_stamped_in_the_future_hides_no_later_change_of_a_curator(reviewed: FakeProject):
    first, *_, last = reviewed.sample_ids
    now = reviewed.server.clock.now()
    reviewed.dataset.samples[last].modified_at = now + timedelta(days=1)
    push(reviewed.context)
    reviewed.server.clock.sleep(600)
    reviewed.dataset.curate(first, [box(0, x=70)])
    assert push(reviewed.context).details["corrections sent"] == 1


def test_a_change_stamped_by_a_clock_that_is_behind_is_found_by_the_sweep(reviewed: FakeProject):
    first, second, *_ = reviewed.sample_ids
    reviewed.dataset.curate(second, [box(1, x=50)])
    push(reviewed.context)
    reviewed.dataset.curate(first, [box(0, x=70)])
    reviewed.dataset.samples[first].modified_at -= timedelta(minutes=3)
    assert push(reviewed.context).moved == 0
    report = sweep(reviewed.context)
    assert report.details["changes of curators to be sent"] == 1
    assert push(reviewed.context).details["corrections sent"] == 1
    again = sweep(reviewed.context)
    assert (again.moved, push(reviewed.context).moved) == (0, 0)
    assert verify(reviewed.context).details == {"changes of curators, sent": 2}


def while_listing(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch, at_page: int, happens: Callable[[], None]
) -> None:
    """Have tasks come two a page, and something happen right before one of the pages is listed."""
    monkeypatch.setattr(label_studio, "REFS_PER_PAGE", 2)
    client, pages = project.context.label_studio, 0
    fetch_page = client._fetch_page

    def fetch(fields: Any, include: str, filters: Any, page_size: int, **more: Any) -> Any:
        nonlocal pages
        if include == label_studio.REF_COLUMNS and page_size == 2:
            pages += 1
            if pages == at_page:
                happens()
        return fetch_page(fields, include, filters, page_size, **more)

    monkeypatch.setattr(client, "_fetch_page", fetch)


def test_a_review_submitted_while_a_pull_reads_later_pages_is_read_by_the_next_pull(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch
):
    first, second, third, last = project.sample_ids
    tasks = project.task_ids()
    project.server.clock.sleep(60)
    for number, sample_id in enumerate((second, third)):
        project.annotator.submit(tasks[sample_id], regions(box(number)))

    def work() -> None:
        project.annotator.submit(tasks[first], regions(box(77)))
        project.server.clock.sleep(HALF_A_MINUTE_S)
        project.annotator.submit(tasks[last], regions(box(78)))

    with monkeypatch.context() as patch:
        while_listing(project, patch, 2, work)
        pull(project.context)
    project.server.clock.sleep(60)
    assert pull(project.context).moved == 1
    said = project.dataset.said(first)
    assert said is not None
    assert [label.id for label in said.labels] == [box(77).id]
    assert pull(project.context).moved == 0


def test_a_class_submitted_while_later_pages_are_renamed_is_looked_at_again(
    project: FakeProject, monkeypatch: pytest.MonkeyPatch
):
    first, *_, last = project.sample_ids
    tasks, renaming = project.task_ids(), Renaming("label", "RectangleLabels", "car", "bus")
    project.server.clock.sleep(60)

    def work() -> None:
        project.annotator.submit(tasks[first], regions(box(1)))
        project.server.clock.sleep(HALF_A_MINUTE_S)
        project.annotator.submit(tasks[last], regions(box(2)))

    with monkeypatch.context() as patch:
        while_listing(project, patch, 2, work)
        class_changes.change_tasks(project.context, renaming, Found(), 2, lambda _done, _message: None)
    look = Found()
    look_through(project.context, renaming, look, 2, lambda _done, _message: None, is_dry_run=True)
    assert look.annotations == 0
