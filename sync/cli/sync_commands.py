"""The commands that keep Label Studio, the ledger and FiftyOne in step: sweep, resolve, verify."""

from __future__ import annotations

from typing import Any

import click

from labels.errors import LabelingError
from labels.results import Label
from sync.cli.running import run_here
from sync.settings import Home


@click.command()
@click.pass_obj
def sweep(home: Home) -> None:
    """Look at every task once: notice deleted ones, clean doubled tasks and predictions, count unfinished ones.

    The console does it every night. Labels stay as they are.

    Example: labelloop sweep
    """
    run_here(home, "sweep", {})


@click.command()
@click.argument("sample_ids", nargs=-1, metavar="[SAMPLE_ID]...")
@click.option(
    "--take",
    type=click.Choice(["reviewed", "curated"]),
    help="Label Studio's version (reviewed) or FiftyOne's (curated). [default: only list the open conflicts]",
)
@click.option("--label", "label_ids", multiple=True, help="Only this label of the sample; may be given several times.")
@click.pass_obj
def resolve(home: Home, sample_ids: tuple[str, ...], take: str | None, label_ids: tuple[str, ...]) -> None:
    """Decide conflicts: labels that were edited in FiftyOne and in Label Studio.

    Without --take, lists them with both versions. Without a sample, all of them.

    Example: labelloop resolve 68e2a1f0c3b4d5e6f7a8b9c0 --take reviewed
    """
    from sync.ledger import Ledger
    from sync.review.merge import conflicts_version

    if not home.ledger.exists():
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    with Ledger.open(home.ledger) as ledger:
        conflicts = ledger.conflicts(list(sample_ids) or None)
    if label_ids and len(sample_ids) != 1:
        raise click.UsageError("--label needs one sample: labels are named within their sample")
    if take is None:
        for sample_id, found in conflicts.items():
            click.echo(f"sample {sample_id}")
            for one in found:
                click.echo(
                    f"  label {one.label_id}: FiftyOne {_to_text(one.ours)}, Label Studio {_to_text(one.theirs)}"
                )
        if not conflicts:
            click.echo("no open conflicts")
        return
    decision: Any = dict.fromkeys(label_ids, take) if label_ids else take
    decisions = dict.fromkeys(sample_ids or conflicts, decision)
    shown = {sample_id: conflicts_version(found) for sample_id, found in conflicts.items()}
    run_here(home, "resolve", {"decisions": decisions, "shown": shown})


@click.command()
@click.pass_obj
def verify(home: Home) -> None:
    """Compare Label Studio, the ledger and FiftyOne, and name every disagreement; changes nothing.

    Leaves with 1 where there is one.

    Example: labelloop verify
    """
    run_here(home, "verify", {})


def _to_text(label: Label | None) -> str:
    """Return what a label says, for people."""
    if label is None:
        return "deleted it"
    said = str(label.rating) if label.rating is not None else ", ".join(label.classes)
    if label.geometry is None:
        return said
    left, top, right, bottom = label.geometry.to_xyxy()
    return f"{said} at {left:.0f},{top:.0f} to {right:.0f},{bottom:.0f}"
