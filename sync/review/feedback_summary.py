"""What reviews say about the model: how often it was right per class, what it is confused with, the time it saves.

Pure: reads what the ledger keeps of the reviews, as the console, the command line and the CSV show it.
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TextIO

from labels.fields import SENT_LABELS, SKIPPED
from sync.ledger.rows import FeedbackRow
from sync.review.feedback import REDRAWN_IOU, Verdict

FEW_LABELS: Final = 10
"""Below this many predicted and drawn labels of a class, its numbers say little."""
FEW_REVIEWS: Final = 10
"""Below this many reviews with a known time, so does their median."""
NOBODY: Final = "unknown"
NO_VERSION: Final = "no prediction"
CSV_COLUMNS: Final = (
    *("sample_id", "task_id", "annotation_id", "annotation_updated_at", "reviewer", "lead_time_s", "model_version"),
    *("label_id", "control", "kind", "class_before", "class_after", "iou", "confidence"),
)

Grouping = Literal["reviewer", "version"]


@dataclass(frozen=True, slots=True)
class Confusion:
    """How often people changed the predicted class into the reviewed one."""

    control: str
    predicted: str
    reviewed: str
    count: int


@dataclass(frozen=True, slots=True)
class ClassFeedback:
    """What became of a class's predictions, and what was missing.

    ``predicted`` = confirmed + moved + relabelled + deleted. ``precision`` is the part of the predictions that were
    right, ``recall`` the part of the reviewed labels of this class that had been predicted right; right is the class
    unchanged and the place too, or moved with an IoU of at least 0.5 (or moved where there is no overlap to measure, as
    for a point). ``f1`` is their harmonic mean, 0 where nothing was right. All are 0..1, and None where there is
    nothing to divide by. ``mean_iou`` is over what was moved; None: nothing was. ``is_few``: too few labels for the
    numbers to say much.
    """

    control: str
    name: str
    predicted: int
    confirmed: int
    moved: int
    relabelled: int
    deleted: int
    added: int
    mean_iou: float | None
    precision: float | None
    recall: float | None
    f1: float
    confused_with: tuple[Confusion, ...]
    is_few: bool


@dataclass(frozen=True, slots=True)
class Times:
    """How long reviews took: ``timed`` of them have a known time. ``median_s`` None: none has."""

    reviews: int
    timed: int
    median_s: float | None
    is_few: bool


@dataclass(frozen=True, slots=True)
class TimeFeedback:
    """Time per image with and without boxes drawn beforehand.

    ``ratio`` is with / without: 0.25 is a quarter of the time; None where one of them is not known or is 0.
    ``over_labels`` are of images whose task had labels of people from the start, an import mostly: neither of the two.
    """

    with_prelabels: Times
    without: Times
    ratio: float | None
    over_labels: Times


@dataclass(frozen=True, slots=True)
class FeedbackSummary:
    """All of it: ``reviews`` are answers (no skips), ``classes`` have the weakest first, ``confusions`` the commonest.

    Classes of which few labels are known come last.
    """

    reviews: int
    classes: tuple[ClassFeedback, ...]
    confusions: tuple[Confusion, ...]
    times: TimeFeedback


def summarize_feedback(rows: Iterable[FeedbackRow], reviews: Sequence[Mapping[str, Any]]) -> FeedbackSummary:
    """Return the summary of verdicts (``ledger.feedback()``) and reviews (``ledger.reviews()``)."""
    verdicts = [row.verdict for row in rows]
    confusions = _count_confusions(verdicts)
    of_class: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        for name in {verdict.class_before, verdict.class_after} - {None}:
            of_class[verdict.control, str(name)].append(verdict)
    classes = [_summarize_class(*key, mine, confusions) for key, mine in of_class.items()]
    answers = [review for review in reviews if review["state"] != SKIPPED]
    return FeedbackSummary(
        reviews=len(answers),
        classes=tuple(sorted(classes, key=_weakness)),
        confusions=confusions,
        times=_summarize_times(answers),
    )


def _weakness(one: ClassFeedback) -> tuple[bool, float, int, str, str]:
    wrong = one.relabelled + one.deleted + one.added
    return one.is_few, one.f1, -wrong, one.control, one.name


def _count_confusions(verdicts: Iterable[Verdict]) -> tuple[Confusion, ...]:
    counts = Counter(
        (one.control, one.class_before, one.class_after)
        for one in verdicts
        if one.kind == "relabelled" and one.class_before is not None and one.class_after is not None
    )
    found = (Confusion(control, before, after, count) for (control, before, after), count in counts.items())
    return tuple(sorted(found, key=lambda one: (-one.count, one.control, one.predicted, one.reviewed)))


def _summarize_class(
    control: str, name: str, mine: Sequence[Verdict], confusions: Iterable[Confusion]
) -> ClassFeedback:
    predicted = [one for one in mine if one.class_before == name]
    counts = Counter(one.kind for one in predicted)
    reviewed = sum(one.class_after == name for one in mine)
    right = sum(_is_right(one) for one in predicted)
    precision = right / len(predicted) if predicted else None
    recall = right / reviewed if reviewed else None
    overlaps = [one.iou for one in predicted if one.kind == "moved" and one.iou is not None]
    added = sum(one.kind == "added" for one in mine)
    return ClassFeedback(
        control=control,
        name=name,
        predicted=len(predicted),
        confirmed=counts["confirmed"],
        moved=counts["moved"],
        relabelled=counts["relabelled"],
        deleted=counts["deleted"],
        added=added,
        mean_iou=statistics.fmean(overlaps) if overlaps else None,
        precision=precision,
        recall=recall,
        # Twice what was right over all that was predicted and all that is there: the harmonic mean of both parts.
        f1=2 * right / (len(predicted) + reviewed),
        confused_with=tuple(one for one in confusions if (one.control, one.predicted) == (control, name)),
        is_few=len(mine) < FEW_LABELS,
    )


def _is_right(verdict: Verdict) -> bool:
    if verdict.kind == "moved":
        return verdict.iou is None or verdict.iou >= REDRAWN_IOU
    return verdict.kind == "confirmed"


def _summarize_times(answers: Iterable[Mapping[str, Any]]) -> TimeFeedback:
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for answer in answers:
        version = answer["model_version"]
        groups["alone" if version is None else "over labels" if version == SENT_LABELS else "helped"].append(answer)
    helped, alone, over_labels = (_to_times(groups[name]) for name in ("helped", "alone", "over labels"))
    ratio = None
    if helped.median_s is not None and alone.median_s is not None and alone.median_s > 0:
        ratio = helped.median_s / alone.median_s
    return TimeFeedback(helped, alone, ratio, over_labels)


def _to_times(answers: Sequence[Mapping[str, Any]]) -> Times:
    known = [float(one["lead_time_s"]) for one in answers if one["lead_time_s"] is not None]
    median_s = statistics.median(known) if known else None
    return Times(len(answers), len(known), median_s, is_few=len(known) < FEW_REVIEWS)


def group_feedback(
    rows: Sequence[FeedbackRow], reviews: Sequence[Mapping[str, Any]], *, by: Grouping
) -> dict[str, FeedbackSummary]:
    """Return one summary for each reviewer, or for each model version, by name."""
    rows_of: dict[str, list[FeedbackRow]] = defaultdict(list)
    reviews_of: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        rows_of[_name_group(row.reviewer, row.model_version, by)].append(row)
    for review in reviews:
        reviews_of[_name_group(review["reviewer"], review["model_version"], by)].append(review)
    return {name: summarize_feedback(rows_of[name], reviews_of[name]) for name in sorted({*rows_of, *reviews_of})}


def _name_group(reviewer: str | None, version: str | None, by: Grouping) -> str:
    return (reviewer or NOBODY) if by == "reviewer" else (version or NO_VERSION)


def write_feedback_csv(rows: Iterable[FeedbackRow], stream: TextIO) -> int:
    """Write one line for each verdict under a line of names, and return how many; the same rows give the same bytes.

    What is None is an empty cell. A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    count = 0
    for row in rows:
        values = [
            getattr(row if name in FeedbackRow.__dataclass_fields__ else row.verdict, name) for name in CSV_COLUMNS
        ]
        writer.writerow([_to_cell(value) for value in values])
        count += 1
    return count


def _to_cell(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value
