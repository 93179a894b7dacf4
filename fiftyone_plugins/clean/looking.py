"""Judges samples: what is claimed of each, what a detector sees, and what comes of it, written on the sample."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from more_itertools import chunked
from numpy.typing import NDArray

from fiftyone_plugins.app.field_boxes import read_size, to_drawn
from fiftyone_plugins.app.own_fields import declare_own
from fiftyone_plugins.app.work import DrawnBoxes, Tools
from fiftyone_plugins.app.writing import group_in_sidebar, write_values
from fiftyone_plugins.clean.claims import Claim, read_claims, read_files
from fiftyone_plugins.clean.judging import (
    CONTRADICTIONS,
    SHOWN_FLOOR,
    Criteria,
    Judgement,
    check_classes,
    count_outcomes,
    find_boxes,
    format_table,
    judge,
)
from fiftyone_plugins.clean.memory import OWN_FIELDS, Question, remember, view_judged, was_asked
from fiftyone_plugins.clean.planning import Rehearsal, plan, read_contradictions
from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, Report

IMAGES_PER_WRITE: Final = 32
SHOWN: Final = 10
NO_DETECTOR: Final = (
    "there is no detector here: start labelloop's console with 'labelloop up', or compare with a field of boxes"
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One sample to look at; ``size`` is that of the upright image, None: not known yet."""

    sample_id: str
    shown: Path
    own: Path
    size: tuple[int, int] | None
    claim: bool | None


def clean(
    samples: Any,
    tools: Tools,
    *,
    criteria: Criteria,
    claim: Claim,
    model: str | None,
    seen_in: str | None,
    only_new: bool,
    rehearsal: Rehearsal | None = None,
) -> Report:
    """Judge every sample: by a detector, or by the boxes of a field ``seen_in`` that are there already.

    With a ``rehearsal`` nothing is written: the report says what would be, and what acting on it would do.

    Raises:
        LabelingError: there is no detector, it does not know a class, or the claim cannot be read.
    """
    dataset = samples._dataset
    question = Question(criteria, claim)
    tools.on_progress(None, "reading claims")
    rows = _read_rows(samples, question, only_new=only_new)
    if rehearsal is None:
        declare_fields(dataset)
    failed: list[Failure] = []
    judged: dict[str, Judgement] = {}
    done = 0
    # Closed whatever happens: a detector's threads must not outlive the work.
    with closing(_draw(rows, tools, model) if seen_in is None else _read_boxes(samples, rows, seen_in)) as drawn:
        for chunk in chunked(zip(rows, drawn, strict=True), IMAGES_PER_WRITE):
            values: dict[str, Mapping[str, Any]] = {}
            for row, outcome in chunk:
                found = outcome if isinstance(outcome, ItemError) else _judge(row, outcome, question)
                if isinstance(found, ItemError):
                    failed.append(Failure(str(row.own), found.problem, row.sample_id))
                    # What was seen of it before was seen in another file, or was asked for something else.
                    values[row.sample_id] = dict.fromkeys(OWN_FIELDS)
                else:
                    judged[row.sample_id], values[row.sample_id] = found
            if rehearsal is None and done == 0:
                # Before the first outcome is written, and not before the detector has said that it knows the classes.
                remember(dataset, question, model=model, seen_in=seen_in)
            if rehearsal is None:
                write_values(dataset, values)
            done += len(chunk)
            tools.on_progress(done / len(rows), f"looking at images, {done}/{len(rows)}")
    if rehearsal is None and not rows:
        remember(dataset, question, model=model, seen_in=seen_in)
    report = _to_report(samples, rows, judged, failed, criteria)
    return report if rehearsal is None else _rehearse(report, samples, judged, question, rehearsal)


def declare_fields(dataset: Any) -> None:
    """Make the plugin's fields, with a group of their own in the sidebar; a second time changes nothing.

    Raises:
        LabelingError: a person has a field of such a name.
    """
    import fiftyone as fo

    texts = dict.fromkeys((fields.CLEAN_OUTCOME, fields.CLEAN_ABOUT), fo.StringField)
    shown = texts | dict.fromkeys((fields.CLEAN_SCORE, fields.CLEAN_CONFIDENCE), fo.FloatField)
    declare_own(dataset, shown | {fields.CLEAN_SEEN: fo.Detections}, by="clean", known=was_asked(dataset))
    group_in_sidebar(dataset, "clean", [name for name in OWN_FIELDS if name in shown])


def _read_rows(samples: Any, question: Question, *, only_new: bool) -> list[_Row]:
    claims = read_claims(samples, question.claim, question.criteria.classes)
    paths, widths, heights = samples.values(["filepath", "metadata.width", "metadata.height"])
    has_marks = only_new and samples._dataset.has_sample_field(fields.CLEAN_ABOUT)
    judged = set(view_judged(samples, question.mark).values("id")) if has_marks else set()
    columns = zip(claims.items(), paths, read_files(samples), widths, heights, strict=True)
    return [
        _Row(sample_id, Path(path), own, (width, height) if width and height else None, said)
        for (sample_id, said), path, own, width, height in columns
        if sample_id not in judged
    ]


def _draw(rows: Sequence[_Row], tools: Tools, model: str | None) -> Generator[DrawnBoxes | ItemError, None, None]:
    if tools.draw is None:
        raise LabelingError(NO_DETECTOR)
    yield from tools.draw((row.shown for row in rows), model=model, score_floor=SHOWN_FLOOR)


def _read_boxes(samples: Any, rows: Sequence[_Row], name: str) -> Generator[DrawnBoxes | ItemError, None, None]:
    """Yield the boxes of a field, in pixels; a sample about which it says nothing was not looked at."""
    import fiftyone as fo

    field = samples._dataset.get_field_schema().get(name)
    if getattr(field, "document_type", None) is not fo.Detections:
        raise LabelingError(f"the dataset has no field of boxes {name!r}")
    paths = ["id", *(f"{name}.detections.{part}" for part in ("label", "bounding_box", "confidence"))]
    ids, *columns = samples.values(paths)
    by_id = dict(zip(map(str, ids), zip(*columns, strict=True), strict=True))
    for row in rows:
        labels, boxes, confidences = by_id[row.sample_id]
        if labels is None:
            yield ItemError(str(row.own), f"{name!r} says nothing of it")
            continue
        size = row.size or read_size(row.shown)
        yield size if isinstance(size, ItemError) else to_drawn(str(row.own), size, labels, boxes, confidences)


def _judge(row: _Row, drawn: DrawnBoxes, question: Question) -> tuple[Judgement, Mapping[str, Any]] | ItemError:
    """Return the judgement and what is written on the sample.

    Raises:
        LabelingError: the detector does not know a class.
    """
    criteria = question.criteria
    check_classes(criteria.classes, drawn.known)
    size = row.size or read_size(row.shown)
    if isinstance(size, ItemError):
        return size
    chosen = find_boxes(drawn, criteria, size[0] * size[1])
    confidence = float(drawn.scores[chosen[0]]) if len(chosen) else 0.0
    judgement = judge(confidence, row.claim, criteria)
    values = {
        fields.CLEAN_OUTCOME: judgement.outcome,
        fields.CLEAN_SCORE: judgement.score,
        fields.CLEAN_CONFIDENCE: judgement.confidence,
        fields.CLEAN_SEEN: _to_document(drawn, chosen, size),
        fields.CLEAN_ABOUT: question.mark,
    }
    return judgement, values


def _to_document(drawn: DrawnBoxes, chosen: NDArray[np.intp], size: tuple[int, int]) -> dict[str, Any]:
    import fiftyone as fo

    detections = []
    for row in chosen:
        left, top, right, bottom = (drawn.xyxy[row] / np.array([*size, *size], np.float32)).tolist()
        box = [left, top, right - left, bottom - top]
        confidence = float(drawn.scores[row])
        detections.append(fo.Detection(label=drawn.names[row], bounding_box=box, confidence=confidence))
    return dict(fo.Detections(detections=detections).to_dict())


def _to_report(
    samples: Any, rows: Sequence[_Row], judged: Mapping[str, Judgement], failed: Sequence[Failure], criteria: Criteria
) -> Report:
    counts = count_outcomes(one.outcome for one in judged.values())
    by_id = {row.sample_id: row for row in rows}
    table = format_table(counts, criteria.classes)
    ranked = sorted(
        ((one.score or 0.0, key) for key, one in judged.items() if one.outcome in CONTRADICTIONS), reverse=True
    )
    return Report(
        "clean",
        moved=len(judged),
        unchanged=len(samples) - len(rows),
        failed=tuple(failed),
        notes=(*table, *_describe(ranked, by_id, judged)),
        details={outcome: count for outcome, count in counts.items() if count},
    )


def _rehearse(
    report: Report, samples: Any, judged: Mapping[str, Judgement], question: Question, wish: Rehearsal
) -> Report:
    """Return the report of what would be judged, with what the action would do then."""
    if wish.action is None:
        return replace(report, is_dry_run=True)
    found = read_contradictions(samples, question, wish.min_score, judged)
    chosen = plan(found, wish.action, question, wish.folder)
    told = f"{wish.action}: {len(chosen.steps)} would be changed, {chosen.unchanged} unchanged"
    notes = (*report.notes, told, *chosen.lines)
    return replace(report, failed=(*report.failed, *chosen.failed), notes=notes, is_dry_run=True)


def _describe(
    ranked: Iterable[tuple[float, str]], by_id: Mapping[str, _Row], judged: Mapping[str, Judgement]
) -> Iterator[str]:
    ranked = list(ranked)
    for score, key in ranked[:SHOWN]:
        yield f"{score:.2f} {judged[key].outcome}: {by_id[key].own}"
    if len(ranked) > SHOWN:
        yield f"and {len(ranked) - SHOWN} more contradictions"
