"""What the commands quality and clean make of their options, before any job runs."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labels.errors import LabelingError
from sync.cli import main
from sync.cli.quality_commands import read_thresholds
from sync.jobs.parameters import READERS, check_params


def test_thresholds_are_read_and_a_check_can_be_switched_off() -> None:
    assert read_thresholds(["blurry=0.7", "dark=off"]) == {"blurry": 0.7, "dark": None}
    assert read_thresholds([]) is None


@pytest.mark.parametrize("text", ["blurry", "blurry=", "blurry=much"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected CHECK=NUMBER or CHECK=off"):
        read_thresholds([text])


def test_clean_wants_to_know_of_what(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--home", str(tmp_path), "clean"])

    assert result.exit_code == 1
    assert "--class: say what the images should hold" in result.output


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["quality", "--dry-run"], "--dry-run: goes with --tag-trash"),
        (["clean", "--class", "cat", "--apply", "retag", "--dry-run", "--send-unsure"], "sending is no trial"),
    ],
)
def test_a_trial_that_would_be_none_is_refused(tmp_path: Path, arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(main, ["--home", str(tmp_path), *arguments])

    assert result.exit_code == 1
    assert problem in result.output


def test_a_trial_of_tagging_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr("sync.cli.quality_commands.run_here", lambda _home, job, _params, **_named: ran.append(job))

    CliRunner().invoke(main, ["--home", str(tmp_path), "quality", "--tag-trash", "--dry-run"])
    CliRunner().invoke(main, ["--home", str(tmp_path), "quality", "--tag-trash", "--yes"])

    assert ran == ["quality_decide", "quality", "quality_decide"]


def test_a_trial_of_clean_is_one_job_that_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, object]] = []
    monkeypatch.setattr(
        "sync.cli.quality_commands.run_here", lambda _home, job, params, **_named: ran.append((job, params))
    )

    arguments = ["clean", "--class", "cat", "--apply", "move", "--min-score", "0.9"]
    for flag in ("--dry-run", "--yes"):
        CliRunner().invoke(main, ["--home", str(tmp_path), *arguments, flag], catch_exceptions=False)

    wish = {"action": "move", "min_score": 0.9}
    judging = {"classes": ["cat"], "claim": "all", "threshold": 0.5, "min_size": 0.0}
    assert ran == [("clean", judging | wish | {"dry_run": True}), ("clean", judging), ("clean_apply", wish)]


@pytest.mark.parametrize(
    ("job", "params"),
    [
        ("quality", {"everything": True, "thresholds": {"dark": 0.5}, "below_mean": 6}),
        ("quality_decide", {"dry_run": True, "worst_percent": 5}),
        ("quality_undo", {"run": "trash-1"}),
        ("quality_learn", {"votes": "/votes.json"}),
        ("quality_examples", {"source": "people"}),
        ("clean", {"classes": ["person"], "claim": "tag:people", "only_new": True, "sample_ids": []}),
        ("clean", {"classes": ["person"], "dry_run": True, "action": "move", "min_score": 0.5}),
        ("clean_apply", {"action": "move", "min_score": 0.5, "view": "night"}),
        ("clean_undo", {}),
    ],
)
def test_the_console_takes_what_the_plugins_ask_for(job: str, params: dict[str, object]) -> None:
    check_params(job, params)
    with pytest.raises(LabelingError, match="'colour'"):
        READERS[job]({**params, "colour": "red"})


@pytest.mark.parametrize(("job", "name"), [("quality_examples", "out"), ("clean_apply", "to")])
def test_only_the_command_line_chooses_a_folder_to_write_to(job: str, name: str) -> None:
    with pytest.raises(LabelingError, match="only the command line may choose a folder"):
        check_params(job, {name: "/etc"})
    check_params(job, {name: "/etc"}, is_again=True)
