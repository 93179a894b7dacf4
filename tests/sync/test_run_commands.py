"""Runs on the command line: what they show, what they refuse."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from labels.report import Failure, Report
from sync.cli import main
from sync.ledger import Ledger
from sync.settings import Home
from tests.sync.job_queues import wait_for

PUSH = Report("push", moved=2, failed=(Failure("b.jpg", "is empty", "s2"),))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


def run(home: Home, *arguments: str) -> click.testing.Result:
    variables = {"LABEL_STUDIO_URL": None, "LABELLOOP_ML_BACKEND_URL": None, "TZ": "UTC"}
    return CliRunner(env=variables).invoke(main, ["--home", str(home.path), *arguments])


def test_runs_are_listed_newest_first_with_who_started_them_and_how_they_ended(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        ledger.record_run_end(ledger.record_run_start("push", {}), "done", PUSH.to_dict())
        pull = ledger.record_run_queued("pull", {}, started_by="schedule")
        assert pull is not None
        ledger.record_run_end(pull, "failed", error="Label Studio does not answer")
        ledger.record_run_progress(ledger.record_run_start("export", {}), 0.5, "copying images")

    shown = run(home, "runs")

    lines = [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", line) for line in shown.output.splitlines()]
    assert lines == [
        "    3  TIME  cli       running      export: 50% copying images",
        "    2  TIME  schedule  failed       pull: Label Studio does not answer",
        "    1  TIME  cli       done         push: 2 sent, 0 unchanged, 1 failed",
    ]


def test_one_run_is_shown_with_its_parameters_and_failed_items(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        first = ledger.record_run_start("push", {"sample_ids": ["s1", "s2"]})
        ledger.record_run_end(first, "failed", error="Label Studio does not answer")
        again = ledger.record_run_start("push", {"sample_ids": ["s1", "s2"]}, retry_of=first)
        ledger.record_run_end(again, "done", PUSH.to_dict())

    assert run(home, "runs", "--run", "2").output.splitlines()[1:] == [
        "  sample_ids: ['s1', 's2']",
        "  in place of run 1",
        "  failed: b.jpg: is empty",
        "  again for the failed samples: labelloop retry 2 --failed",
    ]


def test_a_waiting_run_is_cancelled_and_one_that_is_over_stays_as_it_is(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        ledger.record_run_queued("pull", {}, started_by="app")
        ledger.record_run_end(ledger.record_run_start("push", {}), "done", PUSH.to_dict())

    assert run(home, "cancel", "1").output == "run 1: cancelled\n"
    assert run(home, "cancel", "2").output == "run 2 was over already (done); there was nothing to cancel\n"


@pytest.mark.parametrize("arguments", [["cancel", "7"], ["retry", "7"], ["runs", "--run", "7"]])
def test_a_run_that_is_not_known_is_said_in_one_line(home: Home, arguments: list[str]) -> None:
    Ledger.open(home.ledger).close()
    shown = run(home, *arguments)
    assert shown.exit_code == 1
    assert shown.output.startswith("Error: run 7 is not known")
    assert len(shown.output.splitlines()) == 1


def test_before_the_first_job_there_is_nothing_to_list_and_no_ledger_is_made(home: Home) -> None:
    shown = run(home, "runs")
    assert (shown.exit_code, "no job has run yet" in shown.output) == (1, True)
    assert not home.ledger.exists()


def start_job(home: Home, meanwhile: str = "pass") -> subprocess.Popen[str]:
    """Start a process that runs a job as a command does; the job goes on until it is stopped."""
    code = f"""
        import signal
        import time
        from contextlib import contextmanager
        from pathlib import Path
        from sync import startup
        from sync.jobs.context import Services
        from sync.settings import Home
        from sync.cli import main

        @contextmanager
        def open_context(home, services):
            yield None
        def call_job(context, name, params, on_progress):
            while True:
                on_progress(0.5, "half of it")
                time.sleep(0.02)
                {meanwhile}
        # Whoever runs the tests in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        startup.open_context = open_context
        startup.find_services = lambda home: Services("", "", "")
        startup.call_job = call_job
        main(["--home", {str(home.path)!r}, "prelabel"])
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until_it_runs(home: Home) -> None:
    def is_running() -> bool:
        if not home.ledger.exists():
            return False
        with Ledger.open(home.ledger) as ledger:
            return any(run.message == "half of it" for run in ledger.active_runs())

    wait_for(is_running)


def test_a_command_in_another_terminal_cancels_a_job(home: Home) -> None:
    with start_job(home) as job:
        wait_until_it_runs(home)
        asked = run(home, "cancel", "1")
        _, said = job.communicate(timeout=30)

    assert asked.output == "run 1 ends at its next step\n"
    assert job.returncode == 1
    assert said.splitlines()[-1] == "Error: prelabel was cancelled; start it again, it goes on from there"
    with Ledger.open(home.ledger) as ledger:
        (found,) = ledger.runs()
    assert (found.state, found.started_by, found.error) == ("cancelled", "cli", None)


def test_ctrl_c_leaves_a_run_that_was_stopped(home: Home) -> None:
    with start_job(home) as job:
        wait_until_it_runs(home)
        os.kill(job.pid, signal.SIGINT)
        _, said = job.communicate(timeout=30)

    assert (job.returncode, "Traceback" in said) == (1, False)
    with Ledger.open(home.ledger) as ledger:
        (found,) = ledger.runs()
    assert (found.state, found.error) == ("stopped", "stopped; start it again, it goes on from there")


def test_ctrl_c_while_python_drops_what_is_raised_stops_the_job_at_its_next_step(home: Home) -> None:
    dropped = "import weakref; weakref.finalize({1}, signal.raise_signal, signal.SIGINT)"
    with start_job(home, meanwhile=dropped) as job:
        _, said = job.communicate(timeout=30)

    assert (job.returncode, "Exception ignored" in said) == (1, True)
    with Ledger.open(home.ledger) as ledger:
        (found,) = ledger.runs()
    assert found.state == "stopped"


def test_a_killed_command_is_interrupted_and_can_be_cancelled_for_good(home: Home) -> None:
    with start_job(home) as job:
        wait_until_it_runs(home)
        os.kill(job.pid, signal.SIGKILL)
        job.communicate(timeout=30)

    assert "interrupted" in run(home, "runs").output
    assert run(home, "cancel", "1").output == "run 1: cancelled\n"
