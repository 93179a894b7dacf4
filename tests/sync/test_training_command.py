"""``labelloop train`` on the command line: what it hands on, and what it refuses before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click.testing
import pytest
from click.testing import CliRunner

from sync.cli import main, training_commands
from sync.ledger import Ledger
from sync.models.candidate import Candidate, candidates_dir
from sync.settings import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], int | None]]:
    """What would be started."""
    found: list[tuple[str, dict[str, Any], int | None]] = []

    def keep(_: Home, name: str, params: dict[str, Any], *, retry_of: int | None = None) -> None:
        found.append((name, params, retry_of))

    monkeypatch.setattr(training_commands, "run_here", keep)
    return found


def run(home: Home, *arguments: str) -> click.testing.Result:
    return CliRunner().invoke(main, ["--home", str(home.path), *arguments])


def test_only_what_is_said_is_handed_on_and_files_by_their_whole_path(
    home: Home, started: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.pt").write_bytes(b"x")
    Path("tensors.safetensors").write_bytes(b"x")

    assert run(home, "train").exit_code == 0
    assert run(home, "train", "--model", "own.pt", "--epochs", "3", "--corrections-weight", "2.5").exit_code == 0
    assert (
        run(home, "train", "--model", "timm:resnet18", "--weights", "tensors.safetensors", "--dry-run").exit_code == 0
    )

    assert started == [
        ("train", {}, None),
        ("train", {"model": str(tmp_path / "own.pt"), "epochs": 3, "corrections_weight": 2.5}, None),
        (
            "train",
            {"model": "timm:resnet18", "weights": str(tmp_path / "tensors.safetensors"), "dry_run": True},
            None,
        ),
    ]


def test_resume_goes_on_with_a_runs_parameters_on_the_version_it_had(home: Home, started: list[Any]) -> None:
    with Ledger.open(home.ledger) as ledger:
        run_id = ledger.record_run_start("train", {"model": "yolo11n.pt", "epochs": 9})
    Candidate(
        "a-1", candidates_dir(home) / "a-1", "training", "v2-00000000", "yolo11n.pt", "ultralytics", ("car",), 0,
        run_ids=(run_id,),
    ).write()  # fmt: skip

    assert run(home, "train", "--resume", str(run_id)).exit_code == 0

    assert started == [("train", {"model": "yolo11n.pt", "epochs": 9, "version": "v2-00000000"}, run_id)]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--resume", "9"), "run 9 is not known"),
        (("--resume", "1"), "run 1 is no training"),
        (("--resume", "1", "--epochs", "3"), "leave the other options out"),
        (("--epochs", "0"), "0 is not in the range"),
        (("--weights", "nowhere.safetensors"), "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(
    home: Home, started: list[Any], arguments: tuple[str, ...], problem: str
) -> None:
    with Ledger.open(home.ledger) as ledger:
        ledger.record_run_start("pull", {})

    shown = run(home, "train", *arguments)

    assert shown.exit_code != 0
    assert problem in shown.output
    assert started == []


def test_without_a_stack_it_says_how_to_start_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABEL_STUDIO_URL", "LABELLOOP_ML_BACKEND_URL", "FIFTYONE_DATABASE_URI"):
        monkeypatch.delenv(name, raising=False)

    shown = run(home, "train", "--model", "yolo11n.pt")

    assert shown.exit_code == 1
    assert "labelloop up" in shown.output
