"""Reads training images as the ML backend does, checks them before a training begins, and changes them a little."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from labels.errors import ItemError
from ml_backend.detectors import Image
from ml_backend.imaging.decoding import decode_image
from ml_backend.training import TrainingBox, TrainingItem, TrainingSet
from ml_backend.training.schedule import make_random

CHECKERS: Final = 4
CHECKED_SIDE: Final = 64
BRIGHTNESS: Final = 0.2
CONTRAST: Final = 0.2
# A box that a flip or a cut leaves with less than this is no object any more.
SMALLEST_BOX_PX: Final = 1.0


def read_image(item: TrainingItem) -> Image:
    """Return an image's upright pixels.

    Raises:
        ItemError: it cannot be read, or is not as large as when its labels were drawn.
    """
    try:
        content = item.image.read_bytes()
    except OSError as error:
        raise ItemError(str(item.image), f"cannot be read ({error.strerror})") from error
    decoded = decode_image(content, item=str(item.image))
    if decoded.size != item.size:
        raise ItemError(str(item.image), f"is {decoded.size} now, and was {item.size} when its labels were frozen")
    return decoded.pixels


def check_images(
    training_set: TrainingSet, on_step: Callable[[float], None]
) -> tuple[TrainingSet, tuple[tuple[str, str], ...]]:
    """Return the set without the images that cannot be read or are others now, and those with what is wrong."""
    items = [*training_set.train, *training_set.val]
    broken: dict[str, str] = {}
    with ThreadPoolExecutor(CHECKERS) as pool:
        for place, problem in enumerate(pool.map(_find_problem, items)):
            on_step(place / len(items))
            if problem is not None:
                broken[str(items[place].image)] = problem
    if not broken:
        return training_set, ()
    train, val = (
        tuple(item for item in split if str(item.image) not in broken)
        for split in (training_set.train, training_set.val)
    )
    return replace(training_set, train=train, val=val), tuple(broken.items())


def _find_problem(item: TrainingItem) -> str | None:
    try:
        content = item.image.read_bytes()
        if item.sha256 is not None and hashlib.sha256(content).hexdigest() != item.sha256:
            return "is not the file that was frozen: its content changed"
        decoded = decode_image(content, item=str(item.image), model_side=CHECKED_SIDE)
    except ItemError as error:
        return error.problem
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if decoded.size != item.size:
        return f"is {_describe(decoded.size)} now, and was {_describe(item.size)} when its labels were frozen"
    return None


def _describe(size: object) -> str:
    return f"{getattr(size, 'width', '?')} x {getattr(size, 'height', '?')} pixels"


def change_image(
    pixels: Image, boxes: Iterable[TrainingBox], *, seed: int, words: tuple[object, ...]
) -> tuple[npt.NDArray[np.float32], list[TrainingBox]]:
    """Return pixels in 0..1 and boxes, flipped or not, a little brighter or darker; the same words, the same change."""
    drawn = make_random(seed, "change", *words)
    is_flipped = drawn.random() < 0.5
    gain = 1 + drawn.uniform(-CONTRAST, CONTRAST)
    shift = drawn.uniform(-BRIGHTNESS, BRIGHTNESS)
    made = pixels.astype(np.float32) / 255
    middle = float(made.mean())
    made = np.clip((made - middle) * gain + middle + shift, 0, 1)
    changed = list(boxes)
    if is_flipped:
        width = pixels.shape[1]
        made = made[:, ::-1]
        changed = [_flip(box, width) for box in changed]
    return np.ascontiguousarray(made), changed


def _flip(box: TrainingBox, width: int) -> TrainingBox:
    x1, y1, x2, y2 = box.xyxy
    outline = None if box.outline is None else tuple((width - x, y) for x, y in box.outline)
    return replace(box, xyxy=(width - x2, y1, width - x1, y2), outline=outline)


def keep_inside(item: TrainingItem) -> TrainingItem:
    """Return the item with its boxes cut at the image's edges; what is left with no area is no object."""
    width, height = item.size.width, item.size.height
    kept = []
    for box in item.boxes:
        x1, y1, x2, y2 = box.xyxy
        inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        if inside[2] - inside[0] >= SMALLEST_BOX_PX and inside[3] - inside[1] >= SMALLEST_BOX_PX:
            kept.append(replace(box, xyxy=inside))
    return replace(item, boxes=tuple(kept))
