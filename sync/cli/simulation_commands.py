"""The command that shows on a labelled set what choosing images is worth; it needs no running stack. And the report."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.settings import Home
from sync.terminal import watch_progress

if TYPE_CHECKING:
    from sync.simulation.experiment import Plan
    from sync.simulation.labelled import LabelledSet
    from sync.simulation.summary import Point

STRATEGIES: Final = "random,uncertainty,uncertainty+diversity"
FETCHABLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Names of weights that the hub is asked for; all else is a path, or a network with numbers of its own."""


@click.command()
@click.option(
    "--dataset", required=True, help="A folder of images with labels in a known format, or a version such as v3."
)
@click.option(
    "--labels",
    type=click.Path(exists=True, path_type=Path),
    help="The labels, where they are not in that folder.",
)
@click.option(
    "--strategies",
    default=STRATEGIES,
    show_default=True,
    help="With commas: random, uncertainty, corrections, rare, diversity, or one of these and +diversity.",
)
@click.option("--start", type=click.IntRange(1), default=15, show_default=True, help="Images labelled at first.")
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True, help="How often images are chosen.")
@click.option("--budget", type=click.IntRange(1), default=15, show_default=True, help="Images labelled a round.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How often all is repeated.")
@click.option("--noise", default="", help="Percents of spoiled boxes to try too, with commas.  [default: none]")
@click.option(
    "--test", "test_percent", type=click.IntRange(5, 80), default=30, show_default=True, help="Test images, %."
)
@click.option("--model", default="yolov8n.pt", show_default=True, help="What each training starts from.")
@click.option("--epochs", type=click.IntRange(1), default=25, show_default=True, help="Of each training.")
@click.option("--imgsz", type=click.IntRange(32), default=320, show_default=True, help="Side of the input in pixels.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Images learned from at once.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. [default: simulations/NAME in the home]"
)
@click.option("--dry-run", is_flag=True, help="Say what would be trained, and train nothing.")
@click.pass_obj
def simulate(home: Home, /, dataset: str, labels: Path | None, out: Path | None, dry_run: bool, **given: Any) -> None:
    """Try strategies of choosing images on a set that is labelled already, and plot mAP against labels.

    For each seed and strategy: train on a few images, measure on the test images, let the strategy choose more, train
    anew on all of them. Ended and started again with the same options, it goes on where it was.

    Example: labelloop simulate --dataset ~/cells --model yolov8n.pt --seeds 5 --rounds 3
    """
    from sync.simulation.experiment import Simulation
    from sync.simulation.learner import DetectorLearner
    from sync.simulation.plots import write_plots
    from sync.simulation.strategies import needs_vectors
    from sync.simulation.vectors import compute_set_vectors

    labelled = _read_set(home, dataset, labels)
    plan = _make_plan(given)
    plan.check(labelled)
    _show_plan(labelled, plan)
    if dry_run:
        _show_model(home, given)
        return
    # Only now is anything fetched.
    settings = _make_settings(home, given, is_offline=_is_offline())
    # Where it is computed changes little; what is trained, all.
    training = {name: value for name, value in settings.to_dict().items() if name not in ("device", "workers", "seed")}
    plan = replace(plan, training=training)
    folder = (out or home.path / "simulations" / labelled.name).expanduser().absolute()
    with watch_progress() as on_progress:
        spreads = any(needs_vectors(name) for name in plan.strategies)
        vectors = compute_set_vectors(labelled, on_progress, device=given["device"]) if spreads else None
        learner = DetectorLearner(settings, folder / "trainings")
        points = [*Simulation(labelled, plan, learner, folder, vectors).run(on_progress)]
    _show_points(points)
    for path in write_plots(points, folder, f"{labelled.name}, {Path(given['model']).name}, {given['seeds']} seeds"):
        click.echo(f"drawn: {path}")


def _read_set(home: Home, dataset: str, labels: Path | None) -> LabelledSet:
    from sync.simulation.labelled import from_version, read_folder
    from sync.versions.manifest import read_version

    folder = Path(dataset).expanduser()
    if folder.is_dir():
        return read_folder(folder.absolute(), labels)
    if folder.is_file():
        raise LabelingError(f"--dataset {dataset}: is a file (expected a folder of images, or a version)")
    if "/" in dataset or os.sep in dataset:
        raise LabelingError(f"--dataset {dataset}: there is no such folder")
    if labels is not None:
        raise LabelingError(f"--dataset {dataset}: is no folder; --labels go with one")
    return from_version(read_version(home, dataset))


def _make_plan(given: dict[str, Any]) -> Plan:
    from sync.simulation.experiment import Plan

    names = tuple(dict.fromkeys(name.strip() for name in given["strategies"].split(",") if name.strip()))
    try:
        noise = tuple(float(text) / 100 for text in given["noise"].split(",") if text.strip())
    except ValueError as error:
        raise LabelingError(f"--noise {given['noise']!r}: expected percents with commas") from error
    return Plan(
        names,
        rounds=given["rounds"],
        start=given["start"],
        budget=given["budget"],
        seeds=tuple(range(given["seeds"])),
        noise=noise,
        test_share=given["test_percent"] / 100,
    )


def _is_offline() -> bool:
    from ml_backend.environment import Environment

    return Environment(os.environ).flag("LABELLOOP_OFFLINE")


def _show_model(home: Home, given: dict[str, Any]) -> None:
    """Say whether the model would do, as far as that is known without fetching it.

    Raises:
        LabelingError: it would not.
    """
    from ml_backend.models.weights import check_weights

    model = given["model"]
    try:
        _make_settings(home, given, is_offline=True)
    except LabelingError:
        is_here = False
        with suppress(LabelingError):
            check_weights(model, models_dir=home.models, is_offline=True)
            is_here = True
        if is_here or _is_offline() or not FETCHABLE.fullmatch(model):
            raise
        click.echo(f"{model} is not on this machine; without --dry-run it is fetched")


def _make_settings(home: Home, given: dict[str, Any], *, is_offline: bool) -> Any:
    from ml_backend.environment import Environment
    from ml_backend.training import TrainingSettings
    from ml_backend.training.starting import find_start

    start = find_start(given["model"], weights=None, models_dir=home.models, is_offline=is_offline)
    if start.is_classifier:
        raise LabelingError(f"--model {given['model']}: is a classifier; a simulation needs a detector")
    return TrainingSettings(
        family=start.family,
        model=start.model,
        weights=start.weights,
        epochs=given["epochs"],
        side=given["imgsz"],
        batch=given["batch"],
        device=given["device"],
        is_trusted=Environment(os.environ).flag("LABELLOOP_TRUST_WEIGHTS"),
    )


def _show_plan(labelled: LabelledSet, plan: Plan) -> None:
    pool, test = labelled.split(plan.test_share)
    boxes = labelled.count_boxes(range(len(labelled.items)))
    click.echo(f"{labelled.name}: {len(labelled.items)} images, {boxes} boxes, {len(labelled.classes)} classes")
    for line in labelled.left_out:
        click.echo(f"  left out: {line}")
    click.echo(f"{len(pool)} images to choose from, {len(test)} to measure on")
    click.echo(f"{plan.trainings} trainings at most, of {plan.start} to {plan.most_images} images each")


def _show_points(points: Sequence[Point]) -> None:
    from sync.simulation.summary import compute_savings, in_percent, to_curve, to_noise_curve

    click.echo("\nmAP 50-95 on the test images (95 % interval over the seeds)")
    for name in dict.fromkeys(point.strategy for point in points):
        for at in to_curve(points, name):
            click.echo(f"  {name:24} {at.images:6.0f} images {at.boxes:8.0f} boxes   {at.score}")
    for saving in compute_savings(points):
        click.echo(
            f"{saving.strategy} saves {in_percent(saving.images)} of the images and {in_percent(saving.boxes)} of the"
            f" boxes that random needs, and ends {saving.gain} higher; {saving.reached} of {saving.seeds} seeds reached"
            f" random's mAP"
            f"{'' if saving.is_shown else ': not shown to save any'}"
        )
    noise = to_noise_curve(points)
    if noise:
        click.echo("spoiled boxes")
        for rate, score in noise:
            click.echo(f"  {100 * rate:3.0f} %   {score}")


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File. [default: reports/report.html]")
@click.pass_obj
def report(home: Home, out: Path | None) -> None:
    """Write one HTML file on where the project stands: data, people, models, and what to label next.

    It holds all it shows, and can be sent to somebody. Simulations of this state folder are in it.

    Example: labelloop report --out ~/labelloop.html
    """
    run_here(home, "report", {} if out is None else {"out": str(out.expanduser().absolute())})
