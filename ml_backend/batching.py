"""One thread owns the model; images from every request queue up for it and run in batches.

The batch forms while the model is busy: the thread takes what is there, up to the batch size, and waits for no more.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from labels.errors import ServiceError
from ml_backend.detectors import Detections, Detector, Image
from ml_backend.metrics import Metrics

logger = logging.getLogger(__name__)

QUEUED_BATCHES: Final = 4
RETRY_AFTER_S: Final = 5


class BusyError(ServiceError):
    """As many requests as may wait are waiting; ``retry_after_s`` says when to come again."""

    retry_after_s = RETRY_AFTER_S


@dataclass(frozen=True)
class _Job:
    image: Image
    score_floor: float
    found: Future[Detections] = field(default_factory=Future)


class BatchingDetector:
    """Runs a detector for many threads.

    At most ``max_requests`` requests are let in at once, the rest are told to come back. The queue is bounded too: it
    holds decoded images, and a request that is let in waits for its place.
    """

    def __init__(self, detector: Detector, *, batch_size: int, max_requests: int, metrics: Metrics) -> None:
        self.batch_size = batch_size
        self._detector = detector
        self._metrics = metrics
        self._places = threading.BoundedSemaphore(max_requests)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=QUEUED_BATCHES * batch_size)
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let a request in for as long as the block lasts.

        Raises:
            BusyError: no place is free. Nothing of the request was done.
        """
        if not self._places.acquire(blocking=False):
            self._metrics.count("busy")
            raise BusyError("the ML backend is busy, come back in a moment")
        try:
            yield
        finally:
            self._places.release()

    def submit(self, image: Image, *, score_floor: float) -> Future[Detections]:
        """Queue an image, waiting for a place; the future gives what is above the floor, or the detector's error."""
        job = _Job(image, score_floor)
        self._jobs.put(job)
        return job.found

    def close(self) -> None:
        """Run what is queued, then stop."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            jobs, is_last = self._take()
            if jobs:
                self._run(jobs)
            if is_last:
                return

    def _take(self) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        while len(jobs) < self.batch_size:
            try:
                job = self._jobs.get(block=not jobs)
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _run(self, jobs: list[_Job]) -> None:
        try:
            found = self._detect(jobs)
        except Exception as error:  # noqa: BLE001 - whatever the model throws goes to those who wait, never ends the thread
            self._run_one_by_one(jobs, error)
            return
        for job, detections in zip(jobs, found, strict=True):
            job.found.set_result(detections)

    def _run_one_by_one(self, jobs: list[_Job], error: Exception) -> None:
        """Give the error to the image that causes it alone, so that it fails nobody else's."""
        if len(jobs) == 1:
            jobs[0].found.set_exception(error)
            return
        logger.warning("a batch of %d failed (%s), running its images one by one", len(jobs), type(error).__name__)
        for job in jobs:
            self._run([job])

    def _detect(self, jobs: list[_Job]) -> list[Detections]:
        floor = min(job.score_floor for job in jobs)
        found = self._detector.detect([job.image for job in jobs], score_floor=floor)
        if len(found) != len(jobs):
            raise RuntimeError(f"the detector answered {len(found)} images of {len(jobs)}")
        self._metrics.count("batches")
        self._metrics.count("images", len(jobs))
        return [one.select(one.scores > job.score_floor) for one, job in zip(found, jobs, strict=True)]
