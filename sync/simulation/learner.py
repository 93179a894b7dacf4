"""Trains a model on chosen images and asks what it sees: labelloop's own training and detectors, nothing of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from labels.report import OnProgress
from ml_backend.detectors import Detections
from ml_backend.training import TrainingItem, TrainingSet, TrainingSettings
from ml_backend.training.process import prepare, run_training

SCORE_FLOOR: Final = 0.001
"""As low as detectors are usually measured."""
BATCH: Final = 8
ID_DIGITS: Final = 12


class Model(Protocol):
    """What a training gave."""

    def find(self, items: Sequence[TrainingItem]) -> list[Detections]:
        """Return what it sees on each image, class ids in the order of the set's classes."""


class Learner(Protocol):
    """Trains a model from the same start each time."""

    def learn(self, items: Sequence[TrainingItem], classes: Sequence[str], seed: int, tell: OnProgress) -> Model:
        """Return the model that these images make; what ``tell`` raises ends the training."""


@dataclass(frozen=True, slots=True)
class DetectorLearner:
    """Trains in folders below ``folder``; a training that was ended goes on there."""

    settings: TrainingSettings
    folder: Path

    def learn(self, items: Sequence[TrainingItem], classes: Sequence[str], seed: int, tell: OnProgress) -> Model:
        """See ``Learner``."""
        training_set = TrainingSet(tuple(classes), tuple(items))
        settings = replace(self.settings, seed=seed)
        told = f"{settings.to_dict()} {training_set.to_json()}".encode()
        work = self.folder / hashlib.sha256(told).hexdigest()[:ID_DIGITS]
        prepare(work, training_set, settings)

        def listen(event: Mapping[str, Any] | None) -> None:
            if event is None or event.get("kind") == "step":
                done = None if event is None else (event["epoch"] - 1 + event["done"]) / settings.epochs
                tell(done, f"training on {len(items)} images")

        trained = run_training(work, listen)
        return TrainedDetector(work / trained.weights, tuple(classes), settings)


@dataclass(frozen=True, slots=True)
class TrainedDetector:
    """The weights of a training, loaded when they are asked."""

    weights: Path
    classes: tuple[str, ...]
    settings: TrainingSettings

    def find(self, items: Sequence[TrainingItem]) -> list[Detections]:
        """See ``Model``."""
        from ml_backend.detectors import DetectorOptions  # torch
        from ml_backend.models.building import build_detector
        from ml_backend.training.pixels import read_image

        options = DetectorOptions(is_trusted=self.settings.is_trusted)
        detector = build_detector(self.weights, device=self.settings.device, options=options)
        places = {number: self.classes.index(name) for number, name in detector.names.items()}
        found: list[Detections] = []
        for start in range(0, len(items), BATCH):
            images = [read_image(item) for item in items[start : start + BATCH]]
            for one in detector.detect(images, score_floor=SCORE_FLOOR):
                found.append(replace(one, class_ids=_renumber(one, places)))
        return found


def _renumber(found: Detections, places: Mapping[int, int]) -> Any:
    import numpy as np

    return np.array([places[int(number)] for number in found.class_ids], np.int64)
