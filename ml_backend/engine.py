"""From tasks to predictions: reads the images, has the model look at them, answers in order. Knows nothing of Flask."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from labels.errors import ItemError, LabelingError
from ml_backend.batching import BatchingDetector
from ml_backend.detectors import Detections, Detector
from ml_backend.fetching import AccessToken, Fetcher, read_api_key
from ml_backend.images import ImageReader
from ml_backend.metrics import Metrics
from ml_backend.predictions import LabelPlan, LabelPlans, PredictedItem, to_failed_prediction, to_prediction
from ml_backend.settings import Settings

logger = logging.getLogger(__name__)

# Images of one request that may wait for the model at once: enough to fill the batch after this one, few enough that a
# request for thousands of tasks neither fills the memory nor keeps a single person's image waiting.
WINDOW_BATCHES: Final = 2


@dataclass
class Outcome:
    """One prediction for each task, in the order of the tasks; a task listed in ``errors`` has an empty one."""

    results: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Started:
    task_id: Any
    item: PredictedItem
    found: Future[Detections]


@dataclass(frozen=True)
class _Failed:
    task_id: Any
    problem: str


class CancelledError(LabelingError):
    """Nobody waits for the answer any more."""


class Engine:
    """A loaded model with its label plans and its image reader; safe for many threads."""

    def __init__(self, settings: Settings, detector: Detector, *, model_version: str, metrics: Metrics) -> None:
        self.model_version = model_version
        self.metrics = metrics
        self.plans = LabelPlans(detector.names, score_threshold=settings.score_threshold)
        self._reader = _build_reader(settings)
        self._model = BatchingDetector(
            detector, batch_size=settings.batch_size, max_requests=settings.max_requests, metrics=metrics
        )

    def predict(
        self, tasks: Iterable[Any], plan: LabelPlan, *, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Outcome:
        """Return one prediction for each task, in order; what goes wrong with one is in ``errors`` and stays there.

        Raises:
            BusyError: too many requests wait already; nothing was done.
            CancelledError: ``is_cancelled`` said so between two tasks.
        """
        outcome = Outcome()
        pending: deque[_Started | _Failed] = deque()
        with self._model.admit():
            for task in tasks:
                if is_cancelled():
                    self.metrics.count("cancelled_requests")
                    raise CancelledError("the caller is gone")
                if len(pending) >= WINDOW_BATCHES * self._model.batch_size:
                    self._finish(pending.popleft(), plan, outcome)
                pending.append(self._start(task, plan))
            while pending:
                self._finish(pending.popleft(), plan, outcome)
        return outcome

    def close(self) -> None:
        """Finish what is queued and stop the model's thread."""
        self._model.close()

    def _start(self, task: Any, plan: LabelPlan) -> _Started | _Failed:
        task_id = task.get("id") if isinstance(task, Mapping) else None
        name = _name(task_id)
        try:
            data = _read_data(task, name)
            url = _read_url(data, plan.config.image_key, name)
            image = self._reader.read_image(url, item=name)
            item = PredictedItem(_identify(task_id, data, url), image.sha256, image.size)
            return _Started(task_id, item, self._model.submit(image.pixels, score_floor=_floor(plan)))
        except ItemError as error:
            return self._fail(task_id, error.problem, "image")
        except LabelingError as error:
            return self._fail(task_id, str(error), "image")
        except Exception as error:  # one task's surprise must not lose the other tasks' answers
            logger.exception("%s: unexpected", name)
            return self._fail(task_id, f"unexpected {type(error).__name__}, see the log", "unexpected")

    def _finish(self, one: _Started | _Failed, plan: LabelPlan, outcome: Outcome) -> None:
        if isinstance(one, _Started):
            try:
                prediction = to_prediction(one.item, one.found.result(), plan, model_version=self.model_version)
                outcome.results.append(prediction)
                return
            except Exception as error:  # the model's own errors have no common parent
                logger.exception("%s: the detector failed", _name(one.task_id))
                one = self._fail(one.task_id, f"the detector failed ({type(error).__name__})", "detector")
        outcome.results.append(to_failed_prediction(self.model_version))
        outcome.errors.append({"task": one.task_id, "error": one.problem})

    def _fail(self, task_id: Any, problem: str, kind: str) -> _Failed:
        self.metrics.count("failed_tasks")
        self.metrics.count(f"failed_tasks_{kind}")
        logger.warning("%s: %s", _name(task_id), problem)
        return _Failed(task_id, problem)


def _build_reader(settings: Settings) -> ImageReader:
    token = None
    if settings.label_studio_url is not None:
        read_key = partial(read_api_key, settings.api_key, settings.api_key_file)
        token = AccessToken(settings.label_studio_url, read_key)
    fetcher = Fetcher(
        label_studio_url=settings.label_studio_url,
        token=token,
        allowed_hosts=settings.allowed_hosts,
        max_bytes=settings.max_image_bytes,
    )
    return ImageReader(media_root=settings.media_root, fetcher=fetcher, max_bytes=settings.max_image_bytes)


def _name(task_id: Any) -> str:
    # Ids are the caller's: one that is no plain number or text would go into the log at full length.
    return f"task {str(task_id)[:40]}" if task_id is not None else "task ?"


def _floor(plan: LabelPlan) -> float:
    """Return a floor just below the threshold: detectors keep what is above their floor, we show what is at ours."""
    return max(plan.score_threshold - 1e-6, 0.0)


def _read_data(task: Any, name: str) -> Mapping[str, Any]:
    data = task.get("data") if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise ItemError(name, "has no data (expected an object with the image's address)")
    return data


def _read_url(data: Mapping[str, Any], key: str, name: str) -> str:
    url = data.get(key)
    if not isinstance(url, str) or not url.strip():
        raise ItemError(name, f"data has no image address under {key!r}")
    return url.strip()


def _identify(task_id: Any, data: Mapping[str, Any], url: str) -> str:
    """Return what region ids are made from: the sample's id, or else the task's id and its image's address."""
    sample_id = data.get("sample_id")
    return f"sample {sample_id}" if isinstance(sample_id, str) and sample_id else f"task {task_id} {url}"
