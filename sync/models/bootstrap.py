"""How far a difference between two models may be chance: the images are drawn anew, with replacement, many times. Pure.

Images that belong together, as frames of one film, are drawn together: sixty of them tell no more than the film does.
Both models are scored on each draw, by COCO's rules, an image as often as it was drawn. hotcoco has a bootstrap too
(``compare``); it counts an image once however often it was drawn, so its intervals are a fifth too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from sync.models.boxes import Boxes, Flags, Floats, Numbers, match_boxes

RECALLS: Final = np.linspace(0.0, 1.0, 101)
OVERLAPS: Final = tuple(np.linspace(0.5, 0.95, 10).tolist())
DRAWS_PER_TICK: Final = 50

OnDraw = Callable[[int], None]
"""Called with the number of draws that are done; what it raises ends the work."""


@dataclass(frozen=True, slots=True, eq=False)
class ClassMatches:
    """The boxes found of one class, the surest first: ``images`` says of which image each is.

    ``places`` are those that are right at the lowest overlap, ``is_right`` (overlaps, places) those of them at each.
    ``examples`` counts what people drew on each image.
    """

    images: Numbers
    places: Numbers
    is_right: Flags
    examples: Numbers


def read_matches(truth: Boxes, found: Boxes, *, images: int, classes: int) -> tuple[ClassMatches, ...]:
    """Return which boxes are right, by class."""
    assert found.scores is not None
    is_right, is_counted = match_boxes(truth, found, OVERLAPS)
    order = np.argsort(-found.scores, kind="stable")
    order = order[is_counted[order]]
    matches = []
    for number in range(classes):
        rows = order[found.classes[order] == number]
        places = np.flatnonzero(is_right[0, rows])
        examples = np.bincount(truth.images[truth.classes == number], minlength=images)
        # What comes after the last right one changes nothing.
        kept = rows[: places[-1] + 1] if len(places) else rows[:0]
        matches.append(ClassMatches(found.images[kept], places, is_right[:, rows[places]], examples))
    return tuple(matches)


def score_draw(matches: Sequence[ClassMatches], counts: Numbers) -> Floats:
    """Return each class's mAP50-95 where every image counts as often as it was drawn; NaN: it has no example there."""
    return np.array([_score_class(one, counts) for one in matches])


def _score_class(one: ClassMatches, counts: Numbers) -> float:
    examples = int((one.examples * counts).sum())
    if not examples:
        return float("nan")
    if not len(one.places):
        return 0.0
    weights = counts[one.images]
    # Recall rises, and precision has its peaks, only where a box is right: no other place has to be looked at.
    shown = np.maximum(np.cumsum(weights)[one.places], 1)
    rights = np.cumsum(one.is_right * weights[one.places], axis=1)
    recall, precision = rights / examples, rights / shown
    # What is reached at a higher recall counts for the lower ones, too.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    found = 0.0
    for row in range(len(OVERLAPS)):
        ends = np.searchsorted(recall[row], RECALLS, side="left")
        found += float(precision[row, ends[ends < len(one.places)]].sum())
    return found / (len(OVERLAPS) * len(RECALLS))


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Candidate - current on every draw: of the whole, and (draws, classes) of each class, NaN where it has no example.

    ``overall`` is NaN on a draw of images without any example.
    """

    overall: Floats
    classes: Floats


def draw_differences(
    current: Sequence[ClassMatches],
    candidate: Sequence[ClassMatches],
    *,
    groups: Numbers,
    draws: int,
    seed: int,
    on_draw: OnDraw = lambda _: None,
) -> Differences:
    """Return the differences on as many draws of the groups; the same seed gives the same.

    ``groups`` is the number of each image's group, from 0; an image that stands alone has one of its own.
    """
    random = np.random.default_rng(seed)
    rows = np.full((draws, len(current)), np.nan)
    overall = np.full(draws, np.nan)
    for number in range(draws):
        if number % DRAWS_PER_TICK == 0:
            on_draw(number)
        counts = _draw(random, groups)
        rows[number] = score_draw(candidate, counts) - score_draw(current, counts)
        known = ~np.isnan(rows[number])
        # The mean over classes of the differences is the difference of the means: both have the same examples.
        overall[number] = rows[number][known].mean() if known.any() else np.nan
    return Differences(overall, rows)


def _draw(random: np.random.Generator, groups: Numbers) -> Numbers:
    """Return how often each image is in a draw of as many groups as there are."""
    count = int(groups.max()) + 1
    return np.bincount(random.integers(0, count, count), minlength=count)[groups]


def draw_answer_differences(
    current: Flags,
    candidate: Flags,
    truth: Numbers,
    *,
    groups: Numbers,
    classes: int,
    draws: int,
    seed: int,
    on_draw: OnDraw = lambda _: None,
) -> Differences:
    """Return the differences in the share of images that are right, of all and of each class by people.

    ``current`` and ``candidate`` say which images each is right on, ``truth`` is the place of their class, ``groups``
    as above.
    """
    random = np.random.default_rng(seed)
    change = candidate.astype(np.float64) - current.astype(np.float64)
    rows, overall = np.full((draws, classes), np.nan), np.full(draws, np.nan)
    for number in range(draws if len(truth) else 0):
        if number % DRAWS_PER_TICK == 0:
            on_draw(number)
        counts = _draw(random, groups)
        overall[number] = (change * counts).sum() / counts.sum()
        examples = np.bincount(truth, weights=counts, minlength=classes)
        sums = np.bincount(truth, weights=change * counts, minlength=classes)
        rows[number, examples > 0] = sums[examples > 0] / examples[examples > 0]
    return Differences(overall, rows)


def find_interval(values: Floats, confidence: float) -> tuple[float, float] | None:
    """Return the range that holds this share of the values; None: there are none.

    >>> find_interval(np.arange(101.0), 0.9)
    (5.0, 95.0)
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return round(float(low), 9), round(float(high), 9)
