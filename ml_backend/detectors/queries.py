"""Detectors that answer with a set of queries, as DETR does: how their images are scaled, and how the set is read.

Knows no library but torch and torchvision: whoever loads the network hands over its forward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

from labels.geometry import ImageSize
from ml_backend.detectors import Detections, Image
from ml_backend.detectors.selection import Rows, choose_best, choose_from_queries
from ml_backend.detectors.yolo import MOST_ELONGATED, Batch

Forward = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]
"""From a batch of pixels to class probabilities (n, queries, classes) and boxes (n, queries, 4), centre and size."""

BILINEAR: Final = "bilinear"


@dataclass(frozen=True)
class ResizeRule:
    """To which size an image is scaled: exactly ``fixed`` (height, width), or by its shorter and longer side.

    Both sides are cut down to a whole number of ``multiple``. None of the two: the image stays as it is. Without a
    ``longest``, it is ``MOST_ELONGATED`` times the shorter side: a strip one pixel wide would fill the memory.
    """

    fixed: tuple[int, int] | None = None
    shortest: int | None = None
    longest: int | None = None
    multiple: int = 1

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ResizeRule:
        """Return the rule that ``dataclasses.asdict`` made a mapping of."""
        fixed = values.get("fixed")
        return cls(**{**values, "fixed": None if fixed is None else (int(fixed[0]), int(fixed[1]))})

    def compute_size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the (height, width) an image of this shape is scaled to.

        >>> ResizeRule(shortest=800, longest=1333).compute_size((480, 640, 3))
        (800, 1066)
        >>> ResizeRule(shortest=800, longest=1333).compute_size((400, 1000, 3))
        (533, 1333)
        >>> ResizeRule(shortest=800).compute_size((1, 4000, 3))
        (3, 12800)
        """
        height, width = shape[:2]
        if self.fixed is not None:
            return self.fixed
        if self.shortest is None:
            return height, width
        shortest: float = self.shortest
        longest = MOST_ELONGATED * self.shortest if self.longest is None else self.longest
        if max(height, width) / min(height, width) * shortest > longest:
            shortest = longest * min(height, width) / max(height, width)
        short = round(shortest)
        long = int(shortest * max(height, width) / min(height, width))
        size = (short, long) if height < width else (long, short)
        if height == width:
            size = (short, short)
        # A strip of an image must still be one pixel, or one patch, wide.
        height, width = (max(side - side % self.multiple, self.multiple) for side in size)
        return height, width


class QueryDetector:
    """Scales, runs the images of one size together, and reads the best of each set.

    ``is_exclusive``: the probabilities of a query sum to at most 1, so that it stands for one class alone; else the
    best ``top`` pairs of query and class are taken (None: as many as there are queries).
    """

    task = "detect"

    def __init__(
        self,
        names: Mapping[int, str],
        forward: Forward,
        rule: ResizeRule,
        *,
        is_exclusive: bool,
        top: int | None = None,
        licence: str = "unknown",
        resample: str = BILINEAR,
    ) -> None:
        self.names = names
        self.licence = licence
        self._forward = forward
        self._rule = rule
        self._is_exclusive = is_exclusive
        self._top = top
        self._resample = functional.InterpolationMode(resample)

    @property
    def input_side(self) -> int | None:
        """The longer side of the network's input, or None where an image's own size decides."""
        return max(self._rule.fixed) if self._rule.fixed is not None else self._rule.longest

    def padded_shape(self, size: ImageSize) -> tuple[int, int]:
        """Return the (height, width) of the network's input for an image of this size."""
        return self._rule.compute_size((size.height, size.width))

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order; images of one size share a forward, so nothing is padded."""
        by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image in enumerate(images):
            by_shape[self._rule.compute_size(image.shape)].append(index)
        found: dict[int, Detections] = {}
        for size, indices in by_shape.items():
            batch = np.stack([scale(images[index], size, self._resample) for index in indices])
            shapes = [images[index].shape for index in indices]
            found.update(zip(indices, self._run(batch, shapes, score_floor), strict=True))
        return [found[index] for index in range(len(images))]

    @torch.inference_mode()
    def _run(self, batch: Batch, shapes: Sequence[tuple[int, ...]], score_floor: float) -> list[Detections]:
        probabilities, boxes = self._forward(batch)
        answers = torch.cat([boxes.float(), probabilities.float()], -1)
        return [self._read(answer, shape, score_floor) for answer, shape in zip(answers, shapes, strict=True)]

    def _read(self, answer: torch.Tensor, shape: tuple[int, ...], score_floor: float) -> Detections:
        classes = answer.shape[1] - 4
        if self._is_exclusive:
            rows = choose_best(answer, classes, score_floor)
        else:
            rows = choose_from_queries(answer, classes, score_floor, top=self._top)
        return to_detections(rows, shape)


def to_detections(rows: Rows, shape: tuple[int, ...]) -> Detections:
    """Return rows whose boxes are corners in 0..1 in pixels of an image, cut at its edge."""
    side = np.array([shape[1], shape[0], shape[1], shape[0]], np.float32)
    boxes: npt.NDArray[np.float32] = rows.boxes.cpu().numpy().astype(np.float32).clip(0, 1) * side
    return Detections(
        boxes,
        rows.scores.cpu().numpy().astype(np.float32),
        rows.class_ids.cpu().numpy().astype(np.int64),
        None if rows.probabilities is None else rows.probabilities.cpu().numpy().astype(np.float32),
    )


def scale(image: Image, size: tuple[int, int], resample: Any) -> Image:
    """Return the image scaled to (height, width), smoothed where it shrinks."""
    if image.shape[:2] == size:
        return np.ascontiguousarray(image)
    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    scaled = functional.resize(tensor, list(size), interpolation=resample, antialias=True)
    return np.ascontiguousarray(scaled.permute(1, 2, 0).numpy())
