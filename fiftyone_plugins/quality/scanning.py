"""Measures the images of samples, each file read once, and writes their scores and what follows from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.own_fields import MARK, declare_own
from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.quality.aesthetics import rate_samples
from fiftyone_plugins.quality.checks import ALL_CHECKS, CHECKS, CORRUPT, FIELDS
from fiftyone_plugins.quality.files import OwnFile, read_files, read_stamp
from fiftyone_plugins.quality.measuring import compute_scores
from fiftyone_plugins.quality.proposals import Rules, write_proposals
from fiftyone_plugins.quality.reading import read_picture
from labels import fields
from labels.errors import ItemError
from labels.report import Failure, Report

IMAGES_PER_WRITE: Final = 64
# Decoding and filtering release the interpreter's lock; more threads than this only hold more pictures in memory.
THREADS: Final = 4
SIDEBAR_GROUP: Final = "quality checks"
NOTHING_KNOWN: Final = dict.fromkeys([*(check.field for check in CHECKS.values()), fields.QUALITY_STAMP])

Values = dict[str, float | str | None]


def scan(samples: Any, tools: Tools, *, rules: Rules, everything: bool) -> Report:
    """Measure the samples that were not measured yet, or whose file changed since (or all); rate and propose.

    An image that cannot be decoded is measured: it is corrupt. A file that is not there is reported, and nothing is
    said about it.
    """
    dataset = samples._dataset
    declare_fields(dataset)
    tools.on_progress(None, "looking for what is new")
    files = [file for file in read_files(samples) if everything or not file.is_current]
    failed: list[Failure] = []
    measured, done = 0, 0
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in chunked(files, IMAGES_PER_WRITE):
            tools.on_progress(done / len(files), f"measuring images, {done}/{len(files)}")
            values: dict[str, Values] = {}
            for file, outcome in zip(chunk, pool.map(_measure, chunk), strict=True):
                if not isinstance(outcome, ItemError):
                    values[file.sample_id] = outcome
                    measured += 1
                    continue
                failed.append(Failure(outcome.item, outcome.problem, file.sample_id))
                if file.is_measured:
                    values[file.sample_id] = dict(NOTHING_KNOWN)
            write_values(dataset, values)
            done += len(chunk)
    rated, notes = rate_samples(samples, tools)
    counts = write_proposals(samples, rules, tools)
    return Report(
        "quality",
        moved=measured,
        unchanged=len(samples) - measured - len(failed),
        failed=tuple(failed),
        notes=(*notes, *counts.notes),
        details=counts.details | ({"rated": rated} if rated else {}),
    )


def declare_fields(dataset: Any) -> None:
    """Make the plugin's fields, with a group of their own in the sidebar; a second time changes nothing.

    Raises:
        LabelingError: a field of that name is a person's.
    """
    import fiftyone as fo

    kinds = dict.fromkeys([*FIELDS, fields.AESTHETIC_MEAN], fo.FloatField)
    kinds |= dict.fromkeys([fields.QUALITY_PROPOSAL, fields.QUALITY_REASON, fields.QUALITY_STAMP], fo.StringField)
    about = {check.field: f"{MARK}: {check.about}" for check in ALL_CHECKS.values()}
    # What labelloop measured before said so in other words.
    first = dataset.get_field(CHECKS[CORRUPT].field)
    is_known = first is not None and first.description == CHECKS[CORRUPT].about
    declare_own(dataset, kinds, by="quality", group=SIDEBAR_GROUP, known=is_known)
    for path, text in about.items():
        field = dataset.get_field(path)
        if field.description != text:
            field.description = text
            field.save()


def count_unmeasured(samples: Any) -> int:
    """Return how many samples were not measured yet."""
    field = CHECKS[CORRUPT].field
    if not samples._dataset.has_sample_field(field):
        return len(samples)
    return len(samples) - int(samples.count(field))


def _measure(file: OwnFile) -> Values | ItemError:
    # Before it is read: a change while it is read is seen the next time.
    stamp = read_stamp(file.path)
    try:
        scores = compute_scores(read_picture(file.path))
    except ItemError as error:
        return error
    return {CHECKS[name].field: score for name, score in scores.items()} | {fields.QUALITY_STAMP: stamp}
