"""Draws what a detector found onto the image: masks, boxes, key points, class names and scores. Writes no file."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import Final

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from labels.geometry import ImageSize
from ml_backend.answers.regions import to_mask
from ml_backend.detectors import Detections, Image, to_box

Colour = tuple[int, int, int]
# Steps of the golden ratio round the colour circle: neighbours among class ids look different.
HUE_STEP: Final = 0.618034
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
        _draw_box(canvas, found, row, names, text_px)
    return canvas


def to_colour(class_id: int) -> Colour:
    """Return the colour of a class: the same one everywhere.

    >>> to_colour(0)
    (230, 46, 46)
    """
    red, green, blue = colorsys.hsv_to_rgb(class_id * HUE_STEP % 1.0, 0.8, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


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


def _draw_box(canvas: PillowImage.Image, found: Detections, row: int, names: Mapping[int, str], text_px: int) -> None:
    class_id = int(found.class_ids[row])
    colour = to_colour(class_id)
    corners = to_box(found, row).corners()
    draw = ImageDraw.Draw(canvas)
    draw.line([*corners, corners[0], corners[1]], fill=colour, width=max(2, round(text_px / 8)), joint="curve")
    text = f"{names.get(class_id, class_id)} {float(found.scores[row]):.2f}"
    if found.votes is not None:
        text += f" ({int(found.votes[row])} votes)"
    left, top = min(x for x, _ in corners), min(y for _, y in corners)
    _write(draw, (left, top - text_px * 1.3), text, colour, text_px, canvas.size)


def _write_classes(canvas: PillowImage.Image, found: Detections, names: Mapping[int, str], text_px: int) -> None:
    assert found.image_probabilities is not None
    best = np.argsort(-found.image_probabilities, kind="stable")[:CLASSES_LISTED]
    draw = ImageDraw.Draw(canvas)
    for line, class_id in enumerate(int(one) for one in best):
        text = f"{names.get(class_id, class_id)} {float(found.image_probabilities[class_id]):.2f}"
        _write(draw, (0.0, line * text_px * 1.4), text, to_colour(class_id), text_px, canvas.size)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    colour: Colour,
    text_px: int,
    canvas_size: tuple[int, int],
) -> None:
    """Write text on a plate of the colour, pushed into the image where it would stick out."""
    font = ImageFont.load_default(text_px)
    width, height = draw.textlength(text, font=font) + text_px * 0.5, text_px * 1.3
    x = max(0.0, min(place[0], canvas_size[0] - width))
    y = max(0.0, min(place[1], canvas_size[1] - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    is_bright = colour[0] * 0.299 + colour[1] * 0.587 + colour[2] * 0.114 > 150
    draw.text((x + text_px * 0.25, y + text_px * 0.05), text, fill="black" if is_bright else "white", font=font)
