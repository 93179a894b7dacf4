"""The commands that run one job on the running tools and show its report."""

from __future__ import annotations

from pathlib import Path

import click

from sync.cli.running import run_here
from sync.settings import Home


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def ingest(home: Home, folder: Path) -> None:
    """Add a folder's images, with its subfolders, to the running project; nothing is sent yet.

    Example: labelloop ingest ~/more-photos
    """
    run_here(home, "ingest", {"folder": str(folder.expanduser().absolute())})


@click.command()
@click.option("--all", "everything", is_flag=True, help="Draw anew on all images, as after a change of the classes.")
@click.option(
    "--sample", "sample_ids", multiple=True, help="Id of a sample, or the name of its file; may be given several times."
)
@click.pass_obj
def prelabel(home: Home, everything: bool, sample_ids: tuple[str, ...]) -> None:
    """Let the detector draw on every image that the served weights have not seen yet.

    Example: labelloop prelabel
    """
    params: dict[str, object] = {"sample_ids": list(sample_ids)} if sample_ids else {}
    run_here(home, "prelabel", params | ({"everything": True} if everything else {}))


@click.command()
@click.option(
    "--sample",
    "sample_ids",
    multiple=True,
    help="Id of a sample to send, or the name of its file; may be given several times.",
)
@click.pass_obj
def push(home: Home, sample_ids: tuple[str, ...]) -> None:
    """Send samples to Label Studio as tasks with their predictions; those that are there stay as they are.

    Example: labelloop push
    """
    run_here(home, "push", {"sample_ids": list(sample_ids)} if sample_ids else {})


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


@click.command()
@click.option("--format", "export_format", type=click.Choice(["coco", "yolo"]), default="coco", help="Training format.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. [default: exports/FORMAT in the home]"
)
@click.option(
    "--images", type=click.Choice(["copy", "link", "none"]), default="copy", help="What becomes of the images."
)
@click.pass_obj
def export(home: Home, export_format: str, out: Path | None, images: str) -> None:
    """Write the reviewed images and labels as a training set; the same labels give the same bytes.

    Example: labelloop export --format yolo --out ~/training
    """
    target = {"out": str(out.expanduser().absolute())} if out is not None else {}
    run_here(home, "export", {"format": export_format, "images": images, **target})
