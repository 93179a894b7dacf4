"""Turns what a detector found into a Label Studio prediction, by the label config. Pure: no network, no model.

A class the config does not know is left out of the prediction; a label no model class stands for is listed in the plan.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from labels.config import Control, LabelConfig
from labels.errors import LabelConfigError
from labels.geometry import Box, ImageSize
from labels.results import Label, to_result
from ml_backend.detectors import Detections
from ml_backend.uncertainty import compute_u_mean, to_score

logger = logging.getLogger(__name__)

CACHED_PLANS: Final = 32
MAX_CONFIG_CHARACTERS: Final = 1_000_000
ID_LENGTH: Final = 24  # FiftyOne's label ids are ObjectIds: 24 hexadecimal digits


@dataclass(frozen=True)
class LabelPlan:
    """How one model's classes become the labels of one label config.

    ``classes`` maps the model's class ids to labels; ``unmapped_labels`` are the labels that no class of the model
    stands for, in the order of the config: they are never pre-drawn.
    """

    config: LabelConfig
    control: Control
    classes: Mapping[int, str]
    score_threshold: float
    unmapped_labels: tuple[str, ...]


@dataclass(frozen=True)
class PredictedItem:
    """What names an image in its region ids: the task or sample it belongs to, and the sha256 of its file."""

    identity: str
    sha256: str
    size: ImageSize


class LabelPlans:
    """The plans of the label configs seen last, each read and logged once."""

    def __init__(self, names: Mapping[int, str], *, score_threshold: float) -> None:
        self._names = names
        self._score_threshold = score_threshold
        self._lock = threading.Lock()
        self._plans: OrderedDict[str, LabelPlan] = OrderedDict()

    def get(self, xml: str) -> LabelPlan:
        """Return the plan of a label config.

        Raises:
            LabelConfigError: the config cannot be read, or has no RectangleLabels control.
        """
        if len(xml) > MAX_CONFIG_CHARACTERS:
            raise LabelConfigError(f"the label config has {len(xml)} characters (at most {MAX_CONFIG_CHARACTERS})")
        with self._lock:
            plan = self._plans.get(xml)
            if plan is None:
                plan = build_plan(LabelConfig.from_xml(xml), self._names, score_threshold=self._score_threshold)
                _log(plan)
                self._plans[xml] = plan
            self._plans.move_to_end(xml)
            while len(self._plans) > CACHED_PLANS:
                self._plans.popitem(last=False)
            return plan


def build_plan(config: LabelConfig, names: Mapping[int, str], *, score_threshold: float) -> LabelPlan:
    """Return the plan for a model's class names; the control's own ``model_score_threshold`` goes before the default.

    Raises:
        LabelConfigError: the config has no RectangleLabels control.
    """
    control = config.box_control
    if control is None:
        raise LabelConfigError("the label config has no <RectangleLabels>, and this model draws boxes")
    mapped = {class_id: control.class_for(name) for class_id, name in names.items()}
    classes = {class_id: label for class_id, label in mapped.items() if label is not None}
    reached = set(classes.values())
    return LabelPlan(
        config=config,
        control=control,
        classes=classes,
        score_threshold=score_threshold if control.score_threshold is None else control.score_threshold,
        unmapped_labels=tuple(label for label in control.classes if label not in reached),
    )


def _log(plan: LabelPlan) -> None:
    if plan.unmapped_labels:
        logger.warning(
            "no class of the model stands for these labels of %r, they are never pre-drawn (predicted_values would map"
            " them): %s",
            plan.control.name,
            ", ".join(plan.unmapped_labels),
        )


def to_prediction(item: PredictedItem, found: Detections, plan: LabelPlan, *, model_version: str) -> dict[str, Any]:
    """Return the prediction of one image: the regions shown, best first, and 1 - uncertainty as its score."""
    labels = to_labels(item, found, plan, model_version=model_version)
    uncertainty = compute_u_mean([label.confidence for label in labels if label.confidence is not None])
    return {
        "model_version": model_version,
        "score": to_score(uncertainty),
        "result": to_result(labels, plan.config, item.size),
    }


def to_failed_prediction(model_version: str) -> dict[str, Any]:
    """Return the prediction of a task that has none: valid for Label Studio, without a region and without a score."""
    return {"model_version": model_version, "score": None, "result": []}


def to_labels(item: PredictedItem, found: Detections, plan: LabelPlan, *, model_version: str) -> list[Label]:
    """Return the labels shown to an annotator: at or above the threshold, of a class the config knows, with an area."""
    xyxy = found.xyxy.astype(np.float64)
    has_area = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1]) & np.isfinite(xyxy).all(axis=1)
    seen: Counter[str] = Counter()
    labels = []
    for row in np.flatnonzero(has_area & (found.scores >= plan.score_threshold)):
        label = plan.classes.get(int(found.class_ids[row]))
        if label is None:
            continue
        x1, y1, x2, y2 = (float(value) for value in xyxy[row])
        place = f"{label} {x1:.0f} {y1:.0f} {x2:.0f} {y2:.0f}"
        region_id = compute_region_id(item, model_version, f"{place} {seen[place]}")
        seen[place] += 1
        box = Box.from_xyxy(x1, y1, x2, y2)
        # Six digits: what float32 holds, without the tail it gets as a float64.
        confidence = min(round(float(found.scores[row]), 6), 1.0)
        labels.append(Label(region_id, plan.control.name, (label,), box, confidence=confidence))
    return labels


def compute_region_id(item: PredictedItem, model_version: str, place: str) -> str:
    """Return the id of a region, which is also its FiftyOne label id: 24 hexadecimal digits.

    The same sample, file, model and place give the same id, on every machine; no two samples share one.

    >>> compute_region_id(PredictedItem("sample 1", "ab", ImageSize(4, 3)), "yolo11n-c130b90b", "car 0 0 2 2 0")
    '81bfdd5975eb10d7ce8dd4e7'
    """
    parts = "\x1f".join((item.identity, item.sha256, model_version, place))
    return hashlib.sha256(parts.encode("utf-8", "surrogatepass")).hexdigest()[:ID_LENGTH]
