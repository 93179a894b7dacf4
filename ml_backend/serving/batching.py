"""One thread runs the model; images from every request queue up for it and run in batches.

The batch forms while the model is busy: the thread takes what is there, up to the batch size, and waits for no more.
A person who waits goes ahead of a batch job, always. Images whose padded shapes differ never share a batch.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Detector, Image, OpenVocabularyDetector
from ml_backend.serving.metrics import Metrics

logger = logging.getLogger(__name__)

# Places for images of batch jobs, in batches: the next one is there when the model is done with this one.
QUEUED_BATCHES: Final = 4
# While people are about, a batch job's batch is cut to what the model does in this time: a person waits for it.
PERSON_WAITS_S: Final = 0.03
PERSON_STAYS_S: Final = 10.0
# How much the newest batch counts in the time an image takes.
PACE_WEIGHT: Final = 0.3
REMEMBERED_PACES: Final = 512
OUT_OF_MEMORY_WORDS: Final = (
    "out of memory",
    "can't allocate memory",  # torch on a CPU
    "status_alloc_failed",  # cuBLAS and cuDNN
    "failed to allocate",
    "bad_alloc",
    "insufficient memory",
)


class Lane(Enum):
    """Who waits for an image."""

    PERSON = "person"
    BATCH = "batch"


@dataclass(eq=False)
class Job:
    """An image for a model. ``bucket`` is its padded shape: images of one bucket, model and classes share a batch."""

    detector: Detector
    image: Image
    score_floor: float
    lane: Lane
    bucket: Hashable = None
    classes: tuple[str, ...] | None = None
    found: Future[Detections] = field(default_factory=Future)
    queued_s: float = 0.0

    @property
    def key(self) -> Hashable:
        """What must be the same in one batch."""
        return id(self.detector), self.classes, self.bucket


@dataclass
class _Pace:
    seconds_per_image: float | None = None
    most: int | None = None  # images that fit into the memory, where a larger batch did not


class ModelQueue:
    """Runs detectors for many threads, in one thread of its own.

    There is one even while a model takes over from another: each image runs in the model its request began with.
    """

    def __init__(self, *, batch_size: int, metrics: Metrics) -> None:
        self.batch_size = batch_size
        self._metrics = metrics
        self._changed = threading.Condition()
        self._lanes: dict[Lane, deque[Job]] = {lane: deque() for lane in Lane}
        self._is_closed = False
        self._person_seen_s = -PERSON_STAYS_S
        self._paces: OrderedDict[Hashable, _Pace] = OrderedDict()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether what is queued will ever be looked at."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Queue an image; an image of a batch job waits here for a place. ``job.found`` gets what is found."""
        with self._changed:
            while job.lane is Lane.BATCH and self._is_full() and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                job.found.set_exception(LabelingError("the ML backend is being stopped"))
                return
            self._add(job)

    def promote(self, job: Job) -> None:
        """Let an image of a batch job go with the people's: a person asked for it too."""
        with self._changed:
            if job.lane is Lane.PERSON:
                return
            job.lane = Lane.PERSON
            if job in self._lanes[Lane.BATCH]:
                self._lanes[Lane.BATCH].remove(job)
                self._add(job)
            else:
                self._changed.notify_all()  # it may be waiting for a place, which it needs no more

    def compute_wait_s(self) -> float:
        """Return about how long the images that wait now will take."""
        with self._changed:
            paces = [pace.seconds_per_image for pace in self._paces.values() if pace.seconds_per_image is not None]
            slowest = max(paces, default=0.0)
            return slowest * sum(len(lane) for lane in self._lanes.values())

    def close(self) -> None:
        """Run what is queued, then stop."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()

    def _is_full(self) -> bool:
        return len(self._lanes[Lane.BATCH]) >= QUEUED_BATCHES * self.batch_size

    def _add(self, job: Job) -> None:
        job.queued_s = time.monotonic()
        if job.lane is Lane.PERSON:
            self._person_seen_s = job.queued_s
        self._lanes[job.lane].append(job)
        self._metrics.queued.labels(job.lane.value).set(len(self._lanes[job.lane]))
        self._changed.notify_all()

    def _work(self) -> None:
        while jobs := self._take():
            self._run(jobs)
            del jobs  # or the last batch's images stay in memory until the next one comes

    def _take(self) -> list[Job]:
        """Return the next batch; none when the queue is closed and empty."""
        with self._changed:
            while not any(self._lanes.values()) and not self._is_closed:
                self._changed.wait()
            lane = Lane.PERSON if self._lanes[Lane.PERSON] else Lane.BATCH
            waiting = self._lanes[lane]
            if not waiting:
                return []
            key = waiting[0].key
            limit = self._compute_limit(lane, key)
            taken = [job for job in waiting if job.key == key][:limit]
            ids = {id(job) for job in taken}
            self._lanes[lane] = deque(job for job in waiting if id(job) not in ids)
            self._metrics.queued.labels(lane.value).set(len(self._lanes[lane]))
            self._changed.notify_all()
        now = time.monotonic()
        for job in taken:
            self._metrics.queue_wait.labels(lane.value).observe(now - job.queued_s)
        return taken

    def _compute_limit(self, lane: Lane, key: Hashable) -> int:
        pace = self._paces.get(key, _Pace())
        limit = min(self.batch_size, pace.most or self.batch_size)
        is_watched = time.monotonic() - self._person_seen_s < PERSON_STAYS_S
        if lane is Lane.BATCH and is_watched and pace.seconds_per_image:
            limit = min(limit, max(1, int(PERSON_WAITS_S / pace.seconds_per_image)))
        return limit

    def _run(self, jobs: list[Job]) -> None:
        try:
            found = self._detect(jobs)
        except Exception as error:  # noqa: BLE001 - whatever the model throws goes to those who wait, never ends the thread
            self._fail(jobs, error)
            return
        except BaseException as error:  # noqa: BLE001 - as the panic of a library in Rust, which is no Exception
            panic = RuntimeError(f"the model ended with {type(error).__name__}")
            self._fail(jobs, panic.with_traceback(error.__traceback__))
            return
        for job, detections in zip(jobs, found, strict=True):
            job.found.set_result(detections)

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        """Run the halves of a batch, until the error is with the image that causes it alone."""
        is_memory = is_out_of_memory(error)
        # A model that cannot look for these classes fails all images alike.
        is_final = len(jobs) == 1 or isinstance(error, LabelingError)
        if is_memory or not is_final:
            # The error holds the frames of the failed batch, and they hold its memory.
            error.__traceback__ = None
        if is_memory:
            self._metrics.errors.labels("out_of_memory").inc()
            release_gpu_memory()
        if is_final:
            for job in jobs:
                job.found.set_exception(error)
            return
        half = len(jobs) // 2
        if is_memory:
            with self._changed:
                self._pace(jobs[0].key).most = half
        logger.warning("a batch of %d failed (%s), running its halves", len(jobs), type(error).__name__)
        self._run(jobs[:half])
        self._run(jobs[half:])

    def _detect(self, jobs: list[Job]) -> list[Detections]:
        detector, classes = jobs[0].detector, jobs[0].classes
        if classes is not None and isinstance(detector, OpenVocabularyDetector):
            detector.set_classes(classes)
        floor = min(job.score_floor for job in jobs)
        started = time.monotonic()
        found = detector.detect([job.image for job in jobs], score_floor=floor)
        seconds = time.monotonic() - started
        if len(found) != len(jobs):
            raise RuntimeError(f"the detector answered {len(found)} images of {len(jobs)}")
        self._count(jobs, seconds)
        return [
            one if job.score_floor == floor else one.select(one.scores > job.score_floor)
            for one, job in zip(found, jobs, strict=True)
        ]

    def _count(self, jobs: list[Job], seconds: float) -> None:
        self._metrics.images.inc(len(jobs))
        self._metrics.batch_images.observe(len(jobs))
        self._metrics.forward.observe(seconds)
        with self._changed:
            pace = self._pace(jobs[0].key)
            newest = seconds / len(jobs)
            known = pace.seconds_per_image
            pace.seconds_per_image = newest if known is None else known + PACE_WEIGHT * (newest - known)

    def _pace(self, key: Hashable) -> _Pace:
        pace = self._paces.setdefault(key, _Pace())
        self._paces.move_to_end(key)
        while len(self._paces) > REMEMBERED_PACES:
            self._paces.popitem(last=False)
        return pace


def release_gpu_memory() -> None:
    """Give back what torch keeps of the GPU's memory for later, where it has touched one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch, CUDA's libraries, ONNX Runtime, OpenVINO or Python says that memory is short.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    True
    >>> is_out_of_memory(RuntimeError("a shape does not fit"))
    False
    """
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or "outofmemory" in text or any(word in text for word in OUT_OF_MEMORY_WORDS)
