"""Trains torchvision's detectors of boxes and masks in our own loop; writes tensors with a card.

Importing this loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from labels.geometry import ImageSize
from labels.polygons import rasterize
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
    to_outline,
)
from ml_backend.training.image_lessons import ImageLesson
from ml_backend.training.loop import Loop
from ml_backend.training.pixels import change_image, keep_inside, read_image
from ml_backend.training.scoring import compute_map
from ml_backend.training.tensors import write_tensors
from ml_backend.training.transfer import ClassRows, transfer_tensors

USUAL_LR: Final = 2e-4
LICENCE: Final = "BSD-3-Clause"
SCORE_FLOOR: Final = 0.001
# These count classes before what belongs to each.
CLASS_FIRST: Final = ("box_predictor",)
WITH_MASKS: Final = "mask"
WITH_POINTS: Final = "keypoint"


def train(training_set: TrainingSet, settings: TrainingSettings, folder: Path, watch: Watch) -> Trained:
    """Train one of torchvision's detectors in a folder; what is there already is gone on with.

    Raises:
        TrainingError: no such model, or it cannot be trained with these settings.
        LabelingError: the weights to start from cannot be read.
    """
    if settings.model.startswith(WITH_POINTS):
        raise TrainingError(f"{settings.model}: needs key points; only detectors of boxes and masks are trained here")
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
    task = "segment" if settings.model.startswith(WITH_MASKS) else "detect"
    return Trained(weights, task, licence, best_epoch, dict(history[best_epoch - 1].scores), written)


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
    counting = find_counting(card)
    made = transfer_tensors(read_tensors(weights), model.state_dict(), rows, counting=counting, class_first=CLASS_FIRST)
    model.load_state_dict(dict(made))
    return known.licence


def find_counting(card: Card) -> frozenset[str]:
    """Return the names of the tensors that count classes: those that are larger where there is one more class.

    No name tells it: a layer of a «classification head» may be one before the last.
    """
    with torch.device("meta"):
        shapes, wider = (
            {name: tensor.shape for name, tensor in make_network(one).state_dict().items()}
            for one in (card, replace(card, outputs=card.outputs + 1))
        )
    return frozenset(name for name, shape in shapes.items() if wider[name] != shape)


def freeze_layers(model: nn.Module, count: int) -> None:
    """Keep the first layers of the backbone as they are."""
    backbone: Any = getattr(model, "backbone", model)
    body = getattr(backbone, "body", None) or getattr(backbone, "features", backbone)
    for layer in list(body.children())[:count]:
        layer.requires_grad_(False)


class DetectionLesson(ImageLesson):
    """Boxes in images, with their masks where the model makes masks, for the loop."""

    score_name = "map50_95"

    def __init__(
        self, model: nn.Module, card: Card, training_set: TrainingSet, settings: TrainingSettings, place: torch.device
    ) -> None:
        train, val = (tuple(map(keep_inside, items)) for items in (training_set.train, training_set.val))
        super().__init__(model, card, replace(training_set, train=train, val=val), settings, place)
        # Few images in a batch say little about what is usual in a layer: what the weights know of it stays.
        self._keeps_norms = settings.weights is not None
        self._has_masks = card.model.startswith(WITH_MASKS)

    def read_one(self, item: TrainingItem, words: tuple[int, int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return an image, changed a little, and what is in it."""
        pixels, boxes = change_image(read_image(item), item.boxes, seed=self.settings.seed, words=words)
        size = item.size if self._has_masks else None
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous(), to_target(boxes, size)

    def to_batch(self, pairs: Sequence[Any]) -> Any:
        """Return lists of images and of what is in them."""
        images = [image.to(self.place, non_blocking=True) for image, _ in pairs]
        targets = [{name: value.to(self.place) for name, value in target.items()} for _, target in pairs]
        return images, targets

    def compute_losses(self, batch: Any) -> Mapping[str, torch.Tensor]:
        """Return the library's own losses."""
        images, targets = batch
        losses: Mapping[str, torch.Tensor] = self.model(images, targets)
        return losses

    def compute_scores(self, model: nn.Module) -> dict[str, float]:
        """Return mAP on the validation images, as the served model would find them."""
        if not self.training_set.val:
            return {}
        detector = TorchvisionDetector(self.card, model.eval(), self.place, to_torch_dtype("float32"))
        found = []
        for item in self.training_set.val:
            (one,) = detector.detect([read_image(item)], score_floor=SCORE_FLOOR)
            found.append(_count_from_zero(one))
        return compute_map(self.training_set.val, found, self.training_set.classes)

    def set_training(self, model: nn.Module) -> None:
        """Set a model to learn, its normalizations as they are where it started from weights."""
        model.train()
        if self._keeps_norms:
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()


def to_target(boxes: Sequence[TrainingBox], mask_size: ImageSize | None = None) -> dict[str, torch.Tensor]:
    """Return boxes as torchvision takes them: corners, labels that count from 1, and masks of an image of this size."""
    corners = np.array([box.xyxy for box in boxes], np.float32).reshape(-1, 4)
    labels = np.array([box.class_id + 1 for box in boxes], np.int64)
    target = {"boxes": torch.from_numpy(corners), "labels": torch.from_numpy(labels)}
    if mask_size is not None:
        shape = mask_size.height, mask_size.width
        masks = [rasterize(to_outline(box), height=shape[0], width=shape[1]) for box in boxes]
        target["masks"] = torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *shape))
    return target


def _count_from_zero(found: Detections) -> Detections:
    return Detections(found.xyxy, found.scores, found.class_ids - 1)
