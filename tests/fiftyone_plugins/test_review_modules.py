"""The review plugin's pure modules, without FiftyOne."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiftyone_plugins.app.console import Console, Job
from fiftyone_plugins.app.markdown import SHOWN_LINES, report_to_markdown
from fiftyone_plugins.app.targets import MOST_IDS
from fiftyone_plugins.review.selection import Plan
from labels.errors import ServiceError
from tests.fiftyone_plugins.conftest import TOKEN, FakeConsole


def test_a_job_is_followed_to_its_end(console: FakeConsole) -> None:
    steps = list(Console(console.url, TOKEN).run("push", {"sample_ids": ["a"]}, poll_interval_s=0))

    assert [(step.state, step.progress) for step in steps] == [("running", 0.5), ("done", 1.0)]
    assert steps[-1].lines == ["push: 2 sent, 0 unchanged, 1 failed", "  failed: b_1.jpg: is empty"]
    assert not steps[-1].is_clean


def test_a_wrong_token_is_told(console: FakeConsole) -> None:
    with pytest.raises(ServiceError, match="the token is missing or wrong"):
        Console(console.url, "wrong").fetch_status()


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "started without LABELLOOP_CONSOLE_URL"),
        ({"LABELLOOP_CONSOLE_URL": "http://127.0.0.1:9091"}, "started without LABELLOOP_CONSOLE_TOKEN_FILE"),
        (
            {"LABELLOOP_CONSOLE_URL": "http://127.0.0.1:9091", "LABELLOOP_CONSOLE_TOKEN_FILE": "/nowhere"},
            "LABELLOOP_CONSOLE_TOKEN_FILE: /nowhere cannot be read",
        ),
    ],
)
def test_an_app_that_was_not_told_of_a_console_says_what_is_missing(environ: dict[str, str], problem: str) -> None:
    with pytest.raises(ServiceError, match=problem):
        Console.from_environ(environ)


def test_the_token_does_not_show(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    environ = {
        "LABELLOOP_CONSOLE_URL": "http://127.0.0.1:9091/",
        "LABELLOOP_CONSOLE_TOKEN_FILE": str(tmp_path / "token"),
    }
    console = Console.from_environ(environ)

    assert (console.url, console.token) == ("http://127.0.0.1:9091", "secret-token")
    assert "secret" not in repr(console)


def test_keys_of_a_newer_console_do_not_matter() -> None:
    record = {"id": 1, "job": "pull", "state": "done", "report": {"lines": ["pull: 1 merged"]}, "colour": "blue"}

    assert Job.from_dict(record) == Job(1, "pull", "done", report={"lines": ["pull: 1 merged"]})


@pytest.mark.parametrize(
    ("plan", "summary"),
    [
        (Plan("view", 1, 0, 0), "1 sample goes to Label Studio as a new task."),
        (Plan("view", 1200, 0, 0), "1,200 samples go to Label Studio as new tasks."),
        (
            Plan("view", 2, 1, 0),
            "1 sample goes to Label Studio as a new task. 1 was already sent: it gets newer pre-labels at most.",
        ),
    ],
)
def test_a_plan_is_one_sentence(plan: Plan, summary: str) -> None:
    assert plan.summary == summary
    assert plan.problem is None


def test_many_new_tasks_are_warned_of() -> None:
    assert Plan("view", 1001, 0, 0).warnings == ["1,001 new tasks are many for annotators to work through."]
    assert Plan("view", 1001, 1, 0).warnings == []


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan("selected", 0, 0, 0), "There is no sample to send."),
        (Plan("dataset", 0, 0, 0), "Every sample was already sent."),
        (
            Plan("view", MOST_IDS + 1, 0, 0),
            "500,001 samples are too many for one go (at most 500,000): take a smaller view.",
        ),
    ],
)
def test_what_cannot_be_sent_says_why(plan: Plan, problem: str) -> None:
    assert plan.problem == problem


def test_everything_may_be_any_number() -> None:
    assert Plan("dataset", MOST_IDS + 1, 0, 0).problem is None


def test_a_long_report_is_cut_and_says_so() -> None:
    lines = report_to_markdown(["x"] * (SHOWN_LINES + 3)).splitlines()

    assert len(lines) == SHOWN_LINES + 1
    assert lines[-1] == "- and 3 more: the console's page has them all"
