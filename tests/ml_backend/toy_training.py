"""Toy images to train on: coloured squares on a dark ground, in images that are not square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from labels.geometry import ImageSize
from ml_backend.training import Epoch, TrainingBox, TrainingItem, TrainingSet

SIZE = ImageSize(96, 64)
SQUARE = 24
COLOURS = ((230, 30, 30), (30, 60, 230))
CLASSES = ("red", "blue")


def make_items(folder: Path, count: int, *, seed: int, boxes: int = 2) -> tuple[TrainingItem, ...]:
    """Images with squares; the class of the whole image is that of its one square, where it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    items = []
    for number in range(count):
        pixels = random.integers(0, 60, (SIZE.height, SIZE.width, 3), np.uint8)
        found = []
        for _ in range(boxes):
            class_id = (number + len(found)) % len(COLOURS)
            x = int(random.integers(SIZE.width - SQUARE))
            y = int(random.integers(SIZE.height - SQUARE))
            pixels[y : y + SQUARE, x : x + SQUARE] = COLOURS[class_id]
            found.append(TrainingBox((x, y, x + SQUARE, y + SQUARE), class_id))
        path = folder / f"{seed}-{number}.png"
        PillowImage.fromarray(pixels).save(path)
        items.append(TrainingItem(path, SIZE, tuple(found), class_id=found[0].class_id if boxes == 1 else None))
    return tuple(items)


def make_set(folder: Path, *, train: int = 6, val: int = 2, boxes: int = 2) -> TrainingSet:
    return TrainingSet(
        CLASSES, make_items(folder, train, seed=1, boxes=boxes), make_items(folder, val, seed=2, boxes=boxes)
    )


class Watcher:
    """Writes down what it is told; ends the training when a step of an epoch begins, if it was told to."""

    def __init__(self, *, ends_in: int | None = None) -> None:
        self.ends_in = ends_in
        self.epochs: list[Epoch] = []
        self.notes: list[str] = []
        self.steps: list[tuple[int, float]] = []

    def on_step(self, epoch: int, done: float) -> None:
        self.steps.append((epoch, done))
        if epoch == self.ends_in and done > 0:
            raise KilledError

    def on_epoch(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def on_note(self, text: str) -> None:
        self.notes.append(text)


class KilledError(Exception):
    """Stands for the end of the process."""
