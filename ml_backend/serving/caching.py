"""What was found in which image: remembered, and computed once however many ask at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from labels.geometry import ImageSize
from ml_backend.detectors import Detections
from ml_backend.serving.batching import Job, Lane
from ml_backend.serving.metrics import Metrics

# An entry without a single box costs about this much.
ENTRY_BYTES: Final = 1000


@dataclass(frozen=True)
class Question:
    """What an answer depends on: the file's content, the model, and what the model was told."""

    sha256: str
    model_version: str
    score_floor: float
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Look:
    """What a model found in an image, and the image's size as an annotator sees it."""

    found: Detections
    size: ImageSize


class Flight:
    """A question that is being answered; those who ask the same meanwhile wait for the same answer."""

    def __init__(self, lane: Lane) -> None:
        self.answer: Future[Look] = Future()
        self._lock = threading.Lock()
        self._lane = lane
        self._job: Job | None = None

    @property
    def lane(self) -> Lane:
        """The most urgent of those who asked so far."""
        with self._lock:
            return self._lane

    def start(self, job: Job) -> Job:
        """Tell which job answers it, and give the job the lane of the most urgent who asked so far."""
        with self._lock:
            self._job = job
            job.lane = self._lane
        return job

    def hurry(self, promote: Callable[[Job], None]) -> None:
        """A person waits for it now: ``promote`` is called with the job, if there is one already."""
        with self._lock:
            self._lane, job = Lane.PERSON, self._job
        if job is not None:
            promote(job)


class ResultCache:
    """The answers given last, up to a size in bytes, the longest unused forgotten first; and those in the making."""

    def __init__(self, *, max_bytes: int, metrics: Metrics) -> None:
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._lock = threading.Lock()
        self._looks: OrderedDict[Question, Look] = OrderedDict()
        self._bytes = 0
        self._flights: dict[Question, Flight] = {}

    def ask(self, question: Question, lane: Lane) -> tuple[Flight, bool]:
        """Return the flight that answers a question, and whether the caller has to answer it.

        Who has to, calls ``settle`` or ``fail`` in the end, whatever happens.
        """
        with self._lock:
            look = self._looks.get(question)
            if look is not None:
                self._looks.move_to_end(question)
                flight = Flight(lane)
                flight.answer.set_result(look)
                self._metrics.cache.labels("hit").inc()
                return flight, False
            known = self._flights.get(question)
            if known is not None:
                self._metrics.cache.labels("shared").inc()
                return known, False
            self._metrics.cache.labels("miss").inc()
            self._flights[question] = flight = Flight(lane)
            return flight, True

    def settle(self, question: Question, look: Look) -> None:
        """Give the answer to all who wait for it, and remember it."""
        with self._lock:
            flight = self._flights.pop(question)
            size = count_bytes(look.found)
            if size <= self._max_bytes:
                self._looks[question] = look
                self._bytes += size
            while self._bytes > self._max_bytes:
                _, forgotten = self._looks.popitem(last=False)
                self._bytes -= count_bytes(forgotten.found)
        flight.answer.set_result(look)

    def fail(self, question: Question, error: BaseException) -> None:
        """Give an error to all who wait; the next who asks tries again."""
        with self._lock:
            flight = self._flights.pop(question)
        flight.answer.set_exception(error)


def count_bytes(found: Detections) -> int:
    """Return about how much memory detections take.

    >>> count_bytes(Detections.nothing())
    1000
    """
    arrays = [getattr(found, field.name) for field in fields(found)]
    masks = sum(mask.pixels.nbytes for mask in found.masks or ())
    views = sum(count_bytes(view) for view in found.views or ())
    return ENTRY_BYTES + masks + views + sum(array.nbytes for array in arrays if isinstance(array, np.ndarray))
