"""From tasks to predictions: reads the images, has the model look at them, answers in order. Knows nothing of Flask."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from labels.errors import LabelingError, ServiceError
from ml_backend.answers.label_plans import LabelPlan
from ml_backend.answers.predictions import to_failed_prediction, to_prediction
from ml_backend.answers.regions import PredictedItem
from ml_backend.imaging.fetching import AccessToken, Fetcher, read_api_key
from ml_backend.imaging.images import ImageReader
from ml_backend.serving.batching import Lane
from ml_backend.serving.caching import Look
from ml_backend.serving.holding import ModelHolder
from ml_backend.serving.looking import Looker, Started, Wanted, count_readers
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.served import ServedModel
from ml_backend.serving.tasks import TaskImage, explain_failure, locate_bug, name_task, read_task, read_task_id
from ml_backend.settings import Settings

logger = logging.getLogger(__name__)

# Images of one request that may be on their way at once: enough to fill the batch after this one, few enough that a
# request for thousands of tasks neither fills the memory nor keeps the next one waiting.
WINDOW_BATCHES: Final = 2
LONGEST_RETRY_S: Final = 60


class BusyError(ServiceError):
    """As many requests as may wait are waiting; ``retry_after_s`` says when to come again."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CancelledError(LabelingError):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Ask:
    """What one request wants of every image: the model it began with, the plan of its label config, and for whom."""

    model: ServedModel
    plan: LabelPlan
    classes: tuple[str, ...] | None
    lane: Lane
    label_counts: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Answer:
    """One task's prediction; or None, and the problem."""

    task_id: Any
    prediction: dict[str, Any] | None
    problem: str | None = None


class Engine:
    """The served model with its queue, its cache and its image reader; safe for many threads."""

    def __init__(self, settings: Settings, holder: ModelHolder, *, metrics: Metrics) -> None:
        self.settings = settings
        self.holder = holder
        self.metrics = metrics
        self._reader = _build_reader(settings)
        self._looker = Looker(settings, metrics=metrics)
        self._places = {
            Lane.PERSON: threading.BoundedSemaphore(settings.max_requests),
            Lane.BATCH: threading.BoundedSemaphore(settings.max_batch_jobs),
        }
        readers = settings.readers or count_readers(settings.device)
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="reader")
        self._window = WINDOW_BATCHES * settings.batch_size + readers

    def prepare(
        self,
        xml: str,
        *,
        lane: Lane,
        label_counts: Mapping[str, int] | None = None,
        score_threshold: float | None = None,
        wait_s: float | None = None,
    ) -> Ask:
        """Return what a request with this label config asks of the model that is served now.

        A ``score_threshold`` stands in for those of the label config and of the settings.

        Raises:
            LoadingError: the model is not there yet, after a wait of ``wait_s`` (None: the setting's).
            LabelConfigError: the config cannot be used with this model.
        """
        model = self.holder.get(wait_s=self.settings.load_wait_s if wait_s is None else wait_s)
        plan, classes = model.find_plan(xml, score_threshold=score_threshold)
        return Ask(model, plan, classes, lane, label_counts)

    @contextmanager
    def admit(self, lane: Lane) -> Iterator[None]:
        """Let a request in for as long as the block lasts; batch jobs have places of their own, and fewer.

        Raises:
            BusyError: no place is free. Nothing of the request was done.
        """
        places = self._places[lane]
        if not places.acquire(blocking=False):
            self.metrics.errors.labels("busy").inc()
            retry_after_s = min(max(1, round(self._looker.compute_wait_s())), LONGEST_RETRY_S)
            raise BusyError("the ML backend is busy, come back in a moment", retry_after_s=retry_after_s)
        try:
            yield
        finally:
            places.release()

    def predict(
        self, tasks: Iterable[Any], ask: Ask, *, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[Answer]:
        """Yield one answer for each task, in order; what goes wrong with one stays with it.

        Raises:
            CancelledError: ``is_cancelled`` said so between two tasks.
        """
        with closing(self._stream(tasks, partial(self._start_task, ask=ask), ask.lane, is_cancelled)) as stream:
            for task, started in stream:
                yield self._answer(task, started, ask)

    def look(
        self, sources: Iterable[Any], read: Callable[[Any], bytes], wanted: Wanted
    ) -> Generator[tuple[Any, Started | BaseException], None, None]:
        """Yield each source with what it became, in order: files of a folder, say, without any task."""

        def start(source: Any) -> Started:
            return self._looker.start(read(source), wanted, name=str(source))

        return self._stream(sources, start, wanted.lane, lambda: False)

    def suggest(self, task: Any, ask: Ask, context: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the prediction that answers what an annotator drew, the newest of ``context`` last.

        Raises:
            LabelingError: the image cannot be read, or what was drawn makes no sense.
        """
        assistant = ask.model.assistant
        if assistant is None:
            return to_failed_prediction(ask.model.version)
        image = read_task(task, image_key=ask.plan.config.image_key)
        content = self._read(image)
        sha256 = hashlib.sha256(content).hexdigest()
        with self._looker.decode(content, name=image.name) as decoded:
            item = PredictedItem(image.identity, sha256, decoded.size)
            regions = assistant.suggest(
                decoded.pixels, sha256, context, ask.plan, model_version=ask.model.version, item=item
            )
        return to_failed_prediction(ask.model.version) | {"result": regions}

    @property
    def is_alive(self) -> bool:
        """Whether images are looked at at all: False once the thread that runs the model has ended."""
        return self._looker.is_alive

    def close(self) -> None:
        """Finish what is queued and stop the threads."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._looker.close()
        self._readers.shutdown()

    def _stream(
        self,
        sources: Iterable[Any],
        start: Callable[[Any], Started],
        lane: Lane,
        is_cancelled: Callable[[], bool],
    ) -> Generator[tuple[Any, Started | BaseException], None, None]:
        """Start sources some way ahead, and yield them in order when the model has looked at them.

        A person's few images are read by the thread that asks, so that no batch job's readers are before them.
        """
        submit = _call if lane is Lane.PERSON else self._readers.submit
        pending: deque[tuple[Any, Future[Started]]] = deque()
        try:
            for source in sources:
                if is_cancelled():
                    self.metrics.errors.labels("cancelled").inc()
                    raise CancelledError("the caller is gone")
                if len(pending) >= self._window:
                    yield _wait(*pending.popleft())
                pending.append((source, submit(start, source)))
            while pending:
                yield _wait(*pending.popleft())
        finally:
            for _, future in pending:
                future.cancel()

    def _start_task(self, task: Any, ask: Ask) -> Started:
        image = read_task(task, image_key=ask.plan.config.image_key)
        content = self._read(image)
        wanted = Wanted(ask.model, ask.plan.score_floor, ask.lane, ask.classes)
        return self._looker.start(content, wanted, name=image.name)

    def _read(self, image: TaskImage) -> bytes:
        started = time.monotonic()
        content = self._reader.read_content(image.url, item=image.name)
        self.metrics.read.observe(time.monotonic() - started)
        return content

    def _answer(self, task: Any, started: Started | BaseException, ask: Ask) -> Answer:
        task_id = read_task_id(task)
        if isinstance(started, BaseException):
            return self._fail(task_id, started, is_bug=not isinstance(started, LabelingError))
        try:
            look = started.look.result()
        except Exception as error:  # noqa: BLE001 - the model's own errors have no common parent
            return self._fail(task_id, error, is_bug=False)
        try:
            prediction = self._to_prediction(task, started.sha256, look, ask)
        except Exception as error:  # noqa: BLE001 - one task's surprise must not lose the other tasks' answers
            return self._fail(task_id, error, is_bug=True)
        self.metrics.tasks.labels("predicted").inc()
        return Answer(task_id, prediction)

    def _to_prediction(self, task: Any, sha256: str, look: Look, ask: Ask) -> dict[str, Any]:
        image = read_task(task, image_key=ask.plan.config.image_key)
        return to_prediction(
            PredictedItem(image.identity, sha256, look.size),
            look.found,
            ask.plan,
            model_version=ask.model.version,
            served=self.settings.served_score,
            label_counts=ask.label_counts,
            is_calibrated=ask.model.calibration is not None,
        )

    def _fail(self, task_id: Any, error: BaseException, *, is_bug: bool) -> Answer:
        kind, problem = explain_failure(error, self.settings)
        if is_bug:
            kind, problem = "unexpected", f"unexpected {type(error).__name__}, see the log"
        if is_bug or kind == "detector":
            logger.error("%s: %s", name_task(task_id), locate_bug(error))
        self.metrics.tasks.labels("failed").inc()
        self.metrics.errors.labels(kind).inc()
        logger.warning("%s: %s", name_task(task_id), problem)
        return Answer(task_id, None, problem)


def _call(start: Callable[[Any], Started], source: Any) -> Future[Started]:
    future: Future[Started] = Future()
    try:
        future.set_result(start(source))
    except Exception as error:  # noqa: BLE001 - it belongs to this source, and is looked at when its turn comes
        future.set_exception(error)
    return future


def _wait(source: Any, future: Future[Started]) -> tuple[Any, Started | BaseException]:
    error = future.exception()
    return source, error if error is not None else future.result()


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
