"""A curator works through the panel of label mistakes in the App: accepts, keeps, takes back, and sends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from fiftyone_plugins.app.work import Tools, find_work
from labels import fields
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.verify import verify
from sync.ledger import Ledger
from sync.workbench.label_studio import Task
from tests.e2e.conftest import RunningStack, open_window
from tests.e2e.fiftyone_app import App
from tests.e2e.job_home import JobHome, open_app_server, open_console, open_job_home

SWAPPED, MISSING, KEPT = range(3)
PANEL_TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def job_home(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobHome]:
    """Six images that people reviewed: on one a class is wrong, one lacks a box, on one a box was moved."""
    with open_job_home(stack, tmp_path_factory.mktemp("mistakes"), images=6) as job_home:
        project = job_home.project
        # One dog: a class that is drawn nowhere is one that the detector does not know.
        sample = project.fiftyone.sort_by("id", reverse=True).first()
        sample.predictions.detections[0].label = "dog"
        sample.save()
        with Ledger.open(job_home.home.ledger) as ledger:
            context = replace(project.context, ledger=ledger)
            push(context)
            for number, task_id in enumerate(task for _, task in sorted(project.task_ids().items())):
                project.submit(task_id, [plant_class, plant_gap, plant_shift, keep, keep, keep][number])
            assert pull(context).moved == 6
        tools = Tools(job_home.home.curation)
        report = find_work("mistakes").perform(project.fiftyone, {"against": "predictions"}, tools)
        assert report.moved == 6
        yield job_home


def keep(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return result


def plant_class(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first, *others = result
    return [{**first, "value": {**first["value"], "rectanglelabels": ["dog"]}}, *others]


def plant_gap(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return result[:-1]


def plant_shift(result: list[dict[str, Any]]) -> list[dict[str, Any]]:
    *others, last = result
    return [*others, {**last, "value": {**last["value"], "y": last["value"]["y"] + 9}}]


@pytest.fixture(scope="module")
def page(browser: Browser, job_home: JobHome) -> Iterator[Page]:
    """The App with the panel open."""
    with contextlib.ExitStack() as opened:
        console = opened.enter_context(open_console(job_home))
        address = opened.enter_context(open_app_server(job_home, console))
        window = open_window(browser)
        page = window.new_page()
        App(page, address, job_home.project.fiftyone.name)
        page.locator("[data-cy=new-panel-btn]").first.click()
        page.get_by_text("Label mistakes", exact=True).first.click()
        page.get_by_role("button", name="Find mistakes").wait_for(timeout=PANEL_TIMEOUT_MS)
        yield page
        window.close()


def read(job_home: JobHome, number: int) -> Any:
    project = job_home.project
    project.fiftyone.reload()
    sample = project.fiftyone[sorted(project.task_ids())[number]]
    sample.reload()
    return sample


def read_task(job_home: JobHome, number: int) -> Task:
    project = job_home.project
    (task,) = project.context.label_studio.fetch_tasks([sorted(project.task_ids().items())[number][1]])
    return task


def test_the_list_shows_each_mistake_with_a_picture_and_a_reason(page: Page) -> None:
    expect(page.get_by_text("labelled dog, the detector sees car here")).to_be_visible(timeout=PANEL_TIMEOUT_MS)
    expect(page.get_by_role("button", name="Change to car")).to_be_visible()
    picture = page.get_by_alt_text("labelled dog, the detector sees car here")
    expect(picture).to_have_js_property("naturalWidth", 400, timeout=PANEL_TIMEOUT_MS)


def test_each_finding_links_to_its_task_in_label_studio(page: Page, job_home: JobHome) -> None:
    links = {link.get_attribute("href") or "" for link in page.get_by_role("link", name="Open in Label Studio").all()}
    tasks = {int(link.rpartition("task=")[2]) for link in links}
    assert tasks
    assert tasks <= set(job_home.project.task_ids().values())


def test_what_is_sent_is_marked_in_label_studio_beside_what_people_drew(
    page: Page, job_home: JobHome, annotator: Page, stack: RunningStack
) -> None:
    project = job_home.project
    before = read_task(job_home, SWAPPED)
    # Below the box in the wrong place, which is likelier.
    page.get_by_role("button", name="Send to Label Studio").nth(1).click()
    expect(page.get_by_text("It is marked there")).to_be_visible(timeout=PANEL_TIMEOUT_MS)

    annotator.goto(f"{stack.addresses.label_studio}/projects/{project.project_id}/data?task={before.task_id}")
    annotator.get_by_text(fields.MISTAKES_VERSION, exact=True).first.click(timeout=PANEL_TIMEOUT_MS)
    annotator.locator(".lsf-outliner-item, [class*=outliner-item]").first.click()
    expect(annotator.get_by_text("Another class: labelled dog, the detector sees car here")).to_be_visible()
    after = read_task(job_home, SWAPPED)
    assert after.annotations == before.annotations
    assert list(project.context.label_studio.fetch_task_ids_with(fields.MISTAKES_VERSION)) == [before.task_id]
    assert len(after.predictions[-1].result) == len(before.annotations[0].result)
    with Ledger.open(job_home.home.ledger) as ledger:
        assert verify(replace(project.context, ledger=ledger)).failed == ()


def test_an_accepted_class_is_a_curators_change_that_the_push_carries_back(page: Page, job_home: JobHome) -> None:
    button = page.get_by_role("button", name="Change to car")
    button.click()
    expect(button).to_have_count(0, timeout=PANEL_TIMEOUT_MS)

    assert [one.label for one in read(job_home, SWAPPED).ground_truth.detections] == ["car"] * 3
    project = job_home.project
    with Ledger.open(job_home.home.ledger) as ledger:
        report = push(replace(project.context, ledger=ledger))
    assert report.details["corrections sent"] == 1
    (task,) = project.context.label_studio.fetch_tasks([sorted(project.task_ids().items())[SWAPPED][1]])
    said = {region["value"]["rectanglelabels"][0] for region in task.annotations[-1].result}
    assert said == {"car"}


def test_what_is_kept_is_gone_from_the_list_and_comes_back_with_undo(page: Page, job_home: JobHome) -> None:
    before = read(job_home, MISSING).mistakenness
    added = page.get_by_role("button", name="Add car")
    page.get_by_role("button", name="Object without a box").click()
    expect(page.get_by_role("button", name="Move the box")).to_have_count(0, timeout=PANEL_TIMEOUT_MS)
    count = added.count()
    assert count == page.get_by_role("button", name="Keep as it is").count() > 0
    page.get_by_role("button", name="Keep as it is").first.click()
    expect(added).to_have_count(count - 1, timeout=PANEL_TIMEOUT_MS)
    page.get_by_role("button", name="Undo").click()
    # With nothing left of the kind, the list shows all again.
    expect(added).to_have_count(count, timeout=PANEL_TIMEOUT_MS)
    assert read(job_home, MISSING).mistakenness == before


def test_nothing_that_was_judged_is_a_change_for_the_sync(job_home: JobHome) -> None:
    project = job_home.project
    tools = Tools(Path(job_home.home.curation))
    find_work("mistakes").perform(project.fiftyone, {"against": "predictions"}, tools)
    with Ledger.open(job_home.home.ledger) as ledger:
        context = replace(project.context, ledger=ledger)
        push(context)
        again = push(context)
        assert pull(context).conflicts == ()
    assert again.details.get("corrections sent", 0) == 0
