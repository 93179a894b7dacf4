"""Image classifiers of timm from a state dict: EfficientNet, ResNet, ConvNeXt and all others by their names.

No pickled object is rebuilt, and nothing is fetched. Importing this loads torch and timm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import timm
import torch
from PIL import Image as PillowImage

from labels.errors import LabelingError
from ml_backend.detectors import Detections, DetectorOptions, Image
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.torchvision import read_tensors

USUAL_SIDE: Final = 224


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> TimmClassifier:
    """Load a state dict, ``.pth`` or ``.safetensors``, by its card.

    Raises:
        LabelingError: there is no card, no such model, or the tensors are another model's.
    """
    place = torch.device(choose_device(device))
    card = read_card(weights)
    model = make_network(card)
    try:
        model.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise LabelingError(
            f"{weights}: its tensors are not those of {card.model} with {len(card.names)} classes"
        ) from error
    return TimmClassifier(card, model.eval(), place, to_torch_dtype(options.precision))


def make_network(card: Card) -> Any:
    """Return a card's network with random numbers in it.

    Raises:
        LabelingError: timm has no such model, or it is not made for classes.
    """
    if not timm.is_model(card.model):
        near = ", ".join(timm.list_models(f"*{card.model.partition('_')[0]}*")[:5])
        raise LabelingError(f"timm has no model {card.model!r}" + (f" (near: {near}, ...)" if near else ""))
    try:
        return timm.create_model(card.model, pretrained=False, num_classes=card.outputs)
    except (TypeError, RuntimeError, ValueError) as error:
        raise LabelingError(f"timm's {card.model} cannot be made for {card.outputs} classes ({error})") from error


class TimmClassifier:
    """Gives every class of an image a probability; together they are 1."""

    task = "classify"

    def __init__(self, card: Card, model: Any, place: torch.device, dtype: torch.dtype) -> None:
        self.names = card.names
        self.licence = card.licence
        self._card = card
        self._model = model.to(place)
        self._place = place
        self._dtype = dtype

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order, without rows and with ``image_probabilities``."""
        if not images:
            return []
        batch = np.stack([to_input(image, self._card) for image in images])
        return [Detections.nothing(row) for row in self.classify(torch.from_numpy(batch))]

    @torch.inference_mode()
    def classify(self, batch: torch.Tensor) -> npt.NDArray[np.float32]:
        """Return the probabilities (images, classes) of prepared images."""
        with torch.autocast(self._place.type, self._dtype, enabled=self._dtype != torch.float32):
            answer = self._model(batch.to(self._place))
        return np.asarray(answer.float().softmax(1).cpu().numpy(), np.float32)


def to_input(image: Image, card: Card) -> npt.NDArray[np.float32]:
    """Return the middle square of an image as the network takes it, (3, side, side)."""
    height, width = image.shape[:2]
    cut = max(round(min(height, width) * card.crop), 1)
    x, y = (width - cut) // 2, (height - cut) // 2
    return scale(image[y : y + cut, x : x + cut], card)


def scale(image: Image, card: Card) -> npt.NDArray[np.float32]:
    """Return an image scaled to the network's square, (3, side, side), its colours as the network expects them."""
    side = card.side or USUAL_SIDE
    # The networks were trained on Pillow's resampling.
    resized = PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.BICUBIC)
    pixels = np.asarray(resized, np.float32) / 255
    made = (pixels - np.array(card.mean, np.float32)) / np.array(card.std, np.float32)
    return np.ascontiguousarray(made.transpose(2, 0, 1))
