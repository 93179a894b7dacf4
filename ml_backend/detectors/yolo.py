"""YOLO networks of every runtime: letterbox, one forward for the images of one shape, and what its answer means.

Knows no library but torch and OpenCV: whoever loads the network (Ultralytics, ONNX Runtime, OpenVINO) hands over its
forward. What is found is what Ultralytics' ``predict`` finds on the same pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from labels.errors import LabelingError
from labels.geometry import ImageSize
from ml_backend.detectors import Detections, Image
from ml_backend.detectors.masks import Letterbox, cut_masks
from ml_backend.detectors.selection import NMS_IOU, Rows, choose_from_anchors, choose_from_queries, choose_top

DEFAULT_SIDE: Final = 640
DEFAULT_STRIDE: Final = 32
PADDING_GREY: Final = 114
MOST_ELONGATED: Final = 16
"""How many times its shorter side an image's longer one may be scaled to where a model names no bound."""

# How a network's answer is laid out.
ANCHORS: Final = "anchors"  # (n, 4 + classes + extra, anchors), boxes as centre and size: needs NMS
ANCHORS_TOP: Final = "anchors_top"  # (n, anchors, 4 + classes + extra), corners: one box an object, the best are taken
ROWS: Final = "rows"  # (n, boxes, 6 + extra): corners, score, class; chosen by the network
QUERIES: Final = "queries"  # (n, queries, 4 + classes), centre and size in 0..1 of the image: the best are taken
CLASSES: Final = "classes"  # (n, classes): a classifier's probabilities
LAYOUTS: Final = (ANCHORS, ANCHORS_TOP, ROWS, QUERIES, CLASSES)

Batch = npt.NDArray[np.uint8]  # (n, height, width, 3), RGB
Forward = Callable[[Batch], tuple[torch.Tensor, torch.Tensor | None]]


@dataclass(frozen=True)
class Network:
    """What a YOLO file says of itself.

    ``size`` is the input's (height, width): the largest when ``is_dynamic``, else the only one. ``batch_size`` is the
    only batch it takes, or None for any. ``keypoint_shape`` is (points, 2 or 3), of a pose model.
    """

    names: Mapping[int, str]
    task: str = "detect"
    layout: str = ANCHORS
    size: tuple[int, int] = (DEFAULT_SIDE, DEFAULT_SIDE)
    stride: int = DEFAULT_STRIDE
    is_dynamic: bool = True
    batch_size: int | None = None
    keypoint_shape: tuple[int, int] | None = None
    licence: str = "unknown"


class YoloDetector:
    """Letterbox, forward, decoding, and everything back in the pixels of the image given.

    ``forward`` takes a batch and gives the answer, and the mask prototypes (n, masks, height, width) or None.
    """

    def __init__(self, network: Network, forward: Forward, *, nms_iou: float | None = None) -> None:
        self._network = network
        self._forward = forward
        self._nms_iou = NMS_IOU if nms_iou is None else nms_iou

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""
        return self._network.names

    @property
    def task(self) -> str:
        """What the model gives."""
        return self._network.task

    @property
    def licence(self) -> str:
        """The licence the weights' file names."""
        return self._network.licence

    @property
    def has_nms(self) -> bool:
        """Whether boxes are dropped by how far they overlap: some networks give one box an object."""
        return self._network.layout == ANCHORS

    @property
    def input_side(self) -> int | None:
        """The longer side of the network's input."""
        return max(self._network.size)

    def padded_shape(self, size: ImageSize) -> tuple[int, int]:
        """Return the (height, width) of the network's input for an image of this size."""
        if self._network.task == "classify":
            return self._network.size
        width, height = self._frame((size.height, size.width)).outer
        return height, width

    def at_side(self, side: int) -> YoloDetector:
        """Return the same network, which scales an image's longer side to this many pixels, in whole strides.

        Raises:
            LabelingError: it takes one size alone.
        """
        if not self._network.is_dynamic:
            raise LabelingError(f"this network takes images of {self._network.size} alone")
        whole = -(-side // self._network.stride) * self._network.stride
        return YoloDetector(replace(self._network, size=(whole, whole)), self._forward, nms_iou=self._nms_iou)

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order; images of one padded shape share a forward."""
        inputs = [self._prepare(image) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, (padded, _) in enumerate(inputs):
            by_shape[padded.shape].append(index)
        found: dict[int, Detections] = {}
        for indices in by_shape.values():
            for chunk in self._split(indices):
                batch = np.stack([inputs[index][0] for index in chunk])
                frames = [inputs[index][1] for index in chunk]
                found.update(zip(chunk, self._run(batch, frames, score_floor), strict=True))
        return [found[index] for index in range(len(images))]

    def _prepare(self, image: Image) -> tuple[Image, Letterbox]:
        network = self._network
        if network.task == "classify":
            return crop_centre(image, network.size), Letterbox.of(image.shape, network.size, fills=True)
        frame = self._frame(image.shape)
        return letterbox(image, frame), frame

    def _frame(self, shape: tuple[int, ...]) -> Letterbox:
        stride = self._network.stride if self._network.is_dynamic else None
        return Letterbox.of(shape, self._network.size, stride=stride, fills=self._network.layout == QUERIES)

    def _split(self, indices: list[int]) -> Iterator[list[int]]:
        step = self._network.batch_size or len(indices)
        for start in range(0, len(indices), step):
            yield indices[start : start + step]

    @torch.inference_mode()
    def _run(self, batch: Batch, frames: Sequence[Letterbox], score_floor: float) -> list[Detections]:
        count = len(batch)
        if self._network.batch_size is not None and count < self._network.batch_size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._network.batch_size - count, axis=0)])
        answer, prototypes = self._forward(batch)
        answer = answer.float()
        self._check(answer)
        if self._network.layout == CLASSES:
            return [Detections.nothing(row.cpu().numpy()) for row in answer[:count]]
        found = []
        for index, frame in enumerate(frames):
            rows = self._choose(answer[index], score_floor)
            found.append(self._to_detections(rows, frame, None if prototypes is None else prototypes[index]))
        return found

    def _check(self, answer: torch.Tensor) -> None:
        """Refuse an answer that is not laid out as it will be read."""
        network, shape = self._network, tuple(answer.shape)
        extra = 1 if network.task == "obb" else 0
        extra += network.keypoint_shape[0] * network.keypoint_shape[1] if network.keypoint_shape is not None else 0
        wanted = (6 if network.layout == ROWS else 4 + len(network.names)) + extra
        axis = 1 if network.layout == ANCHORS else 2
        if network.layout == CLASSES:
            is_right = len(shape) == 2 and shape[1] == len(network.names)
        elif len(shape) != 3:
            is_right = False
        elif network.task == "segment":
            is_right = shape[axis] > wanted
        else:
            is_right = shape[axis] == wanted
        if not is_right:
            raise LabelingError(f"output {shape} is not that of a YOLO network for {network.task!r}")

    def _choose(self, answer: torch.Tensor, score_floor: float) -> Rows:
        """Return the rows of one image's answer that are objects, best first."""
        classes = len(self._network.names)
        if self._network.layout == ANCHORS:
            is_turned = self._network.task == "obb"
            return choose_from_anchors(answer, classes, score_floor, iou=self._nms_iou, is_turned=is_turned)
        if self._network.layout == ANCHORS_TOP:
            return choose_top(answer, classes, score_floor)
        if self._network.layout == QUERIES:
            return choose_from_queries(answer, classes, score_floor)
        kept = answer[answer[:, 4] > score_floor]
        return Rows(kept[:, :4], kept[:, 4], kept[:, 5].long(), None, kept[:, 6:])

    def _to_detections(self, rows: Rows, frame: Letterbox, prototypes: torch.Tensor | None) -> Detections:
        boxes = rows.boxes.cpu().numpy().astype(np.float32)
        extra = rows.extra.cpu().numpy().astype(np.float32)
        network = self._network
        found = Detections(
            self._to_image(boxes, frame),
            rows.scores.cpu().numpy().astype(np.float32),
            rows.class_ids.cpu().numpy().astype(np.int64),
            None if rows.probabilities is None else rows.probabilities.cpu().numpy().astype(np.float32),
            rotations_deg=np.degrees(extra[:, -1]) if network.task == "obb" else None,
            keypoints=_to_keypoints(extra, network, frame),
        )
        if network.task != "segment" or prototypes is None:
            return found
        return cut_masks(found, rows.extra, prototypes.float(), frame)

    def _to_image(self, boxes: npt.NDArray[np.float32], frame: Letterbox) -> npt.NDArray[np.float32]:
        if self._network.layout == QUERIES:
            return frame.to_image_relative(boxes)
        return frame.to_image_xywh(boxes) if self._network.task == "obb" else frame.to_image_xyxy(boxes)


def letterbox(image: Image, frame: Letterbox) -> Image:
    """Return the image scaled and padded with grey, as its frame says."""
    width, height = frame.inner
    if (image.shape[1], image.shape[0]) != (width, height):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    left, top, right, bottom = frame.padding
    if not any(frame.padding):
        return np.ascontiguousarray(image)
    grey = (PADDING_GREY,) * 3
    return np.asarray(cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey), np.uint8)


def crop_centre(image: Image, size: tuple[int, int]) -> Image:
    """Return the middle of the image, scaled so that its shorter side fits: what classifiers are shown."""
    from PIL import Image as PillowImage
    from torchvision.transforms import functional  # type: ignore[import-untyped]

    # What of a strip lies far from the middle goes before it is scaled: one pixel wide, it would fill the memory.
    longest = MOST_ELONGATED * min(image.shape[:2])
    top, left = (max(0, (side - longest) // 2) for side in image.shape[:2])
    image = np.ascontiguousarray(image[top : top + longest, left : left + longest])
    # Classifiers were trained on Pillow's resampling; OpenCV's gives visibly other pixels when it shrinks.
    resized = functional.resize(PillowImage.fromarray(image), min(size))
    return np.asarray(functional.center_crop(resized, list(size)), np.uint8)


def _to_keypoints(extra: npt.NDArray[np.float32], network: Network, frame: Letterbox) -> npt.NDArray[np.float32] | None:
    if network.task != "pose" or network.keypoint_shape is None:
        return None
    points, numbers = network.keypoint_shape
    values: npt.NDArray[np.float32] = extra.reshape(len(extra), points, numbers)
    if numbers == 2:
        # A model that does not speak of visibility shows every point.
        values = np.concatenate([values, np.ones((*values.shape[:2], 1), np.float32)], axis=2)
    return frame.to_image_points(values)
