"""EfficientDet from a local checkpoint, through the optional package effdet. Importing this loads torch and effdet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image as PillowImage

from labels.errors import LabelingError
from ml_backend.detectors import Detections, DetectorOptions, Image
from ml_backend.detectors.cards import Card, read_card
from ml_backend.detectors.devices import choose_device, to_torch_dtype
from ml_backend.detectors.torchvision import read_tensors
from ml_backend.detectors.yolo import Batch

try:
    import effdet
    from effdet.data.transforms import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
except ImportError as error:
    raise LabelingError("EfficientDet needs the optional package: pip install labelloop[effdet]") from error


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> EffdetDetector:
    """Load a state dict by its card, whose model is a configuration of effdet such as ``tf_efficientdet_d0``.

    Raises:
        LabelingError: there is no card, no such model, the tensors are another model's, or an overlap was told.
    """
    if options.nms_iou is not None:
        raise LabelingError(
            f"LABELLOOP_NMS_IOU={options.nms_iou:g}: EfficientDet drops boxes by an overlap of 0.5 and cannot be told"
            " another, so leave it away"
        )
    card = read_card(weights)
    try:
        config = effdet.get_efficientdet_config(card.model)
    except KeyError as error:
        raise LabelingError(f"{weights}: effdet has no model {card.model!r}") from error
    bench = effdet.create_model_from_config(
        config, bench_task="predict", num_classes=card.outputs, pretrained_backbone=False
    )
    try:
        bench.model.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise LabelingError(
            f"{weights}: its tensors are not those of {card.model} with {card.outputs} classes"
        ) from error
    return EffdetDetector(card, bench.eval(), torch.device(choose_device(device)), to_torch_dtype(options.precision))


class EffdetDetector:
    """Scales an image into the top left corner of the square the network takes; all images share that size."""

    task = "detect"

    def __init__(self, card: Card, bench: Any, place: torch.device, dtype: torch.dtype) -> None:
        self.names = card.names
        self.licence = card.licence
        self._bench = bench.to(place)
        self._place = place
        self._dtype = dtype
        self._side: tuple[int, int] = tuple(bench.config.image_size)  # height, width
        mean = tuple(bench.config.get("mean") or IMAGENET_DEFAULT_MEAN)
        std = tuple(bench.config.get("std") or IMAGENET_DEFAULT_STD)
        self._mean = torch.tensor(mean, device=place).mul(255).view(3, 1, 1)
        self._std = torch.tensor(std, device=place).mul(255).view(3, 1, 1)
        # Pixels beyond the image have the mean colour.
        self._grey = tuple(round(float(value) * 255) for value in mean)

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        if not images:
            return []
        prepared = [self._prepare(image) for image in images]
        rows = self._run(np.stack([pixels for pixels, _ in prepared]))
        found = []
        for image, (_, gain), values in zip(images, prepared, rows, strict=True):
            kept: npt.NDArray[np.float32] = values[values[:, 4] > score_floor]
            height, width = image.shape[:2]
            boxes = (kept[:, :4] / gain).clip(0, np.array([width, height, width, height], np.float32))
            found.append(Detections(boxes.astype(np.float32), kept[:, 4], kept[:, 5].astype(np.int64)))
        return found

    def _prepare(self, image: Image) -> tuple[Image, float]:
        height, width = image.shape[:2]
        gain = min(self._side[0] / height, self._side[1] / width)
        size = max(int(width * gain), 1), max(int(height * gain), 1)
        canvas = PillowImage.new("RGB", (self._side[1], self._side[0]), self._grey)
        # The network was trained on Pillow's resampling.
        canvas.paste(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR))
        return np.asarray(canvas, np.uint8), gain

    @torch.inference_mode()
    def _run(self, batch: Batch) -> npt.NDArray[np.float32]:
        pixels = torch.from_numpy(batch).to(self._place).permute(0, 3, 1, 2).float()
        with torch.autocast(self._place.type, self._dtype, enabled=self._dtype != torch.float32):
            answer = self._bench((pixels - self._mean) / self._std)
        return np.asarray(answer.float().cpu().numpy(), np.float32)
