"""The queue in front of the model: who goes first, what shares a batch, and what happens when one fails."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np
import pytest

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Image
from ml_backend.serving import batching
from ml_backend.serving.batching import Job, Lane, ModelQueue, is_out_of_memory
from ml_backend.serving.metrics import Metrics

WAIT_S = 10


class GatedDetector:
    """Waits for a permit before each batch; finds one box whose score is the image's first value / 200."""

    names = {0: "car"}  # noqa: RUF012 - the protocol's own attribute
    task = "detect"
    licence = "none"

    def __init__(self) -> None:
        self.permits = threading.Semaphore(0)
        self.started = threading.Semaphore(0)
        self.batches: list[list[int]] = []
        self.broken: int | None = None
        self.most = 1000

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.started.release()
        assert self.permits.acquire(timeout=WAIT_S)
        values = [int(image[0, 0, 0]) for image in images]
        self.batches.append(values)
        if self.broken in values:
            raise ValueError("no")
        if len(values) > self.most:
            raise RuntimeError("CUDA out of memory")
        return [
            Detections(np.zeros((1, 4), np.float32), np.array([value / 200], np.float32), np.zeros(1, np.int64))
            for value in values
        ]


class Vocabulary(GatedDetector):
    """Finds the second of the classes it was told, and does not know «unheard-of»."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, ...]] = []

    def set_classes(self, names: Sequence[str]) -> None:
        if "impossible" in names:
            raise LabelingError("nobody can look for that")
        self.told.append(tuple(names))
        self.names = {place: name for place, name in enumerate(names) if name != "unheard-of"}

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        return [
            Detections(one.xyxy, one.scores, np.array([1], np.int64))
            for one in super().detect(images, score_floor=score_floor)
        ]


@pytest.fixture
def detector() -> GatedDetector:
    return GatedDetector()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def queue(detector: GatedDetector, metrics: Metrics) -> Iterator[ModelQueue]:
    queue = ModelQueue(batch_size=3, metrics=metrics)
    yield queue
    detector.permits.release(1000)
    queue.close()


def make_job(detector: GatedDetector, value: int, lane: Lane = Lane.BATCH, bucket: object = None) -> Job:
    image = np.full((2, 3, 3), value, np.uint8)
    return Job(detector, image, 0.0, lane, bucket=bucket if bucket is None else str(bucket))


def submit(
    queue: ModelQueue, detector: GatedDetector, *values: int, lane: Lane = Lane.BATCH
) -> list[Future[Detections]]:
    jobs = [make_job(detector, value, lane) for value in values]
    for job in jobs:
        queue.submit(job)
    return [job.found for job in jobs]


def keep_busy(queue: ModelQueue, detector: GatedDetector) -> list[Future[Detections]]:
    """Return when the model works on an image of value 1."""
    futures = submit(queue, detector, 1)
    assert detector.started.acquire(timeout=WAIT_S)
    return futures


def scores(futures: list[Future[Detections]]) -> list[float]:
    return [round(float(future.result(WAIT_S).scores[0]) * 200) for future in futures]


def test_the_batch_forms_while_the_model_is_busy_and_answers_keep_their_order(
    queue: ModelQueue, detector: GatedDetector
) -> None:
    first = keep_busy(queue, detector)
    rest = submit(queue, detector, 2, 3, 4, 5)
    detector.permits.release(100)

    assert scores(first + rest) == [1, 2, 3, 4, 5]
    assert detector.batches == [[1], [2, 3, 4], [5]]


def test_a_single_image_does_not_wait_for_company(queue: ModelQueue, detector: GatedDetector) -> None:
    detector.permits.release()

    assert scores(submit(queue, detector, 7)) == [7]


def test_a_person_goes_ahead_of_a_batch_job_and_shares_no_batch_with_it(
    queue: ModelQueue, detector: GatedDetector
) -> None:
    futures = keep_busy(queue, detector)
    futures += submit(queue, detector, 2, 3, 4, 5)
    futures += submit(queue, detector, 6, 7, lane=Lane.PERSON)
    detector.permits.release(100)

    scores(futures)
    assert detector.batches[:2] == [[1], [6, 7]]


def test_while_people_are_about_a_batch_jobs_batch_is_no_longer_than_they_may_wait(
    queue: ModelQueue, detector: GatedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector.permits.release(1)
    scores(submit(queue, detector, 1, lane=Lane.PERSON))
    detector.started.acquire()
    monkeypatch.setattr(batching, "PERSON_WAITS_S", 0.0)
    futures = keep_busy(queue, detector) + submit(queue, detector, 2, 3)
    detector.permits.release(100)

    assert scores(futures) == [1, 2, 3]
    assert detector.batches == [[1], [1], [2], [3]]


def test_images_of_different_padded_shapes_share_no_batch(queue: ModelQueue, detector: GatedDetector) -> None:
    first = keep_busy(queue, detector)
    jobs = [make_job(detector, value, bucket=value % 2) for value in (2, 3, 4, 5)]
    for job in jobs:
        queue.submit(job)
    detector.permits.release(100)

    assert scores([*first, *(job.found for job in jobs)]) == [1, 2, 3, 4, 5]
    assert detector.batches == [[1], [2, 4], [3, 5]]


def test_two_models_take_turns_in_the_one_thread(queue: ModelQueue, detector: GatedDetector) -> None:
    newer = GatedDetector()
    newer.permits.release(100)
    futures = keep_busy(queue, detector)
    futures += submit(queue, detector, 2)
    futures += submit(queue, newer, 3)
    detector.permits.release(100)

    assert scores(futures) == [1, 2, 3]
    assert (detector.batches, newer.batches) == ([[1], [2]], [[3]])


def test_an_image_that_breaks_a_batch_fails_alone(queue: ModelQueue, detector: GatedDetector, metrics: Metrics) -> None:
    detector.broken = 3
    first = keep_busy(queue, detector)
    second, broken, third = submit(queue, detector, 2, 3, 4)
    detector.permits.release(100)

    assert scores([*first, second, third]) == [1, 2, 4]
    with pytest.raises(ValueError, match="no"):
        broken.result(WAIT_S)
    assert metrics.read_value("images_total") == 3


def test_a_batch_that_does_not_fit_into_the_memory_is_run_in_halves_and_the_next_is_no_larger(
    queue: ModelQueue, detector: GatedDetector, metrics: Metrics
) -> None:
    detector.most = 1
    futures = keep_busy(queue, detector) + submit(queue, detector, 2, 3, 4, 5, 6, 7)
    detector.permits.release(100)

    assert scores(futures) == [1, 2, 3, 4, 5, 6, 7]
    assert [len(batch) for batch in detector.batches] == [1, 3, 1, 2, 1, 1, 1, 1, 1]
    assert metrics.read_value("errors_total", kind="out_of_memory") == 2


def test_each_image_of_a_batch_keeps_its_own_floor(queue: ModelQueue, detector: GatedDetector) -> None:
    keep_busy(queue, detector)
    low, high = make_job(detector, 100), make_job(detector, 100)
    low.score_floor, high.score_floor = 0.25, 0.75
    queue.submit(low)
    queue.submit(high)
    detector.permits.release(100)

    assert (len(low.found.result(WAIT_S)), len(high.found.result(WAIT_S))) == (1, 0)
    assert detector.batches == [[1], [100, 100]]


def test_a_batch_job_waits_for_a_place_and_a_person_does_not(queue: ModelQueue, detector: GatedDetector) -> None:
    futures = keep_busy(queue, detector)
    futures += submit(queue, detector, *range(2, 14))  # every place there is
    late: list[Future[Detections]] = []
    thread = threading.Thread(target=lambda: late.extend(submit(queue, detector, 99)))
    thread.start()
    futures += submit(queue, detector, 50, lane=Lane.PERSON)

    assert late == []
    detector.permits.release(100)
    thread.join(WAIT_S)
    assert scores(futures + late) == [*range(1, 14), 50, 99]
    assert detector.batches[1] == [50]


class Panic(BaseException):
    """What a library in another language throws."""


def test_a_library_that_panics_ends_neither_the_thread_nor_the_wait_for_an_answer(
    queue: ModelQueue, detector: GatedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def panic(images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        raise Panic("at /secret/path")

    detector.permits.release(100)
    with monkeypatch.context() as changed:
        changed.setattr(detector, "detect", panic)
        (lost,) = submit(queue, detector, 1)
        with pytest.raises(RuntimeError, match="the model ended with Panic"):
            lost.result(WAIT_S)

    assert scores(submit(queue, detector, 2)) == [2]
    assert queue.is_alive


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
    ],
)
def test_every_way_to_say_that_memory_is_short_is_known(text: str) -> None:
    assert is_out_of_memory(RuntimeError(text))


def test_what_torch_says_without_memory_is_known() -> None:
    torch = pytest.importorskip("torch")

    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)

    assert is_out_of_memory(caught.value)


def test_an_image_of_a_batch_job_that_a_person_asks_for_too_goes_first(
    queue: ModelQueue, detector: GatedDetector
) -> None:
    futures = keep_busy(queue, detector)
    jobs = [make_job(detector, value) for value in (2, 3, 4, 5, 6)]
    for job in jobs:
        queue.submit(job)
    queue.promote(jobs[4])
    queue.promote(jobs[4])
    detector.permits.release(100)

    assert scores(futures + [job.found for job in jobs]) == [1, 2, 3, 4, 5, 6]
    assert detector.batches[1] == [6]


def test_a_promoted_image_that_waited_for_a_place_needs_none(queue: ModelQueue, detector: GatedDetector) -> None:
    keep_busy(queue, detector)
    submit(queue, detector, *range(2, 14))
    late = make_job(detector, 99)
    thread = threading.Thread(target=queue.submit, args=(late,))
    thread.start()

    queue.promote(late)
    thread.join(WAIT_S)
    detector.permits.release(100)

    assert scores([late.found]) == [99]
    assert detector.batches[1] == [99]


def test_a_model_is_told_the_classes_of_each_batch() -> None:
    detector, metrics = Vocabulary(), Metrics()
    queue = ModelQueue(batch_size=3, metrics=metrics)
    detector.permits.release(100)
    jobs = [
        Job(detector, np.full((2, 3, 3), 9, np.uint8), 0.0, Lane.BATCH, classes=classes)
        for classes in (("car", "dog"), ("unheard-of", "car", "dog"), ("impossible",))
    ]
    for job in jobs:
        queue.submit(job)

    assert [int(job.found.result(WAIT_S).class_ids[0]) for job in jobs[:2]] == [1, 1]
    with pytest.raises(LabelingError, match="nobody can look for that"):
        jobs[2].found.result(WAIT_S)
    assert detector.told == [("car", "dog"), ("unheard-of", "car", "dog")]
    queue.close()


def test_closing_runs_what_is_queued_and_takes_nothing_more(detector: GatedDetector, metrics: Metrics) -> None:
    queue = ModelQueue(batch_size=3, metrics=metrics)
    futures = submit(queue, detector, 1, 2, 3, 4)
    detector.permits.release(100)

    queue.close()

    assert [future.done() for future in futures] == [True] * 4
    (late,) = submit(queue, detector, 5)
    with pytest.raises(LabelingError, match="being stopped"):
        late.result(WAIT_S)


def test_what_waits_is_measured(queue: ModelQueue, detector: GatedDetector, metrics: Metrics) -> None:
    futures = keep_busy(queue, detector) + submit(queue, detector, 2, 3)

    assert metrics.read_value("queued_images", lane="batch") == 2
    detector.permits.release(100)
    scores(futures)
    assert metrics.read_value("batch_images_bucket", le="1.0") == 1
    assert metrics.read_value("queue_wait_seconds_count", lane="batch") == 3
    assert metrics.read_value("queued_images", lane="batch") == 0


def test_many_threads_get_their_own_answers(queue: ModelQueue, detector: GatedDetector) -> None:
    detector.permits.release(1000)
    answers: dict[int, list[float]] = {}

    def ask(base: int) -> None:
        lane = Lane.PERSON if base % 20 else Lane.BATCH
        answers[base] = scores(submit(queue, detector, *range(base, base + 10), lane=lane))

    threads = [threading.Thread(target=ask, args=(base,)) for base in range(10, 170, 10)]
    run_all(threads)

    assert answers == {base: list(range(base, base + 10)) for base in range(10, 170, 10)}


def run_all(threads: list[threading.Thread]) -> None:
    steps: tuple[Callable[[threading.Thread], None], ...] = (threading.Thread.start, threading.Thread.join)
    for step in steps:
        for thread in threads:
            step(thread)
