"""Judges samples: what is claimed of each, what a detector sees, and what comes of it, written on the sample."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
from fiftyone_plugins.clean.planning import Rehearsal, plan, read_contradictions
from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure, Report

RUN_KEY: Final = "clean"
IMAGES_PER_WRITE: Final = 32
SHOWN: Final = 10
ORIENTATION_TAG: Final = 0x0112
NO_DETECTOR: Final = (
    "there is no detector here: start labelloop's console with 'labelloop up', or compare with a field of boxes"
)
OWN_FIELDS: Final = (fields.CLEAN_OUTCOME, fields.CLEAN_SCORE, fields.CLEAN_CONFIDENCE, fields.CLEAN_SEEN)


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
    tools.on_progress(None, "reading claims")
    rows = _read_rows(samples, claim, criteria, only_new=only_new)
    if rehearsal is None:
        declare_fields(dataset)
    failed: list[Failure] = []
    judged: dict[str, Judgement] = {}
    waiting: dict[str, Mapping[str, Any]] = {}
    # Closed whatever happens: a detector's threads must not outlive the work.
    with closing(_draw(rows, tools, model) if seen_in is None else _read_boxes(samples, rows, seen_in)) as drawn:
        for number, (row, outcome) in enumerate(zip(rows, drawn, strict=True)):
            if number % IMAGES_PER_WRITE == 0:
                if rehearsal is None:
                    write_values(dataset, waiting)
                waiting.clear()
                tools.on_progress(number / len(rows), f"looking at images, {number}/{len(rows)}")
            if isinstance(outcome, ItemError):
                failed.append(Failure(str(row.own), outcome.problem, row.sample_id))
                continue
            check_classes(criteria.classes, outcome.known)
            found = _judge(row, outcome, criteria)
            if isinstance(found, ItemError):
                failed.append(Failure(found.item, found.problem, row.sample_id))
                continue
            judged[row.sample_id], waiting[row.sample_id] = found
    report = _to_report(samples, rows, judged, failed, criteria)
    if rehearsal is not None:
        return _rehearse(report, samples, judged, criteria, claim, rehearsal)
    write_values(dataset, waiting)
    _remember(dataset, criteria, claim, model, seen_in)
    return report


def read_memory(dataset: Any) -> tuple[Criteria, Claim] | None:
    """Return by what the samples of a dataset were judged last; None: they never were."""
    if RUN_KEY not in dataset.list_runs():
        return None
    about = dataset.get_run_info(RUN_KEY).config.about
    return Criteria(**about["criteria"] | {"classes": tuple(about["criteria"]["classes"])}), Claim(**about["claim"])


def declare_fields(dataset: Any) -> None:
    """Make the plugin's fields, with a group of their own in the sidebar; a second time changes nothing."""
    import fiftyone as fo

    dataset.add_sample_field(fields.CLEAN_OUTCOME, fo.StringField)
    dataset.add_sample_field(fields.CLEAN_SCORE, fo.FloatField)
    dataset.add_sample_field(fields.CLEAN_CONFIDENCE, fo.FloatField)
    dataset.add_sample_field(fields.CLEAN_SEEN, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    group_in_sidebar(dataset, "clean", [name for name in OWN_FIELDS if name != fields.CLEAN_SEEN])


def _read_rows(samples: Any, claim: Claim, criteria: Criteria, *, only_new: bool) -> list[_Row]:
    claims = read_claims(samples, claim, criteria.classes)
    paths, widths, heights = samples.values(["filepath", "metadata.width", "metadata.height"])
    has_outcome = only_new and samples._dataset.has_sample_field(fields.CLEAN_OUTCOME)
    known = samples.values(fields.CLEAN_OUTCOME) if has_outcome else [None] * len(paths)
    columns = zip(claims.items(), paths, read_files(samples), widths, heights, known, strict=True)
    return [
        _Row(sample_id, Path(path), own, (width, height) if width and height else None, said)
        for (sample_id, said), path, own, width, height, outcome in columns
        if outcome is None
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
        size = row.size or _read_size(row.shown)
        if isinstance(size, ItemError):
            yield size
            continue
        xywh = np.array(boxes, np.float32).reshape(-1, 4) * np.array([*size, *size], np.float32)
        xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        # Labels of people have no confidence: they are sure.
        scores = np.array([1.0 if one is None else one for one in confidences], np.float32)
        yield DrawnBoxes(xyxy, scores, tuple(labels))


def _judge(row: _Row, drawn: DrawnBoxes, criteria: Criteria) -> tuple[Judgement, Mapping[str, Any]] | ItemError:
    """Return the judgement and what is written on the sample."""
    size = row.size or _read_size(row.shown)
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


def _read_size(path: Path) -> tuple[int, int] | ItemError:
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_sideways = image.getexif().get(ORIENTATION_TAG, 1) in range(5, 9)
    # ImportError: what Ultralytics puts in place of Pillow's open looks for further packages.
    except (ImportError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return ItemError(str(path), f"cannot be read as an image ({error})")
    return (height, width) if is_sideways else (width, height)


def _remember(dataset: Any, criteria: Criteria, claim: Claim, model: str | None, seen_in: str | None) -> None:
    about = {"criteria": asdict(criteria) | {"classes": list(criteria.classes)}, "claim": asdict(claim)}
    config = dataset.init_run(about=about | {"model": model, "seen_in": seen_in})
    dataset.register_run(RUN_KEY, config, overwrite=True)


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
    report: Report, samples: Any, judged: Mapping[str, Judgement], criteria: Criteria, claim: Claim, wish: Rehearsal
) -> Report:
    """Return the report of what would be judged, with what the action would do then."""
    if wish.action is None:
        return replace(report, is_dry_run=True)
    found = read_contradictions(samples, wish.min_score, judged)
    chosen = plan(found, wish.action, claim, criteria.classes, wish.folder)
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
