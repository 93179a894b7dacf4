"""Outlines of painted masks, and the smallest turned box round points. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from labels.geometry import Point

TOLERANCE_PX: Final = 0.25
FEWEST_POINTS: Final = 3
# All distances between two outlines at once would take memory with the square of their points.
DISTANCES_AT_ONCE: Final = 1024**2


def trace_mask(pixels: npt.NDArray[np.bool_]) -> list[Point]:
    """Return one outline round all that is painted, in pixels; holes are filled, parts that lie apart are joined."""
    return trace_in_one(pixels)[0]


def trace_in_one(pixels: npt.NDArray[np.bool_]) -> tuple[list[Point], bool]:
    """Return one outline round all that is painted, in pixels, and whether it is what was painted.

    It is not where a hole was filled, or parts that lie apart were joined.
    """
    from skimage.measure import approximate_polygon, find_contours  # a tenth of a second, and only for masks

    padded = np.pad(pixels, 1).astype(np.float32)
    parts: list[npt.NDArray[np.float64]] = []
    holes = 0
    # At a half between the middles of the pixels lies their edge.
    for contour in find_contours(padded, 0.5, fully_connected="high"):  # type: ignore[no-untyped-call]  # ships none
        simple = approximate_polygon(contour, TOLERANCE_PX)  # type: ignore[no-untyped-call]  # as above
        points = np.clip(simple[:-1, ::-1] - 0.5, 0, (pixels.shape[1], pixels.shape[0]))
        # Round what is painted a contour runs the one way, round a hole the other.
        if len(points) >= FEWEST_POINTS and _signed_area(points) < 0:
            parts.append(points)
        else:
            holes += 1
    if not parts:
        rows, columns = np.nonzero(pixels)
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        box = [(float(x), float(y)) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
        return box, bool(pixels[top:bottom, left:right].all())
    return join_outlines(parts), len(parts) == 1 and not holes


def join_outlines(outlines: Iterable[npt.ArrayLike]) -> list[Point]:
    """Return one outline of several: each is joined there and back over the shortest way, a line without area.

    >>> join_outlines([[(0, 0), (1, 0), (1, 1)], [(3, 1), (4, 1), (4, 2)]])
    [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (3.0, 1.0), (4.0, 1.0), (4.0, 2.0), (3.0, 1.0), (1.0, 1.0)]
    """
    first, *others = (np.asarray(outline, dtype=np.float64) for outline in outlines)
    for other in others:
        first = _join(first, other)
    return [(float(x), float(y)) for x, y in first]


def _signed_area(points: npt.NDArray[np.float64]) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(np.dot(np.roll(x, -1), y) - np.dot(x, np.roll(y, -1))) / 2


def _join(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    at = begin = 0
    nearest = np.inf
    step = max(1, DISTANCES_AT_ONCE // len(second))
    for start in range(0, len(first), step):
        apart = ((first[start : start + step, None] - second[None]) ** 2).sum(-1)
        if apart.min() < nearest:
            row, begin = divmod(int(apart.argmin()), len(second))
            at, nearest = start + row, apart.min()
    turned = np.roll(second, -begin, axis=0)
    return np.concatenate([first[: at + 1], turned, turned[:1], first[at:]])


def find_smallest_box(points: Sequence[Point]) -> tuple[Point, Point, Point, Point]:
    """Return the corners of the turned box of least area round the points, clockwise on the screen.

    Source: Freeman and Shapira 1975, one side of it lies along a side of the convex hull.

    >>> [(round(x, 3), round(y, 3)) for x, y in find_smallest_box([(0, 0), (4, 0), (4, 2), (0, 2), (1, 1)])]
    [(0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (0.0, 2.0)]
    """
    hull = _find_hull(points)
    best: tuple[float, float, tuple[float, float, float, float]] | None = None
    for (x1, y1), (x2, y2) in pairwise([*hull, hull[0]]):
        angle = math.atan2(y2 - y1, x2 - x1) % (math.pi / 2)
        across, down = math.cos(angle), math.sin(angle)
        along = [x * across + y * down for x, y in hull]
        aside = [y * across - x * down for x, y in hull]
        sides = (min(along), min(aside), max(along), max(aside))
        area = (sides[2] - sides[0]) * (sides[3] - sides[1])
        if best is None or (area, angle) < best[:2]:
            best = (area, angle, sides)
    assert best is not None
    _, angle, (left, top, right, bottom) = best
    across, down = math.cos(angle), math.sin(angle)
    corners = ((left, top), (right, top), (right, bottom), (left, bottom))
    first, second, third, fourth = ((u * across - v * down, u * down + v * across) for u, v in corners)
    return first, second, third, fourth


def _find_hull(points: Sequence[Point]) -> list[Point]:
    """Return the convex hull (Andrew 1979, monotone chain)."""
    ordered = sorted(set(points))
    if len(ordered) < FEWEST_POINTS:
        return ordered

    def half(some: Sequence[Point]) -> list[Point]:
        chain: list[Point] = []
        for x, y in some:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], (x, y)) <= 0:
                chain.pop()
            chain.append((x, y))
        return chain[:-1]

    return half(ordered) + half(ordered[::-1])


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
