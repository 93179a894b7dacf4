"""The commands that keep Label Studio, the ledger and FiftyOne in step: sweep, resolve, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from labels.errors import LabelingError, ServiceError
from labels.results import Label
from sync.cli.running import run_here
from sync.settings import Home, Project, read_label_config

if TYPE_CHECKING:
    from sync.catalogue.dataset import Dataset
    from sync.review.merge import Conflict


@click.command()
@click.pass_obj
def sweep(home: Home) -> None:
    """Look at every task once: notice deleted ones, clean doubled tasks and predictions, count unfinished ones.

    The console does it every night. Labels stay as they are.

    Example: labelloop sweep
    """
    run_here(home, "sweep", {})


@click.command()
@click.argument("names", nargs=-1, metavar="[SAMPLE]...")
@click.option(
    "--take",
    type=click.Choice(["reviewed", "curated"]),
    help="Label Studio's version (reviewed) or FiftyOne's (curated). [default: only list the open conflicts]",
)
@click.option("--label", "label_ids", multiple=True, help="Only this label of the sample; may be given several times.")
@click.pass_obj
def resolve(home: Home, names: tuple[str, ...], take: str | None, label_ids: tuple[str, ...]) -> None:
    """Decide conflicts: labels that were edited in FiftyOne and in Label Studio.

    Without --take, lists them with both versions. Without a sample, all of them. A sample is named by its id, or by
    the name of its file.

    Example: labelloop resolve street.jpg --take reviewed
    """
    from sync.ledger import Ledger
    from sync.review.merge import conflicts_version

    if not home.ledger.exists():
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    if label_ids and len(names) != 1:
        raise click.UsageError("--label needs one sample: labels are named within their sample")
    with Ledger.open(home.ledger) as ledger:
        conflicts = ledger.conflicts()
        known = ledger.links(names).keys() | conflicts.keys()
    sample_ids = list(dict.fromkeys(names)) if known.issuperset(names) else _find_samples(home, names)
    conflicts = {key: found for key, found in conflicts.items() if key in sample_ids or not names}
    _check_labels(conflicts, sample_ids, label_ids)
    if take is None:
        _list_conflicts(home, conflicts, sample_ids)
        return
    decision: Any = dict.fromkeys(label_ids, take) if label_ids else take
    decisions = dict.fromkeys(sample_ids or conflicts, decision)
    shown = {sample_id: conflicts_version(found) for sample_id, found in conflicts.items()}
    run_here(home, "resolve", {"decisions": decisions, "shown": shown})


def _find_samples(home: Home, names: Sequence[str]) -> list[str]:
    """Return the samples of these names.

    Raises:
        LabelingError: one of them is no sample's, or is that of several.
        ServiceError: the stack does not run, so file names are not known.
    """
    from sync.jobs.naming import find_named

    named = find_named(_open_dataset(home), names)
    if named.failed:
        raise LabelingError(f"{named.failed[0].item}: {named.failed[0].problem}")
    return named.sample_ids


def _check_labels(
    conflicts: Mapping[str, Sequence[Conflict]], sample_ids: Sequence[str], label_ids: Sequence[str]
) -> None:
    for sample_id in sample_ids if label_ids else ():
        waiting = [one.label_id for one in conflicts.get(sample_id, ())]
        unknown = [label_id for label_id in label_ids if label_id not in waiting]
        if unknown:
            known = f"in conflict: {', '.join(waiting)}" if waiting else "it has no open conflict"
            raise LabelingError(f"sample {sample_id}: label {unknown[0]} is not in conflict ({known})")


def _list_conflicts(home: Home, conflicts: Mapping[str, Sequence[Conflict]], sample_ids: Sequence[str]) -> None:
    file_names = _read_file_names(home, list(conflicts))
    for sample_id, found in conflicts.items():
        click.echo(
            f"{file_names[sample_id]} (sample {sample_id})" if sample_id in file_names else f"sample {sample_id}"
        )
        for one in found:
            click.echo(f"  label {one.label_id}: FiftyOne {_to_text(one.ours)}, Label Studio {_to_text(one.theirs)}")
    for sample_id in sample_ids:
        if sample_id not in conflicts:
            click.echo(f"sample {sample_id}: no open conflict")
    if not conflicts and not sample_ids:
        click.echo("no open conflicts")


def _read_file_names(home: Home, sample_ids: Sequence[str]) -> dict[str, str]:
    """Return the names of the samples' files; none where the tools do not run: the list is the ledger's."""
    if not sample_ids:
        return {}
    try:
        images = _open_dataset(home).images(sample_ids)
    except ServiceError:
        return {}
    return {key: (image.source_path or image.path).name for key, image in images.items()}


def _open_dataset(home: Home) -> Dataset:
    from sync import startup
    from sync.jobs.context import open_dataset

    services, project = startup.find_services(home), Project.read(home)
    if project is None:
        raise LabelingError(f"{home.path}: there is no project yet, start with: labelloop up --images DIR")
    return open_dataset(project.name, read_label_config(home), services.database_uri)


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
