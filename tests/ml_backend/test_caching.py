from dataclasses import replace

import numpy as np
import pytest

from labels.geometry import ImageSize
from ml_backend.detectors import Detections, MaskCrop
from ml_backend.serving.batching import Job, Lane
from ml_backend.serving.caching import ENTRY_BYTES, Look, Question, ResultCache, count_bytes
from ml_backend.serving.metrics import Metrics
from tests.ml_backend.conftest import FakeDetector, make_detections

LOOK = Look(Detections.nothing(), ImageSize(4, 3))


def ask(number: int) -> Question:
    return Question(f"sha {number}", "model-1", 0.05)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> ResultCache:
    return ResultCache(max_bytes=2 * ENTRY_BYTES, metrics=metrics)


def test_who_asks_first_answers_and_the_others_wait_for_it(cache: ResultCache, metrics: Metrics) -> None:
    first, second, third = (cache.ask(ask(1), Lane.PERSON) for _ in range(3))

    cache.settle(ask(1), LOOK)

    assert [is_ours for _, is_ours in (first, second, third)] == [True, False, False]
    assert [flight.answer.result(1) for flight, _ in (first, second, third)] == [LOOK] * 3
    assert metrics.read_value("cache_lookups_total", result="shared") == 2


def test_an_answer_is_remembered(cache: ResultCache, metrics: Metrics) -> None:
    cache.ask(ask(1), Lane.BATCH)
    cache.settle(ask(1), LOOK)

    flight, is_ours = cache.ask(ask(1), Lane.BATCH)

    assert (is_ours, flight.answer.result(1)) == (False, LOOK)
    assert metrics.read_value("cache_lookups_total", result="hit") == 1


@pytest.mark.parametrize(
    "other",
    [
        Question("sha 2", "model-1", 0.05),
        Question("sha 1", "model-2", 0.05),
        Question("sha 1", "model-1", 0.06),
        Question("sha 1", "model-1", 0.05, ("car",)),
    ],
)
def test_another_file_model_threshold_or_class_is_another_question(cache: ResultCache, other: Question) -> None:
    cache.ask(ask(1), Lane.BATCH)
    cache.settle(ask(1), LOOK)

    assert cache.ask(other, Lane.BATCH)[1]


def test_an_error_is_not_remembered(cache: ResultCache) -> None:
    first, _ = cache.ask(ask(1), Lane.BATCH)
    second, _ = cache.ask(ask(1), Lane.BATCH)
    cache.fail(ask(1), ValueError("no"))

    for flight in (first, second):
        with pytest.raises(ValueError, match="no"):
            flight.answer.result(1)
    assert cache.ask(ask(1), Lane.BATCH)[1]


def test_the_longest_unused_answer_is_forgotten_first(cache: ResultCache) -> None:
    for number in (1, 2):
        cache.ask(ask(number), Lane.BATCH)
        cache.settle(ask(number), LOOK)
    cache.ask(ask(1), Lane.BATCH)
    cache.ask(ask(3), Lane.BATCH)
    cache.settle(ask(3), LOOK)

    assert [cache.ask(ask(number), Lane.BATCH)[1] for number in (1, 2, 3)] == [False, True, False]


def test_an_answer_that_is_too_large_is_given_and_not_remembered(cache: ResultCache) -> None:
    large = Look(make_detections(*[(0, 0, 1, 1, 0.5, 0)] * 100), ImageSize(4, 3))
    flight, _ = cache.ask(ask(1), Lane.BATCH)
    cache.settle(ask(1), large)

    assert flight.answer.result(1) is large
    assert cache.ask(ask(1), Lane.BATCH)[1]


def test_no_room_at_all_remembers_nothing(metrics: Metrics) -> None:
    cache = ResultCache(max_bytes=0, metrics=metrics)
    cache.ask(ask(1), Lane.BATCH)
    cache.settle(ask(1), LOOK)

    assert cache.ask(ask(1), Lane.BATCH)[1]


def test_masks_count() -> None:
    found = Detections(
        np.zeros((1, 4), np.float32),
        np.zeros(1, np.float32),
        np.zeros(1, np.int64),
        masks=(MaskCrop(0, 0, np.zeros((100, 50), np.bool_)),),
    )

    assert count_bytes(found) == ENTRY_BYTES + 16 + 4 + 8 + 5000


def test_what_each_look_found_counts_too() -> None:
    one = Detections(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int64))

    assert count_bytes(replace(one, views=(one, one))) == 3 * count_bytes(one)


def test_a_person_who_joins_later_hurries_the_job(cache: ResultCache) -> None:
    flight, _ = cache.ask(ask(1), Lane.BATCH)
    hurried: list[Job] = []
    flight.hurry(hurried.append)
    job = Job(FakeDetector(Detections.nothing()), np.zeros((2, 3, 3), np.uint8), 0.0, Lane.BATCH)

    assert flight.start(job).lane is Lane.PERSON
    assert hurried == []
    flight.hurry(hurried.append)
    assert hurried == [job]
