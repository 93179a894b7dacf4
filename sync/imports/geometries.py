"""From a shape as a label file has it to one in pixels of its image. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

import numpy as np

from labels.geometry import Box, Geometry, ImageSize, Keypoint, Mask, Polygon
from labels.limits import MAX_PIXELS
from labels.polygons import rasterize
from sync.exports.outlines import join_outlines
from sync.imports.records import RawShape
from sync.imports.turned import to_turned_box

FEWEST_POINTS: Final = 3


class FitError(ValueError):
    """A label does not fit; the text says why."""


def to_geometry(shape: RawShape, size: ImageSize) -> Geometry:
    """Return a shape of a file in pixels.

    Raises:
        FitError: it has too few numbers, or is of another image.
    """
    if shape.kind == "run lengths":
        return _to_mask(shape, size)
    if shape.kind in ("painted outlines", "outlines"):
        return _to_one(shape, size)
    across, down = (size.width, size.height) if shape.unit == "relative" else (1, 1)
    points = [(x * across, y * down) for x, y in zip(shape.numbers[::2], shape.numbers[1::2], strict=False)]
    if shape.kind == "keypoint":
        diameter = shape.numbers[2] if len(shape.numbers) > 2 else 0.0
        return Keypoint(points[0][0], points[0][1], diameter)
    if shape.kind == "box":
        (left, top), (right, bottom) = points
        return Box.from_xyxy(min(left, right), min(top, bottom), max(left, right), max(top, bottom))
    if shape.kind == "turned box":
        return to_turned_box(points)
    _check_outline(shape.numbers)
    return Polygon(tuple(points))


def _check_outline(numbers: Sequence[float]) -> None:
    if len(numbers) < 2 * FEWEST_POINTS or len(numbers) % 2:
        raise FitError(f"an outline of {len(numbers)} numbers (expected pairs, at least three)")


def _to_one(shape: RawShape, size: ImageSize) -> Geometry:
    """Return what several outlines are together: the pixels any of them covers, or one outline that joins them."""
    numbers = iter(shape.numbers)
    outlines = []
    for length in shape.lengths:
        own = tuple(islice(numbers, length))
        _check_outline(own)
        outlines.append(list(zip(own[::2], own[1::2], strict=True)))
    if shape.kind == "outlines":
        return Polygon(tuple(join_outlines(outlines)))
    if size.width * size.height > MAX_PIXELS:
        raise FitError(f"a mask of {size.width}x{size.height}")
    parts = (rasterize(outline, height=size.height, width=size.width) for outline in outlines)
    return Mask(np.logical_or.reduce([*parts]))


def _to_mask(shape: RawShape, size: ImageSize) -> Mask:
    height, width = shape.size or (0, 0)
    if (width, height) != (size.width, size.height) or width * height > MAX_PIXELS:
        raise FitError(f"a mask of {width}x{height} on an image of {size.width}x{size.height}")
    counts = [int(count) for count in shape.numbers]
    if any(count < 0 for count in counts) or sum(counts) != width * height:
        raise FitError("its run lengths do not make an image of that size")
    painted = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return Mask(np.ascontiguousarray(painted.reshape((height, width), order="F")))
