"""Exported networks, ``.onnx`` and OpenVINO's ``.xml``: the permissive path, without the library they came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, DetectorOptions, Image
from ml_backend.detectors.devices import choose_device
from ml_backend.detectors.masks import Letterbox
from ml_backend.detectors.queries import QueryDetector, ResizeRule
from ml_backend.detectors.runtimes import Description, Run, open_onnx, open_openvino
from ml_backend.detectors.selection import NMS_IOU, choose_from_anchors
from ml_backend.detectors.yolo import Batch, YoloDetector, letterbox

YOLOX_STRIDES: Final = (8, 16, 32)
# What torch shows where it is only asked to carry arrays; more would take cores from the runtime that computes.
BOX_NUMBERS: Final = 4


def load_detector(weights: Path, *, device: str, options: DetectorOptions) -> Detector:
    """Load an ``.onnx`` file with ONNX Runtime, or with OpenVINO where the options say so; ``.xml`` with OpenVINO.

    Raises:
        LabelingError: the file does not say what it is, or the device is not there.
    """
    is_openvino = weights.suffix.lower() == ".xml" or options.runtime == "openvino"
    if options.runtime == "auto" and choose_device(device) == "cpu":
        is_openvino = True
    if is_openvino and device not in {"auto", "cpu"}:
        raise LabelingError(f"device {device!r}: OpenVINO runs on the CPU here (use auto or cpu, or another runtime)")
    described, run = open_openvino(weights, options.precision) if is_openvino else open_onnx(weights, device)
    return to_detector(described, run, nms_iou=options.nms_iou)


def to_detector(described: Description, run: Run, *, nms_iou: float | None) -> Detector:
    """Return the detector of an opened file.

    Raises:
        LabelingError: it drops boxes by another overlap than this, and cannot be told.
    """
    if described.decoder == "detr":
        return _to_query_detector(described, run)
    if described.decoder == "boxes":
        if nms_iou not in {None, described.nms_iou}:
            raise LabelingError(
                f"LABELLOOP_NMS_IOU={nms_iou:g}: the file chooses its boxes itself and cannot be told; leave it away,"
                " or serve the weights it was made from"
            )
        return BoxesDetector(described, run)
    if described.decoder == "yolox":
        return YoloxDetector(described, run, nms_iou=nms_iou)

    def forward(batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
        answer, *rest = run(batch)
        prototypes = next((torch.from_numpy(array) for array in rest if array.ndim == BOX_NUMBERS), None)
        return torch.from_numpy(answer), prototypes

    return YoloDetector(described, forward, nms_iou=nms_iou)


def _to_query_detector(described: Description, run: Run) -> QueryDetector:
    rules = dict(described.resize)
    is_exclusive, top = bool(rules.pop("is_exclusive")), rules.pop("top")
    resample = str(rules.pop("resample"))

    def forward(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities, boxes = run(batch)[:2]
        return torch.from_numpy(probabilities), torch.from_numpy(boxes)

    return QueryDetector(
        described.names,
        forward,
        ResizeRule.from_mapping(rules),
        is_exclusive=is_exclusive,
        top=None if top is None else int(top),
        licence=described.licence,
        resample=resample,
    )


class BoxesDetector:
    """A network that chooses by itself: pixels of one image in, boxes in its pixels, classes and scores out."""

    task = "detect"

    def __init__(self, described: Description, run: Run) -> None:
        self.names = described.names
        self.licence = described.licence
        self.has_nms = described.nms_iou is not None
        self._run = run

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        found = []
        for image in images:
            boxes, class_ids, scores = self._run(np.ascontiguousarray(image)[None])[:3]
            one = Detections(boxes.astype(np.float32), scores.astype(np.float32), class_ids.astype(np.int64))
            found.append(one.select(one.scores > score_floor))
        return found


class YoloxDetector:
    """YOLOX: an anchor-free YOLO under a permissive licence, whose export leaves the grid to its reader."""

    task = "detect"
    has_nms = True

    def __init__(self, described: Description, run: Run, *, nms_iou: float | None) -> None:
        self.names = described.names
        self.licence = described.licence
        self._size = described.size
        self._run = run
        self._nms_iou = NMS_IOU if nms_iou is None else nms_iou
        self._places, self._steps = _make_grid(described.size)

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        return [self._detect_one(image, score_floor) for image in images]

    def _detect_one(self, image: Image, score_floor: float) -> Detections:
        centred = Letterbox.of(image.shape, self._size)
        left, top, right, bottom = centred.padding
        # YOLOX was trained with the image in the top left corner.
        frame = Letterbox(centred.size, centred.inner, (0, 0, left + right, top + bottom))
        answer = torch.from_numpy(self._run(letterbox(image, frame)[None])[0][0])
        centres = (answer[:, :2] + self._places) * self._steps
        sizes = answer[:, 2:4].exp() * self._steps
        # A class counts only as far as there is an object at all.
        probabilities = answer[:, 5:] * answer[:, 4:5]
        rows = choose_from_anchors(
            torch.cat([centres, sizes, probabilities], 1).T, len(self.names), score_floor, iou=self._nms_iou
        )
        return Detections(
            frame.to_image_xyxy(rows.boxes.numpy()),
            rows.scores.numpy(),
            rows.class_ids.numpy(),
            None if rows.probabilities is None else rows.probabilities.numpy(),
        )


def _make_grid(size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the column and row of every cell (cells, 2), and its width in pixels (cells, 1)."""
    places, steps = [], []
    for stride in YOLOX_STRIDES:
        rows, columns = torch.meshgrid(torch.arange(size[0] // stride), torch.arange(size[1] // stride), indexing="ij")
        places.append(torch.stack([columns, rows], -1).reshape(-1, 2))
        steps.append(torch.full((len(places[-1]), 1), stride))
    return torch.cat(places).float(), torch.cat(steps).float()
