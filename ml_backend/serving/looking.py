"""From a file's bytes to what the model finds in it: decoded, queued, looked at once, remembered."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from labels.geometry import ImageSize
from ml_backend.detectors import Detections, SizedDetector
from ml_backend.imaging.decoding import DecodedImage, OpenedImage, open_file
from ml_backend.serving.batching import Job, Lane, ModelQueue
from ml_backend.serving.caching import Flight, Look, Question, ResultCache
from ml_backend.serving.metrics import Metrics
from ml_backend.serving.room import Room
from ml_backend.serving.served import ServedModel
from ml_backend.settings import Settings


@dataclass(frozen=True)
class Wanted:
    """What is asked of a model, and for whom; ``classes`` are for a model that can be told what to look for."""

    model: ServedModel
    score_floor: float
    lane: Lane
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Started:
    """An image on its way to the model; ``look`` gets what is found in it."""

    sha256: str
    look: Future[Look]


class Looker:
    """Has models look at images; safe for many threads."""

    def __init__(self, settings: Settings, *, metrics: Metrics) -> None:
        self._is_reducing = settings.is_reducing
        self._metrics = metrics
        self._queue = ModelQueue(batch_size=settings.batch_size, metrics=metrics)
        self._cache = ResultCache(max_bytes=settings.cache_bytes, metrics=metrics)
        self._room = Room()
        # Of many people who ask at once, no more decode at once than there are cores.
        self._decoders = threading.BoundedSemaphore(count_cores())

    def start(self, content: bytes, wanted: Wanted, *, name: str) -> Started:
        """Have a model look at a file, unless it has, or somebody else waits for just that.

        Raises:
            ItemError: the file is no image we can decode; ``name`` is named.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        question = Question(sha256, wanted.model.version, wanted.score_floor, wanted.classes)
        flight, is_ours = self._cache.ask(question, wanted.lane)
        if not is_ours:
            if wanted.lane is Lane.PERSON:
                flight.hurry(self._queue.promote)
                self._room.look_again()
            return Started(sha256, flight.answer)
        try:
            self._fly(content, wanted, flight, question, name=name)
        except BaseException as error:
            # Whatever it is goes on to who asked; those who wait for the same answer would wait for ever.
            self._cache.fail(question, error)
            raise
        return Started(sha256, flight.answer)

    @contextmanager
    def decode(self, content: bytes, *, name: str) -> Iterator[DecodedImage]:
        """Have a person's image in memory for as long as the block lasts.

        Raises:
            ItemError: see ``start``.
        """
        with ExitStack() as stack:
            with open_file(content, item=name) as opened:
                stack.enter_context(self._room.hold(opened.decoded_bytes, Lane.PERSON))
                decoded = self._decode(opened)
            yield decoded

    def compute_wait_s(self) -> float:
        """Return about how long the images that wait now will take."""
        return self._queue.compute_wait_s()

    @property
    def is_alive(self) -> bool:
        """Whether the thread that runs the model is there."""
        return self._queue.is_alive

    def close(self) -> None:
        """Finish what is queued."""
        self._queue.close()

    def _fly(self, content: bytes, wanted: Wanted, flight: Flight, question: Question, *, name: str) -> None:
        with open_file(content, item=name) as opened:
            size = opened.decoded_bytes
            self._room.take(size, lambda: flight.lane)
            try:
                decoded = self._decode(opened, self._get_model_side(wanted.model))
            except BaseException:
                self._room.leave(size)
                raise
        job = flight.start(_to_job(decoded, wanted))
        job.found.add_done_callback(partial(self._land, question, decoded))
        job.found.add_done_callback(lambda _: self._room.leave(size))
        self._queue.submit(job)

    def _decode(self, opened: OpenedImage, model_side: int | None = None) -> DecodedImage:
        with self._decoders:
            started = time.monotonic()
            decoded = opened.decode(model_side)
        self._metrics.decode.observe(time.monotonic() - started)
        return decoded

    def _get_model_side(self, model: ServedModel) -> int | None:
        # Masks and key points would have to grow with the boxes; they are drawn on the whole image.
        is_possible = model.detector.task == "detect" and isinstance(model.detector, SizedDetector)
        return getattr(model.detector, "input_side", None) if self._is_reducing and is_possible else None

    def _land(self, question: Question, decoded: DecodedImage, found: Future[Detections]) -> None:
        error = found.exception()
        if error is not None:
            self._cache.fail(question, error)
        else:
            self._cache.settle(question, Look(scale_boxes(found.result(), decoded.scale), decoded.size))


def _to_job(decoded: DecodedImage, wanted: Wanted) -> Job:
    detector = wanted.model.detector
    height, width = decoded.pixels.shape[:2]
    size = ImageSize(width, height)
    bucket = detector.padded_shape(size) if isinstance(detector, SizedDetector) else None
    return Job(detector, decoded.pixels, wanted.score_floor, wanted.lane, bucket=bucket, classes=wanted.classes)


def scale_boxes(found: Detections, scale: tuple[float, float]) -> Detections:
    """Return boxes that were found in a reduced image in the pixels of the whole one."""
    if scale == (1.0, 1.0):
        return found
    factors = [*scale, *scale]
    views = None if found.views is None else tuple(scale_boxes(view, scale) for view in found.views)
    return replace(found, xyxy=(found.xyxy * factors).astype(found.xyxy.dtype), views=views)


def count_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_readers(device: str) -> int:
    """Return how many threads read and decode: few beside a model on the CPU, which takes all cores itself."""
    torch = sys.modules.get("torch")
    is_cpu = device == "cpu" or (device == "auto" and (torch is None or not torch.cuda.is_available()))
    return max(2, count_cores() // 4) if is_cpu else max(4, count_cores())
