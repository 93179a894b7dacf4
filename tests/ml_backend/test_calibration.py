import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labels.errors import LabelingError
from ml_backend.detectors import Detections, Image
from ml_backend.models.calibration import (
    SHARED,
    CalibratedDetector,
    Calibration,
    Curve,
    find_base_version,
    load_calibration,
    write_calibration,
)
from ml_backend.models.calibration_fit import (
    METHODS,
    Example,
    compute_bins,
    compute_calibration_error,
    fit_calibration,
    fit_curve,
)

MakeDetections = Callable[..., Detections]
HALVED = Curve((0.0, 0.5, 1.0), (0.0, 0.25, 1.0))
STRAIGHT = Curve((0.0, 1.0), (0.0, 1.0))


def make_calibration(**changed: object) -> Calibration:
    values: dict[str, object] = {
        "model_version": "w-1",
        "method": "platt",
        "groups": {SHARED: STRAIGHT, "car": HALVED},
        "classes": {"car": "car", "truck": "car"},
        "examples": 120,
        "error_before": 0.06,
        "error_after": 0.03,
        "label_counts": {"Car": 7, "Person": 0},
    }
    return Calibration(**(values | changed))  # type: ignore[arg-type]


def make_examples(
    count: int, *, is_right: Callable[[float, float], bool], classes: Sequence[str] = ("car",), images: int = 40
) -> list[Example]:
    rng = np.random.default_rng(7)
    return [
        Example(f"image {number % images}", classes[number % len(classes)], float(score), is_right(score, chance))
        for number, (score, chance) in enumerate(rng.uniform(0, 1, (count, 2)))
    ]


class Detector:
    """Finds the same in every image."""

    names: Mapping[int, str] = {0: "car", 1: "Truck", 2: "person"}
    task = "detect"
    licence = "unknown"
    keypoint_names = ("tip",)

    def __init__(self, found: Detections) -> None:
        self.found = found
        self.floors: list[float] = []

    def detect(self, images: Sequence[Image], *, score_floor: float) -> list[Detections]:
        self.floors.append(score_floor)
        return [self.found.select(self.found.scores > score_floor) for _ in images]


# Applying it


def test_a_class_has_the_curve_of_its_group_whatever_its_case_and_others_the_shared_one() -> None:
    calibration = make_calibration()

    assert calibration.curve_for("TRUCK ") is calibration.groups["car"]
    assert calibration.curve_for("person") is calibration.groups[SHARED]


def test_a_calibrated_detector_answers_calibrated_scores_best_first(detections: MakeDetections) -> None:
    inner = Detector(
        detections((0, 0, 9, 9, 0.5, 0), (0, 0, 8, 8, 0.45, 2), (0, 0, 7, 7, 0.4, 1), (0, 0, 6, 6, 0.1, 2))
    )

    (found,) = CalibratedDetector(inner, make_calibration()).detect([np.zeros((4, 5, 3), np.uint8)], score_floor=0.2)

    # Cars and trucks: .5 → .25, .4 → .2, which is not above the floor. Persons stay as they are.
    assert found.scores.tolist() == pytest.approx([0.45, 0.25])
    assert found.xyxy[:, 2].tolist() == [8, 9]
    # A person of .2 stays .2, a car needs .4: the lowest raw score that can reach the floor.
    assert inner.floors == [pytest.approx(0.2, abs=1e-5)]


def test_what_each_look_found_is_calibrated_like_the_boxes_they_became(detections: MakeDetections) -> None:
    look = detections((0, 0, 9, 9, 0.5, 0), (0, 0, 8, 8, 0.45, 2))
    found = replace(look, views=(look, detections()))

    calibrated = make_calibration().apply(found, {0: "car", 1: "truck", 2: "person"})

    assert calibrated.views is not None
    first, second = calibrated.views
    assert first.scores.tolist() == calibrated.scores.tolist() == pytest.approx([0.45, 0.25])
    assert len(second) == 0


def test_what_a_detector_can_besides_it_still_can(detections: MakeDetections) -> None:
    wrapped = CalibratedDetector(Detector(detections()), make_calibration())

    assert (wrapped.names[0], wrapped.task, wrapped.licence, wrapped.keypoint_names) == (
        "car",
        "detect",
        "unknown",
        ("tip",),
    )


def test_the_probabilities_of_a_classifier_and_of_every_class_are_calibrated(detections: MakeDetections) -> None:
    calibration = make_calibration()
    names = Detector.names
    image = Detections.nothing(np.array([0.5, 0.25, 0.125], np.float32))
    box = detections((0, 0, 9, 9, 0.5, 0))
    boxes = Detections(box.xyxy, box.scores, box.class_ids, np.array([[0.5, 0.25, 0.125]], np.float32))

    answered = calibration.apply(image, names).image_probabilities
    of_boxes = calibration.apply(boxes, names).probabilities

    assert answered is not None
    assert of_boxes is not None
    assert answered.tolist() == of_boxes[0].tolist() == [0.25, 0.125, 0.125]


scores = st.lists(st.floats(0, 1), min_size=2, max_size=20)


@settings(deadline=None)  # the first fit imports scikit-learn
@given(scores, st.sampled_from(METHODS), st.integers(0, 99))
def test_a_fitted_curve_keeps_the_order_of_scores_and_brings_them_back(
    values: list[float], method: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.uniform(0, 1, 80)
    curve = fit_curve(raw, rng.uniform(0, 1, 80) < raw**2, method)
    ordered = np.sort(np.round(np.array(values), 3))

    probabilities = curve.apply(ordered)

    assert np.all((probabilities >= 0) & (probabilities <= 1))
    assert np.all(np.diff(probabilities)[np.diff(ordered) > 0] > 0)
    assert np.allclose(curve.invert(probabilities), ordered, atol=1e-3)


@pytest.mark.parametrize(
    ("raw", "probability"),
    [((0.0,), (0.0,)), ((0.0, 1.0), (0.5, 0.5)), ((0.0, 1.0), (0.0, 1.5)), ((0.0, 0.5, 1.0), (0.0, 1.0))],
)
def test_what_does_not_rise_within_0_and_1_is_no_curve(raw: tuple[float, ...], probability: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="curve"):
        Curve(raw, probability)


# Fitting


def test_the_calibration_error_is_the_mean_distance_of_said_and_true_share() -> None:
    # Ten boxes of .95 of which half is right: .45 off; ten of .5 of which half is right: nothing off.
    probabilities = np.array([0.95] * 10 + [0.5] * 10)
    is_right = np.array([True, False] * 10)

    assert compute_calibration_error(probabilities, is_right) == pytest.approx(0.225)
    assert [(one.count, one.right_share) for one in compute_bins(probabilities, is_right)] == [(10, 0.5), (10, 0.5)]


def test_a_probability_of_one_belongs_to_the_last_bin() -> None:
    assert [one.count for one in compute_bins(np.array([1.0, 0.99]), np.array([True, True]))] == [2]


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_is_too_sure_is_put_right(method: str) -> None:
    fit = fit_calibration(
        make_examples(3000, is_right=lambda score, chance: chance < score**2), model_version="w-1", method=method
    )

    # It says p and is right in p² of its boxes: off by 1/2 - 1/3 on the mean.
    assert fit.calibration.error_before == pytest.approx(1 / 6, abs=0.02)
    assert fit.calibration.error_after < 0.04
    assert fit.calibration.groups["car"].apply([0.5])[0] == pytest.approx(0.25, abs=0.05)


def test_a_class_with_enough_examples_has_its_own_curve_and_the_others_share_one() -> None:
    examples = make_examples(600, is_right=lambda score, chance: chance < score**2)
    examples += make_examples(30, is_right=lambda score, chance: chance < score, classes=("tram",))

    calibration = fit_calibration(examples, model_version="w-1", aliases={"CAR": ["truck"]}).calibration

    assert calibration.classes == {"car": "car", "truck": "car"}
    assert sorted(calibration.groups) == ["car", SHARED]


def test_the_same_examples_in_another_order_give_the_same_version() -> None:
    examples = make_examples(300, is_right=lambda score, chance: chance < score**2)

    first = fit_calibration(examples, model_version="w-1").calibration
    second = fit_calibration(examples[::-1], model_version="w-1").calibration

    assert first == second
    assert first.version == second.version


@pytest.mark.parametrize(
    "examples",
    [
        [],
        make_examples(40, is_right=lambda score, chance: chance < score),
        make_examples(200, is_right=lambda score, chance: True),
        make_examples(200, is_right=lambda score, chance: chance < 0.02),
        make_examples(200, is_right=lambda score, chance: chance < score, images=3),
    ],
)
def test_too_little_to_calibrate_with_is_refused_with_what_is_missing(examples: list[Example]) -> None:
    with pytest.raises(LabelingError, match=r"too little to calibrate with: \d+ boxes on \d+ reviewed images"):
        fit_calibration(examples, model_version="w-1")


def test_boxes_that_scores_separate_perfectly_and_boxes_in_the_wrong_order_give_a_curve() -> None:
    separated = fit_curve(np.linspace(0, 1, 60), np.linspace(0, 1, 60) > 0.5, "platt")
    backwards = fit_curve(np.linspace(0, 1, 60), np.linspace(0, 1, 60) < 0.5, "platt")

    assert separated.apply([0.2, 0.8]).tolist() == pytest.approx([0.0, 1.0], abs=0.05)
    assert backwards.apply([0.01, 0.99]).tolist() == pytest.approx([0.5, 0.5], abs=0.01)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(LabelingError, match="'temperature' is not known"):
        fit_curve(np.array([0.5, 0.6]), np.array([True, False]), "temperature")


# The file


def test_what_is_written_is_read_back_and_a_version_is_kept_for_good(tmp_path: Path) -> None:
    first, second = make_calibration(), make_calibration(classes={"car": "car"})

    write_calibration(tmp_path, first)
    path = write_calibration(tmp_path, second)

    assert load_calibration(tmp_path, "w-1") == second
    assert load_calibration(tmp_path, first.version) == first
    assert path.name == "w-1.calibration.json"
    assert json.loads(path.read_text())["format"] == 1


def test_weights_without_a_calibration_have_none(tmp_path: Path) -> None:
    assert load_calibration(tmp_path, "w-1") is None


def test_the_version_names_the_weights_and_the_curves_alone() -> None:
    calibration = make_calibration()

    assert find_base_version(calibration.version) == "w-1"
    assert find_base_version("w-1") == "w-1"
    assert calibration.version == make_calibration(examples=500, error_after=0.01, label_counts={}).version
    assert calibration.version != make_calibration(groups={SHARED: STRAIGHT, "car": STRAIGHT}).version


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "model_version": "w-1", "method": "platt", "groups": {}, "classes": {}, "examples": 1,'
        ' "error_before": 0, "error_after": 0, "label_counts": {}}',
    ],
)
def test_a_damaged_file_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    path = write_calibration(tmp_path, make_calibration())
    path.write_text(text)

    with pytest.raises(LabelingError, match=r"w-1\.calibration\.json: not a calibration"):
        load_calibration(tmp_path, "w-1")
