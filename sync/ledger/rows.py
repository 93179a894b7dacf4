"""The values that go into the ledger and come out of it, and their rows. Holds no SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from labels.results import Label, from_record, to_record
from sync.review.feedback import Verdict
from sync.review.merge import Conflict


@dataclass(frozen=True, slots=True)
class Link:
    """Which task stands for a sample, and how far its review is.

    ``state`` is a review state of ``labels.fields``. ``problem`` says what of the task cannot be read; None: nothing.
    ``annotation_id`` and ``annotation_updated_at`` name the annotation last read, ``task_updated_at`` the state of the
    task it was read in; None: none was read yet. ``answers`` names all that people had said by then, and how it was
    read. ``is_gone``: the task was deleted in Label Studio.
    """

    sample_id: str
    task_id: int
    image_sha256: str
    model_version: str | None
    state: str
    problem: str | None = None
    annotation_id: int | None = None
    annotation_updated_at: str | None = None
    task_updated_at: str | None = None
    answers: str | None = None
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class Correction:
    """A curator's labels as they were sent to Label Studio, as an annotation of their own.

    ``mark`` is the number that annotation carries (``import_id``), ``parent_id`` the annotation that was corrected.
    ``annotation_id`` and ``annotation_updated_at`` are None until Label Studio has said that it is there.
    """

    mark: int
    sample_id: str
    task_id: int
    parent_id: int
    labels: tuple[Label, ...]
    annotation_id: int | None = None
    annotation_updated_at: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What an annotation said when it was last read: from there on its author changes it."""

    annotation_id: int
    sample_id: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Pushed:
    """The prediction a model version made for a sample, as it was sent; ``score`` None: not computed."""

    sample_id: str
    model_version: str
    score: float | None
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A prediction as it was sent, and until when it was shown: then the same version had drawn anew."""

    sample_id: str
    model_version: str
    until: str
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Review:
    """One annotation that was read back, with everything to be remembered of it.

    ``base`` is the label set to record as agreed, ``conflicts`` all open conflicts of the sample; None leaves what is
    stored of either as it is (a skipped task says nothing about labels). ``verdicts`` holds the comparison with the
    prediction of ``model_version``; that is None where the annotator saw no prediction, and ``fields.SENT_LABELS``
    where the task had labels of people from the start besides. ``lead_time_s`` None: not told.
    ``correction_due``: the catalogue holds a curator's change that Label Studio does not show (None: leave what is
    stored). ``taken_over`` are marks
    of corrections that a person has changed: from now on these are that person's annotations. ``problem`` names
    annotations of the task that cannot be read and have no say.
    """

    sample_id: str
    task_id: int
    annotation_id: int
    annotation_updated_at: str
    reviewer: str | None
    lead_time_s: float | None
    state: str
    base: tuple[Label, ...] | None
    conflicts: tuple[Conflict, ...] | None
    verdicts: tuple[Verdict, ...] = ()
    model_version: str | None = None
    task_updated_at: str | None = None
    answers: str | None = None
    correction_due: bool | None = None
    readings: tuple[Reading, ...] = ()
    taken_over: tuple[int, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """A verdict with the review it belongs to."""

    sample_id: str
    task_id: int
    annotation_id: int
    annotation_updated_at: str
    reviewer: str | None
    lead_time_s: float | None
    model_version: str | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Model:
    """Weights that were used: their content-given name, where they came from, and anything measured on them.

    ``path`` and ``sha256`` are None where only the server that has them knows.
    """

    model_version: str
    path: str | None
    sha256: str | None
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Export:
    """A folder that was exported: its path is its identity, a later export to the same path takes its place."""

    path: str
    format: str
    content_sha256: str
    images: int
    labels: int
    details: Mapping[str, Any] = field(default_factory=dict)


def to_json(value: object) -> str:
    """Return canonical JSON: sorted keys, no spaces, and no NaN, which no other reader takes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_row(value: Link | Pushed | Replaced | Correction | Reading | Model | Export) -> dict[str, Any]:
    """Return the fields as they are, by name."""
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def labels_to_json(labels: Iterable[Label]) -> str:
    """Return the labels as JSON, in their order."""
    return to_json([to_record(label) for label in labels])


def labels_from_json(text: str) -> tuple[Label, ...]:
    """Return the labels that ``labels_to_json`` wrote."""
    return tuple(from_record(record) for record in json.loads(text))


def review_to_row(review: Review) -> dict[str, Any]:
    """Return the row of the review itself, without labels, conflicts and verdicts."""
    return {
        "annotation_id": review.annotation_id,
        "sample_id": review.sample_id,
        "task_id": review.task_id,
        "annotation_updated_at": review.annotation_updated_at,
        "reviewer": review.reviewer,
        "lead_time_s": review.lead_time_s,
        "state": review.state,
        "model_version": review.model_version,
    }


def verdicts_to_rows(review: Review) -> Iterator[dict[str, Any]]:
    """Yield one row per verdict, numbered in their order."""
    for position, verdict in enumerate(review.verdicts):
        yield {"annotation_id": review.annotation_id, "position": position} | asdict(verdict)


def feedback_from_row(row: Mapping[str, Any]) -> FeedbackRow:
    """Return the verdict of a row that joins feedback and reviews."""
    verdict = Verdict(**{name: row[name] for name in Verdict.__dataclass_fields__})
    review = {name: row[name] for name in FeedbackRow.__dataclass_fields__ if name != "verdict"}
    return FeedbackRow(**review, verdict=verdict)


def conflicts_to_rows(sample_id: str, conflicts: Iterable[Conflict]) -> Iterator[dict[str, Any]]:
    """Yield one row per conflict, numbered in their order."""
    for position, conflict in enumerate(conflicts):
        yield {
            "sample_id": sample_id,
            "position": position,
            "label_id": conflict.label_id,
            "base": _label_to_json(conflict.base),
            "ours": _label_to_json(conflict.ours),
            "theirs": _label_to_json(conflict.theirs),
            "ours_at": conflict.ours_at,
            "theirs_at": conflict.theirs_at,
        }


def conflict_from_row(row: Mapping[str, Any]) -> Conflict:
    """Return the conflict that ``conflicts_to_rows`` wrote."""
    base, ours, theirs = (_label_from_json(row[side]) for side in ("base", "ours", "theirs"))
    return Conflict(row["label_id"], base, ours, theirs, row["ours_at"], row["theirs_at"])


def link_from_row(row: Mapping[str, Any]) -> Link:
    """Return the link of a row."""
    named = {name: row[name] for name in Link.__dataclass_fields__ if name != "is_gone"}
    return Link(**named, is_gone=bool(row["is_gone"]))


def correction_from_row(row: Mapping[str, Any]) -> Correction:
    """Return the correction of a row."""
    named = {name: row[name] for name in Correction.__dataclass_fields__ if name != "labels"}
    return Correction(**named, labels=labels_from_json(row["labels"]))


def reading_from_row(row: Mapping[str, Any]) -> Reading:
    """Return the reading of a row."""
    return Reading(row["annotation_id"], row["sample_id"], labels_from_json(row["labels"]))


def model_from_row(row: Mapping[str, Any]) -> Model:
    """Return the model of a row."""
    return Model(row["model_version"], row["path"], row["sha256"], row["source"], json.loads(row["details"]))


def export_from_row(row: Mapping[str, Any]) -> Export:
    """Return the export of a row."""
    named = {name: row[name] for name in Export.__dataclass_fields__ if name != "details"}
    return Export(**named, details=json.loads(row["details"]))


def _label_to_json(label: Label | None) -> str | None:
    return None if label is None else to_json(to_record(label))


def _label_from_json(text: str | None) -> Label | None:
    return None if text is None else from_record(json.loads(text))
