"""A curator chooses what comes next, and decides conflicts, by the buttons of the App."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from playwright.sync_api import Browser

from labels.geometry import Box
from sync.catalogue.samples import SampleLabels
from sync.jobs.exchange.pull import pull
from sync.ledger import Ledger
from tests.e2e.conftest import RunningStack, open_window
from tests.e2e.fiftyone_app import App
from tests.e2e.job_home import JobHome, open_app_server, open_console, open_job_home


@pytest.fixture(scope="module")
def job_home(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobHome]:
    with open_job_home(stack, tmp_path_factory.mktemp("deciding"), images=6) as job_home:
        yield job_home


@pytest.fixture(scope="module")
def app(browser: Browser, job_home: JobHome) -> Iterator[App]:
    with open_console(job_home) as console, open_app_server(job_home, console) as address:
        window = open_window(browser)
        yield App(window.new_page(), address, job_home.project.fiftyone.name)
        window.close()


def move(result: list[dict[str, Any]], by: float) -> list[dict[str, Any]]:
    """Return Label Studio's regions with the first one moved."""
    first, *others = result
    return [{**first, "value": {**first["value"], "x": first["value"]["x"] + by}}, *others]


def read_left(job_home: JobHome, sample_id: str) -> list[float]:
    """Return the left edges of a sample's reviewed boxes, in pixels."""
    said = job_home.project.context.dataset.labels([sample_id])[sample_id]
    assert isinstance(said, SampleLabels)
    return sorted(round(label.geometry.x, 1) for label in said.labels if isinstance(label.geometry, Box))


def test_the_most_uncertain_samples_are_queued_after_a_look_at_what_would_be(app: App, job_home: JobHome) -> None:
    form = app.open_form("queue_next")
    form.fill("How many at most", "2")
    form.tick("Only say what would be sent")
    would = form.submit("Queue")
    said = would.lines
    would.close()
    assert job_home.project.task_ids() == {}
    form = app.open_form("queue_next")
    form.fill("How many at most", "2")
    done = form.submit("Queue")

    assert "would be" in said[0]
    assert done.lines[0].startswith("queue: 2 ")
    most_uncertain = job_home.project.fiftyone.sort_by("uncertainty", reverse=True).limit(2).values("id")
    assert sorted(job_home.project.task_ids()) == sorted(most_uncertain)
    done.close()


def test_a_conflict_is_decided_for_what_the_annotator_drew(app: App, job_home: JobHome) -> None:
    project = job_home.project
    sample_id, task_id = min(project.task_ids().items())
    annotation_id = project.submit(task_id, lambda regions: regions)
    with Ledger.open(job_home.home.ledger) as ledger:
        context = replace(project.context, ledger=ledger)
        assert pull(context).moved == 1
        before = read_left(job_home, sample_id)
        project.fiftyone.reload()
        sample = project.fiftyone[sample_id]
        sample.ground_truth.detections[0].bounding_box[0] += 0.05
        sample.save()
        (task,) = project.context.label_studio.fetch_tasks([task_id])
        regions = move([dict(region) for region in task.annotations[0].result], 20)
        project.sdk.annotations.update(id=annotation_id, result=regions)
        assert len(pull(context).conflicts) == 1
    app.reload()

    result = app.open_form("resolve_conflicts", choose="What annotators drew in Label Studio").submit("Decide")

    assert result.lines[0].startswith("resolve: 1 decided")
    after = read_left(job_home, sample_id)
    # 20 % of 120 pixels.
    assert sorted(set(after) - set(before)) == [pytest.approx(left + 24) for left in set(before) - set(after)]
    with Ledger.open(job_home.home.ledger) as ledger:
        assert ledger.conflicts() == {}
        assert [(run.job, run.started_by) for run in ledger.runs(1)] == [("resolve", "app")]
