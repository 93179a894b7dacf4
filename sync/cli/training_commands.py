"""The command that trains a model on what people reviewed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.settings import Home


@click.command()
@click.option("--version", help="Dataset version: its id, v3, or latest. [default: freeze what is reviewed now]")
@click.option(
    "--model",
    help="An Ultralytics .pt or .yaml, a detector of torchvision, timm:NAME, or a path to weights that came of these. "
    "[default: as the last training, else the served model]",
)
@click.option(
    "--weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Tensors to start from (.safetensors, .pth), for a name of torchvision or timm.",
)
@click.option("--control", help="Learn the classes of this control of the label config alone.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the images. [default: 50]")
@click.option(
    "--imgsz", type=click.IntRange(32), help="Longer side of the input in pixels. [default: 640, a classifier 224]"
)
@click.option("--batch", type=click.IntRange(1), help="Images learned from at once. [default: 8]")
@click.option("--device", help="auto, cpu, cuda or cuda:N. [default: auto]")
@click.option("--seed", type=click.IntRange(0), help="The same seed trains the same on a CPU. [default: 0]")
@click.option("--freeze", type=click.IntRange(0), help="Keep so many first layers as they are. [default: 0]")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate. [default: the family's own]")
@click.option("--patience", type=click.IntRange(1), help="End after so many epochs without a gain. [default: 20]")
@click.option("--workers", type=click.IntRange(0), help="How many read images ahead. [default: 0]")
@click.option(
    "--replay",
    type=click.IntRange(0),
    help="Go on from a model trained here with what is new since, and so many older images, the classes even.",
)
@click.option(
    "--corrections-weight",
    type=click.FloatRange(1),
    help="How often an image that people corrected is seen in an epoch. [default: 1]",
)
@click.option("--resume", type=click.IntRange(1), metavar="RUN", help="Go on with the training of this run.")
@click.option("--dry-run", is_flag=True, help="Say what would be trained on what, and change nothing but the version.")
@click.pass_obj
def train(home: Home, /, resume: int | None, dry_run: bool, **given: Any) -> None:
    """Train a model on the reviewed images; it lands in models/candidates of the home and is served by nobody yet.

    Cancelled or killed, it goes on from its last whole epoch when it is started again the same way.

    Example: labelloop train --model yolo11n.pt --epochs 30 --imgsz 640
    """
    params = {name: value for name, value in given.items() if value is not None}
    if resume is not None:
        if params or dry_run:
            raise LabelingError("--resume goes on as it was begun; leave the other options out")
        run_here(home, "train", _read_params(home, resume), retry_of=resume)
        return
    if "weights" in params:
        params["weights"] = str(params["weights"].expanduser().absolute())
    if "model" in params and Path(params["model"]).expanduser().is_file():
        params["model"] = str(Path(params["model"]).expanduser().absolute())
    run_here(home, "train", params | ({"dry_run": True} if dry_run else {}))


def _read_params(home: Home, run_id: int) -> dict[str, Any]:
    """Return what a run was asked to train, on the version it trained on."""
    from sync.ledger import Ledger
    from sync.models.candidate import find_of_run

    if not home.ledger.exists():
        raise LabelingError(f"run {run_id} is not known")
    with Ledger.open(home.ledger) as ledger:
        run, params = ledger.run(run_id), ledger.run_params(run_id)
    if run is None or run.job != "train":
        raise LabelingError(f"run {run_id} is no training")
    candidate = find_of_run(home, run_id)
    return params if candidate is None else params | {"version": candidate.version_id}
