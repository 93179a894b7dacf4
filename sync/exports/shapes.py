"""The part of a shape that lies inside its image, as training formats want it. Pure.

A shape cut at the edge keeps its true outline: what is cut is the outline, and the upright box is drawn round the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from labels.geometry import XYXY, Box, Geometry, ImageSize, Keypoint, Mask, Point, Polygon
from labels.polygons import compute_area

SMALLEST_SIDE_PX: Final = 0.01
"""Below this a shape has no area: the precision to which labels count as equal."""
SMALLEST_DOT_PX: Final = 1.0
OUTSIDE: Final = "lies outside the image"


class ShapeError(ValueError):
    """A shape has no place in a training set; the text says why."""


class NoAreaError(ShapeError):
    """A shape marks nothing, wherever it lies."""

    def __init__(self) -> None:
        super().__init__("has no area")


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a label lies inside the image: its upright box, its area in square pixels, and one exact form or none.

    ``outline`` is set for polygons and turned boxes, ``pixels`` for masks, ``point`` for keypoints.
    """

    xyxy: XYXY
    area: float
    outline: tuple[Point, ...] | None = None
    pixels: npt.NDArray[np.bool_] | None = None
    point: Point | None = None
    is_clipped: bool = False


def to_shape(geometry: Geometry, size: ImageSize) -> Shape:
    """Return the part of a shape inside an image of that size.

    Raises:
        ShapeError: it has no area, lies outside the image, or is not of this image.

    >>> to_shape(Box(-10.0, 5.0, 30.0, 10.0), ImageSize(40, 20)).xyxy
    (0.0, 5.0, 20.0, 15.0)
    """
    if isinstance(geometry, Box) and geometry.rotation_deg == 0 and _is_inside(geometry, size):
        # Most labels are these.
        return Shape((geometry.x, geometry.y, geometry.x + geometry.width, geometry.y + geometry.height), geometry.area)
    whole = geometry.to_xyxy() if not _is_pointless(geometry) else (0.0, 0.0, 0.0, 0.0)
    if isinstance(geometry, Keypoint):
        return _from_keypoint(geometry, size)
    _check_sides(whole, NoAreaError())
    if isinstance(geometry, Mask):
        if geometry.size != size:
            mask_size = geometry.size
            raise ShapeError(
                f"is a mask of {mask_size.width}x{mask_size.height} on an image of {size.width}x{size.height}"
            )
        return Shape(whole, geometry.area, pixels=geometry.pixels)
    inside = _clip_xyxy(whole, size)
    _check_sides(inside, ShapeError(OUTSIDE))
    is_clipped = max(abs(a - b) for a, b in zip(whole, inside, strict=True)) > SMALLEST_SIDE_PX
    if isinstance(geometry, Box) and geometry.rotation_deg == 0:
        return Shape(inside, _area(inside), is_clipped=is_clipped)
    points = geometry.corners() if isinstance(geometry, Box) else geometry.points
    return replace(_from_outline(points, size), is_clipped=is_clipped)


def _is_inside(box: Box, size: ImageSize) -> bool:
    """Return whether an upright box has an area and lies in the image with all of it."""
    return (
        box.width >= SMALLEST_SIDE_PX
        and box.height >= SMALLEST_SIDE_PX
        and box.x >= 0
        and box.y >= 0
        and box.x + box.width <= size.width
        and box.y + box.height <= size.height
    )


def _is_pointless(geometry: Geometry) -> bool:
    return isinstance(geometry, Polygon) and not geometry.points


def _from_keypoint(keypoint: Keypoint, size: ImageSize) -> Shape:
    if not (0 <= keypoint.x <= size.width and 0 <= keypoint.y <= size.height):
        raise ShapeError(OUTSIDE)
    # A box of no size would stop trainers that read the same file for boxes.
    dot = replace(keypoint, diameter=max(keypoint.diameter, SMALLEST_DOT_PX))
    xyxy = _clip_xyxy(dot.to_xyxy(), size)
    return Shape(xyxy, _area(xyxy), point=(keypoint.x, keypoint.y))


def _from_outline(points: Sequence[Point], size: ImageSize) -> Shape:
    outline = clip_outline(points, size)
    area = compute_area(outline)
    if area < SMALLEST_SIDE_PX**2:
        raise NoAreaError() if compute_area(points) < SMALLEST_SIDE_PX**2 else ShapeError(OUTSIDE)
    xs, ys = [x for x, _ in outline], [y for _, y in outline]
    xyxy = (min(xs), min(ys), max(xs), max(ys))
    _check_sides(xyxy, ShapeError(OUTSIDE))
    return Shape(xyxy, area, outline=tuple(outline))


def clip_outline(points: Sequence[Point], size: ImageSize) -> list[Point]:
    """Return the outline of the part of a polygon inside the image; parts are joined along the edge.

    Source: Sutherland and Hodgman 1974, reentrant polygon clipping.

    >>> clip_outline([(-2.0, 0.0), (2.0, 0.0), (2.0, 2.0), (-2.0, 2.0)], ImageSize(4, 3))
    [(0.0, 0.0), (2.0, 0.0), (2.0, 2.0), (0.0, 2.0)]
    """
    clipped = list(points)
    for axis, edge, keeps_above in ((0, 0.0, True), (0, size.width, False), (1, 0.0, True), (1, size.height, False)):
        clipped = _clip_at(clipped, axis, float(edge), keeps_above=keeps_above)
    return clipped


def _clip_at(points: Sequence[Point], axis: int, edge: float, *, keeps_above: bool) -> list[Point]:
    is_inside: Callable[[Point], bool] = (
        (lambda point: point[axis] >= edge) if keeps_above else (lambda point: point[axis] <= edge)
    )
    kept: list[Point] = []
    for before, point in zip([*points[-1:], *points[:-1]], points, strict=True):
        if is_inside(before) != is_inside(point):
            kept.append(_cross(before, point, axis, edge))
        if is_inside(point):
            kept.append(point)
    return kept


def _cross(before: Point, point: Point, axis: int, edge: float) -> Point:
    share = (edge - before[axis]) / (point[axis] - before[axis])
    along = before[1 - axis] + share * (point[1 - axis] - before[1 - axis])
    return (edge, along) if axis == 0 else (along, edge)


def _clip_xyxy(xyxy: XYXY, size: ImageSize) -> XYXY:
    xs = [min(max(x, 0.0), float(size.width)) for x in xyxy[::2]]
    ys = [min(max(y, 0.0), float(size.height)) for y in xyxy[1::2]]
    return xs[0], ys[0], xs[1], ys[1]


def _check_sides(xyxy: XYXY, problem: ShapeError) -> None:
    if xyxy[2] - xyxy[0] < SMALLEST_SIDE_PX or xyxy[3] - xyxy[1] < SMALLEST_SIDE_PX:
        raise problem


def _area(xyxy: XYXY) -> float:
    return (xyxy[2] - xyxy[0]) * (xyxy[3] - xyxy[1])


def to_run_lengths(pixels: npt.NDArray[np.bool_]) -> list[int]:
    """Return COCO's uncompressed run lengths: down the columns, starting with a run of unpainted pixels.

    >>> to_run_lengths(np.array([[False, True], [True, True]]))
    [1, 3]
    """
    before = np.concatenate(([False], pixels.ravel(order="F")))
    changes = np.flatnonzero(before[1:] != before[:-1])
    lengths: list[int] = np.diff([0, *changes.tolist(), pixels.size]).tolist()
    return lengths
