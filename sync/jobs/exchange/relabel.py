"""Relabel: a class gets another name, or goes into another one, in both tools, the ledger and the label config.

Order of writes: the config with both classes (home, Label Studio), then Label Studio's annotations and predictions, the
catalogue, the ledger, at last the config without the old one (Label Studio, home). Every step finds nothing to do a
second time. While a renaming is not ended the ledger says so, and no other job writes: each side alone would look
changed to the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.exchange.class_changes import Found, change_tasks, find_drafts, look_through, since_newest
from sync.jobs.exchange.merging import TASKS_PER_CHUNK
from sync.jobs.exchange.rewriting import settle_begun
from sync.review.label_config_edit import add_class, remove_class
from sync.review.relabelling import Renaming, choose_renaming
from sync.settings import Home, find_label_config

NAMES_SHOWN: Final = 20


def relabel(
    context: Context,
    *,
    old: str,
    new: str,
    control: str | None = None,
    dry_run: bool = False,
    tasks_per_chunk: int = TASKS_PER_CHUNK,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Give a class another name everywhere; where the new one is there already, the two become one.

    ``control`` is needed where several controls have the class. ``dry_run`` counts and changes nothing. What somebody
    began and did not submit is not touched: while a draft uses the old class, the label config keeps it.

    Raises:
        LabelingError: the class is not known, or another renaming was begun and not ended.
        ServiceError: a tool did not answer; the same call goes on from there.
    """
    from sync.catalogue.fiftyone_classes import DatasetClasses

    renaming = choose_renaming(context.config, old, new, control)
    unfinished = context.ledger.unfinished_renaming()
    if unfinished not in (None, renaming):
        raise LabelingError(f"another renaming was begun and not ended; finish it first: {unfinished.command}")
    classes = DatasetClasses(context.dataset.name, context.config)
    people = classes.reviewed_samples(renaming.control, old)
    in_catalogue = {**people, **classes.predicted_samples(renaming.control, old)}
    found = Found()
    if dry_run:
        look_through(context, renaming, found, tasks_per_chunk, on_progress, is_dry_run=True)
        drafts = find_drafts(context, renaming)
        is_joined = unfinished is None and new in context.config.control(renaming.control).classes
        joined = len(classes.reviewed_samples(renaming.control, new)) if is_joined else None
        return _report(found, renaming, in_catalogue, 0, drafts, is_dry_run=True, joined=joined)
    context.ledger.record_renaming_start(renaming)
    settle_begun(context)
    _write_config(context, renaming, with_old=True)
    change_tasks(context, renaming, found, tasks_per_chunk, on_progress)
    on_progress(None, f"renaming {old!r} in FiftyOne")
    classes.write_class(renaming)
    rows = context.ledger.record_class(renaming)
    drafts = find_drafts(context, renaming)
    if not drafts and not found.failures:
        _write_config(context, renaming, with_old=False)
        # Who had the task open until now may have submitted the old name.
        look_through(context, renaming, found, tasks_per_chunk, on_progress, since=since_newest(found))
    classes.write_names(LabelConfig.read(find_label_config(context.home)))
    context.ledger.record_renaming_end()
    return _report(found, renaming, in_catalogue, rows, drafts, is_dry_run=False, home=context.home)


def _write_config(context: Context, renaming: Renaming, *, with_old: bool) -> None:
    """Write the label config of the home and of Label Studio, with both classes or without the old one.

    The one that knows more comes first: whatever people can use, the jobs can read.
    """
    home = find_label_config(context.home).read_text(encoding="utf-8")
    theirs = context.label_studio.fetch_label_config()
    if with_old:
        _write_home_config(context.home, home, _add(home, renaming))
        _send_config(context, theirs, _add(theirs, renaming))
    else:
        _send_config(context, theirs, remove_class(theirs, renaming.control, renaming.old))
        _write_home_config(context.home, home, remove_class(home, renaming.control, renaming.old))


def _add(xml: str, renaming: Renaming) -> str:
    has_old = renaming.old in LabelConfig.from_xml(xml).control(renaming.control).classes
    return add_class(xml, renaming.control, renaming.old, renaming.new) if has_old else xml


def _send_config(context: Context, before: str, after: str) -> None:
    if after != before:
        context.label_studio.send_label_config(after)


def _write_home_config(home: Home, before: str, after: str) -> None:
    if after != before:
        part = home.label_config.with_suffix(".part")
        part.write_text(after, encoding="utf-8")
        part.replace(home.label_config)


def _report(
    found: Found,
    renaming: Renaming,
    in_catalogue: Mapping[str, str],
    rows: int,
    drafts: Collection[int],
    *,
    is_dry_run: bool,
    home: Home | None = None,
    joined: int | None = None,
) -> Report:
    """Return the report; ``joined`` is how many reviewed samples have the new class already, None: there is none."""
    counts = {
        "annotations": found.annotations,
        "predictions": found.predictions,
        "FiftyOne samples": len(in_catalogue),
        "ledger rows": rows,
        "tasks with drafts": len(drafts),
    }
    notes = []
    if joined is not None:
        notes.append(
            f"{renaming.new!r} is a class already, on {joined} reviewed samples: the two would become one for good"
        )
    if drafts:
        shown = ", ".join(map(str, sorted(drafts)[:NAMES_SHOWN])) + (", …" if len(drafts) > NAMES_SHOWN else "")
        would = "would stay" if is_dry_run else "stays"
        notes.append(
            f"tasks with drafts that use {renaming.old!r}: {shown}; it {would} in the label config until they are "
            f"submitted or deleted and this is run again"
        )
    if found.failures:
        notes.append(f"{renaming.old!r} stays in the label config until what failed is mended and this is run again")
    if home is not None:
        notes.append(f"the label config is now {home.label_config}; a copy of yours elsewhere still has the old class")
    return Report(
        "relabel",
        moved=len(found.samples | in_catalogue.keys()),
        failed=tuple(found.failures.values()),
        notes=tuple(notes),
        details={name: count for name, count in counts.items() if count},
        is_dry_run=is_dry_run,
    )
