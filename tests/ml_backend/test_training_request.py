"""Label Studio's *Start training*: the console's job is started, or the status line says why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ml_backend.serving.training_request import Asked, ask_for_training
from ml_backend.settings import Settings
from tests.fakes.console import TOKEN, FakeConsole, serve_fake_console


@pytest.fixture
def console() -> Iterator[FakeConsole]:
    with serve_fake_console() as console:
        yield console


@pytest.fixture
def settings(console: FakeConsole, tmp_path: Path) -> Settings:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    return Settings(models_dir=tmp_path, media_root=tmp_path, console_url=console.url, console_token_file=token)


def test_the_training_job_is_started_as_the_last_time(settings: Settings, console: FakeConsole) -> None:
    asked = ask_for_training(settings)

    assert asked == Asked(200, "training is run 17 of the console", 17)
    assert console.asked == [
        ("/api/status", None),
        ("/api/jobs?job=train&limit=1", None),
        ("/api/jobs", {"job": "train", "params": {}}),
    ]


@pytest.mark.parametrize("state", ["queued", "running"])
def test_while_one_waits_or_runs_no_other_is_started(settings: Settings, console: FakeConsole, state: str) -> None:
    console.newest = state

    assert ask_for_training(settings) == Asked(200, "training is run 16 of the console already", 16)
    assert ("/api/jobs", {"job": "train", "params": {}}) not in console.asked


def test_without_a_review_it_is_refused_and_the_refusal_is_a_run_that_people_find(
    settings: Settings, console: FakeConsole
) -> None:
    console.reviewed = 0

    asked = ask_for_training(settings)

    problem = "nothing is reviewed yet: submit some tasks, and training can begin (run 17 of the console)"
    assert asked == Asked(409, problem)
    assert console.asked[-1] == ("/api/jobs", {"job": "train", "params": {}})


def test_what_the_console_refuses_is_told_in_its_words(settings: Settings, console: FakeConsole) -> None:
    console.refusal = (400, {"error": "job 'train' is not known"})

    assert ask_for_training(settings) == Asked(
        503, "the console did not start the training (400 job 'train' is not known)"
    )


@pytest.mark.parametrize(
    ("change", "status", "problem"),
    [
        (lambda one: replace(one, console_url=None), 501, "this ML backend was told of none"),
        (lambda one: replace(one, console_token_file=None), 501, "LABELLOOP_CONSOLE_TOKEN_FILE"),
        (lambda one: replace(one, console_token_file=one.models_dir / "none"), 501, "No such file"),
        (lambda one: replace(one, console_url="http://127.0.0.1:9"), 503, "no answer: ConnectionError"),
    ],
)
def test_where_no_console_can_be_asked_it_says_so(
    settings: Settings, change: Callable[[Settings], Settings], status: int, problem: str
) -> None:
    asked = ask_for_training(change(settings))

    assert (asked.status, asked.run) == (status, None)
    assert problem in asked.message


def test_the_token_is_in_no_message(settings: Settings, console: FakeConsole) -> None:
    settings.console_token_file.write_text("a-wrong-token")  # type: ignore[union-attr]  # the fixture has one

    asked = ask_for_training(settings)

    assert asked.message == "the console did not start the training (401 the token is missing or wrong)"
