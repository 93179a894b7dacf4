"""Draws what a detector found onto the image: masks, boxes, key points, class names and scores. Writes no file."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from labels.geometry import ImageSize
from ml_backend.answers.regions import to_mask
from ml_backend.detectors import Detections, Image, to_box

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
# Colours of the palette; more classes than that begin again.
PALETTE_SIZE: Final = 128
FIRST_COLOUR: Final = (230, 46, 46)
HUES: Final = 48
SHADES: Final = ((1.0, 0.95), (1.0, 0.7), (1.0, 0.45), (0.65, 0.95), (0.65, 0.6), (0.4, 1.0), (0.4, 0.75))
MASK_OPACITY: Final = 0.45
TEXT_SHARE: Final = 1 / 45  # of the image's longer side
MIN_TEXT_PX: Final = 11
CLASSES_LISTED: Final = 5
POINT_FLOOR: Final = 0.25
BONES: Final = (
    (0, 1), (0, 2), (1, 3), (2, 4), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 11), (6, 12), (11, 12), (11, 13),
    (13, 15), (12, 14), (14, 16),
)  # fmt: skip
COCO_POINTS: Final = 17


def draw_detections(image: Image, found: Detections, names: Mapping[int, str]) -> PillowImage.Image:
    """Return a copy of the image with everything found on it; the surest is drawn last, on top."""
    canvas = PillowImage.fromarray(image).convert("RGB")
    text_px = max(MIN_TEXT_PX, round(max(canvas.size) * TEXT_SHARE))
    if found.image_probabilities is not None:
        _write_classes(canvas, found, names, text_px)
        return canvas
    rows = sorted(range(len(found)), key=lambda row: float(found.scores[row]))
    for row in rows:
        colour = to_colour(int(found.class_ids[row]))
        _draw_mask(canvas, found, row, colour)
        _draw_keypoints(canvas, found, row, colour, text_px)
    for row in rows:
        _draw_box(canvas, found, row, text_px)
    plates: list[Rectangle] = []
    # The surest has the first choice of a place.
    for row in reversed(rows):
        _write_label(canvas, found, row, names, text_px, plates)
    return canvas


def to_colour(class_id: int) -> Colour:
    """Return the colour of a class: the same one everywhere.

    >>> to_colour(0)
    (230, 46, 46)
    """
    return _make_palette()[class_id % PALETTE_SIZE]


@lru_cache(maxsize=1)
def _make_palette() -> tuple[Colour, ...]:
    """Return colours that eyes tell apart: each as far as can be from all before it, in CIE L*a*b*."""
    shades = [(hue / HUES, saturation, value) for hue in range(HUES) for saturation, value in SHADES]
    rgb = np.array([FIRST_COLOUR, *(np.round(np.multiply(colorsys.hsv_to_rgb(*shade), 255)) for shade in shades)])
    lab = _to_lab(rgb)
    chosen = [0]
    distances = np.linalg.norm(lab - lab[0], axis=1)
    while len(chosen) < PALETTE_SIZE:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in rgb[chosen])


def _to_lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return sRGB colours of 0..255 as CIE L*a*b* under daylight (IEC 61966-2-1 and CIE 15)."""
    part = rgb / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    scaled = xyz / np.array([0.9505, 1.0, 1.089])
    root = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def _draw_mask(canvas: PillowImage.Image, found: Detections, row: int, colour: Colour) -> None:
    if found.masks is None:
        return
    pixels = to_mask(found.masks[row], ImageSize(*canvas.size)).pixels
    veil = PillowImage.fromarray((pixels * round(255 * MASK_OPACITY)).astype(np.uint8))
    canvas.paste(colour, (0, 0), veil)


def _draw_keypoints(canvas: PillowImage.Image, found: Detections, row: int, colour: Colour, text_px: int) -> None:
    if found.keypoints is None:
        return
    points = [(float(x), float(y)) if seen >= POINT_FLOOR else None for x, y, seen in found.keypoints[row]]
    draw = ImageDraw.Draw(canvas)
    radius = max(2.0, text_px / 6)
    for first, second in BONES if len(points) == COCO_POINTS else ():
        start, end = points[first], points[second]
        if start is not None and end is not None:
            draw.line([start, end], fill=colour, width=max(1, round(radius / 2)))
    for point in points:
        if point is not None:
            x, y = point
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, outline="white")


def _draw_box(canvas: PillowImage.Image, found: Detections, row: int, text_px: int) -> None:
    corners = to_box(found, row).corners()
    colour = to_colour(int(found.class_ids[row]))
    draw = ImageDraw.Draw(canvas)
    draw.line([*corners, corners[0], corners[1]], fill=colour, width=max(2, round(text_px / 8)), joint="curve")


def _write_label(
    canvas: PillowImage.Image,
    found: Detections,
    row: int,
    names: Mapping[int, str],
    text_px: int,
    plates: list[Rectangle],
) -> None:
    """Write a box's class and score above it, or below the labels that are there already; add its plate to them."""
    class_id = int(found.class_ids[row])
    text = f"{names.get(class_id, class_id)} {float(found.scores[row]):.2f}"
    if found.votes is not None:
        text += f" ({int(found.votes[row])} votes)"
    corners = to_box(found, row).corners()
    draw = ImageDraw.Draw(canvas)
    plate = _place(draw, (min(x for x, _ in corners), min(y for _, y in corners)), text, text_px, canvas.size)
    free = find_free_plate(plate, plates, canvas.size[1])
    plates.append(free)
    _write(draw, free, text, to_colour(class_id), text_px)


def find_free_plate(plate: Rectangle, plates: Sequence[Rectangle], height: int) -> Rectangle:
    """Return a plate moved down until it hides none of the others, or up; as it is where the image has no room.

    >>> find_free_plate((0, 0, 50, 10), [(20, 5, 70, 15)], 100)
    (0, 16, 50, 26)
    >>> find_free_plate((0, 90, 50, 100), [(20, 85, 70, 95)], 100)
    (0, 74, 50, 84)
    """
    for step in (1, -1):
        moved = plate
        while (hidden := [other for other in plates if _overlap(moved, other)]) and 0 <= moved[1] <= moved[3] <= height:
            edge = max(other[3] for other in hidden) + 1 if step > 0 else min(other[1] for other in hidden) - 1
            shift = edge - (moved[1] if step > 0 else moved[3])
            moved = (moved[0], moved[1] + shift, moved[2], moved[3] + shift)
        if not hidden and moved[1] >= 0 and moved[3] <= height:
            return moved
    return plate


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _write_classes(canvas: PillowImage.Image, found: Detections, names: Mapping[int, str], text_px: int) -> None:
    assert found.image_probabilities is not None
    best = np.argsort(-found.image_probabilities, kind="stable")[:CLASSES_LISTED]
    draw = ImageDraw.Draw(canvas)
    for line, class_id in enumerate(int(one) for one in best):
        text = f"{names.get(class_id, class_id)} {float(found.image_probabilities[class_id]):.2f}"
        plate = _place(draw, (0.0, line * text_px * 1.4 + text_px * 1.3), text, text_px, canvas.size)
        _write(draw, plate, text, to_colour(class_id), text_px)


def _place(
    draw: ImageDraw.ImageDraw, corner: tuple[float, float], text: str, text_px: int, canvas_size: tuple[int, int]
) -> Rectangle:
    """Return the plate of a text above a corner, pushed into the image where it would stick out."""
    width, height = draw.textlength(text, font=ImageFont.load_default(text_px)) + text_px * 0.5, text_px * 1.3
    x = max(0.0, min(corner[0], canvas_size[0] - width))
    y = max(0.0, min(corner[1] - height, canvas_size[1] - height))
    return x, y, x + width, y + height


def _write(draw: ImageDraw.ImageDraw, plate: Rectangle, text: str, colour: Colour, text_px: int) -> None:
    """Write text on a plate of the colour."""
    draw.rectangle(plate, fill=colour)
    is_bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 150
    place = (plate[0] + text_px * 0.25, plate[1] + text_px * 0.05)
    draw.text(place, text, fill="black" if is_bright else "white", font=ImageFont.load_default(text_px))
