"""Probabilities that mean what they say: a model's scores put right by what people made of them, class by class.

Holds what is fitted (``calibration_fit.py`` fits it), how it is applied, and the file beside the weights.
Every curve rises strictly, so no two boxes change their order within a class, and a score can be brought back.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, Image, OpenVocabularyDetector

logger = logging.getLogger(__name__)

FORMAT: Final = 1
SUFFIX: Final = ".calibration.json"
VERSION_MARK: Final = "+cal."
SHARED: Final = "shared"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """A strictly rising line through points, from (0, ...) to (1, ...): a raw score to the share that is right.

    Raises:
        ValueError: fewer than two points, points outside 0..1, or one that does not rise.

    >>> Curve((0.0, 0.5, 1.0), (0.0, 0.25, 1.0)).apply(np.array([0.5, 0.75])).tolist()
    [0.25, 0.625]
    """

    raw: tuple[float, ...]
    probability: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.raw) < 2 or len(self.raw) != len(self.probability):
            raise ValueError("a curve has as many raw scores as probabilities, and two or more")
        for values in (self.raw, self.probability):
            if not all(0 <= value <= 1 for value in values) or not all(np.diff(values) > 0):
                raise ValueError("the points of a curve are in 0..1 and rise")

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """Return the probabilities of raw scores."""
        return np.interp(np.asarray(scores, np.float64), self.raw, self.probability)

    def invert(self, probabilities: npt.ArrayLike) -> Floats:
        """Return the raw scores of probabilities; beyond the curve's ends, its ends."""
        return np.interp(np.asarray(probabilities, np.float64), self.probability, self.raw)


@dataclass(frozen=True)
class Calibration:
    """What was fitted for one model version.

    ``groups`` are curves by name; ``classes`` maps lower-cased class names, the model's and the labels', to groups. A
    class that is not named belongs to ``SHARED``. ``label_counts`` says how many regions of each label people had
    reviewed; the error is the expected calibration error on images that were held back.
    """

    model_version: str
    method: str
    groups: Mapping[str, Curve]
    classes: Mapping[str, str]
    examples: int
    error_before: float
    error_after: float
    label_counts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if SHARED not in self.groups or not set(self.classes.values()) <= set(self.groups):
            raise ValueError("a class belongs to a group that is not there")

    @property
    def version(self) -> str:
        """The version of the predictions made with it: they differ from those of the weights alone.

        Only the curves count: fitted anew to the same curves, it is the same version.
        """
        said = json.dumps([_curves_to_dict(self.groups), dict(self.classes)], sort_keys=True)
        return f"{self.model_version}{VERSION_MARK}{hashlib.sha256(said.encode()).hexdigest()[:8]}"

    def curve_for(self, class_name: str) -> Curve:
        """Return the curve of a class, whatever its case."""
        return self.groups[self.classes.get(class_name.strip().lower(), SHARED)]

    def apply(self, found: Detections, names: Mapping[int, str]) -> Detections:
        """Return the detections with calibrated scores, best first again; ``names`` are the model's."""
        if found.image_probabilities is not None:
            return replace(found, image_probabilities=self._apply_to_classes(found.image_probabilities, names))
        scores = found.scores.copy()
        for class_id in np.unique(found.class_ids):
            rows = found.class_ids == class_id
            scores[rows] = self.curve_for(names.get(int(class_id), "")).apply(found.scores[rows])
        probabilities = found.probabilities
        if probabilities is not None:
            probabilities = self._apply_to_classes(probabilities, names)
        views = None if found.views is None else tuple(self.apply(view, names) for view in found.views)
        # Classes have curves of their own, so the order of boxes of different classes can change.
        calibrated = replace(found, scores=scores, probabilities=probabilities, views=views)
        return calibrated.take(np.argsort(-scores, kind="stable"))

    def _apply_to_classes(
        self, probabilities: npt.NDArray[np.float32], names: Mapping[int, str]
    ) -> npt.NDArray[np.float32]:
        columns = [
            self.curve_for(names.get(class_id, "")).apply(probabilities[..., class_id])
            for class_id in range(probabilities.shape[-1])
        ]
        return np.stack(columns, axis=-1).astype(np.float32)

    def to_raw_floor(self, probability: float) -> float:
        """Return the raw score below which no class reaches a probability."""
        if probability <= 0:
            return 0.0
        lowest = min(float(curve.invert(probability)) for curve in self.groups.values())
        # Just below: float32 scores at the floor itself must stay.
        return max(lowest - 1e-6, 0.0)

    def describe(self) -> dict[str, Any]:
        """Return what a person wants to know of it, as plain JSON."""
        return {
            "method": self.method,
            "examples": self.examples,
            "error_before": self.error_before,
            "error_after": self.error_after,
            "classes_of_their_own": sorted(name for name in self.groups if name != SHARED),
        }


class CalibratedDetector:
    """A detector whose scores are calibrated as they come out, so that thresholds, fusion and all else see those."""

    def __init__(self, detector: Detector, calibration: Calibration) -> None:
        self._detector = detector
        self.calibration = calibration

    def __getattr__(self, name: str) -> Any:
        # What single detectors can besides (classes that are set, names of key points) they still can.
        return getattr(self._detector, name)

    @property
    def names(self) -> Mapping[int, str]:
        """The model's class names by class id."""
        return self._detector.names

    @property
    def task(self) -> str:
        """What the model gives."""
        return self._detector.task

    @property
    def licence(self) -> str:
        """The licence of the weights."""
        return self._detector.licence

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        """Return one Detections for each image, in order, with the calibrated scores above the floor."""
        names = self._detector.names
        found = self._detector.detect(images, score_floor=self.calibration.to_raw_floor(score_floor))
        calibrated = (self.calibration.apply(one, names) for one in found)
        return [one.select(one.scores > score_floor) for one in calibrated]


class _OpenVocabulary(CalibratedDetector):
    """A calibrated detector that looks for the classes it is told."""

    def set_classes(self, names: Sequence[str]) -> None:
        """Look for these classes from now on; see ``OpenVocabularyDetector``."""
        assert isinstance(self._detector, OpenVocabularyDetector)
        self._detector.set_classes(names)


def calibrate_detector(detector: Detector, calibration: Calibration) -> CalibratedDetector:
    """Return the detector with calibrated scores; one that can be told its classes still can."""
    kind = _OpenVocabulary if isinstance(detector, OpenVocabularyDetector) else CalibratedDetector
    return kind(detector, calibration)


def find_base_version(model_version: str) -> str:
    """Return the version of the weights alone.

    >>> find_base_version("yolo11n-c130b90b+cal.1a2b3c4d")
    'yolo11n-c130b90b'
    """
    return model_version.partition(VERSION_MARK)[0]


def path_of(models_dir: Path, model_version: str) -> Path:
    """Return where the calibration of a model version is kept: that of the weights, or one of a calibrated version."""
    return models_dir / "calibration" / f"{model_version}{SUFFIX}"


def load_calibration(models_dir: Path, model_version: str) -> Calibration | None:
    """Return the calibration in use for weights (or a calibrated version's own); None where there is none.

    Raises:
        LabelingError: the file is damaged, or of another version of labelloop.
    """
    path = path_of(models_dir, model_version)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        calibration = _from_dict(values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise LabelingError(f"{path}: not a calibration of this labelloop ({type(error).__name__}: {error})") from error
    logger.info("calibration %s: %d examples", calibration.version, calibration.examples)
    return calibration


def write_calibration(models_dir: Path, calibration: Calibration) -> Path:
    """Keep a calibration as the one in use for its weights, and under its own version for good; return the first file.

    A reader sees the old file or the new one, never half of it.
    """
    text = json.dumps(_to_dict(calibration), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    paths = [path_of(models_dir, version) for version in (calibration.version, calibration.model_version)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return paths[-1]


def _curves_to_dict(groups: Mapping[str, Curve]) -> dict[str, Any]:
    return {name: {"raw": list(curve.raw), "probability": list(curve.probability)} for name, curve in groups.items()}


def _to_dict(calibration: Calibration) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "model_version": calibration.model_version,
        "version": calibration.version,
        "method": calibration.method,
        "examples": calibration.examples,
        "error_before": calibration.error_before,
        "error_after": calibration.error_after,
        "label_counts": dict(calibration.label_counts),
        "classes": dict(calibration.classes),
        "groups": _curves_to_dict(calibration.groups),
    }


def _from_dict(values: Mapping[str, Any]) -> Calibration:
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r}, expected {FORMAT}")
    return Calibration(
        model_version=str(values["model_version"]),
        method=str(values["method"]),
        groups={
            str(name): Curve(tuple(map(float, curve["raw"])), tuple(map(float, curve["probability"])))
            for name, curve in values["groups"].items()
        },
        classes={str(name): str(group) for name, group in values["classes"].items()},
        examples=int(values["examples"]),
        error_before=float(values["error_before"]),
        error_after=float(values["error_after"]),
        label_counts={str(name): int(count) for name, count in values["label_counts"].items()},
    )
