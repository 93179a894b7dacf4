"""Scores people's boxes against a detector's: four kinds of mistakes, each on its own. Numpy alone.

All scores are 0..1, higher: look here first. A box of the detector that a label of its class explains says nothing
against the other labels: in a crowd it is the neighbour's. How well the detector sees boxes like this one elsewhere, by
class and size, tells what it means that it sees none here: small ones it overlooks everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PAIRS_PER_CHUNK: Final = 250_000
SIZE_BINS: Final = 20
"""Halvings of the image's area: a box of less than a millionth of it is as good as none."""

PEERS: Final = 8.0
"""What boxes of all classes are worth beside those of the class itself: as many as this."""

OTHER_CLASS: Final = 0.3
"""What it says for an object that the detector sees one of another class there."""

HARDLY_SEEN: Final = 0.4
"""How much less it says of a box's place where the detector sees nothing like it anywhere."""

EXPLAINED_INSIDE: Final = 0.8
"""How far a box within a label of its class counts as part of that object."""

# What the evidence (about -1..1) means: slope and middle of a logistic curve, so that scores of different kinds can
# stand in one list. Fitted once to planted mistakes on one half of coco128; tests/benchmarks/mistakes.py plants others.
CURVES: Final = {"swapped": (6.1, 0.81), "location": (6.5, 0.58), "spurious": (9.0, 0.8), "missing": (7.8, 0.85)}


@dataclass(frozen=True, slots=True, eq=False)
class ImageBoxes:
    """One image: ``labels`` (n, 4) and ``found`` (m, 4) as x1, y1, x2, y2 in pixels, classes as numbers, ``area``."""

    labels: Floats
    label_classes: Ints
    found: Floats
    found_classes: Ints
    scores: Floats
    area: float


@dataclass(frozen=True, slots=True, eq=False)
class BoxScores:
    """What one image's boxes are suspected of, 0..1 each.

    ``swapped``, ``location`` and ``spurious`` are of the labels (n,); NaN: the detector does not know the
    label's class, so it can say nothing. ``missing`` is of the detector's boxes (m,). ``seen_as`` is the class that the
    detector sees in a label's place, ``seen_at`` the number of its box that fits the object better; -1: none.
    """

    swapped: Floats
    location: Floats
    spurious: Floats
    missing: Floats
    seen_as: Ints
    seen_at: Ints


@dataclass(frozen=True, slots=True, eq=False)
class _Evidence:
    """Of the labels: ``agrees`` a box of the class in the same place, ``fits`` one of any class, ``other`` one of
    another that no label explains, ``shifted`` one of the class beside it, ``seen`` anything there. Of the detector's
    boxes: ``new``, no label explains it.
    """

    agrees: Floats
    fits: Floats
    other: Floats
    shifted: Floats
    seen: Floats
    new: Floats
    seen_as: Ints
    seen_at: Ints


def score_boxes(
    images: Sequence[ImageBoxes],
    known_classes: Collection[int] | None = None,
    *,
    pairs_per_chunk: int = PAIRS_PER_CHUNK,
) -> list[BoxScores]:
    """Return the scores of each image, in order; the images are each other's measure of what the detector can see.

    ``known_classes`` are those it can tell; None: those it found in any of the images.
    """
    if not images:
        return []
    parts = [_weigh(chunk) for chunk in _chunk(images, pairs_per_chunk)]
    evidence = _Evidence(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Evidence.__slots__))
    classes = np.concatenate([image.label_classes for image in images])
    found_classes = np.concatenate([image.found_classes for image in images])
    is_known = np.isin(classes, np.unique(found_classes) if known_classes is None else sorted(known_classes))
    expected = expect(evidence.seen, classes, _compute_sizes(images), is_known)
    # Square roots: between a box that is hardly seen and none lies more than between two that are seen well.
    swapped = _to_score("swapped", np.sqrt(evidence.other) - np.sqrt(evidence.agrees))
    beside = np.sqrt(evidence.shifted) - np.sqrt(evidence.fits)
    location = _to_score("location", beside - HARDLY_SEEN * (1 - np.sqrt(expected)))
    spurious = _to_score("spurious", np.sqrt(expected) - np.sqrt(evidence.seen))
    of_labels = [np.where(is_known, scores, np.nan) for scores in (swapped, location, spurious)]
    of_labels += [evidence.seen_as, evidence.seen_at]
    ends = np.cumsum([len(image.label_classes) for image in images])[:-1]
    found_ends = np.cumsum([len(image.found_classes) for image in images])[:-1]
    rows = zip(*(np.split(column, ends) for column in of_labels), strict=True)
    missing = np.split(_to_score("missing", evidence.new), found_ends)
    return [
        BoxScores(swap, place, spare, new, seen_as, seen_at)
        for (swap, place, spare, seen_as, seen_at), new in zip(rows, missing, strict=True)
    ]


def expect(seen: Floats, classes: Ints, sizes: Floats, is_known: NDArray[np.bool_]) -> Floats:
    """Return how well boxes of about this size and this class are seen elsewhere, 0..1; sizes are parts of the image.

    A box is no measure of itself. Few of a class: those of all classes count as well.
    """
    if not len(seen):
        return np.zeros(0)
    bins = np.clip(np.floor(-np.log2(np.maximum(sizes, 1e-12))), 0, SIZE_BINS - 1).astype(np.int64)
    shape = (int(classes.max()) + 1, SIZE_BINS)
    weights = is_known.astype(np.float64)
    counts, sums = np.zeros(shape), np.zeros(shape)
    np.add.at(counts, (classes, bins), weights)
    np.add.at(sums, (classes, bins), weights * seen)
    near = np.exp(-0.5 * (np.subtract.outer(np.arange(SIZE_BINS), np.arange(SIZE_BINS)) / 1.0) ** 2)
    counts, sums = counts @ near, sums @ near
    all_counts, all_sums = counts.sum(axis=0)[bins] - weights, sums.sum(axis=0)[bins] - weights * seen
    of_all = np.divide(all_sums, all_counts, out=np.zeros_like(seen), where=all_counts > 1e-9)
    own_counts, own_sums = counts[classes, bins] - weights, sums[classes, bins] - weights * seen
    mean = (own_sums + PEERS * of_all) / (own_counts + PEERS)
    return np.asarray(np.clip(mean, 0, 1))


def _weigh(images: Sequence[ImageBoxes]) -> _Evidence:
    labels, found, label_rows, found_rows = _pair(images)
    classes = np.concatenate([image.label_classes for image in images])
    found_classes = np.concatenate([image.found_classes for image in images])
    iou, inside = compute_overlaps(labels[label_rows], found[found_rows])
    scores = np.concatenate([image.scores for image in images])
    sure = scores[found_rows]
    same = classes[label_rows] == found_classes[found_rows]
    count, found_count = len(labels), len(found)

    explained = _highest(found_count, found_rows, np.where(same, iou, 0))
    is_best = explained[found_rows] <= iou + 1e-9
    is_free = 1 - _ramp(explained[found_rows], 0.3, 0.7)
    other = np.where(same, 0, sure * is_free * _ramp(iou, 0.2, 0.7))
    shifted = np.where(same & is_best, sure * _ramp(iou, 0.05, 0.2) * (1 - _ramp(iou, 0.3, 0.75)), 0)
    seen = np.where(same, sure * _ramp(iou, 0, 0.5), OTHER_CLASS * sure * _ramp(iou, 0.2, 0.6))
    is_apart = _highest(found_count, found_rows, iou) < 0.6
    part_of = _ramp(_highest(found_count, found_rows, np.where(same, inside, 0)), 0.5, 0.95)
    new = scores * (1 - _ramp(explained, 0.1, 0.6)) * is_apart * (1 - EXPLAINED_INSIDE * part_of)
    best_other, best_shifted = _find_highest(count, label_rows, other), _find_highest(count, label_rows, shifted)
    first_found = np.cumsum([0, *(len(image.scores) for image in images)])[:-1]
    start = np.repeat(first_found, [len(image.label_classes) for image in images])
    return _Evidence(
        agrees=_highest(count, label_rows, np.where(same, sure * _ramp(iou, 0.3, 0.75), 0)),
        fits=_highest(count, label_rows, sure * _ramp(iou, 0.3, 0.75)),
        other=_highest(count, label_rows, other),
        shifted=_highest(count, label_rows, shifted),
        seen=_highest(count, label_rows, seen),
        new=new,
        seen_as=np.where(best_other < 0, -1, _pick(found_classes, found_rows, best_other)),
        seen_at=np.where(best_shifted < 0, -1, _pick(np.arange(found_count), found_rows, best_shifted) - start),
    )


def compute_overlaps(labels: Floats, found: Floats) -> tuple[Floats, Floats]:
    """Return of pairs of boxes their IoU, and how much of the second lies within the first; 0 where it has no area.

    >>> iou, inside = compute_overlaps(np.array([[0.0, 0, 4, 2]]), np.array([[2.0, 0, 4, 2]]))
    >>> float(iou[0]), float(inside[0])
    (0.5, 1.0)
    """
    wide = np.minimum(labels[:, 2], found[:, 2]) - np.maximum(labels[:, 0], found[:, 0])
    high = np.minimum(labels[:, 3], found[:, 3]) - np.maximum(labels[:, 1], found[:, 1])
    shared = np.clip(wide, 0, None) * np.clip(high, 0, None)
    area, found_area = compute_areas(labels), compute_areas(found)
    union = area + found_area - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou, np.divide(shared, found_area, out=np.zeros_like(shared), where=found_area > 0)


def compute_areas(boxes: Floats) -> Floats:
    """Return the area of each box; one that is turned inside out has none."""
    return np.asarray(np.clip(boxes[:, 2] - boxes[:, 0], 0, None) * np.clip(boxes[:, 3] - boxes[:, 1], 0, None))


def _chunk(images: Sequence[ImageBoxes], pairs_per_chunk: int) -> Iterator[Sequence[ImageBoxes]]:
    """Yield the images in parts that have few enough pairs of boxes, at least one image each."""
    start = pairs = 0
    for number, image in enumerate(images):
        pairs += len(image.labels) * len(image.found)
        if pairs > pairs_per_chunk and number > start:
            yield images[start:number]
            start, pairs = number, len(image.labels) * len(image.found)
    yield images[start:]


def _pair(images: Sequence[ImageBoxes]) -> tuple[Floats, Floats, Ints, Ints]:
    """Return all labels, all boxes found, and each label's row with each row found in its image."""
    labels = np.concatenate([image.labels for image in images]).reshape(-1, 4)
    found = np.concatenate([image.found for image in images]).reshape(-1, 4)
    found_counts = np.array([len(image.found) for image in images])
    starts = np.cumsum(found_counts) - found_counts
    image_of_label = np.repeat(np.arange(len(images)), [len(image.labels) for image in images])
    counts = found_counts[image_of_label]
    label_rows = np.repeat(np.arange(len(labels)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return labels, found, label_rows, np.repeat(starts[image_of_label], counts) + within


def _compute_sizes(images: Sequence[ImageBoxes]) -> Floats:
    areas = np.repeat([image.area for image in images], [len(image.labels) for image in images])
    boxes = np.concatenate([image.labels for image in images]).reshape(-1, 4)
    return np.asarray(compute_areas(boxes) / np.maximum(areas, 1e-9), dtype=np.float64)


def _ramp(values: Floats, low: float, high: float) -> Floats:
    """Return 0 up to low, 1 from high on, and a straight line between them."""
    return np.asarray(np.clip((values - low) / (high - low), 0, 1))


def _highest(count: int, rows: Ints, values: Floats) -> Floats:
    best = np.zeros(count)
    np.maximum.at(best, rows, values)
    return best


def _find_highest(count: int, rows: Ints, values: Floats) -> Ints:
    """Return for each row the place of its highest value above 0; -1: it has none."""
    places = np.full(count, -1, np.int64)
    above = np.flatnonzero(values > 0)
    # Of the places written to one row the last one stays.
    order = above[np.argsort(values[above], kind="stable")]
    places[rows[order]] = order
    return places


def _pick(of_found: Ints, found_rows: Ints, places: Ints) -> Ints:
    return np.asarray(of_found[found_rows[places]]) if len(found_rows) else np.full(len(places), -1, np.int64)


def _to_score(kind: str, evidence: Floats) -> Floats:
    slope, middle = CURVES[kind]
    return np.asarray(1 / (1 + np.exp(-slope * (evidence - middle))), dtype=np.float64)
