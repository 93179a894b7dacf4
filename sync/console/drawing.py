"""Labels as shapes of an SVG that lies over the image, in its pixels; a painted mask as a picture of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from labels.geometry import Geometry, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label

DOT_RADIUS_PX: Final = 4.0
LONGEST_MASK_PX: Final = 1600
# Red, green and blue of each side, as in console.css: a mask is a picture, which no style sheet reaches.
SIDE_COLOURS: Final[Mapping[str, tuple[int, int, int]]] = {
    "ours": (37, 99, 235),
    "theirs": (234, 88, 12),
    "base": (107, 114, 128),
    "agreed": (13, 148, 136),
}
MASK_ALPHA: Final = 120


@dataclass(frozen=True, slots=True)
class Shape:
    """What is drawn of a label: an outline or a dot, or a mask by its address; and the box around it in pixels.

    Exactly one of ``points``, ``dot`` and ``has_mask`` is given.
    """

    box: tuple[float, float, float, float]
    points: str = ""
    dot: tuple[float, float, float] | None = None
    has_mask: bool = False


def to_shape(label: Label) -> Shape | None:
    """Return the shape of a label, None for what speaks of the whole image."""
    shape = label.geometry
    if shape is None:
        return None
    box = _to_numbers(shape)
    if isinstance(shape, Mask):
        return Shape(box, has_mask=True)
    if isinstance(shape, Keypoint):
        return Shape(box, dot=(round(shape.x, 2), round(shape.y, 2), round(max(shape.diameter / 2, DOT_RADIUS_PX), 2)))
    corners = shape.points if isinstance(shape, Polygon) else shape.corners()
    return Shape(box, points=" ".join(f"{x:.2f},{y:.2f}" for x, y in corners))


def _to_numbers(shape: Geometry) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(value, 2) for value in shape.to_xyxy())
    return left, top, right, bottom


def describe_place(label: Label) -> str:
    """Return where a label is, in words for a table.

    >>> from labels.geometry import Box
    >>> describe_place(Label("1", "label", ("car",), Box(10, 20.4, 30, 40)))
    '30 × 40 px at 10, 20'
    """
    shape = label.geometry
    if shape is None:
        return "whole image"
    if isinstance(shape, Keypoint):
        return f"point at {shape.x:.0f}, {shape.y:.0f}"
    if isinstance(shape, Polygon):
        return f"{len(shape.points)} points, {shape.area:,.0f} px²"
    if isinstance(shape, Mask):
        return f"{shape.area:,.0f} px painted"
    turned = f", turned {shape.rotation_deg:.0f}°" if shape.rotation_deg else ""
    return f"{shape.width:.0f} × {shape.height:.0f} px at {shape.x:.0f}, {shape.y:.0f}{turned}"


def describe_answer(label: Label) -> str:
    """Return what a label says: its classes, or its rating."""
    if label.rating is not None:
        return f"{label.control}: {label.rating}"
    classes = ", ".join(label.classes) or "no class"
    return classes if label.geometry is not None else f"{label.control}: {classes}"


def draw_mask(mask: Mask, side: str) -> bytes:
    """Return a PNG of the painted pixels in a side's colour, the rest clear; at most as large as a preview."""
    picture = Image.fromarray(mask.pixels.astype(np.uint8) * MASK_ALPHA)
    picture.thumbnail((LONGEST_MASK_PX, LONGEST_MASK_PX))
    coloured = Image.new("RGBA", picture.size, (*SIDE_COLOURS[side], 0))
    coloured.putalpha(picture)
    written = io.BytesIO()
    coloured.save(written, "PNG")
    return written.getvalue()


def fit(size: ImageSize) -> str:
    """Return the view box of a whole image."""
    return f"0 0 {size.width} {size.height}"
