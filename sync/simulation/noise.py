"""Spoils labels on purpose, as tired people do: another class, another place, forgotten. One seed, one outcome."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ml_backend.training import TrainingBox, TrainingItem

FARTHEST: Final = 0.5
"""A box is moved by up to this part of its sides."""


def spoil(items: Sequence[TrainingItem], rate: float, classes: int, *, seed: int) -> tuple[TrainingItem, ...]:
    """Return the images with that part (0..1) of their boxes spoiled: a third each relabelled, moved and removed.

    Where there is one class alone, what would be relabelled is moved.
    """
    chance = random.Random(seed)  # noqa: S311  no secret hangs on it
    return tuple(
        replace(item, boxes=tuple(box for one in item.boxes if (box := _spoil(one, item, rate, classes, chance))))
        for item in items
    )


def _spoil(
    box: TrainingBox, item: TrainingItem, rate: float, classes: int, chance: random.Random
) -> TrainingBox | None:
    if chance.random() >= rate:
        return box
    kind = chance.randrange(3)
    if kind == 0:
        return None
    if kind == 1 and classes > 1:
        other = (box.class_id + chance.randrange(1, classes)) % classes
        return replace(box, class_id=other)
    return _move(box, item, chance)


def _move(box: TrainingBox, item: TrainingItem, chance: random.Random) -> TrainingBox:
    left, top, right, bottom = box.xyxy
    width, height = right - left, bottom - top
    across = chance.uniform(-FARTHEST, FARTHEST) * width
    down = chance.uniform(-FARTHEST, FARTHEST) * height
    # It stays in the image, whole.
    across = min(max(across, -left), item.size.width - right)
    down = min(max(down, -top), item.size.height - bottom)
    return replace(box, xyxy=(left + across, top + down, right + across, bottom + down), outline=None)
