"""The commands that run one job on the running tools and show its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from sync.cli.running import run_here
from sync.cli.version_commands import FORMATS
from sync.settings import Home


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--labels",
    type=click.Path(exists=True, path_type=Path),
    help="Labels of other tools for these images: file or folder.",
)
@click.option("--format", "label_format", type=click.Choice(FORMATS), help="Of the labels. [default: by what is there]")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="OLD=NEW",
    help="Take their class OLD as NEW of the label config, or leave it out with OLD=; may be given several times.",
)
@click.option("--control", help="For --format folders: the Choices that the folders answer.")
@click.option(
    "--unpack",
    is_flag=True,
    help="Write the images that lie inside WebDataset, TFRecord or Parquet files to FOLDER; without FOLDER, into the "
    "state folder.",
)
@click.option(
    "--restore",
    is_flag=True,
    help="Add images again that were deleted in FiftyOne, as new ones: reviews stay with their old tasks.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be imported and what does not fit; change nothing.")
@click.pass_obj
def ingest(
    home: Home,
    folder: Path | None,
    labels: Path | None,
    label_format: str | None,
    mapped: tuple[str, ...],
    control: str | None,
    unpack: bool,
    restore: bool,
    dry_run: bool,
) -> None:
    """Add a folder's images, with its subfolders, to the running project; nothing is sent yet.

    With --labels, what another tool said of them too: as labels of people, for images that have none.

    Example: labelloop ingest ~/more-photos --labels ~/more-photos/annotations --format voc --map 'rbc=RBC'
    """
    if labels is None and (label_format or mapped or control or unpack or dry_run):
        raise click.UsageError("--format, --map, --control, --unpack and --dry-run are for --labels")
    if folder is None and not unpack:
        raise click.UsageError("FOLDER is missing; only --unpack does without")
    if folder is not None and not unpack and not folder.is_dir():
        raise click.BadParameter(f"{folder}: no such folder", param_hint="FOLDER")
    given = {
        "folder": None if folder is None else str(folder.expanduser().absolute()),
        "labels": None if labels is None else str(labels.expanduser().absolute()),
        "format": label_format,
        "classes": dict(_read_mapping(mapped)) or None,
        "control": control,
        "unpack": unpack or None,
        "restore": restore or None,
        "dry_run": dry_run or None,
    }
    run_here(home, "ingest", {name: value for name, value in given.items() if value is not None})


def _read_mapping(mapped: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in mapped:
        # The new name is one of the config's; the old one is anybody's, and may have such a sign in it.
        old, equals, new = text.rpartition("=")
        if not equals or not old.strip():
            raise click.BadParameter(f"{text!r}: expected OLD=NEW", param_hint="--map")
        yield old.strip(), new.strip()


@click.command()
@click.option("--all", "everything", is_flag=True, help="Draw anew on all images, as after a change of the classes.")
@click.option("--unreviewed", is_flag=True, help="Leave alone what was reviewed, as after another model took over.")
@click.option(
    "--sample", "sample_ids", multiple=True, help="Id of a sample, or the name of its file; may be given several times."
)
@click.pass_obj
def prelabel(home: Home, everything: bool, unreviewed: bool, sample_ids: tuple[str, ...]) -> None:
    """Let the detector draw on every image that the served weights have not seen yet.

    Example: labelloop prelabel
    """
    params: dict[str, object] = {"sample_ids": list(sample_ids)} if sample_ids else {}
    flags = {"everything": everything, "unreviewed": unreviewed}
    run_here(home, "prelabel", params | {name: True for name, is_set in flags.items() if is_set})


@click.command()
@click.option(
    "--sample",
    "sample_ids",
    multiple=True,
    help="Id of a sample to send, or the name of its file; may be given several times.",
)
@click.option(
    "--mark-mistakes",
    is_flag=True,
    help="Also mark in Label Studio what labelloop mistakes found there; without --sample, of all samples it tagged.",
)
@click.pass_obj
def push(home: Home, sample_ids: tuple[str, ...], mark_mistakes: bool) -> None:
    """Send samples to Label Studio as tasks with their predictions; those that are there stay as they are.

    Example: labelloop push
    """
    params: dict[str, Any] = {"sample_ids": list(sample_ids)} if sample_ids else {}
    run_here(home, "push", params | ({"mark_mistakes": True} if mark_mistakes else {}))


@click.command()
@click.option(
    "--prefer",
    type=click.Choice(["reviewed", "curated", "newest"]),
    help="Decide conflicts: Label Studio's side (reviewed), FiftyOne's (curated), or for each the one changed last "
    "(newest). [default: keep both and list them]",
)
@click.option("--all", "everything", is_flag=True, help="Read every task again, not only what changed.")
@click.option(
    "--annotators",
    type=click.Choice(["latest", "ground_truth", "agreement"]),
    help="What counts where several people answered: the last annotation, the one marked as ground truth, or what "
    "most agree on. [default: as the project says]",
)
@click.pass_obj
def pull(home: Home, prefer: str | None, everything: bool, annotators: str | None) -> None:
    """Bring submitted labels back to FiftyOne; what was edited on both sides is listed, and nothing is overwritten.

    Example: labelloop pull
    """
    given = {"prefer": prefer, "everything": everything or None, "annotators": annotators}
    run_here(home, "pull", {name: value for name, value in given.items() if value is not None})
