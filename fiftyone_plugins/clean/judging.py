"""Compares a claim with what a detector saw: contains, does not contain, or unsure. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.app.work import DrawnBoxes
from fiftyone_plugins.clean.claims import to_plain
from labels.errors import LabelingError

Seen = Literal["contains", "unsure", "does not contain"]
Outcome = Literal[
    "true positive",
    "true negative",
    "false positive",
    "false negative",
    "unsure, claimed",
    "unsure, not claimed",
    "no claim",
    "settled",
]

TRUE_POSITIVE: Final = "true positive"
TRUE_NEGATIVE: Final = "true negative"
FALSE_POSITIVE: Final = "false positive"
FALSE_NEGATIVE: Final = "false negative"
UNSURE_CLAIMED: Final = "unsure, claimed"
UNSURE_OTHERS: Final = "unsure, not claimed"
NO_CLAIM: Final = "no claim"
SETTLED: Final = "settled"
OUTCOMES: Final[Mapping[str, str]] = {
    "true positive": "claimed, and seen",
    "false positive": "seen, though not claimed",
    "true negative": "not claimed, not seen",
    "false negative": "claimed, and not seen",
    "unsure, claimed": "claimed, and perhaps seen",
    "unsure, not claimed": "not claimed, and perhaps seen",
    "no claim": "nothing is claimed",
    "settled": "its claim was changed since",
}
"""Of the detector's word, with the claim in the place of the truth; those called false contradict the claim."""
CONTRADICTIONS: Final = (FALSE_NEGATIVE, FALSE_POSITIVE)
UNSURE: Final = (UNSURE_CLAIMED, UNSURE_OTHERS)
SHOWN_FLOOR: Final = 0.05


@dataclass(frozen=True, slots=True)
class Criteria:
    """What counts as holding one of the ``classes``.

    A box counts from ``min_size`` on, its part of the image's area. The best of them decides: from ``threshold`` on the
    image contains, below ``unsure_from`` it does not, between them nobody knows.
    """

    classes: tuple[str, ...]
    threshold: float = 0.5
    unsure_from: float = 0.2
    min_size: float = 0.0

    def __post_init__(self) -> None:
        if not self.classes:
            raise LabelingError("give at least one class")
        if self.unsure_from > self.threshold:
            raise LabelingError(f"unsure from {self.unsure_from:g}: expected at most the threshold {self.threshold:g}")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What came of one image; ``score`` is how surely the detector contradicts the claim, None where there is none."""

    outcome: Outcome
    confidence: float
    score: float | None


def find_boxes(drawn: DrawnBoxes, criteria: Criteria, area_px: float) -> NDArray[np.intp]:
    """Return the rows of the boxes that count, the surest first."""
    wanted = {to_plain(name) for name in criteria.classes}
    sizes = np.prod(np.maximum(drawn.xyxy[:, 2:] - drawn.xyxy[:, :2], 0), axis=1) / area_px
    is_one = np.array([to_plain(name) in wanted for name in drawn.names], dtype=bool)
    rows = np.flatnonzero(is_one & (sizes >= criteria.min_size))
    return np.asarray(rows[np.argsort(-drawn.scores[rows], kind="stable")], dtype=np.intp)


def judge(confidence: float, claim: bool | None, criteria: Criteria) -> Judgement:
    """Return how the best confidence, 0 where nothing was seen, compares with the claim.

    >>> judge(0.9, False, Criteria(("person",)))
    Judgement(outcome='false positive', confidence=0.9, score=0.9)
    >>> judge(0.0, True, Criteria(("person",))).outcome, judge(0.3, True, Criteria(("person",))).outcome
    ('false negative', 'unsure, claimed')
    """
    if claim is None:
        return Judgement("no claim", confidence, None)
    score = 1 - confidence if claim else confidence
    seen = see(confidence, criteria)
    if seen == "unsure":
        return Judgement("unsure, claimed" if claim else "unsure, not claimed", confidence, score)
    if seen == "contains":
        return Judgement("true positive" if claim else "false positive", confidence, score)
    return Judgement("false negative" if claim else "true negative", confidence, score)


def name_classes(classes: Sequence[str]) -> str:
    """Return several classes as one name.

    >>> name_classes(("car", "bus"))
    'car or bus'
    """
    return " or ".join(classes)


def see(confidence: float, criteria: Criteria) -> Seen:
    """Return what a confidence means.

    >>> [see(confidence, Criteria(("person",))) for confidence in (0.5, 0.2, 0.1)]
    ['contains', 'unsure', 'does not contain']
    """
    if confidence >= criteria.threshold:
        return "contains"
    return "unsure" if confidence >= criteria.unsure_from else "does not contain"


def check_classes(classes: Sequence[str], known: frozenset[str] | None) -> None:
    """Refuse a class that the detector cannot name: it would never be seen.

    Raises:
        LabelingError: there is one.
    """
    if known is None:
        return
    plain = {to_plain(name) for name in known}
    unknown = [name for name in classes if to_plain(name) not in plain]
    if unknown:
        raise LabelingError(f"the detector does not know {unknown[0]!r} (known: {', '.join(sorted(known))})")


def count_outcomes(outcomes: Iterable[str]) -> dict[str, int]:
    """Return how often each outcome came, in one order; what never came is 0.

    >>> count_outcomes(["no claim", "no claim"])["no claim"]
    2
    """
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in OUTCOMES}


def format_table(counts: Mapping[str, int], classes: Sequence[str]) -> list[str]:
    """Return the confusion counts as the lines of a table."""
    name = name_classes(classes)
    rows = [
        ("", "seen", "unsure", "not seen"),
        (
            f"claimed: {name}",
            f"{counts[TRUE_POSITIVE]} TP",
            str(counts[UNSURE_CLAIMED]),
            f"{counts[FALSE_NEGATIVE]} FN",
        ),
        (
            f"not claimed: {name}",
            f"{counts[FALSE_POSITIVE]} FP",
            str(counts[UNSURE_OTHERS]),
            f"{counts[TRUE_NEGATIVE]} TN",
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
