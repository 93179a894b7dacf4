"""The commands round dataset versions: freeze and export one, list them, compare two, check an exported folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labels.errors import LabelingError
from sync.cli.running import run_here
from sync.settings import Home, Project, read_label_config
from sync.terminal import show_report

if TYPE_CHECKING:
    from sync.versions.diff import VersionDiff
    from sync.versions.version import Version

FORMATS = (
    *("coco", "yolo", "yolo-segment", "yolo-obb", "yolo-pose", "voc"),
    *("csv", "folders", "webdataset", "tfrecord", "parquet"),
)
"""As ``sync.exports.formats`` has them, which takes its time to import."""
CHANGES_SHOWN = 20


@click.command()
@click.option("--format", "export_format", type=click.Choice(FORMATS), default="coco", help="Training format.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder. [default: exports/FORMAT in the home]"
)
@click.option(
    "--images", type=click.Choice(["copy", "link", "none"]), default="copy", help="What becomes of the images."
)
@click.option("--version", help="Write this version as it was frozen: its id, v3, or latest. [default: freeze anew]")
@click.option("--splits", help="Shares of train, val and test for images that are new. [default: as last; 80,10,10]")
@click.option("--group-by", help="Field whose values stay in one split, as listing_id; '': none. [default: as last]")
@click.option("--control", help="For --format folders: the Choices whose answers are the classes.")
@click.pass_obj
def export(home: Home, /, export_format: str, out: Path | None, images: str, **options: str | None) -> None:
    """Freeze the reviewed images and labels as a version, and write it as a training set.

    The same labels give the same version and the same bytes. An image stays in the split it was put into.

    Example: labelloop export --format yolo --out ~/training
    """
    target = {"out": str(out.expanduser().absolute())} if out is not None else {}
    given = {name: value for name, value in options.items() if value is not None}
    run_here(home, "export", {"format": export_format, "images": images, **target, **given})


@click.command()
@click.argument("version", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def versions(home: Home, version: str | None, as_json: bool) -> None:
    """List the frozen versions, or show one: its splits, its classes, and images with a twin in another split.

    Example: labelloop versions v3
    """
    from sync.versions.manifest import list_versions, read_version

    if version is not None:
        from sync.versions.summary import summarize

        found = read_version(home, version)
        if as_json:
            click.echo(json.dumps(summarize(found).to_dict(), indent=2, ensure_ascii=False))
        else:
            _show_version(found)
        return
    rows = _list_versions(home, list_versions(home))
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        splits = ", ".join(f"{count} {name}" for name, count in (row["splits"] or {}).items())
        leaks = "" if not row["leaks"] else f"  {row['leaks']} leaks"
        click.echo(
            f"{row['id']:<14} {str(row['frozen_at'] or '-')[:16]:<16}  {row['images']} images ({splits})  "
            f"{row['labels']} labels{leaks}"
        )
    if not rows:
        click.echo("no version yet; labelloop export makes one")


def _list_versions(home: Home, ids: list[str]) -> list[dict[str, Any]]:
    """Return what the ledger knows of the versions that are there; a manifest without a row is of a killed job."""
    from sync.ledger import Ledger

    known: dict[str, Any] = {}
    if home.ledger.exists():
        with Ledger.open(home.ledger) as ledger:
            known = {one.id: one for one in ledger.versions()}
    return [
        {
            "id": one,
            "frozen_at": known[one].recorded_at,
            "images": known[one].images,
            "labels": known[one].labels,
            **{name: known[one].details.get(name) for name in ("splits", "ratios", "group_by", "leaks")},
        }
        for one in ids
        if one in known
    ]


def _show_version(version: Version) -> None:
    from sync.versions.summary import summarize

    summary = summarize(version)
    click.echo(f"version {version.id} of {version.dataset}: {summary.images} images, {summary.labels} labels")
    click.echo(f"  shares asked for: {','.join(map(str, version.ratios))}; kept together by: {version.group_by or '-'}")
    click.echo("  " + ", ".join(f"{name} {text}" for name, text in sorted(version.tool_versions.items())))
    width = max((len(name) for name in summary.classes), default=5)
    click.echo(f"  {'class':<{width}} {'train':>8} {'val':>8} {'test':>8}")
    for name, counts in {"(images)": summary.split_images, **summary.classes}.items():
        click.echo(f"  {name:<{width}} {counts['train']:>8} {counts['val']:>8} {counts['test']:>8}")
    names = {image.sample_id: image.path.name for image in version.images}
    leaks = version.leaks
    near = "not computed" if leaks.near is None else f"{leaks.near} look alike"
    click.echo(f"  leaks: {leaks.same_file} the same file, {leaks.same_group} of one group, {near}")
    for pair in leaks.pairs:
        click.echo(f"    {names.get(pair.first, pair.first)} and {names.get(pair.second, pair.second)} ({pair.reason})")


@click.command()
@click.argument("before")
@click.argument("after")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every image and label.")
@click.option("--view", help="Save the images that differ as a view of this name, to be opened in the FiftyOne App.")
@click.pass_obj
def diff(home: Home, before: str, after: str, as_json: bool, view: str | None) -> None:
    """Say what changed from one version to another: images and labels added, removed and changed, per class.

    Example: labelloop diff v1 latest
    """
    from sync.versions.diff import compare_versions
    from sync.versions.manifest import read_version

    found = compare_versions(read_version(home, before), read_version(home, after))
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _show_diff(found)
    if view is not None:
        count = _save_view(home, found, view)
        click.echo(f"view {view}: {count} images", err=as_json)


def _show_diff(found: VersionDiff) -> None:
    images, labels = found.count_images(), found.count_labels()
    click.echo(f"{found.before} to {found.after}")
    for title, counts in (("images", images), ("labels", labels)):
        click.echo(f"  {title}: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for title, names in (("classes added", found.classes_added), ("classes removed", found.classes_removed)):
        if names:
            click.echo(f"  {title}: {', '.join(names)}")
    classes = found.count_by_class()
    width = max((len(name) for name in classes), default=0)
    for name, by_change in classes.items():
        click.echo(f"  {name:<{width}}  " + ", ".join(f"{count} {what}" for what, count in by_change.items() if count))
    for image in found.images[:CHANGES_SHOWN]:
        moved = image.split_before and image.split_after and image.split_before != image.split_after
        said = f", {image.split_before} to {image.split_after}" if moved else ""
        click.echo(f"  {image.change}: {image.name} ({len(image.labels)} labels{said})")
    if len(found.images) > CHANGES_SHOWN:
        click.echo(f"  and {len(found.images) - CHANGES_SHOWN} more images (--json lists them)")


def _save_view(home: Home, found: VersionDiff, name: str) -> int:
    """Save the images that differ and are still in the catalogue as a view, and return how many these are."""
    from sync import startup
    from sync.jobs.context import open_dataset

    services, project = startup.find_services(home), Project.read(home)
    if project is None:
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    dataset = open_dataset(project.name, read_label_config(home), services.database_uri)
    from sync.catalogue.fiftyone_views import MAKER, SavedView, Views

    there = set(dataset.sample_ids())
    ids = tuple(image.sample_id for image in found.images if image.sample_id in there)
    description = f"{MAKER}: what differs from {found.before} to {found.after}"
    Views(dataset.name).write_view(SavedView(name, description, ids))
    return len(ids)


@click.command("verify-export")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_obj
def verify_export(home: Home, folder: Path) -> None:
    """Check an exported folder: every file by its sum, and images and labels by the version; changes nothing.

    Leaves with 1 where something differs.

    Example: labelloop verify-export ~/training
    """
    from sync.versions.verify import verify_export as verify_folder

    report = verify_folder(home, folder)
    show_report(report)
    if report.failed:
        raise click.exceptions.Exit(1)
