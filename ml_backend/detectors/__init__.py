"""The one shape every detector has, and what can be asked of it. Importing this loads no library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from labels.geometry import Box, ImageSize

Image = npt.NDArray[np.uint8]
"""An image: RGB, (height, width, 3)."""

TASKS: Final = ("detect", "segment", "pose", "obb", "classify", "zero_shot")
RUNTIMES: Final = ("auto", "torch", "onnx", "openvino")
PRECISIONS: Final = ("float32", "bfloat16", "float16")
FUSIONS: Final = ("wbf", "nms")


@dataclass(frozen=True, slots=True, eq=False)
class MaskCrop:
    """The pixels of one object: True where it is, from column ``x`` and row ``y`` of the image on."""

    x: int
    y: int
    pixels: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best first.

    Boxes are (n, 4) as x1, y1, x2, y2 in pixels, scores (n,) in 0..1, class ids (n,). No row means that the detector
    looked and found nothing. The other arrays are None where the model does not give them:

    - ``probabilities`` (n, classes): of every class, each for itself or summing to 1, as the model makes them.
    - ``rotations_deg`` (n,): clockwise; ``xyxy`` is then the box before its turn round its own centre.
    - ``masks``: one for each row.
    - ``keypoints`` (n, points, 3): x and y in pixels, visibility in 0..1.
    - ``votes`` (n,): how many members of an ensemble, or views of the image, see this box.
    - ``agreement`` (n,) in 0..1: how much they agree on it.
    - ``views``: what each member or view found in the whole image, with plain boxes; how far they disagree depends on
      what of it is shown (``answers/uncertainty.py``).
    - ``image_probabilities`` (classes,): a classifier's answer, which has no rows.
    """

    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float32] | None = None
    rotations_deg: npt.NDArray[np.float32] | None = None
    masks: tuple[MaskCrop, ...] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    votes: npt.NDArray[np.int64] | None = None
    agreement: npt.NDArray[np.float32] | None = None
    views: tuple[Detections, ...] | None = None
    image_probabilities: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def nothing(cls, image_probabilities: npt.NDArray[np.float32] | None = None) -> Detections:
        """Return no row at all: nothing was found, or the model is a classifier."""
        empty = np.zeros(0, np.float32)
        boxes = np.zeros((0, 4), np.float32)
        return cls(boxes, empty, np.zeros(0, np.int64), image_probabilities=image_probabilities)

    def select(self, keep: npt.NDArray[np.bool_]) -> Detections:
        """Return the rows marked True, in their order."""
        return self.take(np.flatnonzero(keep))

    def take(self, rows: npt.NDArray[np.int64]) -> Detections:
        """Return the rows with these numbers, in this order."""
        picked: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or field.name in {"views", "image_probabilities"}:
                continue
            picked[field.name] = tuple(value[row] for row in rows) if isinstance(value, tuple) else value[rows]
        return replace(self, **picked)


def to_box(found: Detections, row: int) -> Box:
    """Return a row's box: turned round its centre by a detector, round its top left corner by Label Studio.

    >>> found = Detections(np.array([[0, 0, 4, 2]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64),
    ...                    rotations_deg=np.array([90], np.float32))
    >>> to_box(found, 0)
    Box(x=3.0, y=-1.0, width=4.0, height=2.0, rotation_deg=90.0)
    """
    x1, y1, x2, y2 = (float(value) for value in found.xyxy[row])
    if found.rotations_deg is None:
        return Box.from_xyxy(x1, y1, x2, y2)
    # FiftyOne's boxes turn round their centre as well; in an image of 1 x 1 its fractions are pixels.
    turn = float(found.rotations_deg[row])
    return Box.from_relative((x1, y1, x2 - x1, y2 - y1), ImageSize(1, 1), rotation_deg=turn)


class Detector(Protocol):
    """A loaded model. It is used by one thread at a time."""

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""

    @property
    def task(self) -> str:
        """What the model gives: one of ``TASKS``."""

    @property
    def licence(self) -> str:
        """The licence of the weights, or "unknown"."""

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order, with the scores above the floor.

        What is found in an image does not depend on the images beside it.
        """


@runtime_checkable
class OpenVocabularyDetector(Protocol):
    """A detector, of task "zero_shot", that looks for the classes it is told."""

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for these classes from now on; their ids are their places. The same names again cost nothing.

        A class that cannot be looked for without a text encoder that is not here is left out, with a warning; the
        others keep their places.

        Raises:
            LabelingError: no class can be looked for; those before stay.
        """


@runtime_checkable
class LimitedVocabularyDetector(Protocol):
    """An open-vocabulary detector that knows which classes it cannot look for; the others can look for all."""

    def find_unknown(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the classes that cannot be looked for here; what is looked for now stays."""


@runtime_checkable
class SizedDetector(Protocol):
    """A detector that tells how large its input is, so that images which share a forward can be put together."""

    @property
    def input_side(self) -> int | None:
        """The longer side of its input in pixels: no larger image is of use to it. None: it depends on the image."""

    def padded_shape(self, size: ImageSize) -> tuple[int, int]:
        """Return the (height, width) of its input for an image of this size."""


@dataclass(frozen=True)
class DetectorOptions:
    """How a model is run. All that changes what is drawn is part of the model version (``to_served_version``).

    ``runtime`` auto takes OpenVINO on a CPU where the model can be compiled and torch elsewhere; ``cache_dir`` keeps
    what was compiled. ``is_torch_compiled`` has torch compile what it runs itself. ``is_nms_free`` takes the head
    without NMS of networks that have both (YOLOv10, YOLO26), which Ultralytics' ``predict`` does only when told.
    ``nms_iou`` None: as the network's own library does it. ``class_names`` are those of an open-vocabulary model.
    ``member_weights`` and ``min_votes`` are an ensemble's (none: all equal, and more than half of them). ``views`` are
    looks at each image that are fused: "flip", or the longer side in pixels. ``calibrations`` are the versions of the
    calibrations under which an ensemble's members are fused, kept in ``models_dir``; "" for a member without one.
    """

    is_trusted: bool = False
    runtime: str = "torch"
    precision: str = "float32"
    nms_iou: float | None = None
    is_nms_free: bool = False
    class_names: tuple[str, ...] = ()
    cache_dir: Path | None = None
    fusion: str = "wbf"
    fusion_iou: float = 0.7
    member_weights: tuple[float, ...] = ()
    min_votes: int | None = None
    views: tuple[str, ...] = ()
    calibrations: tuple[str, ...] = ()
    models_dir: Path | None = None
    is_torch_compiled: bool = False


# What these say does not change which boxes are found, but for the last digits.
_SILENT_OPTIONS: Final = ("is_trusted", "runtime", "precision", "cache_dir", "models_dir", "is_torch_compiled")
_ENSEMBLE_OPTIONS: Final = ("member_weights", "min_votes", "calibrations")
_FUSION_OPTIONS: Final = ("fusion", "fusion_iou")
DEFAULT_OPTIONS: Final = DetectorOptions()


def to_served_version(version: str, options: DetectorOptions, *, members: int = 1) -> str:
    """Return the model version of weights run with these options: the weights' own when all are the defaults.

    ``members`` is how many models they are: of one model alone, what only an ensemble reads says nothing.

    >>> to_served_version("yolo11n-c130b90b", DetectorOptions(runtime="onnx"))
    'yolo11n-c130b90b'
    >>> to_served_version("yolo11n-c130b90b", DetectorOptions(views=("flip",)))
    'yolo11n-c130b90b-6f076fcd'
    """
    usual = asdict(DEFAULT_OPTIONS)
    silent = {*_SILENT_OPTIONS}
    if members == 1:
        silent |= {*_ENSEMBLE_OPTIONS} if options.views else {*_ENSEMBLE_OPTIONS, *_FUSION_OPTIONS}
    changed = {key: value for key, value in asdict(options).items() if key not in silent and value != usual[key]}
    if not changed:
        return version
    text = json.dumps(changed, sort_keys=True, ensure_ascii=True)
    return f"{version}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
