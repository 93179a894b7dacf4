"""Scores of boxes, held against pycocotools and against cases that can be counted by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labels.geometry import ImageSize
from sync.models.boxes import Boxes, find_right
from sync.models.evaluation import Evaluation, evaluate_boxes
from sync.models.thresholds import choose_thresholds
from tests.sync.models.made_boxes import CLASSES, SIZE, ask_pycocotools, make_found, make_truth

IMAGES = 60


def evaluate(truth: Boxes, found: Boxes, *, images: int = IMAGES, **more: float) -> Evaluation:
    return evaluate_boxes([SIZE] * images, CLASSES, truth, found, **more)  # type: ignore[arg-type]


def found_boxes(*rows: tuple[int, int, tuple[float, float, float, float], float]) -> Boxes:
    boxes = Boxes.from_rows([row[:3] for row in rows])
    return Boxes(boxes.images, boxes.classes, boxes.xyxy, np.array([row[3] for row in rows], np.float64))


NOTHING = found_boxes()


@pytest.mark.parametrize(("seed", "off_px"), [(1, 2.0), (2, 6.0), (3, 12.0)])
def test_all_scores_are_those_of_pycocotools(seed: int, off_px: float) -> None:
    truth = make_truth(IMAGES)
    found = make_found(truth, seed=seed, off_px=off_px)

    ours, theirs = evaluate(truth, found), ask_pycocotools(truth, found, IMAGES)

    sizes = [one.map50_95 for one in ours.sizes]
    assert [ours.map50_95, ours.map50, ours.map75, *sizes] == pytest.approx(theirs.stats[:6].tolist(), abs=1e-6)
    precision = theirs.eval["precision"]
    for number, one in enumerate(ours.classes[:3]):
        assert one.map50_95 == pytest.approx(precision[:, :, number, 0, -1].mean(), abs=1e-6)
        assert one.map50 == pytest.approx(precision[0, :, number, 0, -1].mean(), abs=1e-6)
    assert list(ours.curve) == pytest.approx(precision[0, :, :3, 0, -1].mean(axis=1).tolist(), abs=1e-5)


def test_which_boxes_are_right_is_what_pycocotools_says_at_an_overlap_of_a_half() -> None:
    truth = make_truth(IMAGES)
    found = make_found(truth, seed=5, off_px=9.0)

    theirs = ask_pycocotools(truth, found, IMAGES)

    expected = np.zeros(len(found), np.bool_)
    for one in theirs.evalImgs:
        if one is not None and one["aRng"] == [0, 1e10]:
            for detection, example in zip(one["dtIds"], one["dtMatches"][0], strict=True):
                expected[detection - 1] = example > 0
    assert find_right(truth, found).tolist() == expected.tolist()


def test_a_class_without_an_example_has_no_score_and_does_not_pull_the_mean_down() -> None:
    truth = Boxes.from_rows([(0, 0, (10.0, 10.0, 60.0, 50.0))])
    found = found_boxes((0, 0, (10.0, 10.0, 60.0, 50.0), 0.9), (0, 3, (100.0, 10.0, 160.0, 50.0), 0.9))

    evaluation = evaluate(truth, found, images=2)

    never_drawn = evaluation.classes[3]
    said = (never_drawn.map50_95, never_drawn.map50, never_drawn.precision, never_drawn.recall)
    assert (never_drawn.examples, *said) == (0, None, None, None, None)
    assert evaluation.map50_95 == pytest.approx(1.0)
    assert (evaluation.precision, evaluation.recall) == (0.5, 1.0)
    assert [one.map50_95 for one in evaluation.sizes] == [None, pytest.approx(1.0), None]


def test_images_on_which_nobody_drew_anything_have_no_score_at_all() -> None:
    evaluation = evaluate(Boxes.from_rows([]), found_boxes((0, 0, (1.0, 1.0, 9.0, 9.0), 0.4)), images=3)

    assert (evaluation.images, evaluation.empty_images, evaluation.examples) == (3, 3, 0)
    assert (evaluation.map50_95, evaluation.recall, evaluation.curve) == (None, None, ())
    assert evaluation.precision == 0.0


def test_a_detector_that_finds_nothing_scores_zero_where_there_was_something_to_find() -> None:
    evaluation = evaluate(Boxes.from_rows([(0, 1, (10.0, 10.0, 60.0, 50.0))]), NOTHING, images=1)

    assert (evaluation.map50_95, evaluation.recall) == (0.0, 0.0)
    assert (evaluation.precision, evaluation.calibration_error) == (None, None)
    assert (evaluation.classes[1].recall, evaluation.classes[1].precision) == (0.0, None)


def test_what_is_found_on_an_image_without_boxes_is_wrong() -> None:
    truth = Boxes.from_rows([(0, 0, (10.0, 10.0, 60.0, 50.0))])
    right = (0, 0, (10.0, 10.0, 60.0, 50.0), 0.6)

    with_empty = evaluate(truth, found_boxes(right, (1, 0, (10.0, 10.0, 60.0, 50.0), 0.9)), images=2)

    assert with_empty.empty_images == 1
    assert with_empty.map50_95 == pytest.approx(0.5)
    assert evaluate(truth, found_boxes(right), images=2).map50_95 == pytest.approx(1.0)


def test_an_evaluation_goes_to_json_and_back() -> None:
    truth = make_truth(IMAGES)
    evaluation = evaluate(truth, make_found(truth, seed=4, off_px=5.0))

    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation


def test_a_threshold_is_where_f1_is_best() -> None:
    truth = Boxes.from_rows([(image, 0, (10.0, 10.0, 60.0, 50.0)) for image in range(10)])
    right = [(image, 0, (10.0, 10.0, 60.0, 50.0), 0.95 - image / 20) for image in range(8)]
    wrong = [(image, 0, (200.0, 10.0, 260.0, 50.0), 0.58 - image / 100) for image in range(10)]

    car, *others = choose_thresholds(CLASSES, truth, found_boxes(*right, *wrong), fewest_examples=10)

    # The surest eight right ones go down to 0.60, above every wrong one: precision 1, recall 0.8.
    assert (car.value, car.precision, car.recall) == (0.6, 1.0, 0.8)
    assert car.f1 == pytest.approx(2 * 0.8 / 1.8)
    assert [one.value for one in others] == [None, None, None]


def test_a_threshold_for_a_precision_shows_as_much_as_that_allows() -> None:
    truth = Boxes.from_rows([(image, 0, (10.0, 10.0, 60.0, 50.0)) for image in range(10)])
    rows = [(image, 0, (10.0, 10.0, 60.0, 50.0), 0.9 - image / 20) for image in range(10)]
    wrong = [(image, 0, (200.0, 10.0, 260.0, 50.0), 0.72) for image in range(2)]

    (strict, *_) = choose_thresholds(
        CLASSES, truth, found_boxes(*rows, *wrong), precision_floor=0.9, fewest_examples=10
    )
    (loose, *_) = choose_thresholds(CLASSES, truth, found_boxes(*rows, *wrong), precision_floor=0.8, fewest_examples=10)
    (never, *_) = choose_thresholds(CLASSES, truth, found_boxes(*wrong), precision_floor=0.8, fewest_examples=10)

    assert (strict.value, strict.precision, strict.recall) == (0.75, 1.0, 0.4)
    assert (loose.value, loose.recall) == (0.45, 1.0)
    assert never.value is None


def test_a_class_with_few_examples_keeps_the_default() -> None:
    truth = Boxes.from_rows([(image, 0, (10.0, 10.0, 60.0, 50.0)) for image in range(19)])
    found = found_boxes(*((image, 0, (10.0, 10.0, 60.0, 50.0), 0.9) for image in range(19)))

    (car, *_) = choose_thresholds(CLASSES, truth, found)

    assert (car.examples, car.value) == (19, None)


def test_boxes_of_images_of_any_size_are_scored_in_their_own_pixels() -> None:
    truth = Boxes.from_rows([(0, 0, (10.0, 10.0, 20.0, 30.0)), (1, 0, (100.0, 100.0, 400.0, 700.0))])
    found = found_boxes((0, 0, (10.0, 10.0, 20.0, 30.0), 0.9), (1, 0, (100.0, 100.0, 400.0, 700.0), 0.9))

    evaluation = evaluate_boxes([ImageSize(40, 60), ImageSize(500, 900)], ("car",), truth, found)

    assert [(one.name, one.examples) for one in evaluation.sizes] == [("small", 1), ("medium", 0), ("large", 1)]
    assert evaluation.map50_95 == pytest.approx(1.0)
