"""The command that simulates: what it is given is read before anything is fetched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import pytest
from PIL import Image

from labels.errors import LabelingError
from ml_backend.models import weights
from tests.sync.test_cli import run


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Seventy images with a box each, in COCO's format."""
    folder = tmp_path / "cells"
    folder.mkdir()
    for number in range(70):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / f"{number:02}.png")
    document = {
        "images": [{"id": n, "file_name": f"{n:02}.png", "width": 40, "height": 30} for n in range(70)],
        "annotations": [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 4, 10, 10]} for n in range(70)],
        "categories": [{"id": 1, "name": "cell"}],
    }
    (folder / "labels.json").write_text(json.dumps(document))
    return folder


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return the names that were asked of the hub, which has none."""
    asked: list[str] = []

    def fetch(name: str, _: Path) -> Path:
        asked.append(name)
        raise LabelingError("the hub was asked")

    monkeypatch.setattr(weights, "fetch_from_hub", fetch)
    # Nor are there weights in the folder that the tests run in.
    monkeypatch.chdir(tmp_path)
    return asked


def simulate(folder: Path | str, *more: str, **environment: Any) -> click.testing.Result:
    options = ("--dataset", str(folder), "--model", "unheard.pt", *more)
    return run(Path.cwd() / "home", "simulate", *options, LABELLOOP_OFFLINE="0", **environment)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--strategies", "foo"), "strategy 'foo' is not known"),
        (("--strategies", ","), "--strategies: expected at least one"),
        (("--start", "500"), "530 images would be labelled"),
        (("--noise", "x"), "expected percents with commas"),
    ],
)
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_wrong_option_is_told_before_anything_is_fetched(
    cells: Path, fetched: list[str], more: tuple[str, ...], problem: str, dry_run: tuple[str, ...]
) -> None:
    shown = simulate(cells, *more, *dry_run)
    assert shown.exit_code == 1
    assert problem in shown.output
    assert fetched == []


def test_a_dry_run_fetches_no_weights_and_says_that_a_run_would(cells: Path, fetched: list[str]) -> None:
    shown = simulate(cells, "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert "21 trainings at most, of 15 to 45 images each" in shown.output
    assert "unheard.pt is not on this machine; without --dry-run it is fetched" in shown.output
    assert fetched == []
    assert simulate(cells).exit_code == 1
    assert fetched == ["unheard.pt"]


@pytest.mark.parametrize(
    ("model", "problem"), [("timm:resnet50", "is a classifier"), ("nowhere/best.pt", "nowhere/best.pt")]
)
def test_a_dry_run_says_that_a_model_will_not_do(cells: Path, fetched: list[str], model: str, problem: str) -> None:
    shown = simulate(cells, "--model", model, "--dry-run")
    assert (shown.exit_code, problem in shown.output, fetched) == (1, True, [])


@pytest.mark.parametrize("name", ["/tmp/nope", "here/nope", "~/nope"])
def test_a_path_where_nothing_is_is_no_version(fetched: list[str], name: str) -> None:
    shown = simulate(name)
    assert shown.exit_code == 1
    assert f"--dataset {name}: there is no such folder" in shown.output
    assert "version" in simulate("v3").output


def test_a_file_is_no_folder(cells: Path, fetched: list[str]) -> None:
    assert "is a file (expected a folder" in simulate(cells / "labels.json").output
