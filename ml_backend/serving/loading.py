"""Loads models in the background, and says which one is served: none yet, one, or one while the next is being loaded.

Whoever has begun with a model ends with it; it is let go when the last of them is done.
"""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from labels.config import Control, LabelConfig
from labels.errors import LabelingError, ServiceError
from ml_backend.answers.label_plans import COCO_KEYPOINTS, LabelPlan, LabelPlans, find_controls
from ml_backend.answers.regions import PredictedItem
from ml_backend.detectors import (
    Detector,
    DetectorOptions,
    Image,
    LimitedVocabularyDetector,
    OpenVocabularyDetector,
    to_served_version,
)
from ml_backend.models.building import build_detector
from ml_backend.models.weights import compute_version, resolve_weights
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.tasks import locate_bug
from ml_backend.settings import Settings

if TYPE_CHECKING:
    from ml_backend.models.calibration import Calibration
    from ml_backend.models.registered import Registered

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 5
CACHED_VOCABULARIES: Final = 32


class LoadingError(ServiceError):
    """The model is not there yet; ``retry_after_s`` says when to come again."""

    retry_after_s = RETRY_AFTER_S


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
                    self.detector.names if classes is None else dict(enumerate(classes)),
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


def spare_the_cores() -> None:
    """Have torch's threads sleep when there is nothing to do; to be called before torch is imported.

    By default they spin, and where anything else runs beside them (our readers, Label Studio), they keep each other
    from working: ten times slower on a busy machine of two cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


Announce = Callable[[str], None]
Load = Callable[[str, Announce], ServedModel]
"""Loads a model by its name; tells the version as soon as it is known, which is long before the model is ready."""


def load_model(settings: Settings, name: str, announce: Announce) -> ServedModel:
    """Find the weights of a name, load them and run them once.

    Raises:
        LabelingError: there are none, or they cannot be loaded.
    """
    from ml_backend.interactive import Assistant as SegmentingAssistant
    from ml_backend.models.calibration import calibrate_detector, load_calibration  # heavier than what this file needs

    weights = resolve_weights(name, models_dir=settings.models_dir, is_offline=settings.is_offline)
    options = _add_member_calibrations(settings, weights.members)
    if weights.registered is not None and weights.registered.is_trusted:
        options = replace(options, is_trusted=True)
    version = to_served_version(weights.version, options)
    calibration = load_calibration(settings.models_dir, version)
    version = version if calibration is None else calibration.version
    announce(version)
    bare = build_detector(weights.paths, device=settings.device, options=options)
    detector = bare if calibration is None else calibrate_detector(bare, calibration)
    assistant = SegmentingAssistant(
        bare, models_dir=settings.models_dir, device=settings.device, segmenter=settings.segmenter
    )
    described = None if calibration is None else calibration.describe()
    return ServedModel(
        _add_chosen_thresholds(settings, weights.registered, calibration),
        detector,
        version=version,
        source=weights.source,
        calibration=described,
        assistant=assistant,
    )


def _add_chosen_thresholds(
    settings: Settings, registered: Registered | None, calibration: Calibration | None
) -> Settings:
    """Return the settings with the thresholds that were chosen for a registered model; those of a person go before.

    They were chosen for the scores of the weights, so a calibration moves them with the scores.
    """
    if registered is None:
        return settings
    chosen = dict(registered.thresholds)
    if calibration is not None:
        chosen = {label: float(calibration.curve_for(label).apply(number)) for label, number in chosen.items()}
    return replace(settings, class_thresholds=chosen | dict(settings.class_thresholds))


def _add_member_calibrations(settings: Settings, members: Sequence[Path]) -> DetectorOptions:
    """Return the options with the calibration of each member of an ensemble that has one: they come before fusion."""
    from ml_backend.models.calibration import load_calibration

    found = [load_calibration(settings.models_dir, compute_version(path)) for path in members]
    if not any(found):
        return settings.options
    versions = tuple("" if calibration is None else calibration.version for calibration in found)
    return replace(settings.options, calibrations=versions, models_dir=settings.models_dir)


@dataclass(frozen=True)
class LoadState:
    """Where loading stands. ``version`` is what answers carry, or will: None while nobody knows it yet."""

    version: str | None
    versions: tuple[str, ...]
    is_ready: bool
    loading: str | None
    problem: str | None

    @property
    def name(self) -> str:
        """One word for it: ready, loading or failed; a model that is served goes before the next one."""
        if self.is_ready:
            return "ready"
        return "failed" if self.problem is not None and self.loading is None else "loading"


def _forget(_name: str) -> None:
    """Remember nothing."""


class ModelHolder:
    """Holds the model that is served, and loads the next one in a thread of its own.

    ``is_logging`` False: whoever waits says himself what went wrong. ``remember`` is told the name of each model that
    takes over, before it does.
    """

    def __init__(
        self, load: Load, *, metrics: Metrics, is_logging: bool = True, remember: Callable[[str], None] = _forget
    ) -> None:
        self._load = load
        self._metrics = metrics
        self._remember = remember
        self._name: str | None = None
        self._is_logging = is_logging
        self._changed = threading.Condition()
        self._served: ServedModel | None = None
        self._versions: list[str] = []
        self._announced: str | None = None
        self._loading: str | None = None
        self._problem: str | None = None

    def start_loading(self, name: str, *, otherwise: str | None = None) -> None:
        """Load a model in the background, and serve it in place of the other when it is ready.

        ``otherwise`` is loaded where that one cannot be; why it could not stays the problem.

        Raises:
            LoadingError: another one is being loaded.
        """
        with self._changed:
            if self._loading is not None:
                raise LoadingError(f"{self._loading} is being loaded, one at a time")
            self._loading, self._problem = name, None
        threading.Thread(target=self._run, args=(name, otherwise), name="loading", daemon=True).start()

    def start_reloading(self) -> None:
        """Load the model that is served once more, as with a calibration that was made since.

        Raises:
            LoadingError: another one is being loaded, or none is served.
        """
        with self._changed:
            name = self._name
        if name is None:
            raise LoadingError("the model is being loaded, come back in a moment")
        self.start_loading(name)

    def get(self, *, wait_s: float = 0.0) -> ServedModel:
        """Return the model that is served, waiting a while for the first one.

        Raises:
            LoadingError: it is not ready yet, or could not be loaded.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._served is not None or self._loading is None, wait_s)
            if self._served is not None:
                return self._served
            if self._loading is not None:
                raise LoadingError("the model is being loaded, come back in a moment")
            raise LoadingError("no model could be loaded")

    def wait(self, timeout_s: float | None = None) -> str | None:
        """Wait until nothing is being loaded any more, and return what went wrong: None is nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._loading is None, timeout_s)
            return self._problem

    def read_state(self) -> LoadState:
        """Return where loading stands, at once."""
        with self._changed:
            return LoadState(
                version=self._served.version if self._served is not None else self._announced,
                versions=tuple(self._versions),
                is_ready=self._served is not None,
                loading=self._loading,
                problem=self._problem,
            )

    def _run(self, name: str, otherwise: str | None) -> None:
        model, problem = self._try(name)
        if model is None and otherwise is not None:
            logger.warning("%s; %s is loaded instead", problem, otherwise)
            name = otherwise
            model, second_problem = self._try(name)
            problem = problem if second_problem is None else second_problem
        if model is not None:
            # Before it is served: whoever sees the new model may end the process.
            self._remember(name)
        elif self._is_logging:
            # Before anybody hears of it: whoever waits may end the process, and has the last word.
            logger.error("%s", problem)
        with self._changed:
            is_taking_over = self._served is not None
            if model is not None:
                self._serve(model)
                self._name = name
            self._loading, self._problem = None, problem
            self._changed.notify_all()
        self._metrics.swaps.labels("failed" if problem else "loaded").inc()
        if problem is None and is_taking_over:
            # The model before goes with the last request that uses it; what of it lies in cycles is looked for here.
            gc.collect()

    def _try(self, name: str) -> tuple[ServedModel | None, str | None]:
        """Return the model, or why there is none."""
        try:
            return self._load(name, self._announce), None
        except LabelingError as error:
            return None, str(error)
        except Exception as error:  # noqa: BLE001 - the end of a thread: whoever waits must hear of it
            return None, f"model {name!r}: cannot be loaded ({locate_bug(error)})"

    def _serve(self, model: ServedModel) -> None:
        if self._served is not None:
            self._metrics.model.remove(self._served.version)
        self._served = model
        self._metrics.model.labels(model.version).set(1)
        if model.version in self._versions:
            self._versions.remove(model.version)
        self._versions.append(model.version)
        logger.info("serving %s (from: %s)", model.version, model.source)

    def _announce(self, version: str) -> None:
        with self._changed:
            self._announced = version
