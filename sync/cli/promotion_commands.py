"""The commands that measure models, put a better one before the annotators, and take it back."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any, Final

import click

from sync.cli.running import run_here
from sync.settings import Home

PART: Final = click.FloatRange(0, 1)


def _to_absolute(name: str) -> str:
    """Return a path as every process finds it, and a name as it is."""
    path = Path(name).expanduser()
    return str(path.absolute()) if len(path.parts) > 1 or path.is_file() else name


def _who() -> str:
    """Return who sits at the terminal; a container may know its people by number only."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, False)}


@click.command()
@click.option("--model", help="A candidate, a registered or known name, or a path. [default: the current model]")
@click.option("--version", help="Dataset version. [default: the one the model learned from, else the newest]")
@click.option("--split", type=click.Choice(["train", "val", "test"]), default="test", help="Which of its images.")
@click.option("--fields", is_flag=True, help="Write what is right and wrong into FiftyOne, with a view of the worst.")
@click.option("--precision-floor", type=PART, help="Choose thresholds that keep this precision. [default: best F1]")
@click.pass_obj
def evaluate(
    home: Home, model: str | None, version: str | None, split: str, fields: bool, precision_floor: float | None
) -> None:
    """Measure a model on a frozen split: mAP50-95, by class and size, and from which score on to show each class.

    Example: labelloop evaluate --model yolo11n --fields
    """
    name = None if model is None else _to_absolute(model)
    params = _given(model=name, version=version, split=split, fields=fields, precision_floor=precision_floor)
    run_here(home, "evaluate", params)


@click.command()
@click.argument("candidate")
@click.option("--version", help="Dataset version to judge by. [default: the one the candidate learned from]")
@click.option("--force", is_flag=True, help="Promote it whatever the gate says; needs --reason.")
@click.option("--reason", help="Why it is forced; kept with your name.")
@click.option("--margin", type=PART, help="By how much no class may fall. [default: 0.05]")
@click.option("--min-examples", type=click.IntRange(1), help="Of a class, for that to count. [default: 20]")
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), help="Of the interval. [default: 0.95]")
@click.option("--trust-weights", "trust", is_flag=True, help="Let weights in that can run code of their own.")
@click.option("--dry-run", is_flag=True, help="Say what the gate says, and change nothing.")
@click.pass_obj
def promote(home: Home, /, candidate: str, **given: Any) -> None:
    """Put a model before the annotators if it is better than the current one on the frozen test images.

    CANDIDATE is what labelloop train made, another known model, or a path to weights. The ML backend takes it over
    while it runs; pre-labels of what nobody has reviewed are drawn anew.

    Example: labelloop promote yolo11n-1a2b3c4d --dry-run
    """
    run_here(home, "promote", {"candidate": _to_absolute(candidate), "by": _who(), **_given(**given)})


@click.command()
@click.option("--to", help="A registered model. [default: the one before the current one]")
@click.option("--reason", help="Why; kept with your name.")
@click.option("--dry-run", is_flag=True, help="Say which model would come back, and change nothing.")
@click.pass_obj
def rollback(home: Home, /, **given: Any) -> None:
    """Put the model back that was there before the last promotion.

    Example: labelloop rollback --reason "misses small cars"
    """
    run_here(home, "rollback", {"by": _who(), **_given(**given)})
