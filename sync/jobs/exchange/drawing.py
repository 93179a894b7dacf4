"""Has a stream of images drawn on by the ML backend, some requests at a time, whatever goes wrong on the way.

Knows neither catalogue nor report. What is in memory are the requests under way and the images to be tried again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Final

from more_itertools import chunked

from labels.errors import ServiceError
from sync.backend import BackendBusyError, BackendLostError, BackendPrediction, BatchError, MLBackend

Task = Mapping[str, Any]
"""An image as the backend is asked for it: ``id`` and the ``data`` of a task of Label Studio."""

OnTick = Callable[[str | None], None]
"""Called several times a second, with what is waited for, None where nothing is; what it raises ends the drawing."""

TICK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once, and how much patience.

    ``lost_s`` and ``busy_s``: for how long nobody may answer, or only to say that there is no place. A single image may
    break ``attempts`` requests; where this happens to ``most_broken`` images in a row, it is not them.
    """

    per_request: int = 16
    # While the model works on one request, others are decoded and converted.
    requests: int = 4
    lost_s: float = 120.0
    busy_s: float = 900.0
    first_delay_s: float = 0.5
    longest_delay_s: float = 15.0
    attempts: int = 3
    most_broken: int = 50


@dataclass(slots=True)
class _Batch:
    tasks: list[Task]
    attempts: int = 0
    is_second_try: bool = False


@dataclass(slots=True)
class Drawer:
    """One drawing: use it once. A ``score_threshold`` stands in for those of the label config and the backend.

    Raises:
        ServiceError: out of ``draw``, where the backend is gone for too long, or fails on every image.
        LabelingError: where it refuses the request itself.
    """

    backend: MLBackend
    label_config: str
    label_counts: Mapping[str, int] | None = None
    limits: Limits = field(default_factory=Limits)
    score_threshold: float | None = None
    _again: deque[_Batch] = field(default_factory=deque)
    _failed: list[Task] = field(default_factory=list)
    _hold_until_s: float = 0.0
    _delay_s: float = 0.0
    _waits_for: str | None = None
    _trouble_since_s: float | None = None
    _broken_in_a_row: int = 0

    def draw(self, tasks: Iterable[Task], on_tick: OnTick) -> Generator[tuple[Task, BackendPrediction], None, None]:
        """Yield each task once with the backend's word on it, as they come.

        A request that fails is cut in half until the image that breaks it is alone; an image the backend could not use
        is asked for once more at the end. Closed early, it leaves the requests under way to themselves.
        """
        fresh = (_Batch(chunk) for chunk in chunked(tasks, self.limits.per_request))
        flying: dict[Future[list[BackendPrediction]], _Batch] = {}
        pool = ThreadPoolExecutor(self.limits.requests)
        try:
            while True:
                while len(flying) < self.limits.requests and (batch := self._take(fresh, bool(flying))) is not None:
                    flying[pool.submit(self._ask, batch.tasks)] = batch
                if not flying and not self._again:
                    return
                if not flying:
                    time.sleep(TICK_S)
                done = wait(flying, TICK_S, FIRST_COMPLETED).done
                on_tick(self._waits_for)
                for future in done:
                    yield from self._settle(flying.pop(future), future)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, tasks: list[Task]) -> list[BackendPrediction]:
        return self.backend.fetch_predictions(
            tasks, self.label_config, label_counts=self.label_counts, score_threshold=self.score_threshold
        )

    def _take(self, fresh: Iterator[_Batch], is_busy: bool) -> _Batch | None:
        """Return the next request to make; None: there is none now."""
        if time.monotonic() < self._hold_until_s:
            return None
        if self._again:
            return self._again.popleft()
        batch = next(fresh, None)
        if batch is None and not is_busy and self._failed:
            self._again.extend(
                _Batch(chunk, is_second_try=True) for chunk in chunked(self._failed, self.limits.per_request)
            )
            self._failed.clear()
            return self._again.popleft()
        return batch

    def _settle(
        self, batch: _Batch, future: Future[list[BackendPrediction]]
    ) -> Iterator[tuple[Task, BackendPrediction]]:
        try:
            answers = future.result()
        except BackendBusyError as error:
            self._hold(batch, error, error.retry_after_s, self.limits.busy_s)
        except BackendLostError as error:
            self._delay_s = min(self._delay_s * 2 or self.limits.first_delay_s, self.limits.longest_delay_s)
            self._hold(batch, error, self._delay_s, self.limits.lost_s)
        except BatchError as error:
            yield from self._divide(batch, error)
        else:
            self._trouble_since_s, self._delay_s, self._waits_for, self._broken_in_a_row = None, 0.0, None, 0
            for task, answer in zip(batch.tasks, answers, strict=True):
                if answer.problem is not None and not batch.is_second_try:
                    self._failed.append(task)
                else:
                    yield task, answer

    def _hold(self, batch: _Batch, error: ServiceError, delay_s: float, patience_s: float) -> None:
        """Ask for nothing until the delay is over, then for this first."""
        now_s = time.monotonic()
        # Not since the last answer: a slow backend may take longer for one than we wait for a lost one.
        self._trouble_since_s = now_s if self._trouble_since_s is None else self._trouble_since_s
        if now_s - self._trouble_since_s > patience_s:
            raise error
        self._again.appendleft(batch)
        self._hold_until_s = now_s + delay_s
        self._waits_for = str(error)

    def _divide(self, batch: _Batch, error: BatchError) -> Iterator[tuple[Task, BackendPrediction]]:
        if len(batch.tasks) > 1:
            middle = len(batch.tasks) // 2
            for half in (batch.tasks[middle:], batch.tasks[:middle]):
                self._again.appendleft(_Batch(half, is_second_try=batch.is_second_try))
            return
        batch.attempts += 1
        if batch.attempts < self.limits.attempts:
            self._again.append(batch)
            return
        self._broken_in_a_row += 1
        if self._broken_in_a_row >= self.limits.most_broken:
            raise ServiceError(f"{error} (on {self._broken_in_a_row} images in a row)") from error
        yield batch.tasks[0], BackendPrediction("", None, (), str(error))
