"""Pictures of findings: the part of the image round the suspicious box, with the box marked. Reads and writes files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageOps

from fiftyone_plugins.mistakes.ranking import MISSING, Box, Finding
from labels.errors import ItemError

SHOWN_PX: Final = (400, 300)
"""Width and height of every picture: in a list they stand in line."""

BACKGROUND: Final = (32, 32, 32)
CONTEXT: Final = 0.6
"""So much of the box's own side is shown round it on each side, and never less than LEAST of the image."""

LEAST: Final = 0.06
SUSPECTED: Final = (235, 64, 52)
SUGGESTED: Final = (38, 166, 91)
LINE_PX: Final = 4
DASH_PX: Final = 10


def make_picture(finding: Finding, folder: Path) -> Path:
    """Return the file of a finding's picture; it is made where it is not there yet.

    Raises:
        ItemError: the image cannot be read.
    """
    said = (finding.filepath, finding.kind, finding.box, finding.new_box)
    place = folder / f"{hashlib.sha256(repr(said).encode()).hexdigest()[:24]}.jpg"
    if place.exists():
        return place
    try:
        with Image.open(finding.filepath) as image:
            picture = draw_finding(ImageOps.exif_transpose(image).convert("RGB"), finding)
    # ImportError: what Ultralytics puts in place of Pillow's open looks for further packages.
    except (ImportError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ItemError(finding.filepath, f"cannot be read ({error})") from error
    folder.mkdir(parents=True, exist_ok=True)
    part = place.with_suffix(".part")
    picture.save(part, "JPEG", quality=85)
    part.replace(place)
    return place


def draw_finding(image: Image.Image, finding: Finding) -> Image.Image:
    """Return the part of an upright image that shows a finding: the label in red, what is suggested dashed in green."""
    boxes = [box for box in (finding.box, finding.new_box) if box is not None]
    left, top, right, bottom = find_crop(boxes)
    width, height = image.size
    edges = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    shown = image.crop((edges[0], edges[1], max(edges[2], edges[0] + 1), max(edges[3], edges[1] + 1)))
    scale = min(SHOWN_PX[0] / shown.width, SHOWN_PX[1] / shown.height)
    shown = shown.resize((max(1, round(shown.width * scale)), max(1, round(shown.height * scale))))
    pen = ImageDraw.Draw(shown)

    def place(box: Box) -> tuple[float, float, float, float]:
        x, y = (box[0] * width - edges[0]) * scale, (box[1] * height - edges[1]) * scale
        return x, y, x + box[2] * width * scale, y + box[3] * height * scale

    if finding.box is not None and finding.kind != MISSING:
        _draw_box(pen, place(finding.box), SUSPECTED, is_dashed=False)
    if finding.new_box is not None:
        _draw_box(pen, place(finding.new_box), SUGGESTED, is_dashed=True)
    return ImageOps.pad(shown, SHOWN_PX, color=BACKGROUND)


def find_crop(boxes: Sequence[Box]) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the part to be shown, as parts of the image; all of it without a box.

    >>> [round(side, 3) for side in find_crop([(0.4, 0.4, 0.1, 0.2)])]
    [0.34, 0.28, 0.56, 0.72]
    """
    if not boxes:
        return 0.0, 0.0, 1.0, 1.0
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
    beside, above = max(CONTEXT * (right - left), LEAST), max(CONTEXT * (bottom - top), LEAST)
    shown = (left - beside, top - above, right + beside, bottom + above)
    # A box outside its image is looked for in the whole of it.
    if not (shown[0] < 1 and shown[1] < 1 and shown[2] > 0 and shown[3] > 0):
        return 0.0, 0.0, 1.0, 1.0
    return max(shown[0], 0.0), max(shown[1], 0.0), min(shown[2], 1.0), min(shown[3], 1.0)


def _draw_box(
    pen: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    colour: tuple[int, int, int],
    *,
    is_dashed: bool,
) -> None:
    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    for start, end in pairwise(corners):
        if not is_dashed:
            pen.line([start, end], fill=colour, width=LINE_PX)
            continue
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        steps = max(int(length // DASH_PX), 1)
        for step in range(0, steps, 2):
            part = [step / steps, min((step + 1) / steps, 1.0)]
            points = [(start[0] + (end[0] - start[0]) * at, start[1] + (end[1] - start[1]) * at) for at in part]
            pen.line(points, fill=colour, width=LINE_PX)
