"""Reads the boxes of a field as if a detector had drawn them, and the size of the image they are parts of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from fiftyone_plugins.app.work import DrawnBoxes
from labels.errors import ItemError

ORIENTATION_TAG: Final = 0x0112


def to_drawn(
    item: str,
    size: tuple[float, float],
    classes: Sequence[str | None],
    boxes: Sequence[Sequence[float] | None],
    confidences: Sequence[float | None],
) -> DrawnBoxes | ItemError:
    """Return the boxes of one sample in pixels; an ItemError where a label has no class or no box.

    ``boxes`` are left, top, width and height as parts of the image, ``size`` is its width and height in pixels.
    What people drew has no confidence: they are sure.

    >>> drawn = to_drawn("a.jpg", (200, 100), ["car"], [[0.1, 0.2, 0.4, 0.5]], [None])
    >>> drawn.xyxy.tolist(), drawn.scores.tolist(), drawn.names
    ([[20.0, 20.0, 100.0, 70.0]], [1.0], ('car',))
    >>> to_drawn("a.jpg", (200, 100), [None], [[0.1, 0.2, 0.4, 0.5]], [None]).problem
    'a label has no class or no box'
    """
    if any(not name or len(box or ()) != 4 for name, box in zip(classes, boxes, strict=True)):
        return ItemError(item, "a label has no class or no box")
    wide, high = size
    xyxy = np.array(boxes, np.float32).reshape(-1, 4) * np.array([wide, high, wide, high], np.float32)
    xyxy[:, 2:] += xyxy[:, :2]
    scores = np.array([1.0 if one is None else one for one in confidences], np.float32)
    return DrawnBoxes(xyxy, scores, tuple(map(str, classes)))


def read_size(path: Path) -> tuple[int, int] | ItemError:
    """Return width and height of the upright image in a file; its pixels are not read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_sideways = image.getexif().get(ORIENTATION_TAG, 1) in range(5, 9)
    # ImportError: what Ultralytics puts in place of Pillow's open looks for further packages.
    except (ImportError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return ItemError(str(path), f"cannot be read as an image ({error})")
    return (height, width) if is_sideways else (width, height)
