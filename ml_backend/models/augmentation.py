"""Test-time augmentation: a detector looks at each image several times, mirrored or at other scales, and the boxes are
fused. Where the views disagree, the model is unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

import numpy as np

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, Image
from ml_backend.models.fusion import MEMBER_FLOOR, Fusion, fuse

FLIP: Final = "flip"
SIDES: Final = range(32, 8193)


@runtime_checkable
class ScalableDetector(Protocol):
    """A detector that can look at an image at another scale."""

    def at_side(self, side: int) -> Detector:
        """Return the same model, which scales an image's longer side to this many pixels.

        Raises:
            LabelingError: it takes one size alone.
        """


class ViewsDetector:
    """One detector and further views: the image as it is, and each of ``views`` ("flip", or a longer side in pixels).

    No box is dropped because few views see it; ``votes`` and ``agreement`` say how many do.
    """

    task = "detect"

    def __init__(self, detector: Detector, views: Sequence[str], fusion: Fusion) -> None:
        if detector.task != "detect":
            raise LabelingError(
                f"LABELLOOP_VIEWS={','.join(views)}: views are for models that give plain boxes (task 'detect'); of a"
                f" model for {detector.task!r} they would keep the boxes alone, so leave them away"
            )
        self._detector = detector
        self._views = [(view == FLIP, _find(detector, view)) for view in views]
        self._fusion = replace(fusion, weights=(), min_votes=1)

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""
        return self._detector.names

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self._detector.licence

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order."""
        floor = min(score_floor, MEMBER_FLOOR)
        answers = [self._detector.detect(images, score_floor=floor)]
        for is_flipped, detector in self._views:
            answers.append(_look(detector, images, is_flipped, floor))
        found = []
        for index, image in enumerate(images):
            one = fuse([answer[index] for answer in answers], self._fusion, (image.shape[1], image.shape[0]))
            found.append(one.select(one.scores > score_floor))
        return found


def flip_back(found: Detections, width: int) -> Detections:
    """Return what was found in a mirrored image where it is in the image itself."""
    x1, y1, x2, y2 = found.xyxy.T
    return replace(found, xyxy=np.stack([width - x2, y1, width - x1, y2], axis=1).astype(np.float32))


def _look(detector: Detector, images: Sequence[Image], is_flipped: bool, floor: float) -> list[Detections]:
    if not is_flipped:
        return detector.detect(images, score_floor=floor)
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
    answers = detector.detect(mirrored, score_floor=floor)
    return [flip_back(found, image.shape[1]) for found, image in zip(answers, images, strict=True)]


def _find(detector: Detector, view: str) -> Detector:
    """Return the detector of a view.

    Raises:
        LabelingError: there is no such view.
    """
    if view == FLIP:
        return detector
    if not view.isdigit() or int(view) not in SIDES:
        raise LabelingError(f"view {view!r}: expected {FLIP!r}, or a longer side from 32 to 8192 pixels")
    if not isinstance(detector, ScalableDetector):
        raise LabelingError(f"view {view!r}: this model looks at images at one scale alone")
    return detector.at_side(int(view))
