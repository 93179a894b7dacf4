"""The command that finds images which show the same, and drops what is proposed."""

from __future__ import annotations

from typing import Any

import click

from fiftyone_plugins.duplicates.work import DEFAULT_THRESHOLD, METHODS
from sync.cli.running import run_here
from sync.cli.sample_options import sample_options, to_params
from sync.settings import Home


@click.command()
@click.option("--methods", metavar="NAMES", default=",".join(METHODS), help="Some of them, with commas between.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    default=DEFAULT_THRESHOLD,
    help="Distance of embeddings up to which 'near' looks at a pair; the App's panel shows pairs of each distance.",
)
@click.option("--unchecked", is_flag=True, help="Let the threshold decide alone, without comparing the pictures.")
@click.option("--vectors", metavar="KEY", help="Embeddings to go by.  [default: the newest, computed where missing]")
@click.option("--splits", metavar="FIELD", help="Field that names a sample's split.  [default: tags train, val, test]")
@click.option("--drop", is_flag=True, help="Tag all but the proposed keeper of each undecided group, after a look.")
@click.option("--undo", is_flag=True, help="Take the last decision back.")
@click.option("--dry-run", is_flag=True, help="Say what would be written or dropped, and do not.")
@click.option("--yes", is_flag=True, help="With --drop: do not ask.")
@sample_options
@click.pass_obj
def duplicates(home: Home, /, view: str | None, sample_ids: tuple[str, ...], **given: Any) -> None:
    """Find images that show the same, in groups, with one to keep; tells leaks between splits and labels that differ.

    Groups are fields and saved views; decide in the App's panel «Duplicates», or with --drop. Nothing is deleted: what
    is dropped has the tag 'duplicate', and is neither queued nor exported.

    Example: labelloop duplicates --methods exact,phash
    """
    if given["undo"]:
        run_here(home, "duplicates_undo", {})
    elif given["drop"]:
        _drop(home, to_params(view, sample_ids), dry_run=given["dry_run"], yes=given["yes"])
    else:
        params = to_params(
            view,
            sample_ids,
            methods=[name.strip() for name in given["methods"].split(",")],
            threshold=given["threshold"],
            vectors=given["vectors"],
            splits=given["splits"],
            unchecked=given["unchecked"] or None,
            dry_run=given["dry_run"] or None,
        )
        run_here(home, "duplicates", params)


def _drop(home: Home, params: dict[str, Any], *, dry_run: bool, yes: bool) -> None:
    if dry_run or not yes:
        run_here(home, "duplicates_drop", params | {"dry_run": True})
    if dry_run:
        return
    if not yes:
        click.confirm("Drop these?", abort=True)
    run_here(home, "duplicates_drop", params)
