"""The commands round the reviews: choose what people see next, what their reviews say, and other names for classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.settings import Home

if TYPE_CHECKING:
    from sync.review.feedback_summary import ClassFeedback, FeedbackSummary, Times

COLUMNS = ("class", "predicted", "precision", "recall", "confirmed", "moved", "relabelled", "deleted", "added")
CONFUSIONS_SHOWN = 10
FEW = ", too few to say much"


def _check_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.strip():
        raise click.BadParameter("it is empty, expected a name")
    return value


@click.command()
@click.option(
    "--by",
    required=True,
    callback=_check_name,
    help="uncertainty, mistake, diversity, random, or a field with one number a sample: the highest first.",
)
@click.option("--count", type=click.IntRange(1), required=True, help="How many samples.")
@click.option(
    "--view", callback=_check_name, help="Save them as a view of this name, to be opened in the FiftyOne App."
)
@click.option("--seed", type=int, default=0, help="For --by random: the same seed draws the same samples.")
@click.option(
    "--random-percent",
    type=click.IntRange(0, 100),
    default=10,
    show_default=True,
    help="So many percent are drawn at random all the same: chosen images alone do not tell of the others.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and change nothing.")
@click.pass_obj
def queue(home: Home, by: str, count: int, view: str | None, seed: int, random_percent: int, dry_run: bool) -> None:
    """Choose what people see next among the samples that were never sent, and send it to Label Studio.

    Near-duplicates of what waits there already are held back.

    Example: labelloop queue --by uncertainty --count 50 --view next
    """
    params: dict[str, Any] = {"by": by, "count": count, "random_percent": random_percent}
    params |= {"view": view} if view is not None else {}
    params |= {"seed": seed} if seed else {}
    run_here(home, "queue", params | ({"dry_run": True} if dry_run else {}))


@click.command()
@click.argument("old", callback=_check_name)
@click.argument("new", callback=_check_name)
@click.option(
    "--control", callback=_check_name, help="Whose class, where several controls of the label config have it."
)
@click.option("--dry-run", is_flag=True, help="Count what uses it, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def relabel(home: Home, old: str, new: str, control: str | None, dry_run: bool, yes: bool) -> None:
    """Give the class OLD the name NEW everywhere: in Label Studio, FiftyOne, the ledger and the label config.

    Where NEW is there already, the two become one, which cannot be undone. Best done while nobody annotates.

    Example: labelloop relabel truck lorry
    """
    params: dict[str, Any] = {"old": old, "new": new} | ({"control": control} if control is not None else {})
    if dry_run or not yes:
        run_here(home, "relabel", params | {"dry_run": True})
    if dry_run:
        return
    if not yes:
        click.confirm(f"Change the labels of people, too, from {old} to {new}?", abort=True)
    run_here(home, "relabel", params)


@click.command()
@click.option("--by", type=click.Choice(["reviewer", "version"]), help="One table for each of these.")
@click.option(
    "--csv",
    "csv_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one row for each predicted or added label.",
)
@click.pass_obj
def feedback(home: Home, by: str | None, csv_path: Path | None) -> None:
    """Show how often the model was right in each class, what it is confused with, and the time per image.

    The weakest class comes first; classes of which few labels are known come last.

    Example: labelloop feedback --csv feedback.csv
    """
    if not home.ledger.exists():
        raise LabelingError(f"{home.path}: nothing was reviewed yet, start with: labelloop up --images DIR")
    from sync.ledger import Ledger
    from sync.review.feedback_summary import group_feedback, summarize_feedback, write_feedback_csv

    with Ledger.open(home.ledger) as ledger:
        rows, reviews = ledger.feedback(), ledger.reviews()
    if csv_path is not None:
        try:
            with csv_path.open("w", encoding="utf-8", newline="") as stream:
                count = write_feedback_csv(rows, stream)
        except OSError as error:
            raise LabelingError(f"{csv_path}: cannot be written ({error.strerror})") from error
        click.echo(f"{csv_path}: {count} rows")
        return
    if by is None:
        _show_summary(summarize_feedback(rows, reviews))
        return
    for name, summary in group_feedback(rows, reviews, by="version" if by == "version" else "reviewer").items():
        click.echo(f"{by} {name}")
        _show_summary(summary)
        click.echo("")


def _show_summary(summary: FeedbackSummary) -> None:
    click.echo(f"reviews          {summary.reviews}")
    click.echo(f"with boxes       {_describe_times(summary.times.with_prelabels)}")
    click.echo(f"without boxes    {_describe_times(summary.times.without)}")
    if summary.times.over_labels.reviews:
        click.echo(f"over labels      {_describe_times(summary.times.over_labels)}")
    if summary.times.ratio is not None:
        is_few = summary.times.with_prelabels.is_few or summary.times.without.is_few
        click.echo(f"time with boxes  {summary.times.ratio:.0%} of the time without{FEW if is_few else ''}")
    if not summary.classes:
        click.echo("no review can be compared with a prediction yet")
        return
    click.echo("")
    controls = {one.control for one in summary.classes}
    table = [COLUMNS, *(_to_cells(one, with_control=len(controls) > 1) for one in summary.classes)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    for row in table:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        click.echo(f"{row[0]:<{widths[0]}}  {'  '.join(cells)}")
    if any(one.is_few for one in summary.classes):
        click.echo("* few labels: these numbers say little")
    if summary.confusions:
        click.echo("\npredicted and changed by people, the most frequent first")
    for one in summary.confusions[:CONFUSIONS_SHOWN]:
        click.echo(f"{one.count:5}  {one.predicted} to {one.reviewed}")


def _to_cells(one: ClassFeedback, *, with_control: bool) -> tuple[str, ...]:
    name = f"{one.control}: {one.name}" if with_control else one.name
    moved = str(one.moved) if one.mean_iou is None else f"{one.moved} (IoU {one.mean_iou:.2f})"
    return (
        name + ("*" if one.is_few else ""),
        str(one.predicted),
        _to_percent(one.precision),
        _to_percent(one.recall),
        str(one.confirmed),
        moved,
        str(one.relabelled),
        str(one.deleted),
        str(one.added),
    )


def _to_percent(part: float | None) -> str:
    return "-" if part is None else f"{part:.0%}"


def _describe_times(times: Times) -> str:
    if times.median_s is None:
        return f"{times.reviews} reviews, no time known"
    reviews = "1 review" if times.timed == 1 else f"{times.timed} reviews"
    return f"{times.median_s:.1f} s an image (median of {reviews}{FEW if times.is_few else ''})"
