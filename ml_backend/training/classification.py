"""Trains timm's image classifiers in our own loop; writes tensors with a card. Importing this loads torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import timm
import torch
from torch import nn

from ml_backend.detectors import Image
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.timm import TimmClassifier, make_network, scale, to_input
from ml_backend.detectors.torchvision import read_tensors
from ml_backend.training import Trained, TrainingError, TrainingItem, TrainingSet, TrainingSettings, Watch
from ml_backend.training.image_lessons import ImageLesson
from ml_backend.training.loop import Loop, read_parallel
from ml_backend.training.pixels import change_image, read_image
from ml_backend.training.schedule import make_random, to_batches
from ml_backend.training.scoring import compute_confusion, compute_hits
from ml_backend.training.tensors import write_tensors
from ml_backend.training.transfer import ClassRows, transfer_tensors

USUAL_LR: Final = 3e-4
LABEL_SMOOTHING: Final = 0.1
SMALLEST_CUT: Final = 0.5
UNKNOWN_LICENCE: Final = "unknown"
RANDOM_LICENCE: Final = "none: trained from random numbers"


def train(training_set: TrainingSet, settings: TrainingSettings, folder: Path, watch: Watch) -> Trained:
    """Train a classifier in a folder; what is there already is gone on with.

    Raises:
        TrainingError: it cannot be trained with these settings.
        LabelingError: timm has no such model, or the weights to start from cannot be read.
    """
    place = torch.device(choose_device(settings.device))
    torch.manual_seed(settings.seed)
    card = _make_card(training_set, settings)
    model = make_network(card)
    licence = RANDOM_LICENCE
    if settings.weights is not None:
        licence, taken = _start_from(model, settings.weights, card)
        watch.on_note(f"{taken} of {len(model.state_dict())} tensors start from {settings.weights.name}")
    else:
        watch.on_note(f"{settings.model} starts from random numbers: --weights names a file to start from")
    _freeze(model, settings.freeze)
    lesson = ClassLesson(model, card, training_set, settings, place)
    tensors, history, best_epoch = Loop(lesson, settings, folder, place, settings.lr or USUAL_LR).run(watch)
    written = {
        "adapter": "timm",
        "model": settings.model,
        "names": list(training_set.classes),
        "licence": licence,
        "side": card.side,
        "mean": list(card.mean),
        "std": list(card.std),
        "crop": card.crop,
    }
    model.load_state_dict(tensors)
    weights = write_tensors(folder, settings.model, tensors, written)
    report = lesson.report(model)
    return Trained(
        weights, "classify", licence, best_epoch, dict(history[best_epoch - 1].scores), written, report=report
    )


def _make_card(training_set: TrainingSet, settings: TrainingSettings) -> Card:
    card = Card("timm", settings.model, dict(enumerate(training_set.classes)), len(training_set.classes))
    if not timm.is_model(settings.model):
        make_network(card)  # it says what there is
    usual = timm.get_pretrained_cfg(settings.model, allow_unregistered=True)
    values: dict[str, Any] = {} if usual is None else vars(usual)
    return replace(
        card,
        side=settings.side,
        mean=tuple(values.get("mean") or card.mean),
        std=tuple(values.get("std") or card.std),
        crop=float(values.get("crop_pct") or 1.0),
    )


def _start_from(model: nn.Module, weights: Path, card: Card) -> tuple[str, int]:
    """Put the tensors of a file into a model as far as they fit; return the file's licence and how many there were."""
    known = read_tensors(weights)
    licence, names, outputs = UNKNOWN_LICENCE, dict[int, str](), 0
    if weights.with_suffix(".json").is_file():
        described = read_card(weights)
        if described.adapter != "timm" or described.model != card.model:
            raise TrainingError(f"{weights}: is {described.model}, no {card.model}")
        licence, names, outputs = described.licence, described.names, described.outputs
    # Without a card nobody knows which class is which: what tells them apart starts anew.
    old_outputs = outputs or max((len(value) for name, value in known.items() if _is_last(name)), default=1)
    rows = ClassRows(
        {name: number for number, name in names.items()},
        {name: number for number, name in card.names.items()},
        old_outputs,
        card.outputs,
    )
    current = model.state_dict()
    counting = _last_names(model)
    if not names:
        known = {name: value for name, value in known.items() if name not in counting}
    taken = sum(name in known and (known[name].shape == value.shape) for name, value in current.items())
    if taken == 0:
        raise TrainingError(f"{weights}: none of its tensors fits {card.model}")
    model.load_state_dict(dict(transfer_tensors(known, current, rows, counting=counting, class_first=("",))))
    return licence, taken


def _is_last(name: str) -> bool:
    return name.startswith(("classifier", "head", "fc")) and name.endswith("bias")


def _last_names(model: Any) -> set[str]:
    """Return the names of the tensors of the layer that tells classes apart."""
    last = model.get_classifier()
    return {
        name
        for name, value in model.state_dict(keep_vars=True).items()
        if any(value is one for one in last.parameters())
    }


def _freeze(model: Any, count: int) -> None:
    last = model.get_classifier()
    for layer in list(model.children())[:count]:
        if layer is not last:
            layer.requires_grad_(False)


class ClassLesson(ImageLesson):
    """One class an image, for the loop."""

    score_name = "top1"

    def read_one(self, item: TrainingItem, words: tuple[int, int]) -> tuple[npt.NDArray[np.float32], int]:
        """Return a part of an image, changed a little, and its class."""
        pixels = cut_somewhere(read_image(item), seed=self.settings.seed, words=words)
        changed, _ = change_image(pixels, (), seed=self.settings.seed, words=words)
        return scale((changed * 255).astype(np.uint8), self.card), to_truth([item])[0]

    def to_batch(self, pairs: Sequence[Any]) -> Any:
        """Return images and their classes."""
        pixels = torch.from_numpy(np.stack([one for one, _ in pairs]))
        return pixels.to(self.place), torch.tensor([number for _, number in pairs]).to(self.place)

    def compute_losses(self, batch: Any) -> Mapping[str, torch.Tensor]:
        """Return the cross entropy."""
        pixels, truth = batch
        loss = nn.functional.cross_entropy(self.model(pixels), truth, label_smoothing=LABEL_SMOOTHING)
        return {"cross_entropy": loss}

    def compute_scores(self, model: nn.Module) -> dict[str, float]:
        """Return the hits on the validation images."""
        if not self.training_set.val:
            return {}
        return compute_hits(self._classify(model), to_truth(self.training_set.val))

    def report(self, model: nn.Module) -> dict[str, Any]:
        """Return the hits, and how often each class of the validation images was taken for each."""
        if not self.training_set.val:
            return {}
        probabilities, truth = self._classify(model), to_truth(self.training_set.val)
        guessed = [int(one) for one in probabilities.argmax(axis=1)]
        confusion = compute_confusion(truth, guessed, len(self.training_set.classes))
        return {
            "classes": list(self.training_set.classes),
            "confusion": confusion,
            **compute_hits(probabilities, truth),
        }

    def _classify(self, model: nn.Module) -> npt.NDArray[np.float32]:
        classifier = TimmClassifier(self.card, model.eval(), self.place, to_torch_dtype("float32"))
        batches = to_batches(list(range(len(self.training_set.val))), self.settings.batch)

        def read(batch: list[int]) -> npt.NDArray[np.float32]:
            return np.stack([to_input(read_image(self.training_set.val[place]), self.card) for place in batch])

        found = [
            classifier.classify(torch.from_numpy(pixels))
            for pixels in read_parallel(batches, read, self.settings.workers)
        ]
        return np.concatenate(found)

    def set_training(self, model: nn.Module) -> None:
        """Set a model to learn."""
        model.train()


def to_truth(items: Sequence[TrainingItem]) -> list[int]:
    """Return the class of each image.

    Raises:
        TrainingError: one has none.
    """
    missing = next((item for item in items if item.class_id is None), None)
    if missing is not None:
        raise TrainingError(f"{missing.image}: has no class")
    return [item.class_id for item in items if item.class_id is not None]


def cut_somewhere(image: Image, *, seed: int, words: tuple[object, ...]) -> Image:
    """Return a part of an image, at least half of each side; the same words, the same part."""
    drawn = make_random(seed, "cut", *words)
    height, width = image.shape[:2]
    part_width = max(round(width * drawn.uniform(SMALLEST_CUT, 1)), 1)
    part_height = max(round(height * drawn.uniform(SMALLEST_CUT, 1)), 1)
    x, y = drawn.randint(0, width - part_width), drawn.randint(0, height - part_height)
    return image[y : y + part_height, x : x + part_width]
