"""A loaded model as requests see it: its detector, its version, and what its classes are to a label config."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from labels.config import Control, LabelConfig
from ml_backend.answers.label_plans import COCO_KEYPOINTS, LabelPlan, LabelPlans, find_controls
from ml_backend.answers.regions import PredictedItem
from ml_backend.detectors import Detector, Image, LimitedVocabularyDetector, OpenVocabularyDetector
from ml_backend.settings import Settings

CACHED_VOCABULARIES: Final = 32


class Assistant(Protocol):
    """Answers what an annotator drew with more of it; ``ml_backend.interactive`` has one."""

    def suggest(
        self,
        image: Image,
        sha256: str,
        context_result: Sequence[Mapping[str, Any]],
        plan: LabelPlan,
        *,
        model_version: str,
        item: PredictedItem,
    ) -> list[dict[str, Any]]:
        """Return the regions that follow from the regions drawn so far, the newest of them last."""


class ServedModel:
    """A loaded detector, its version, and the plans that turn its classes into labels."""

    def __init__(
        self,
        settings: Settings,
        detector: Detector,
        *,
        version: str,
        source: str,
        calibration: Mapping[str, Any] | None = None,
        assistant: Assistant | None = None,
    ) -> None:
        self.detector = detector
        self.version = version
        self.source = source
        self.calibration = calibration
        self.assistant = assistant
        self._settings = settings
        self._lock = threading.Lock()
        self._plans: dict[tuple[str, ...] | None, LabelPlans] = {}

    def find_plan(self, xml: str, *, score_threshold: float | None = None) -> tuple[LabelPlan, tuple[str, ...] | None]:
        """Return the plan of a label config, and the classes to look for where the model can be told.

        A ``score_threshold`` stands in for those of the config and of the settings.

        Raises:
            LabelConfigError: the config cannot be read, or has no control for what the model draws.
        """
        if not isinstance(self.detector, OpenVocabularyDetector):
            return self._get_plans(None).get(xml, score_threshold=score_threshold), None
        classes = find_vocabulary(LabelConfig.from_xml(xml), self.detector.task)
        return self._get_plans(classes).get(xml, score_threshold=score_threshold), classes

    def name_classes(self, classes: Sequence[str] | None) -> Mapping[int, str]:
        """Return the model's classes by id once it was told those of ``find_plan``; an ensemble may have more."""
        if classes is None:
            return self.detector.names
        name = getattr(self.detector, "name_classes", None)
        return dict(enumerate(classes)) if name is None else dict(name(classes))

    def find_unmapped_labels(self, xml: str) -> tuple[str, ...]:
        """Return the labels that are never pre-drawn: nothing of the model stands for them, or it cannot look for them.

        Raises:
            LabelConfigError: see ``find_plan``.
        """
        plan, classes = self.find_plan(xml)
        if classes is None or not isinstance(self.detector, LimitedVocabularyDetector):
            return plan.unmapped_labels
        missing = set(self.detector.find_unknown(classes))
        reached = {target.label for place, target in plan.classes.items() if classes[place] not in missing}
        lost = {target.label for target in plan.classes.values()} - reached
        labels = (label for control in plan.config.controls if control.is_region for label in control.classes)
        return tuple(dict.fromkeys(label for label in labels if label in lost or label in plan.unmapped_labels))

    def _get_plans(self, classes: tuple[str, ...] | None) -> LabelPlans:
        with self._lock:
            plans = self._plans.get(classes)
            if plans is None:
                if len(self._plans) >= CACHED_VOCABULARIES:
                    self._plans.clear()
                plans = self._plans[classes] = LabelPlans(
                    self.name_classes(classes),
                    score_threshold=self._settings.score_threshold,
                    class_thresholds=self._settings.class_thresholds,
                    task=self.detector.task,
                    keypoint_names=getattr(self.detector, "keypoint_names", None) or COCO_KEYPOINTS,
                )
            return plans


def find_vocabulary(config: LabelConfig, task: str = "zero_shot") -> tuple[str, ...]:
    """Return what an open-vocabulary model looks for: each label's ``predicted_values``, else its own name.

    Only labels of controls that hold what it draws: a nose to be clicked is no object to look for.

    >>> xml = '<View><Image name="i" value="$image"/><RectangleLabels name="l" toName="i">'
    >>> xml += '<Label value="Car"/><Label value="Tool" predicted_values="hammer,saw"/></RectangleLabels></View>'
    >>> find_vocabulary(LabelConfig.from_xml(xml))
    ('Car', 'hammer', 'saw')
    """
    words = [word for control in find_controls(config, task) for word in _find_words(control)]
    return tuple(dict.fromkeys(words))


def _find_words(control: Control) -> list[str]:
    words = []
    for label in control.classes:
        others = [word for word, found in control.aliases.items() if found == label and word != label.lower()]
        words += others or [label]
    return words
