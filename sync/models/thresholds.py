"""From which score on a class's boxes are shown: chosen on the validation split, never on the one that judges. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sync.models.boxes import Boxes, Flags, Floats, find_right

FEWEST_EXAMPLES: Final = 20
"""With fewer the best place for a threshold is chance, and the default stays."""
DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class Threshold:
    """A class's threshold with what it gives on the split it was chosen on.

    ``value`` None: the default stays, since there are too few examples, or no score reaches the precision asked for.
    """

    name: str
    value: float | None
    examples: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None


def choose_thresholds(
    classes: Sequence[str],
    truth: Boxes,
    found: Boxes,
    *,
    precision_floor: float | None = None,
    fewest_examples: int = FEWEST_EXAMPLES,
) -> tuple[Threshold, ...]:
    """Return the threshold of each class with the best F1, or with the most found at a precision of at least a floor.

    Where several are as good, the lowest: what is shown and wrong is deleted quicker than what is missing is drawn.
    """
    return tuple(_choose(classes, truth, found, find_right(truth, found), precision_floor, fewest_examples))


def _choose(
    classes: Sequence[str], truth: Boxes, found: Boxes, is_right: Flags, precision_floor: float | None, fewest: int
) -> Iterator[Threshold]:
    assert found.scores is not None
    for number, name in enumerate(classes):
        rows = found.classes == number
        examples = int((truth.classes == number).sum())
        yield choose_threshold(name, examples, found.scores[rows], is_right[rows], precision_floor, fewest)


def choose_threshold(
    name: str, examples: int, scores: Floats, is_right: Flags, precision_floor: float | None, fewest: int
) -> Threshold:
    """Return the threshold of one class: ``scores`` are those of all it was found by, and which of them are right."""
    if examples < fewest or not len(scores):
        return Threshold(name, None, examples)
    return _choose_one(name, examples, scores, is_right, precision_floor)


def _choose_one(name: str, examples: int, scores: Floats, is_right: Flags, precision_floor: float | None) -> Threshold:
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    rights = np.cumsum(is_right[order])
    # A threshold shows all boxes of its score: only the last of equal ones is a place for it.
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    shown, right = ends + 1, rights[ends]
    precision, recall = right / shown, right / examples
    f1 = 2 * right / (shown + examples)
    worth = f1 if precision_floor is None else np.where(precision >= precision_floor, recall, -1.0)
    best = int(np.flatnonzero(worth == worth.max())[-1])
    if worth[best] <= 0:
        return Threshold(name, None, examples)
    # Rounded down, so that the box that sets it is shown.
    value = np.floor(ordered[ends[best]] * 10**DIGITS) / 10**DIGITS
    return Threshold(name, float(value), examples, float(precision[best]), float(recall[best]), float(f1[best]))
