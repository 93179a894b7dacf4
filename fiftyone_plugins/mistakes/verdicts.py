"""What is written about one sample: its labels' attributes, its own scores, its proposals. Plain dicts, no database."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fiftyone_plugins.mistakes.boxes import BoxScores, Floats, compute_areas, compute_overlaps
from fiftyone_plugins.mistakes.datalab import IN_WORDS as DATALAB_IN_WORDS
from fiftyone_plugins.mistakes.datalab import KINDS as DATALAB_KINDS
from fiftyone_plugins.mistakes.datalab import NEAR_DUPLICATE, Issues
from fiftyone_plugins.mistakes.image_labels import Judged
from fiftyone_plugins.mistakes.ranking import (
    BOX_KINDS,
    CLASS,
    FIELD_OF_KIND,
    LOCATION,
    REMOVE,
    RULE,
    SPURIOUS,
    SWAPPED,
    Box,
    list_labels,
)
from fiftyone_plugins.mistakes.rules import Broken
from labels import fields
from labels.report import Failure

SHOWN: Final = 0.1
"""From this score on a label has a reason, and stands in the list."""

MOST_PROPOSALS: Final = 20
"""Of more boxes missing from one image the likeliest: it was never labelled, and needs a person for all of them."""

DIGITS: Final = 4
LABEL_ATTRIBUTES: Final = (
    fields.MISTAKE_KIND,
    fields.MISTAKE_REASON,
    fields.MISTAKE_SUGGESTION,
    fields.MISTAKE_BOX,
)
Values = dict[str, Any]
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class SampleBoxes:
    """One sample's labels and what a detector sees: boxes as x1, y1, x2, y2 in pixels, classes by name.

    ``found`` None: the detector could not look. ``size`` is width and height in pixels.
    """

    sample_id: str
    filepath: str
    size: tuple[float, float]
    labels: Floats
    classes: tuple[str, ...]
    found: Floats | None = None
    found_classes: tuple[str, ...] = ()
    scores: Floats | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is written: attributes of each label in its order, values of the sample, proposals (None: as they are)."""

    labels: tuple[Values, ...]
    sample: Values
    proposals: tuple[Values, ...] | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A sample that was judged; ``mark`` is ``make_mark`` of the labels that the verdict is about."""

    sample_id: str
    filepath: str
    mark: bytes

    @classmethod
    def of(cls, document: Document, labels: str) -> Subject:
        """Return the sample of a document, of which the labels in one field are judged."""
        return cls(str(document["_id"]), document["filepath"], make_mark(document[labels]))


@dataclass(frozen=True, slots=True)
class Judgement:
    """Each sample that was judged with what was found, what could not be judged, and what is to be known.

    The verdicts are made as they are asked for, once: all at a time are more than the labels themselves.
    """

    count: int
    verdicts: Iterable[tuple[Subject, Verdict]]
    failed: list[Failure]
    notes: list[str]


def make_mark(about: Document | None) -> bytes:
    """Return what differs once a field says something else: other labels, classes or boxes, or in another order."""
    said = [(str(one["_id"]), one.get("label"), one.get("bounding_box")) for one in list_labels(about)]
    return hashlib.sha256(repr((about is not None, said)).encode()).digest()


def judge_boxes(
    sample: SampleBoxes,
    scores: BoxScores | None,
    broken: Sequence[Broken | None],
    vocabulary: Sequence[str],
    field: str,
    objectlab: float | None,
) -> Verdict:
    """Return what is said of a sample's boxes; ``scores`` None: the detector did not look, the rules speak alone."""
    labels = tuple(
        _judge_box(sample, row, None if scores is None else scores, broken[row], vocabulary)
        for row in range(len(sample.classes))
    )
    values: Values = {fields.MISTAKE_OBJECTLAB: _to_number(objectlab)}
    for kind in BOX_KINDS:
        name = FIELD_OF_KIND[kind]
        known = [label[name] for label in labels if label[name] is not None]
        is_computed = kind == RULE or scores is not None
        values[name] = max(known, default=None if labels or not is_computed else 0.0)
    if scores is None:
        return Verdict(labels, values | {fields.MISTAKE_MISSING: None}, ())
    values[fields.MISTAKE_MISSING] = _to_number(float(scores.missing.max(initial=0.0)))
    return Verdict(labels, values, tuple(_propose(sample, scores, field)))


def judge_class(label: str, judged: Judged, datalab: Values | None = None) -> Verdict:
    """Return what is said of the class of a whole image; ``datalab`` None: Datalab was not asked."""
    score = _to_number(judged.score)
    values = dict.fromkeys(LABEL_ATTRIBUTES) | {fields.MISTAKE_CLASS: score}
    if (judged.is_issue or judged.score >= SHOWN) and judged.suggestion != label:
        values[fields.MISTAKE_KIND] = CLASS
        values[fields.MISTAKE_SUGGESTION] = judged.suggestion
        told = f"labelled {label}, looks like {judged.suggestion} ({judged.suggestion_probability:.0%})"
        values[fields.MISTAKE_REASON] = told
    return Verdict((values,), {fields.MISTAKE_CLASS: score, fields.MISTAKE_DATALAB: datalab}, None)


def to_datalab(found: Issues, twin: str | None) -> Values:
    """Return what Datalab says, as a sample holds it; ``twin``: the file that the image is nearly the same as."""
    kind = found.issues[0] if found.issues else None
    reason = None if kind is None else DATALAB_IN_WORDS[kind]
    if kind == NEAR_DUPLICATE and twin is not None:
        reason = f"nearly the same as {twin}"
    score = 0.0 if kind is None else _to_number(found.scores[kind])
    numbers = {name: _to_number(found.scores.get(name)) for name in DATALAB_KINDS}
    return {"_cls": "DynamicEmbeddedDocument", "score": score, "kind": kind, "reason": reason, **numbers}


def _judge_box(
    sample: SampleBoxes, row: int, scores: BoxScores | None, broken: Broken | None, vocabulary: Sequence[str]
) -> Values:
    found = {RULE: 0.0 if broken is None else broken.score}
    if scores is not None:
        found |= {
            SWAPPED: float(scores.swapped[row]),
            LOCATION: float(scores.location[row]),
            SPURIOUS: float(scores.spurious[row]),
        }
    values: Values = dict.fromkeys(LABEL_ATTRIBUTES)
    values |= {FIELD_OF_KIND[kind]: _to_number(found.get(kind)) for kind in BOX_KINDS}
    known = {kind: score for kind, score in found.items() if not math.isnan(score) and score >= SHOWN}
    if not known:
        return values
    kind = max(known, key=lambda one: known[one])
    name = sample.classes[row]
    values[fields.MISTAKE_KIND] = kind
    if kind == RULE and broken is not None:
        values[fields.MISTAKE_REASON] = broken.reason
        values[fields.MISTAKE_SUGGESTION] = REMOVE if broken.is_superfluous else None
        values[fields.MISTAKE_BOX] = None if broken.box is None else list(_to_relative(broken.box, sample.size))
    elif kind == SPURIOUS:
        values[fields.MISTAKE_REASON] = f"the detector sees no {name} here, though it sees others of this size"
    elif scores is not None and kind == SWAPPED:
        other = vocabulary[int(scores.seen_as[row])]
        values[fields.MISTAKE_REASON] = f"labelled {name}, the detector sees {other} here"
        values[fields.MISTAKE_SUGGESTION] = other
    elif scores is not None and sample.found is not None:
        place = sample.found[int(scores.seen_at[row])]
        iou, _ = compute_overlaps(sample.labels[row][None], place[None])
        values[fields.MISTAKE_REASON] = f"the detector sees this {name} elsewhere: the two boxes share {iou[0]:.0%}"
        values[fields.MISTAKE_BOX] = list(_to_relative(place, sample.size))
    return values


def _propose(sample: SampleBoxes, scores: BoxScores, field: str) -> list[Values]:
    """Return the boxes that are likely missing, the likeliest first, each object once."""
    assert sample.found is not None
    assert sample.scores is not None
    taken: list[int] = []
    for row in np.argsort(-scores.missing, kind="stable"):
        if scores.missing[row] < SHOWN or len(taken) >= MOST_PROPOSALS:
            break
        overlaps, _ = compute_overlaps(np.repeat(sample.found[row][None], len(taken), axis=0), sample.found[taken])
        if compute_areas(sample.found[row][None])[0] > 0 and not (overlaps >= 0.5).any():
            taken.append(int(row))
    return [
        {
            "_id": _make_id(sample.sample_id, field, sample.found_classes[row], sample.found[row]),
            "label": sample.found_classes[row],
            "bounding_box": list(_to_relative(sample.found[row], sample.size)),
            "confidence": _to_number(float(sample.scores[row])),
            fields.MISTAKE_MISSING: _to_number(float(scores.missing[row])),
            fields.MISTAKE_FIELD: field,
            fields.MISTAKE_REASON: (
                f"the detector sees a {sample.found_classes[row]} here ({sample.scores[row]:.0%}), and no box says so"
            ),
        }
        for row in taken
    ]


def _make_id(sample_id: str, field: str, name: str, box: Floats) -> str:
    """Return the id of a proposal: the same for the same box of the same class that the same field lacks."""
    text = f"{sample_id} {field} {name} {[round(float(side), 1) for side in box]}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _to_relative(box: Any, size: tuple[float, float]) -> Box:
    left, top, right, bottom = (float(side) for side in box)
    width, height = size
    return left / width, top / height, (right - left) / width, (bottom - top) / height


def _to_number(score: float | None) -> float | None:
    return None if score is None or math.isnan(score) else round(score, DIGITS)
