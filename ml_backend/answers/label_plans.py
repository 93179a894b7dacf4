"""How one model's classes become the labels of one label config, and from which probability on. Pure.

A class the config does not know is left out; a label no model class stands for is listed, and logged once.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from labels.config import Control, LabelConfig
from labels.errors import LabelConfigError
from ml_backend.answers.uncertainty import CANDIDATE_FLOOR

logger = logging.getLogger(__name__)

CACHED_PLANS: Final = 32
MAX_CONFIG_CHARACTERS: Final = 1_000_000
# Which controls can hold what a model gives. Where several know a class, the first of the config's holds it: an object
# is one region, never a mask and a box.
SHAPE_KINDS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "segment": (("PolygonLabels", "BrushLabels"), ("RectangleLabels",)),
    "classify": (("Choices",),),
}
BOX_KINDS: Final = (("RectangleLabels",),)
COCO_KEYPOINTS: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model's class is drawn: the control, the label, and the probability from which on it is shown."""

    control: Control
    label: str
    threshold: float


@dataclass(frozen=True)
class LabelPlan:
    """How one model's classes become the labels of one label config.

    ``classes`` are by the model's class id, ``keypoints`` by the number of the point; ``unmapped_labels`` are those
    that nothing of the model stands for, in the order of the config: they are never pre-drawn.
    """

    config: LabelConfig
    classes: Mapping[int, Target]
    unmapped_labels: tuple[str, ...]
    keypoints: Mapping[int, Target] = field(default_factory=dict)

    @property
    def score_floor(self) -> float:
        """Just below the lowest probability that counts: detectors keep what is above a floor, we what is at it."""
        thresholds = [target.threshold for target in (*self.classes.values(), *self.keypoints.values())]
        return max(min([CANDIDATE_FLOOR, *thresholds]) - 1e-6, 0.0)


@dataclass(frozen=True)
class Thresholds:
    """From which probability on boxes are shown: of a label (lower-cased names), and of all others.

    ``only``: of all of them, whatever the config and the settings say.
    """

    default: float
    by_label: Mapping[str, float] = field(default_factory=dict)
    only: float | None = None

    def get(self, control: Control, label: str) -> float:
        """Return a label's threshold: the label's own in the config, ours for it, the control's, ours for all.

        >>> control = Control("label", "RectangleLabels", "image", ("Car",), score_threshold=0.5)
        >>> Thresholds(0.2).get(control, "Car"), Thresholds(0.2, {"car": 0.3}).get(control, "Car")
        (0.5, 0.3)
        """
        if self.only is not None:
            return self.only
        for threshold in (control.thresholds.get(label), self.by_label.get(label.lower()), control.score_threshold):
            if threshold is not None:
                return threshold
        return self.default

    def of_class(self, name: str) -> float:
        """Return the threshold of a class where there is no label config.

        >>> Thresholds(0.2, {"car": 0.3}).of_class("Car")
        0.3
        """
        return self.by_label.get(name.lower(), self.default)

    def find_unknown(self, names: Iterable[str]) -> list[str]:
        """Return the labels with a threshold of their own that are none of these names.

        >>> Thresholds(0.2, {"car": 0.3, "lorry": 0.4}).find_unknown(["Car", "truck"])
        ['lorry']
        """
        return sorted(set(self.by_label) - {name.lower() for name in names})


def parse_class_thresholds(text: str) -> dict[str, float]:
    """Return thresholds by lower-cased label, written as ``label=number`` with commas between.

    Raises:
        ValueError: a part that is none.

    >>> parse_class_thresholds("person=0.3, Traffic light=0.5")
    {'person': 0.3, 'traffic light': 0.5}
    """
    thresholds: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, number = part.rpartition("=")
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if not name.strip() or not 0 <= threshold <= 1:
            raise ValueError(f"{part!r} is not label=number, with a number from 0 to 1 (such as person=0.3)")
        thresholds[name.strip().lower()] = threshold
    return thresholds


class LabelPlans:
    """The plans of the label configs seen last, each read and logged once."""

    def __init__(
        self,
        names: Mapping[int, str],
        *,
        score_threshold: float,
        class_thresholds: Mapping[str, float] | None = None,
        task: str = "detect",
        keypoint_names: Sequence[str] = COCO_KEYPOINTS,
    ) -> None:
        self._names = names
        self._thresholds = Thresholds(score_threshold, class_thresholds or {})
        self._task = task
        self._keypoint_names = keypoint_names
        self._lock = threading.Lock()
        self._plans: OrderedDict[tuple[str, float | None], LabelPlan] = OrderedDict()

    def get(self, xml: str, *, score_threshold: float | None = None) -> LabelPlan:
        """Return the plan of a label config; a ``score_threshold`` stands in for all there are.

        Raises:
            LabelConfigError: the config cannot be read, or has no control for what the model draws.
        """
        if len(xml) > MAX_CONFIG_CHARACTERS:
            raise LabelConfigError(f"the label config has {len(xml)} characters (at most {MAX_CONFIG_CHARACTERS})")
        with self._lock:
            key = xml, score_threshold
            plan = self._plans.get(key)
            if plan is None:
                plan = self._build(LabelConfig.from_xml(xml), replace(self._thresholds, only=score_threshold))
                if plan.unmapped_labels:
                    logger.warning(
                        "no class of the model stands for these labels, they are never pre-drawn (predicted_values"
                        " would map them): %s",
                        in_words(plan.unmapped_labels),
                    )
                self._warn_of_unknown(plan.config)
                self._plans[key] = plan
            self._plans.move_to_end(key)
            while len(self._plans) > CACHED_PLANS:
                self._plans.popitem(last=False)
            return plan

    def _warn_of_unknown(self, config: LabelConfig) -> None:
        labels = list(dict.fromkeys(label for control in config.controls for label in control.classes))
        unknown = self._thresholds.find_unknown(labels)
        if unknown:
            logger.warning(
                "LABELLOOP_CLASS_THRESHOLDS: no label of the config is named %s (known: %s)",
                in_words(unknown),
                in_words(labels),
            )

    def _build(self, config: LabelConfig, thresholds: Thresholds) -> LabelPlan:
        return build_plan(
            config, self._names, thresholds=thresholds, task=self._task, keypoint_names=self._keypoint_names
        )


def build_plan(
    config: LabelConfig,
    names: Mapping[int, str],
    *,
    thresholds: Thresholds,
    task: str = "detect",
    keypoint_names: Sequence[str] = COCO_KEYPOINTS,
) -> LabelPlan:
    """Return the plan for a model's class names and task (one of ``detectors.TASKS``).

    Raises:
        LabelConfigError: the config has no control for what the model draws.
    """
    kinds = SHAPE_KINDS.get(task, BOX_KINDS)
    controls = find_controls(config, task)
    point_controls = [control for control in config.controls if task == "pose" and control.kind == "KeyPointLabels"]
    if not controls and not point_controls:
        needed = [*(kind for group in kinds for kind in group), *(["KeyPointLabels"] if task == "pose" else [])]
        tags = " or ".join(f"<{kind}>" for kind in needed)
        raise LabelConfigError(f"the label config has no {tags}, which a model for {task!r} needs")
    classes = {class_id: _find(controls, name, thresholds) for class_id, name in names.items()}
    points = {
        number: _find_point(point_controls, number, name, thresholds) for number, name in enumerate(keypoint_names)
    }
    found = [target for target in (*classes.values(), *points.values()) if target is not None]
    return LabelPlan(
        config=config,
        classes={class_id: target for class_id, target in classes.items() if target is not None},
        # Whatever draws a shape counts, also what this model draws nothing with; of an image's own choices only those
        # of a model that makes them.
        unmapped_labels=_find_unmapped(
            [control for control in config.controls if control.is_region or control in controls], found
        ),
        keypoints={number: target for number, target in points.items() if target is not None},
    )


def find_controls(config: LabelConfig, task: str) -> list[Control]:
    """Return the controls that hold what a model of this task draws, those that come first for an object first."""
    kinds = SHAPE_KINDS.get(task, BOX_KINDS)
    return [control for group in kinds for control in config.controls if control.kind in group]


def in_words(names: Iterable[str]) -> str:
    r"""Return names as one line of a log, whatever they hold.

    >>> print(in_words(["car", "a\nb"]))
    car, 'a\nb'
    """
    return ", ".join(name if name.isprintable() else repr(name) for name in names)


def _find(controls: Iterable[Control], name: str, thresholds: Thresholds) -> Target | None:
    for control in controls:
        label = control.class_for(name)
        if label is not None:
            return Target(control, label, thresholds.get(control, label))
    return None


def _find_point(controls: Sequence[Control], number: int, name: str, thresholds: Thresholds) -> Target | None:
    """Return where a key point is drawn: by the number the config gives it, else by its name."""
    for control in controls:
        label = control.model_indices.get(number)
        if label is not None:
            return Target(control, label, thresholds.get(control, label))
    # «left_eye» and «Left eye» are one name.
    return _find(controls, name, thresholds) or _find(controls, name.replace("_", " "), thresholds)


def _find_unmapped(controls: Iterable[Control], found: Iterable[Target]) -> tuple[str, ...]:
    """Return the labels that nothing stands for, in any control: a class drawn as a mask needs no box as well."""
    reached = {target.label for target in found}
    labels = (label for control in controls for label in control.classes)
    return tuple(dict.fromkeys(label for label in labels if label not in reached))
