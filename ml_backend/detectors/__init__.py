"""The one shape every detector has, and the one place that builds one. Importing this loads no library."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""An image: RGB, (height, width, 3)."""

# Ultralytics asks the network for updates and installs packages by itself; a server does neither.
QUIET_ULTRALYTICS: Final = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best first.

    Boxes are (n, 4) as x1, y1, x2, y2 in pixels, scores (n,) in 0..1, class ids (n,). No row means that the detector
    looked and found nothing.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: npt.NDArray[np.bool_]) -> Detections:
        """Return the rows marked True, in their order."""
        return Detections(self.xyxy[keep], self.scores[keep], self.class_ids[keep])


class Detector(Protocol):
    """A loaded model. It is used by one thread at a time."""

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order, with the scores above the floor.

        What is found in an image does not depend on the images beside it.
        """


def build_detector(weights: Path, *, device: str = "auto") -> Detector:
    """Load an Ultralytics ``.pt`` or ``.onnx`` file; ``device`` is auto, cpu, cuda or cuda:N.

    Raises:
        LabelingError: the file is no detector we can run, or the device is not there.
    """
    for key, value in QUIET_ULTRALYTICS.items():
        os.environ.setdefault(key, value)
    from ml_backend.detectors.ultralytics import load_detector  # torch is loaded here, not at import

    return load_detector(weights, device=device)
