"""torchvision's detectors from a state dict: Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS, SSD and SSDlite.

The library's own choosing of boxes runs as it is; no pickled object is rebuilt. Importing this loads torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchvision import models  # type: ignore[import-untyped]

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.detectors import Detections, DetectorOptions, Image, MaskCrop
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.compiled import CompiledForward
from ml_backend.detectors.devices import choose_device, to_torch_dtype

MASK_THRESHOLD = 0.5  # torchvision's own
SCORE_FLOOR = 0.01
"""The lowest score any of these networks gives: below it are thousands of boxes, of nothing."""


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> TorchvisionDetector:
    """Load a state dict, ``.pth`` or ``.safetensors``, by its card.

    Raises:
        LabelingError: there is no card, no such model, or the tensors are another model's.
    """
    place = torch.device(choose_device(device))
    card, model = load_model(weights, nms_iou=options.nms_iou)
    detector = TorchvisionDetector(card, model, place, to_torch_dtype(options.precision))
    if options.is_torch_compiled:
        # What comes behind it has another shape for every number of boxes.
        CompiledForward(model.backbone, place).learn(detector.detect)
    return detector


def load_model(weights: Path, *, nms_iou: float | None = None) -> tuple[Card, Any]:
    """Return a card and its model with the file's tensors, ready to run.

    Raises:
        LabelingError: see ``load_detector``.
    """
    card = read_card(weights)
    model = make_network(card, nms_iou=nms_iou)
    try:
        model.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise LabelingError(
            f"{weights}: its tensors are not those of {card.model} with {len(card.names)} classes"
        ) from error
    return card, model.eval()


def make_network(card: Card, *, nms_iou: float | None = None) -> Any:
    """Return a card's network with random numbers in it, which finds boxes from ``SCORE_FLOOR`` on.

    ``nms_iou`` is the overlap from which two boxes of a class are one; None: the network's own.

    Raises:
        LabelingError: torchvision has no such detector.
    """
    if card.model not in models.list_models(module=models.detection):
        raise LabelingError(f"torchvision has no detector {card.model!r}")
    # The library scales by the shorter side up to a limit of the longer one: with both the same, the longer one counts.
    told: dict[str, float] = {} if card.side is None else {"min_size": card.side, "max_size": card.side}
    choosing = "box_" if "rcnn" in card.model else ""
    # The library's own floors are 0.2 (FCOS), 0.05 and lower: what lies below is lost to all who ask for it.
    told[f"{choosing}score_thresh"] = SCORE_FLOOR
    if nms_iou is not None:
        told[f"{choosing}nms_thresh"] = nms_iou
    return models.get_model(card.model, weights=None, weights_backbone=None, num_classes=card.outputs, **told)


def read_tensors(weights: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a file by name; nothing but tensors is ever read.

    Raises:
        LabelingError: it holds anything else.
    """
    if weights.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        return load_file(weights)
    try:
        content = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted reader's errors have no common parent
        raise LabelingError(f"{weights}: holds more than tensors, or is damaged ({type(error).__name__})") from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise LabelingError(f"{weights}: expected tensors by name (a state dict)")
    return content


class TorchvisionDetector:
    """Runs the images of one shape together: the library would pad each to the largest of a list."""

    has_nms = True

    def __init__(self, card: Card, model: Any, place: torch.device, dtype: torch.dtype) -> None:
        self.names = card.names
        self.licence = card.licence
        self.task = "segment" if card.model.startswith("mask") else "pose" if card.model.startswith("key") else "detect"
        self._model = model.to(place)
        self._place = place
        self._dtype = dtype

    @property
    def input_side(self) -> int | None:
        """None: the library scales by the shorter side."""
        return None

    def padded_shape(self, size: ImageSize) -> tuple[int, int]:
        """Return the image's own (height, width): images of one size are run together."""
        return size.height, size.width

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order.

        Nothing is found below ``SCORE_FLOOR``.
        """
        # A mask, as large as the image, is made of every box the network chooses: of none that nobody asks for.
        getattr(self._model, "roi_heads", self._model).score_thresh = max(score_floor, SCORE_FLOOR)
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            by_shape[image.shape].append(index)
        found: dict[int, Detections] = {}
        for indices in by_shape.values():
            answers = self._run([images[index] for index in indices])
            found.update(
                (index, to_detections(answer, score_floor)) for index, answer in zip(indices, answers, strict=True)
            )
        return [found[index] for index in range(len(images))]

    @torch.inference_mode()
    def _run(self, images: Sequence[Image]) -> list[dict[str, torch.Tensor]]:
        batch = torch.from_numpy(np.stack(images)).to(self._place).permute(0, 3, 1, 2).float().div_(255)
        # The boxes are computed in float32 whatever the network runs in: half of it cannot count to 2049.
        with torch.autocast(self._place.type, self._dtype, enabled=self._dtype != torch.float32):
            answers: list[dict[str, torch.Tensor]] = self._model(list(batch))
        return answers


def to_detections(answer: dict[str, torch.Tensor], score_floor: float) -> Detections:
    """Return an image's answer, with the rows above the floor."""
    is_shown = answer["scores"] > score_floor
    values = {key: value[is_shown].float().cpu().numpy() for key, value in answer.items()}
    boxes = values["boxes"].astype(np.float32)
    return Detections(
        boxes,
        values["scores"].astype(np.float32),
        values["labels"].astype(np.int64),
        masks=None if "masks" not in values else tuple(map(_to_crop, values["masks"][:, 0])),
        keypoints=None if "keypoints" not in values else _to_keypoints(values),
    )


def _to_crop(mask: npt.NDArray[np.float32]) -> MaskCrop:
    """Return the pixels of a mask as large as the image; they can lie a little outside of the box."""
    pixels = mask >= MASK_THRESHOLD
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return MaskCrop(0, 0, np.zeros((0, 0), np.bool_))
    y, x = int(rows[0]), int(columns[0])
    return MaskCrop(x, y, pixels[y : rows[-1] + 1, x : columns[-1] + 1])


def _to_keypoints(values: dict[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return points with a visibility in 0..1, made of the scores the library gives as logits."""
    visible = 1 / (1 + np.exp(-values["keypoints_scores"].astype(np.float32)))
    return np.concatenate([values["keypoints"][..., :2], visible[..., None]], axis=2).astype(np.float32)
