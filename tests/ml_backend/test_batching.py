import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from ml_backend.batching import BatchingDetector, BusyError
from ml_backend.detectors import Detections, Image
from ml_backend.metrics import Metrics

WAIT_S = 10


class GatedDetector:
    """Waits for a permit before each batch; finds one box whose score is the image's first value / 200."""

    names = {0: "car"}  # noqa: RUF012 - the protocol's own attribute

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.broken: int | None = None

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.started.release()
        assert self.permits.acquire(timeout=WAIT_S)
        values = [int(image[0, 0, 0]) for image in images]
        self.batches.append(values)
        if self.broken in values:
            raise MemoryError("no")
        return [
            Detections(np.zeros((1, 4), np.float32), np.array([value / 200], np.float32), np.zeros(1, np.int64))
            for value in values
        ]


def image_of(value: int) -> Image:
    return np.full((2, 3, 3), value, np.uint8)


@pytest.fixture
def detector() -> GatedDetector:
    return GatedDetector()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def batching(detector: GatedDetector, metrics: Metrics) -> Iterator[BatchingDetector]:
    batching = BatchingDetector(detector, batch_size=3, max_requests=2, metrics=metrics)
    yield batching
    detector.permits.release(100)
    batching.close()


def submit(batching: BatchingDetector, *values: int) -> list[Future[Detections]]:
    return [batching.submit(image_of(value), score_floor=0.0) for value in values]


def scores(futures: list[Future[Detections]]) -> list[float]:
    return [round(float(future.result(WAIT_S).scores[0]) * 200) for future in futures]


def test_the_batch_forms_while_the_model_is_busy_and_answers_keep_their_order(
    batching: BatchingDetector, detector: GatedDetector
) -> None:
    first = submit(batching, 1)
    assert detector.started.acquire(timeout=WAIT_S)
    rest = submit(batching, 2, 3, 4, 5)
    detector.permits.release(100)

    assert scores(first + rest) == [1, 2, 3, 4, 5]
    assert detector.batches == [[1], [2, 3, 4], [5]]


def test_a_single_image_does_not_wait_for_company(batching: BatchingDetector, detector: GatedDetector) -> None:
    detector.permits.release()

    assert scores(submit(batching, 7)) == [7]


def test_an_image_that_breaks_a_batch_fails_alone(
    batching: BatchingDetector, detector: GatedDetector, metrics: Metrics
) -> None:
    detector.broken = 3
    first = submit(batching, 1)
    assert detector.started.acquire(timeout=WAIT_S)
    second, broken, third = submit(batching, 2, 3, 4)
    detector.permits.release(100)

    assert scores([*first, second, third]) == [1, 2, 4]
    with pytest.raises(MemoryError):
        broken.result(WAIT_S)
    assert metrics.to_dict() == {"batches": 3, "images": 3}


def test_each_image_of_a_batch_keeps_its_own_floor(batching: BatchingDetector, detector: GatedDetector) -> None:
    submit(batching, 1)
    assert detector.started.acquire(timeout=WAIT_S)
    low = batching.submit(image_of(100), score_floor=0.25)
    high = batching.submit(image_of(100), score_floor=0.75)
    detector.permits.release(100)

    assert (len(low.result(WAIT_S)), len(high.result(WAIT_S))) == (1, 0)
    assert detector.batches == [[1], [100, 100]]


def test_more_requests_than_there_are_places_are_told_to_come_back(
    batching: BatchingDetector, metrics: Metrics
) -> None:
    with batching.admit(), batching.admit():
        with pytest.raises(BusyError), batching.admit():
            raise AssertionError("let in")
        assert metrics.to_dict() == {"busy": 1}

    with batching.admit():
        pass


def test_a_place_is_free_again_after_an_error(batching: BatchingDetector) -> None:
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), batching.admit():
            raise ZeroDivisionError

    with batching.admit():
        pass


def test_closing_runs_what_is_queued(detector: GatedDetector, metrics: Metrics) -> None:
    batching = BatchingDetector(detector, batch_size=3, max_requests=2, metrics=metrics)
    futures = submit(batching, 1, 2, 3, 4)
    detector.permits.release(100)

    batching.close()

    assert [future.done() for future in futures] == [True] * 4


def test_many_threads_get_their_own_answers(batching: BatchingDetector, detector: GatedDetector) -> None:
    detector.permits.release(1000)
    answers: dict[int, list[float]] = {}

    def ask(base: int) -> None:
        answers[base] = scores(submit(batching, *range(base, base + 10)))

    threads = [threading.Thread(target=ask, args=(base,)) for base in range(10, 170, 10)]
    run_all(threads)

    assert answers == {base: list(range(base, base + 10)) for base in range(10, 170, 10)}


def run_all(threads: list[threading.Thread]) -> None:
    steps: tuple[Callable[[threading.Thread], None], ...] = (threading.Thread.start, threading.Thread.join)
    for step in steps:
        for thread in threads:
            step(thread)
