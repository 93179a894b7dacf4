"""Measures the images of samples, each file read once, and writes their scores and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from more_itertools import chunked

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import group_in_sidebar, write_values
from fiftyone_plugins.quality.aesthetics import rate_samples
from fiftyone_plugins.quality.checks import ALL_CHECKS, CHECKS, CORRUPT, FIELDS
from fiftyone_plugins.quality.measuring import compute_scores
from fiftyone_plugins.quality.proposals import Rules, write_proposals
from fiftyone_plugins.quality.reading import read_picture
from labels import fields
from labels.errors import ItemError
from labels.report import Failure, Report

IMAGES_PER_WRITE: Final = 64
# Decoding and filtering release the interpreter's lock; more threads than this only hold more pictures in memory.
THREADS: Final = 4
OWN_FIELDS: Final = (*FIELDS, fields.AESTHETIC_MEAN, fields.QUALITY_PROPOSAL, fields.QUALITY_REASON)

Scores = dict[str, float | None]


def scan(samples: Any, tools: Tools, *, rules: Rules, everything: bool) -> Report:
    """Measure the samples that were not measured yet (or all), rate what has embeddings, and propose keep or trash.

    An image that cannot be decoded is measured: it is corrupt. A file that is not there is reported, and nothing is
    said about it.
    """
    dataset = samples._dataset
    declare_fields(dataset)
    rows = _find_unmeasured(samples, everything=everything)
    failed: list[Failure] = []
    measured, done = 0, 0
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in chunked(rows, IMAGES_PER_WRITE):
            tools.on_progress(done / len(rows), f"measuring images, {done}/{len(rows)}")
            outcomes = list(pool.map(_measure, [path for _, path in chunk]))
            values: dict[str, Scores] = {}
            for (sample_id, _), outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, ItemError):
                    failed.append(Failure(outcome.item, outcome.problem, sample_id))
                else:
                    values[sample_id] = {CHECKS[name].field: score for name, score in outcome.items()}
            write_values(dataset, values)
            measured, done = measured + len(values), done + len(chunk)
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
    """Make the plugin's fields, with a group of their own in the sidebar; a second time changes nothing."""
    import fiftyone as fo

    for check in ALL_CHECKS.values():
        dataset.add_sample_field(check.field, fo.FloatField, description=check.about)
    dataset.add_sample_field(fields.AESTHETIC_MEAN, fo.FloatField)
    dataset.add_sample_field(fields.QUALITY_PROPOSAL, fo.StringField)
    dataset.add_sample_field(fields.QUALITY_REASON, fo.StringField)
    group_in_sidebar(dataset, "quality checks", OWN_FIELDS)


def count_unmeasured(samples: Any) -> int:
    """Return how many samples were not measured yet."""
    field = CHECKS[CORRUPT].field
    if not samples._dataset.has_sample_field(field):
        return len(samples)
    return len(samples) - int(samples.count(field))


def _find_unmeasured(samples: Any, *, everything: bool) -> list[tuple[str, Path]]:
    """Return id and file of each sample to measure: the person's own file where the App shows a copy."""
    has_source = samples._dataset.has_sample_field(fields.SOURCE_PATH)
    names = ["id", "filepath", CHECKS[CORRUPT].field, *([fields.SOURCE_PATH] if has_source else [])]
    ids, paths, known, *sources = samples.values(names)
    own: Sequence[str | None] = sources[0] if has_source else [None] * len(ids)
    return [
        (str(sample_id), Path(source or path))
        for sample_id, path, score, source in zip(ids, paths, known, own, strict=True)
        if everything or score is None
    ]


def _measure(path: Path) -> Scores | ItemError:
    try:
        return compute_scores(read_picture(path))
    except ItemError as error:
        return error
