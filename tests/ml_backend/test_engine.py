"""The engine with a detector that needs no model: who waits for whom, what is computed once, what stays bounded."""

import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from labels.geometry import ImageSize
from ml_backend.answers.predictions import to_failed_prediction
from ml_backend.detectors import Detections, Detector, Image
from ml_backend.imaging.decoding import OpenedImage
from ml_backend.serving.batching import Lane
from ml_backend.serving.engine import Answer, BusyError, CancelledError, Engine
from ml_backend.serving.offline import FileAnswer, detect_files, predict_files
from ml_backend.serving.room import Room
from ml_backend.settings import Settings
from tests.ml_backend.conftest import FakeDetector, encode, make_detections

WAIT_S = 30
SaveImage = Callable[..., str]
MakeEngine = Callable[..., Engine]


class WatchedDetector(FakeDetector):
    """Remembers the widths it saw, and can be held before a batch."""

    def __init__(self) -> None:
        super().__init__(make_detections((10, 20, 50, 60, 0.75, 0)))
        self.widths: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        self.widths += [image.shape[1] for image in images]
        return super().detect(images, score_floor=score_floor)


class ReducingDetector(WatchedDetector):
    """Looks at images of 100 pixels."""

    input_side = 100

    def padded_shape(self, size: ImageSize) -> tuple[int, int]:
        return size.height, size.width


@pytest.fixture
def detector() -> Iterator[WatchedDetector]:
    detector = WatchedDetector()
    yield detector
    detector.gate.set()


@pytest.fixture
def engine(make_engine: MakeEngine, detector: WatchedDetector) -> Engine:
    return make_engine(detector)


@pytest.fixture
def save_widths(save_image: SaveImage) -> Callable[[Sequence[int]], list[dict[str, Any]]]:
    def save(widths: Sequence[int]) -> list[dict[str, Any]]:
        return [
            {"id": width, "data": {"image": save_image(f"{width}.png", PillowImage.new("RGB", (width, 40)))}}
            for width in widths
        ]

    return save


def predict(engine: Engine, tasks: Any, xml: str, lane: Lane = Lane.BATCH) -> list[Answer]:
    return list(engine.predict(tasks, engine.prepare(xml, lane=lane)))


def in_thread(target: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=target)
    thread.start()
    return thread


def test_a_person_is_answered_while_a_batch_job_of_thousands_of_tasks_runs(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    many = save_widths(range(100, 140))
    seen: list[Any] = []
    is_over = threading.Event()

    def run() -> None:
        # A cache would make this easy: each of the thousands is an image of its own.
        endless = (dict(many[number % 40], id=number) for number in range(3_000))
        ask = engine.prepare(config_xml, lane=Lane.BATCH)
        seen.extend(answer.task_id for answer in engine.predict(endless, ask))
        is_over.set()

    engine._looker._cache._max_bytes = 0
    thread = in_thread(run)
    assert detector.entered.wait(WAIT_S)

    (answer,) = predict(engine, save_widths([999]), config_xml, Lane.PERSON)

    was_over = is_over.is_set()
    thread.join(WAIT_S)
    assert answer.prediction is not None
    assert not was_over
    assert seen == list(range(3_000))
    assert detector.widths.index(999) < len(detector.widths) - 1


def test_a_long_request_is_read_no_further_ahead_than_it_has_to_be(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    tasks = save_widths([100])
    taken = 0

    def take() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield tasks[0]

    answers = engine.predict(take(), engine.prepare(config_xml, lane=Lane.BATCH))
    next(answers)

    assert taken <= engine._window + 1
    answers.close()  # type: ignore[attr-defined]
    assert taken <= engine._window + 1


def test_the_same_image_asked_for_three_times_at_once_is_looked_at_once(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    detector.gate.clear()
    tasks = save_widths([100])
    answers: list[Answer] = []
    threads = [in_thread(lambda: answers.extend(predict(engine, tasks, config_xml, Lane.PERSON))) for _ in range(3)]
    assert detector.entered.wait(WAIT_S)
    detector.gate.set()
    for thread in threads:
        thread.join(WAIT_S)

    assert detector.widths == [100]
    assert [answer.prediction for answer in answers] == [answers[0].prediction] * 3
    assert answers[0].prediction is not None


def test_a_second_request_is_answered_from_memory_with_ids_of_its_own(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    (task,) = save_widths([100])
    first = predict(engine, [task], config_xml)
    second = predict(engine, [task | {"id": 7}], config_xml)

    assert detector.widths == [100]
    ids = [answer.prediction["result"][0]["id"] for answer in first + second if answer.prediction is not None]
    assert len(set(ids)) == 2
    assert engine.metrics.read_value("cache_lookups_total", result="hit") == 1


def test_a_person_does_not_wait_for_the_batch_job_that_asked_for_the_same_image_first(
    make_engine: MakeEngine,
    settings: Settings,
    detector: WatchedDetector,
    save_widths: Callable[..., list[dict[str, Any]]],
    config_xml: str,
) -> None:
    engine = make_engine(detector, dataclasses.replace(settings, batch_size=1))
    detector.gate.clear()
    tasks = save_widths([100, 101, 102, 103])
    batch = in_thread(lambda: predict(engine, tasks, config_xml))
    while engine.metrics.read_value("cache_lookups_total", result="miss") < 4:
        assert detector.entered.wait(WAIT_S)
    person = in_thread(lambda: predict(engine, tasks[3:], config_xml, Lane.PERSON))
    while engine.metrics.read_value("cache_lookups_total", result="shared") < 1:
        pass
    detector.gate.set()
    batch.join(WAIT_S)
    person.join(WAIT_S)

    assert sorted(detector.widths) == [100, 101, 102, 103]
    assert detector.widths[-1] != 103


def test_batch_jobs_have_fewer_places_and_leave_the_others_to_people(
    make_engine: MakeEngine, settings: Settings, detector: WatchedDetector
) -> None:
    engine = make_engine(detector, dataclasses.replace(settings, max_batch_jobs=1, max_requests=1))

    with engine.admit(Lane.BATCH):
        with pytest.raises(BusyError) as caught, engine.admit(Lane.BATCH):
            raise AssertionError("let in")
        with engine.admit(Lane.PERSON):
            pass
    assert caught.value.retry_after_s >= 1
    assert engine.metrics.read_value("errors_total", kind="busy") == 1


def test_a_place_is_free_again_after_an_error(engine: Engine) -> None:
    for _ in range(50):
        with pytest.raises(ZeroDivisionError), engine.admit(Lane.BATCH):
            raise ZeroDivisionError


def test_a_caller_that_hangs_up_is_worked_for_no_longer(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    (task,) = save_widths([100])
    gone = iter([False] * 20 + [True] * 1000)

    with pytest.raises(CancelledError):
        list(
            engine.predict([task] * 1000, engine.prepare(config_xml, lane=Lane.BATCH), is_cancelled=lambda: next(gone))
        )

    assert engine.metrics.read_value("errors_total", kind="cancelled") == 1
    # And the next caller is served.
    assert predict(engine, [task], config_xml)[0].prediction is not None


def test_a_bug_of_ours_in_one_task_keeps_nobody_and_is_located_in_the_log(
    engine: Engine,
    save_widths: Callable[..., list[dict[str, Any]]],
    config_xml: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def break_once(opened: OpenedImage, model_side: int | None) -> Any:
        raise ZeroDivisionError("at /secret/path")

    tasks = save_widths([100, 101])
    good = predict(engine, tasks[:1], config_xml)
    monkeypatch.setattr(OpenedImage, "decode", break_once)

    answers = predict(engine, tasks, config_xml)

    assert answers[0] == good[0]
    assert answers[1] == Answer(101, None, "unexpected ZeroDivisionError, see the log")
    assert caplog.text.count("ZeroDivisionError at test_engine.py:") == 1
    assert "/secret" not in caplog.text
    assert engine.metrics.read_value("errors_total", kind="unexpected") == 1


def test_boxes_found_in_a_reduced_image_are_in_pixels_of_the_whole_one(
    make_engine: MakeEngine, settings: Settings, save_image: SaveImage, tmp_path: Path, config_xml: str
) -> None:
    PillowImage.new("RGB", (802, 600), "blue").save(tmp_path / "a.jpg")
    task = {"id": 1, "data": {"image": save_image("a.jpg", (tmp_path / "a.jpg").read_bytes())}}
    detector = ReducingDetector()
    detector.gate.set()
    engine = make_engine(detector, dataclasses.replace(settings, is_reducing=True))

    (answer,) = predict(engine, [task], config_xml)

    assert detector.widths == [201]
    assert answer.prediction is not None
    (region,) = answer.prediction["result"]
    assert (region["original_width"], region["original_height"]) == (802, 600)
    # 10 to 50 of 201 pixels, 20 to 60 of 150.
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == pytest.approx(
        [1000 / 201, 2000 / 150, 4000 / 201, 4000 / 150]
    )


def test_a_model_that_draws_masks_sees_whole_images(
    make_engine: MakeEngine, settings: Settings, save_image: SaveImage, tmp_path: Path
) -> None:
    PillowImage.new("RGB", (802, 600), "blue").save(tmp_path / "a.jpg")
    detector = ReducingDetector()
    detector.task = "segment"
    engine = make_engine(detector, dataclasses.replace(settings, is_reducing=True))

    (answer,) = detect_files(engine, [tmp_path / "a.jpg"], score_floor=0.1)

    assert (detector.widths, answer.size) == ([802], ImageSize(802, 600))


def test_files_are_looked_at_in_their_order_and_a_bad_one_keeps_nobody(engine: Engine, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(30)]
    for number, path in enumerate(paths):
        PillowImage.new("RGB", (100 + number, 40)).save(path)
    paths[3].write_bytes(b"not an image")
    paths[5].unlink()

    answers = list(detect_files(engine, iter(paths), score_floor=0.1))

    assert [answer.path for answer in answers] == paths
    assert [number for number, answer in enumerate(answers) if answer.problem is not None] == [3, 5]
    assert [answer.size.width for answer in answers if answer.size is not None] == [
        100 + number for number in range(30) if number not in {3, 5}
    ]
    assert str(tmp_path) not in str([answer.problem for answer in answers])


def test_files_become_predictions_by_a_label_config(engine: Engine, tmp_path: Path, config_xml: str) -> None:
    for name in ("a.png", "b.png"):
        PillowImage.new("RGB", (100, 50)).save(tmp_path / name)

    answers = list(predict_files(engine, [tmp_path / "a.png", tmp_path / "b.png"], config_xml))

    predictions = [answer.prediction for answer in answers]
    assert predictions[0] is not None
    assert predictions == [predictions[0]] * 2
    assert predictions[0]["result"][0]["value"]["rectanglelabels"] == ["Car"]


def test_an_iterator_that_is_left_early_leaves_nothing_running(
    engine: Engine, detector: WatchedDetector, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(200)]
    for number, path in enumerate(paths):
        PillowImage.new("RGB", (100 + number, 40)).save(path)
    answers: Iterator[FileAnswer] = detect_files(engine, paths, score_floor=0.1)
    next(answers)
    answers.close()  # type: ignore[attr-defined]
    engine.close()

    assert len(detector.widths) < 100


class Helper:
    """Answers a click with one region."""

    def suggest(
        self, image: Image, sha256: str, context_result: Sequence[Mapping[str, Any]], plan: Any, **_: Any
    ) -> Any:
        return [{"id": context_result[-1]["id"], "from_name": "label"}]


def test_an_annotator_who_draws_is_answered_by_the_assistant(
    engine: Engine, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    engine.holder.get().assistant = Helper()
    (task,) = save_widths([100])

    suggestion = engine.suggest(task, engine.prepare(config_xml, lane=Lane.PERSON), [{"id": "a"}, {"id": "b"}])

    assert suggestion["result"] == [{"id": "b", "from_name": "label"}]
    assert suggestion["model_version"] == "w-12345678"


def test_without_an_assistant_a_click_gets_nothing(
    engine: Engine, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    (task,) = save_widths([100])
    ask = engine.prepare(config_xml, lane=Lane.PERSON)

    assert engine.suggest(task, ask, [{"id": "a"}]) == to_failed_prediction("w-12345678")


class Vocabulary:
    """Finds the last of the classes it was told."""

    task = "zero_shot"
    licence = "none"
    names: Mapping[int, str] = {}

    def set_classes(self, names: Sequence[str]) -> None:
        self.names = dict(enumerate(names))

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        found = make_detections((10, 20, 50, 60, 0.75, 0))
        return [dataclasses.replace(found, class_ids=np.array([len(self.names) - 1])) for _ in images]


def test_an_open_vocabulary_model_looks_for_the_labels_of_each_config(
    make_engine: MakeEngine, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    detector: Detector = Vocabulary()
    engine = make_engine(detector)
    tasks = save_widths([100])
    renamed = config_xml.replace("Forklift", "Crane")

    labels = [
        answer.prediction["result"][0]["value"]["rectanglelabels"]
        for xml in (config_xml, renamed, config_xml)
        for answer in predict(engine, tasks, xml)
        if answer.prediction is not None
    ]

    assert labels == [["Forklift"], ["Crane"], ["Forklift"]]


def test_files_are_searched_for_the_labels_of_the_config_too(
    make_engine: MakeEngine, tmp_path: Path, config_xml: str
) -> None:
    PillowImage.new("RGB", (100, 50)).save(tmp_path / "a.png")

    (answer,) = predict_files(make_engine(Vocabulary()), [tmp_path / "a.png"], config_xml)

    assert answer.prediction is not None
    assert answer.prediction["result"][0]["value"]["rectanglelabels"] == ["Forklift"]


def test_however_many_people_ask_no_more_of_their_images_are_in_memory_than_there_is_room_for(
    engine: Engine, detector: WatchedDetector, save_widths: Callable[..., list[dict[str, Any]]], config_xml: str
) -> None:
    room = engine._looker._room = Room(5 * 40 * 110 * 3)
    detector.gate.clear()
    tasks = save_widths(range(100, 110))
    answers: list[Answer] = []

    def ask(few: list[dict[str, Any]]) -> None:
        answers.extend(predict(engine, few, config_xml, Lane.PERSON))

    people = [in_thread(partial(ask, tasks[start : start + 2])) for start in range(0, 10, 2)]
    batch = in_thread(lambda: answers.extend(predict(engine, save_widths(range(110, 130)), config_xml)))
    assert detector.entered.wait(WAIT_S)
    while engine.metrics.read_value("cache_lookups_total", result="miss") < 6:
        pass

    assert room.taken_bytes <= 5 * 40 * 110 * 3
    detector.gate.set()
    for thread in (*people, batch):
        thread.join(WAIT_S)
    assert [answer.problem for answer in answers] == [None] * 30
    assert room.taken_bytes == 0


def test_an_image_that_cannot_be_decoded_or_looked_at_takes_no_room_for_good(
    engine: Engine,
    detector: WatchedDetector,
    save_image: SaveImage,
    save_widths: Callable[..., list[dict[str, Any]]],
    config_xml: str,
) -> None:
    cut = save_image("cut.png", encode(PillowImage.new("RGB", (90, 40)))[:60])
    red = save_image("red.png", PillowImage.new("RGB", (90, 40), "red"))
    tasks = [{"id": number, "data": {"image": url}} for number, url in enumerate((cut, red))]

    answers = predict(engine, tasks, config_xml)
    engine.holder.get().assistant = Helper()
    engine.suggest(save_widths([91])[0], engine.prepare(config_xml, lane=Lane.PERSON), [{"id": "a"}])

    assert [answer.prediction for answer in answers] == [None, None]
    assert engine._looker._room.taken_bytes == 0
