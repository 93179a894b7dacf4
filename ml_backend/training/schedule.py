"""Which images an epoch sees, in which order, and how the learning rate goes. The same seed gives the same answer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

from ml_backend.training import TrainingItem

WARM_UP_STEPS: Final = 200
LOWEST_LR_SHARE: Final = 0.01


def make_random(seed: int, *words: object) -> random.Random:
    """Return a source of random numbers of its own for a seed and some words: nothing that ran before changes it."""
    return random.Random(":".join(map(str, (seed, *words))))  # noqa: S311  no secret hangs on it


def choose_places(items: Sequence[TrainingItem], *, seed: int, epoch: int) -> list[int]:
    """Return the places of the items that an epoch sees, in its order: each as often as its weight says.

    A part of a whole is drawn: with weight 1.5 an item comes once in half of the epochs, and twice in the others.

    >>> from pathlib import Path; from labels.geometry import ImageSize
    >>> items = [TrainingItem(Path(name), ImageSize(4, 2), weight=weight) for name, weight in (("a", 1), ("b", 3))]
    >>> sorted(choose_places(items, seed=0, epoch=1))
    [0, 1, 1, 1]
    """
    drawn = make_random(seed, "places", epoch)
    places = []
    for place, item in enumerate(items):
        times = int(item.weight) + (drawn.random() < item.weight % 1)
        places += [place] * times
    drawn.shuffle(places)
    return places


def is_gain(score: float, best: float) -> bool:
    """Return whether an epoch's score is better than the best one before it.

    While nothing is found at all, each epoch is: what learns from nothing finds nothing at first, and is not to be
    ended for it, nor its first epoch kept. Ultralytics has the same rule.

    >>> is_gain(0.0, 0.0), is_gain(0.2, 0.2), is_gain(0.3, 0.2)
    (True, False, True)
    """
    return score > best or best == 0


def compute_lr_share(step: int, *, steps: int, steps_per_epoch: int) -> float:
    """Return which share of the full learning rate a step takes: a straight warm-up, then half a cosine.

    >>> [round(compute_lr_share(step, steps=100, steps_per_epoch=10), 2) for step in (0, 9, 10, 56, 99)]
    [0.1, 1.0, 1.0, 0.49, 0.01]
    """
    warm_up = max(1, min(WARM_UP_STEPS, steps_per_epoch, steps // 2))
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(steps - warm_up, 1)
    return LOWEST_LR_SHARE + (1 - LOWEST_LR_SHARE) * (1 + math.cos(math.pi * done)) / 2


def to_batches(places: Sequence[int], size: int) -> list[list[int]]:
    """Return places in batches; a last one of a single image joins the one before: a normalization needs two.

    >>> to_batches([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4, 5]]
    """
    batches = [list(places[start : start + size]) for start in range(0, len(places), size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches
