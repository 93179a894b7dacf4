"""Where an image lies in a network's padded input, and the masks of a segmentation network in the image's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ml_backend.detectors import Detections, MaskCrop

# Prototypes have a quarter of the input's resolution.
PROTOTYPE_STEP: Final = 4
MASKS_AT_ONCE: Final = 32

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Letterbox:
    """An image of ``size`` scaled to ``inner``, ``padding`` being left, top, right, bottom; sizes are width, height."""

    size: tuple[int, int]
    inner: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    @classmethod
    def of(
        cls, shape: tuple[int, ...], target: tuple[int, int], *, stride: int | None = None, fills: bool = False
    ) -> Letterbox:
        """Return the frame of an image of (height, width) in a target of (height, width).

        With a stride only as much is padded as the network needs; when it ``fills``, the image is stretched instead.

        >>> Letterbox.of((100, 200), (640, 640), stride=32).padding
        (0, 0, 0, 0)
        >>> Letterbox.of((100, 200), (640, 640)).padding
        (0, 160, 0, 160)
        """
        height, width = shape[:2]
        if fills:
            return cls((width, height), (target[1], target[0]))
        gain = min(target[0] / height, target[1] / width)
        inner = max(round(width * gain), 1), max(round(height * gain), 1)
        across, down = target[1] - inner[0], target[0] - inner[1]
        if stride is not None:
            across, down = across % stride, down % stride
        left, top = round(across / 2 - 0.1), round(down / 2 - 0.1)
        return cls((width, height), inner, (left, top, across - left, down - top))

    @property
    def gain(self) -> tuple[float, float]:
        """Scaled pixels for each pixel of the image, across and down."""
        return self.inner[0] / self.size[0], self.inner[1] / self.size[1]

    @property
    def outer(self) -> tuple[int, int]:
        """Width and height of the padded input."""
        left, top, right, bottom = self.padding
        return self.inner[0] + left + right, self.inner[1] + top + bottom

    def to_image_points(self, points: Floats) -> Floats:
        """Return points, the first two numbers of each last axis, in pixels of the image and inside it."""
        moved = points.copy()
        for axis in (0, 1):
            moved[..., axis] = ((points[..., axis] - self.padding[axis]) / self.gain[axis]).clip(0, self.size[axis])
        return moved

    def to_image_xyxy(self, boxes: Floats) -> Floats:
        """Return boxes by their corners in pixels of the image, cut at its edge."""
        return self.to_image_points(boxes.reshape(-1, 2, 2)).reshape(-1, 4)

    def to_image_xywh(self, boxes: Floats) -> Floats:
        """Return turned boxes, given by centre and size, as corners before their turn, in pixels of the image."""
        gain = np.array(self.gain, np.float32)
        centre = (boxes[:, :2] - np.array(self.padding[:2], np.float32)) / gain
        half = boxes[:, 2:] / gain / 2
        return np.concatenate([centre - half, centre + half], axis=1)

    def to_image_relative(self, boxes: Floats) -> Floats:
        """Return boxes by their corners in 0..1 of a stretched input in pixels of the image, cut at its edge."""
        return (boxes.clip(0, 1) * np.array([*self.size, *self.size], np.float32)).astype(np.float32)


def cut_masks(found: Detections, coefficients: torch.Tensor, prototypes: torch.Tensor, frame: Letterbox) -> Detections:
    """Return the rows that have a mask, with it: prototypes (masks, height, width) weighted by their coefficients.

    Only the pixels inside each box are ever computed, so a large image with many objects costs no more memory.
    """
    masks: list[MaskCrop] = []
    for start in range(0, len(found), MASKS_AT_ONCE):
        part = coefficients[start : start + MASKS_AT_ONCE] @ prototypes.flatten(1)
        layers = _unpad(part.view(-1, *prototypes.shape[1:]), frame)
        boxes = found.xyxy[start : start + MASKS_AT_ONCE]
        masks += [_sample(layer, box, frame.size) for layer, box in zip(layers, boxes, strict=True)]
    has_pixels = np.array([mask.pixels.any() for mask in masks], bool)
    return replace(found, masks=tuple(masks)).select(has_pixels)


def _unpad(layers: torch.Tensor, frame: Letterbox) -> Floats:
    """Return the part of each layer that shows the image, enlarged only as far as the padding ends on whole pixels."""
    height, width = layers.shape[1:]
    padding = (PROTOTYPE_STEP * height - frame.inner[1]) | (PROTOTYPE_STEP * width - frame.inner[0])
    factor = PROTOTYPE_STEP // math.gcd(PROTOTYPE_STEP, padding | padding // 2)
    if factor > 1:
        layers = functional.interpolate(layers[None], scale_factor=factor, mode="bilinear")[0]
    inner = Letterbox.of((frame.size[1], frame.size[0]), (factor * height, factor * width))
    left, top = inner.padding[:2]
    shown = layers[:, top : top + inner.inner[1], left : left + inner.inner[0]]
    return np.asarray(shown.cpu().numpy(), np.float32)


def _sample(layer: Floats, box: Floats, size: tuple[int, int]) -> MaskCrop:
    """Return where the layer, stretched to the image's size, is above 0 inside the box."""
    x1, y1, x2, y2 = (math.ceil(value) for value in box)
    x2, y2 = min(x2, size[0]), min(y2, size[1])
    x_low, x_high, x_part = _place(x1, max(x2, x1), size[0], layer.shape[1])
    y_low, y_high, y_part = _place(y1, max(y2, y1), size[1], layer.shape[0])
    columns = layer[:, x_low] * (1 - x_part) + layer[:, x_high] * x_part
    values = columns[y_low] * (1 - y_part[:, None]) + columns[y_high] * y_part[:, None]
    return MaskCrop(x1, y1, values > 0)


def _place(
    start: int, stop: int, length: int, source: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats]:
    """Return between which two source pixels each target pixel lies, and how far from the first: bilinear sampling."""
    position = ((np.arange(start, stop, dtype=np.float32) + 0.5) * np.float32(source / length) - 0.5).clip(min=0)
    low = np.minimum(position.astype(np.int64), source - 1)
    return low, np.minimum(low + 1, source - 1), (position - low).astype(np.float32)
