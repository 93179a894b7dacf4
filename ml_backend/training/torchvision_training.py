"""Trains torchvision's detectors of boxes in our own loop; writes tensors with a card. Importing this loads torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from ml_backend.detectors import Detections
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.torchvision import TorchvisionDetector, make_network, read_tensors
from ml_backend.training import (
    Trained,
    TrainingBox,
    TrainingError,
    TrainingItem,
    TrainingSet,
    TrainingSettings,
    Watch,
)
from ml_backend.training.loop import Loop, read_parallel
from ml_backend.training.pixels import change_image, keep_inside, read_image
from ml_backend.training.schedule import choose_places, to_batches
from ml_backend.training.scoring import compute_map
from ml_backend.training.tensors import write_tensors
from ml_backend.training.transfer import ClassRows, transfer_tensors

USUAL_LR: Final = 2e-4
LICENCE: Final = "BSD-3-Clause"
SCORE_FLOOR: Final = 0.001
# These count classes before what belongs to each.
CLASS_FIRST: Final = ("box_predictor",)
WITHOUT_BOXES_ALONE: Final = ("mask", "keypoint")


def train(training_set: TrainingSet, settings: TrainingSettings, folder: Path, watch: Watch) -> Trained:
    """Train one of torchvision's detectors in a folder; what is there already is gone on with.

    Raises:
        TrainingError: no such model, or it cannot be trained with these settings.
        LabelingError: the weights to start from cannot be read.
    """
    if settings.model.startswith(WITHOUT_BOXES_ALONE):
        raise TrainingError(f"{settings.model}: needs masks or points; only detectors of boxes are trained here")
    place = torch.device(choose_device(settings.device))
    torch.manual_seed(settings.seed)
    card = Card(
        "torchvision",
        settings.model,
        dict(enumerate(training_set.classes, 1)),
        len(training_set.classes) + 1,
        LICENCE,
        None if settings.model.startswith("ssd") else settings.side,
    )
    model = make_network(card)
    licence = card.licence
    if settings.weights is not None:
        licence = _start_from(model, settings.weights, card)
    else:
        watch.on_note(f"{settings.model} starts from random numbers: put its published weights into the models folder")
    freeze_layers(model, settings.freeze)
    lesson = DetectionLesson(model, card, training_set, settings, place)
    tensors, history, best_epoch = Loop(lesson, settings, folder, place, settings.lr or USUAL_LR).run(watch)
    written = {
        "adapter": "torchvision",
        "model": settings.model,
        "names": list(training_set.classes),
        "licence": licence,
        **({"side": card.side} if card.side is not None else {}),
    }
    weights = write_tensors(folder, settings.model, tensors, written)
    return Trained(weights, "detect", licence, best_epoch, dict(history[best_epoch - 1].scores), written)


def _start_from(model: nn.Module, weights: Path, card: Card) -> str:
    """Put the tensors of a file into a model as far as they fit, and return the file's licence."""
    known = read_card(weights)
    if known.adapter != "torchvision" or known.model != card.model:
        raise TrainingError(f"{weights}: is {known.model}, no {card.model}")
    rows = ClassRows(
        {name: number for number, name in known.names.items()},
        {name: number for number, name in card.names.items()},
        known.outputs,
        card.outputs,
    )
    made = transfer_tensors(read_tensors(weights), model.state_dict(), rows, class_first=CLASS_FIRST)
    model.load_state_dict(dict(made))
    return known.licence


def freeze_layers(model: nn.Module, count: int) -> None:
    """Keep the first layers of the backbone as they are."""
    backbone: Any = getattr(model, "backbone", model)
    body = getattr(backbone, "body", None) or getattr(backbone, "features", backbone)
    for layer in list(body.children())[:count]:
        layer.requires_grad_(False)


class DetectionLesson:
    """Boxes in images, for the loop."""

    score_name = "map50_95"

    def __init__(
        self, model: nn.Module, card: Card, training_set: TrainingSet, settings: TrainingSettings, place: torch.device
    ) -> None:
        self.model = model
        self._card = card
        self._train = [keep_inside(item) for item in training_set.train]
        self._val = [keep_inside(item) for item in training_set.val]
        self._classes = training_set.classes
        self._settings = settings
        self._place = place
        # Few images in a batch say little about what is usual in a layer: what the weights know of it stays.
        self._keeps_norms = settings.weights is not None

    def count_batches(self) -> int:
        """Return how many batches the first epoch has; weights that are no whole numbers change it a little."""
        places = choose_places(self._train, seed=self._settings.seed, epoch=1)
        return len(to_batches(places, self._settings.batch))

    def read_batches(self, epoch: int) -> Iterator[Any]:
        """Yield lists of images and of what is in them."""
        places = choose_places(self._train, seed=self._settings.seed, epoch=epoch)
        batches = to_batches(list(range(len(places))), self._settings.batch)

        def read(batch: list[int]) -> list[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
            return [self._read_one(self._train[places[turn]], epoch, turn) for turn in batch]

        for pairs in read_parallel(batches, read, self._settings.workers):
            images = [image.to(self._place, non_blocking=True) for image, _ in pairs]
            targets = [{name: value.to(self._place) for name, value in target.items()} for _, target in pairs]
            yield images, targets

    def _read_one(self, item: TrainingItem, epoch: int, turn: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        pixels, boxes = change_image(read_image(item), item.boxes, seed=self._settings.seed, words=(epoch, turn))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), to_target(boxes)

    def compute_losses(self, batch: Any) -> Mapping[str, torch.Tensor]:
        """Return the library's own losses."""
        images, targets = batch
        losses: Mapping[str, torch.Tensor] = self.model(images, targets)
        return losses

    def compute_scores(self, model: nn.Module) -> dict[str, float]:
        """Return mAP on the validation images, as the served model would find them."""
        if not self._val:
            return {}
        detector = TorchvisionDetector(self._card, model.eval(), self._place, to_torch_dtype("float32"))
        found = []
        for item in self._val:
            (one,) = detector.detect([read_image(item)], score_floor=SCORE_FLOOR)
            found.append(_count_from_zero(one))
        return compute_map(self._val, found, self._classes)

    def set_training(self, model: nn.Module) -> None:
        """Set a model to learn, its normalizations as they are where it started from weights."""
        model.train()
        if self._keeps_norms:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def to_target(boxes: list[TrainingBox]) -> dict[str, torch.Tensor]:
    """Return boxes as torchvision takes them: corners, and labels that count from 1."""
    corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
    labels = np.array([box.class_id + 1 for box in boxes], np.int64)
    return {"boxes": torch.from_numpy(corners), "labels": torch.from_numpy(labels)}


def _count_from_zero(found: Detections) -> Detections:
    return Detections(found.xyxy, found.scores, found.class_ids - 1)
