"""What all lessons on images share: which images an epoch sees, in which batches, read ahead.

What is made of an image, and of a batch of them, is each lesson's own. Importing this loads torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from ml_backend.detectors.cards import Card
from ml_backend.training import TrainingItem, TrainingSet, TrainingSettings
from ml_backend.training.loop import read_parallel
from ml_backend.training.schedule import choose_places, to_batches


class ImageLesson(ABC):
    """Labelled images, for the loop."""

    def __init__(
        self, model: nn.Module, card: Card, training_set: TrainingSet, settings: TrainingSettings, place: torch.device
    ) -> None:
        self.model = model
        self.card = card
        self.training_set = training_set
        self.settings = settings
        self.place = place

    def count_batches(self) -> int:
        """Return how many batches the first epoch has; weights that are no whole numbers change it a little."""
        places = choose_places(self.training_set.train, seed=self.settings.seed, epoch=1)
        return len(to_batches(places, self.settings.batch))

    def read_batches(self, epoch: int) -> Iterator[Any]:
        """Yield the batches of an epoch, on the device; the same epoch gives the same."""
        places = choose_places(self.training_set.train, seed=self.settings.seed, epoch=epoch)
        batches = to_batches(list(range(len(places))), self.settings.batch)

        def read(batch: list[int]) -> list[Any]:
            return [self.read_one(self.training_set.train[places[turn]], (epoch, turn)) for turn in batch]

        for pairs in read_parallel(batches, read, self.settings.workers):
            yield self.to_batch(pairs)

    @abstractmethod
    def read_one(self, item: TrainingItem, words: tuple[int, int]) -> Any:
        """Return an image and what is to be learned of it; the same words change it in the same way."""

    @abstractmethod
    def to_batch(self, pairs: Sequence[Any]) -> Any:
        """Return images with what is to be learned of them as one batch, on the device."""
