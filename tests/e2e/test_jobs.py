"""Jobs of the command line and of the console on the real tools, with an ML backend that has a bad day."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync.jobs.exchange.push import push
from sync.ledger import Ledger
from tests.e2e.conftest import RunningStack
from tests.e2e.job_home import START_TIMEOUT_S, JobHome, draw, open_console, open_job_home
from tests.fakes.flaky_backend import FlakyBackend
from tests.sync.job_queues import wait_for

IMAGES = 60


@pytest.fixture
def job_home(stack: RunningStack, tmp_path: Path) -> Iterator[JobHome]:
    with open_job_home(stack, tmp_path, images=IMAGES) as job_home:
        yield job_home


def test_prelabel_lives_through_a_bad_day_and_the_waiting_tasks_show_the_new_model(job_home: JobHome) -> None:
    backend, label_studio = job_home.backend, job_home.project.context.label_studio
    with Ledger.open(job_home.home.ledger) as ledger:
        push(replace(job_home.project.context, ledger=ledger))
    poisoned, *_ = job_home.project.fiftyone.values("id")
    backend.poison, backend.swap_after = {poisoned}, 20
    backend.mishaps = ["busy", "reset", "500", "", "half", "busy", "html"]

    first = job_home.run("prelabel")
    backend.poison = set()
    again = job_home.run("retry", "1", "--failed")

    assert first.returncode == 1, first.stderr
    assert first.stdout.splitlines() == [
        "prelabel: 59 pre-labelled, 0 unchanged, 1 failed",
        "  predictions sent 59",
        "  note: model flaky-2",
        "  note: the model changed meanwhile, from flaky-1 to flaky-2",
        f"  failed: {job_home.project.fiftyone[poisoned].filepath}: ML backend at {backend.url}: 500 internal error",
    ]
    assert again.stdout.splitlines() == [
        "prelabel: 1 pre-labelled, 0 unchanged",
        "  predictions sent 1",
        "  note: model flaky-2",
    ]
    job_home.project.fiftyone.reload()
    assert job_home.versions() == ["flaky-2"] * IMAGES
    assert job_home.project.fiftyone.values("u_rare") == [0.5] * IMAGES
    assert job_home.project.fiftyone.values("u_disagree") == [None] * IMAGES
    assert label_studio.fetch_model_version() == "flaky-2"
    for task in label_studio.fetch_tasks(list(job_home.project.task_ids().values())):
        shown = [prediction for prediction in task.predictions if prediction.model_version == "flaky-2"]
        assert [region["id"] for one in shown for region in one.result] == [draw(str(task.sample_id), "flaky-2").id]
        assert task.annotations == ()


class Gate:
    """Lets some requests of a backend through, and the others wait until it is opened."""

    def __init__(self, backend: FlakyBackend, requests: int) -> None:
        self._left = requests
        self._lock = threading.Lock()
        self._is_open = threading.Event()
        backend.on_predict = self._pass

    def open(self) -> None:
        """Let everything through."""
        self._is_open.set()

    def _pass(self) -> None:
        with self._lock:
            self._left -= 1
            may_pass = self._left >= 0
        assert may_pass or self._is_open.wait(START_TIMEOUT_S)


def test_a_job_of_a_terminal_is_cancelled_from_elsewhere_and_goes_on_when_it_is_started_again(
    job_home: JobHome,
) -> None:
    gate = Gate(job_home.backend, 3)
    with job_home.start("sync.cli", "prelabel") as command:
        wait_for(lambda: job_home.versions().count("flaky-1") > 0, timeout_s=START_TIMEOUT_S)
        with Ledger.open(job_home.home.ledger) as ledger:
            ledger.record_cancel(1)
        wait_for(lambda: (run := job_home.read_run(1)) is not None and run.is_over)
        gate.open()
        _, said = command.communicate(timeout=START_TIMEOUT_S)
    drawn = job_home.versions().count("flaky-1")
    rest = job_home.run("prelabel")

    assert command.returncode == 1
    assert said.splitlines()[-1] == "Error: prelabel was cancelled; start it again, it goes on from there"
    assert 0 < drawn < IMAGES
    assert rest.stdout.startswith(f"prelabel: {IMAGES - drawn} pre-labelled, {drawn} unchanged\n")
    with Ledger.open(job_home.home.ledger) as ledger:
        assert [(run.state, run.started_by) for run in ledger.runs()] == [("done", "cli"), ("cancelled", "cli")]


def test_jobs_survive_a_console_that_is_killed(job_home: JobHome) -> None:
    gate = Gate(job_home.backend, 3)
    with open_console(job_home) as first:
        killed, waiting = first.submit("prelabel"), first.submit("push")
        wait_for(lambda: job_home.versions().count("flaky-1") > 0, timeout_s=START_TIMEOUT_S)
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    drawn = job_home.versions().count("flaky-1")
    gate.open()
    with open_console(job_home) as second:
        wait_for(lambda: len(runs := second.read_runs()) == 3 and all(map(is_over, runs)), timeout_s=START_TIMEOUT_S)
        again, pushed, interrupted = second.read_runs()

    assert (interrupted["id"], interrupted["state"]) == (killed, "interrupted")
    assert (pushed["id"], pushed["state"], pushed["summary"]) == (waiting, "done", "push: 60 sent, 0 unchanged")
    assert (again["state"], again["retry_of"], again["started_by"]) == ("done", killed, "api")
    assert 0 < drawn < IMAGES
    assert again["report"]["moved"] == IMAGES - drawn
    assert job_home.versions() == ["flaky-1"] * IMAGES


def is_over(job: Mapping[str, Any]) -> bool:
    return job["state"] not in ("queued", "running")
