"""What the shape of a box alone says against it. Knows no detector and no FiftyOne."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fiftyone_plugins.mistakes.boxes import Floats, Ints, compute_areas, compute_overlaps

EDGE_PX: Final = 1.0
"""By less nobody means to draw over an image's edge."""

MOST_OUTSIDE: Final = 0.05
"""So much of a box may lie outside: some people draw where the object goes on."""

SAME_BOX_IOU: Final = 0.9
"""From this overlap on two boxes of one class are one object twice."""

ENOUGH_OF_CLASS: Final = 20
"""With fewer boxes of a class nobody knows how large and how slim they usually are."""

FAR: Final = 6.0
"""So many of the usual deviations (median, of the logarithm) away from the usual is never seen."""

LEAST_SPREAD: Final = 0.15
"""A class whose boxes are all alike still varies by this much (of the logarithm)."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a box breaks: ``score`` 0..1, why in words, the box to be drawn instead, and whether it goes."""

    score: float
    reason: str
    box: tuple[float, float, float, float] | None = None
    is_superfluous: bool = False


@dataclass(frozen=True, slots=True)
class Usual:
    """Middle and spread of the logarithms of a class's sizes (parts of the image) and aspects (width by height)."""

    size: tuple[float, float]
    aspect: tuple[float, float]


def learn_usual(classes: Sequence[str], sizes: Floats, aspects: Floats) -> dict[str, Usual]:
    """Return what is usual of each class with enough boxes; boxes without an area are none."""
    usual: dict[str, Usual] = {}
    named = np.asarray(classes)
    for name in sorted(set(classes)):
        rows = (named == name) & (sizes > 0) & (aspects > 0)
        if rows.sum() >= ENOUGH_OF_CLASS:
            usual[name] = Usual(_describe(np.log(sizes[rows])), _describe(np.log(aspects[rows])))
    return usual


def check_boxes(
    labels: Floats, classes: Sequence[str], size: tuple[float, float], usual: Mapping[str, Usual]
) -> list[Broken | None]:
    """Return for each of an image's boxes (x1, y1, x2, y2 in pixels) the worst rule that it breaks, or None."""
    width, height = size
    areas = compute_areas(labels)
    twins = _find_twins(labels, np.unique(np.asarray(classes), return_inverse=True)[1] if len(classes) else None)
    found: list[Broken | None] = []
    for row, name in enumerate(classes):
        box = labels[row]
        if areas[row] <= 0:
            found.append(Broken(1.0, "the box has no area", is_superfluous=True))
            continue
        broken = [_check_edges(box, areas[row], width, height)]
        if twins[row] >= 0:
            broken.append(Broken(0.95, f"another {name} has the same box", is_superfluous=True))
        broken += _check_usual(name, areas[row] / max(width * height, 1e-9), box, usual.get(name))
        found.append(max((one for one in broken if one is not None), key=lambda one: one.score, default=None))
    return found


def _check_edges(box: Floats, area: float, width: float, height: float) -> Broken | None:
    inside = np.array([max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height)])
    kept = float(compute_areas(inside[None])[0])
    if kept <= 0:
        return Broken(1.0, "the box lies outside the image", is_superfluous=True)
    over_px = max(-box[0], -box[1], box[2] - width, box[3] - height)
    outside = 1 - kept / area
    if over_px <= EDGE_PX or outside <= MOST_OUTSIDE:
        return None
    clipped = (float(inside[0]), float(inside[1]), float(inside[2]), float(inside[3]))
    return Broken(0.6 + 0.4 * outside, f"{outside:.0%} of the box lies outside the image", clipped)


def _check_usual(name: str, size: float, box: Floats, usual: Usual | None) -> list[Broken | None]:
    if usual is None:
        return []
    aspect = (box[2] - box[0]) / (box[3] - box[1])
    by_size = abs(np.log(max(size, 1e-12)) - usual.size[0]) / usual.size[1]
    by_aspect = abs(np.log(aspect) - usual.aspect[0]) / usual.aspect[1]
    found: list[Broken | None] = []
    if by_size > FAR:
        found.append(Broken(_to_score(by_size), f"no other {name} takes {size:.2%} of its image"))
    if by_aspect > FAR:
        found.append(Broken(_to_score(by_aspect), f"no other {name} is {aspect:.2g} times as wide as high"))
    return found


def _find_twins(labels: Floats, classes: Ints | None) -> Ints:
    """Return for each box the earlier one of its class that has the same place; -1: there is none."""
    count = len(labels)
    twins = np.full(count, -1, np.int64)
    if classes is None or count < 2:
        return twins
    later, earlier = np.tril_indices(count, -1)
    same = classes[later] == classes[earlier]
    later, earlier = later[same], earlier[same]
    iou, _ = compute_overlaps(labels[later], labels[earlier])
    for one, other in zip(later[iou >= SAME_BOX_IOU], earlier[iou >= SAME_BOX_IOU], strict=True):
        twins[one] = other
    return twins


def _describe(logarithms: Floats) -> tuple[float, float]:
    middle = float(np.median(logarithms))
    # 1.4826 makes the median deviation that of a normal distribution.
    return middle, max(float(np.median(np.abs(logarithms - middle))) * 1.4826, LEAST_SPREAD)


def _to_score(deviations: float) -> float:
    """Return 0.5 at the limit and towards 1 far beyond it.

    >>> _to_score(FAR), round(_to_score(3 * FAR), 3)
    (0.5, 0.833)
    """
    return float(1 - 0.5 * FAR / deviations)
