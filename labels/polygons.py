"""Plane geometry of outlines: area, overlap and filling, for any simple polygon, on numpy alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
# Overlaps of outlines that are not convex are counted on a grid of this many cells a side.
GRID_CELLS = 512


def compute_area(points: Sequence[Point]) -> float:
    """Return the area of a simple polygon (shoelace formula); fewer than three points have none.

    >>> compute_area([(0, 0), (2, 0), (2, 1), (0, 1)])
    2.0
    """
    return abs(_compute_signed_area(points))


def _compute_signed_area(points: Sequence[Point]) -> float:
    if len(points) < 3:
        return 0.0
    xy = np.asarray(points, dtype=np.float64)
    following = np.roll(xy, -1, axis=0)
    return float(np.sum(xy[:, 0] * following[:, 1] - following[:, 0] * xy[:, 1]) / 2)


def compute_intersection_area(a: Sequence[Point], b: Sequence[Point]) -> float:
    """Return the area two simple polygons share: exact when one is convex, else on a fine grid.

    Source: Sutherland and Hodgman 1974, reentrant polygon clipping.
    """
    if len(a) < 3 or len(b) < 3:
        return 0.0
    if _is_convex(b):
        return compute_area(_clip(a, b))
    if _is_convex(a):
        return compute_area(_clip(b, a))
    return _compute_grid_overlap(a, b)


def _is_convex(points: Sequence[Point]) -> bool:
    xy = np.asarray(points, dtype=np.float64)
    edges = np.roll(xy, -1, axis=0) - xy
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    # A star turns one way too, but it goes round more than once; such outlines are left to the grid.
    angles = np.arctan2(turns, np.sum(edges * following, axis=1))
    once_round = abs(abs(float(np.sum(angles))) - 2 * np.pi) < 1e-6
    return bool(np.all(turns >= 0) or np.all(turns <= 0)) and once_round


def _clip(subject: Sequence[Point], window: Sequence[Point]) -> list[Point]:
    sign = 1.0 if _compute_signed_area(window) >= 0 else -1.0
    output = list(subject)
    for start, end in zip(window, [*window[1:], window[0]], strict=True):
        if not output:
            return []
        output = _clip_by_edge(output, start, end, sign)
    return output


def _clip_by_edge(points: list[Point], start: Point, end: Point, sign: float) -> list[Point]:
    def side(point: Point) -> float:
        turn = (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])
        return sign * turn

    kept: list[Point] = []
    for here, there in zip(points, [*points[1:], points[0]], strict=True):
        side_here, side_there = side(here), side(there)
        if side_here >= 0:
            kept.append(here)
        if (side_here >= 0) != (side_there >= 0):
            part = side_here / (side_here - side_there)
            kept.append((here[0] + part * (there[0] - here[0]), here[1] + part * (there[1] - here[1])))
    return kept


def _compute_grid_overlap(a: Sequence[Point], b: Sequence[Point]) -> float:
    both = np.asarray([*a, *b], dtype=np.float64)
    low, high = both.min(axis=0), both.max(axis=0)
    span = np.maximum(high - low, 1e-12)
    scaled = [[tuple((np.asarray(p) - low) / span * GRID_CELLS) for p in shape] for shape in (a, b)]
    first, second = (rasterize(shape, height=GRID_CELLS, width=GRID_CELLS) for shape in scaled)
    cell = float(span[0] * span[1]) / GRID_CELLS**2
    return float(np.count_nonzero(first & second)) * cell


def rasterize(points: Sequence[Point], *, height: int, width: int) -> npt.NDArray[np.bool_]:
    """Return the pixels whose centre lies inside the polygon (even-odd rule), shape (height, width).

    >>> int(rasterize([(1, 1), (3, 1), (3, 2), (1, 2)], height=3, width=4).sum())
    2
    """
    filled = np.zeros((height, width), dtype=np.bool_)
    if len(points) < 3:
        return filled
    centres_x, centres_y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for (x1, y1), (x2, y2) in zip(points, [*points[1:], points[0]], strict=True):
        crossed = np.flatnonzero((y1 <= centres_y) != (y2 <= centres_y))
        if crossed.size:
            at = x1 + (centres_y[crossed] - y1) * (x2 - x1) / (y2 - y1)
            filled[crossed] ^= centres_x[np.newaxis, :] < at[:, np.newaxis]
    return filled
