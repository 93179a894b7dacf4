import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import from_result
from ml_backend.answers.label_plans import LabelPlan, Thresholds, build_plan
from ml_backend.answers.predictions import to_failed_prediction, to_prediction
from ml_backend.answers.regions import PredictedItem, compute_region_id, to_labels
from ml_backend.answers.uncertainty import NOTHING_FOUND_UNCERTAINTY
from ml_backend.detectors import Detections
from ml_backend.models.augmentation import ViewsDetector
from ml_backend.models.fusion import Fusion, fuse
from tests.ml_backend.conftest import FakeDetector

NAMES = {0: "car", 1: "truck", 2: "zebra", 3: "PERSON"}
SIZE = ImageSize(200, 100)
ITEM = PredictedItem("sample 1", "ab12", SIZE)
MakeDetections = Callable[..., Detections]
# Binary entropies in bits, worked out by hand.
H_75 = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
H_125 = -(0.125 * math.log2(0.125) + 0.875 * math.log2(0.875))


@pytest.fixture
def plan(config_xml: str) -> LabelPlan:
    return build_plan(LabelConfig.from_xml(config_xml), NAMES, thresholds=Thresholds(0.2))


def test_a_prediction_holds_regions_in_percent_of_an_image_that_is_not_square(
    plan: LabelPlan, detections: MakeDetections
) -> None:
    prediction = to_prediction(ITEM, detections((20, 10, 120, 60, 0.75, 1)), plan, model_version="w-1")

    region_id = prediction["result"][0]["id"]
    assert prediction == {
        "model_version": "w-1",
        "score": 0.75,
        "result": [
            {
                "id": region_id,
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": 200,
                "original_height": 100,
                "image_rotation": 0,
                "score": 0.75,
                "value": {
                    "x": 10.0,
                    "y": 10.0,
                    "width": 50.0,
                    "height": 50.0,
                    "rotation": 0.0,
                    "rectanglelabels": ["Car"],
                },
            }
        ],
        "prediction_meta": {
            "served_score": "u_mean",
            "u_mean": 0.25,
            "u_sum": pytest.approx(H_75 / (H_75 + 5)),
            "u_disagree": None,
            "u_rare": None,
            "effort": pytest.approx(H_75),
            "comparison": {"least_confidence": 0.25, "mean_entropy": pytest.approx(H_75)},
            "calibrated": False,
        },
    }


def test_the_regions_read_back_are_the_boxes_found(plan: LabelPlan, detections: MakeDetections) -> None:
    prediction = to_prediction(ITEM, detections((20, 10, 120, 60, 0.75, 0)), plan, model_version="w-1")

    (label,) = from_result(prediction["result"], plan.config, item="task 1")

    assert (label.class_name, label.geometry, label.confidence) == ("Car", Box(20, 10, 100, 50), 0.75)


def test_what_the_config_does_not_know_or_show_is_left_out(plan: LabelPlan, detections: MakeDetections) -> None:
    found = detections(
        (0, 0, 10, 10, 0.9, 2),  # a zebra is not in the config
        (0, 0, 10, 10, 0.9, 77),  # nor is a class without a name
        (0, 0, 10, 10, 0.125, 0),  # below the threshold
        (5, 5, 5, 10, 0.9, 0),  # without an area
        (0, 0, float("nan"), 10, 0.9, 0),
        (1, 2, 3, 4, 0.5, 3),
    )

    labels = to_labels(ITEM, found, plan, model_version="w-1")

    assert [(label.classes, label.geometry) for label in labels] == [(("Person",), Box(1, 2, 2, 2))]


def test_a_box_exactly_at_the_threshold_is_shown(config_xml: str, detections: MakeDetections) -> None:
    plan = build_plan(LabelConfig.from_xml(config_xml), NAMES, thresholds=Thresholds(0.5))

    assert len(to_labels(ITEM, detections((1, 2, 3, 4, 0.5, 0)), plan, model_version="w-1")) == 1


def test_the_score_is_one_minus_the_uncertainty_of_the_boxes_shown(plan: LabelPlan, detections: MakeDetections) -> None:
    found = detections((0, 0, 9, 9, 0.75, 0), (0, 0, 9, 8, 0.25, 3), (0, 0, 9, 9, 0.99, 2), (0, 0, 9, 9, 0.01, 0))

    assert to_prediction(ITEM, found, plan, model_version="w-1")["score"] == pytest.approx(0.5)


def test_nothing_found_is_an_empty_result_with_its_own_score(plan: LabelPlan, detections: MakeDetections) -> None:
    prediction = to_prediction(ITEM, detections(), plan, model_version="w-1", label_counts={"Car": 3})

    meta = prediction.pop("prediction_meta")
    # Three cars and never a person: cars are of rarity sqrt(1 / 4).
    assert prediction == {"model_version": "w-1", "score": 1 - NOTHING_FOUND_UNCERTAINTY, "result": []}
    assert (meta["u_mean"], meta["u_sum"], meta["u_rare"], meta["effort"]) == (0.5, 0.5, 0.25, 0.0)


def test_nothing_found_and_nothing_computed_are_two_answers(plan: LabelPlan, detections: MakeDetections) -> None:
    found = to_prediction(ITEM, detections(), plan, model_version="w-1")

    failed = to_failed_prediction("w-1")

    assert (found["score"], failed["score"]) == (0.5, None)
    assert failed["prediction_meta"] is None


def test_the_score_that_is_served_is_a_setting(plan: LabelPlan, detections: MakeDetections) -> None:
    found = detections((0, 0, 9, 9, 0.5, 0), (0, 0, 9, 8, 0.5, 3))

    prediction = to_prediction(ITEM, found, plan, model_version="w-1", served="u_sum")

    # Two boxes of one bit each: 2 / (2 + 5).
    assert (prediction["score"], prediction["prediction_meta"]["served_score"]) == (pytest.approx(5 / 7), "u_sum")


def test_a_score_that_was_not_computed_is_replaced_by_the_default_and_said_so(
    plan: LabelPlan, detections: MakeDetections
) -> None:
    prediction = to_prediction(ITEM, detections((0, 0, 9, 9, 0.75, 0)), plan, model_version="w-1", served="u_disagree")

    assert (prediction["score"], prediction["prediction_meta"]["served_score"]) == (0.75, "u_mean")


def test_rare_classes_come_first_with_the_counts_of_reviewed_labels(
    plan: LabelPlan, detections: MakeDetections
) -> None:
    found = detections((0, 0, 9, 9, 0.5, 0), (0, 0, 9, 8, 0.5, 3))

    meta = to_prediction(ITEM, found, plan, model_version="w-1", label_counts={"Car": 24, "Person": 0})[
        "prediction_meta"
    ]

    # Cars count sqrt(1 / 25) = .2, persons 1: the mean of .5 x .2 and .5 x 1.
    assert meta["u_rare"] == pytest.approx(0.3)


def test_boxes_below_the_threshold_count_for_the_effort_and_are_not_shown(
    plan: LabelPlan, detections: MakeDetections
) -> None:
    found = detections((0, 0, 9, 9, 0.5, 0), (50, 0, 90, 40, 0.125, 0), (50, 0, 90, 40, 0.9, 2))

    prediction = to_prediction(ITEM, found, plan, model_version="w-1")

    assert len(prediction["result"]) == 1
    assert prediction["prediction_meta"]["effort"] == pytest.approx(1 + H_125)
    assert prediction["prediction_meta"]["u_mean"] == 0.5


def look_twice(found: Detections) -> Detections:
    """Return what a detector finds that sees the same in the mirrored image."""
    detector = ViewsDetector(FakeDetector(found), ("flip",), Fusion())
    (answer,) = detector.detect([np.zeros((100, 200, 3), np.uint8)], score_floor=0.04)
    return answer


@pytest.mark.parametrize(
    "row",
    [
        pytest.param((90, 10, 110, 60, 0.9, 2), id="a zebra, which the config does not know"),
        pytest.param((90, 10, 110, 60, 0.375, 3), id="a person below the threshold"),
    ],
)
def test_views_that_agree_on_what_nobody_is_shown_have_found_nothing(
    row: tuple[float, ...], config_xml: str, detections: MakeDetections
) -> None:
    plan = build_plan(LabelConfig.from_xml(config_xml), NAMES, thresholds=Thresholds(0.5))
    counts = {"Car": 3, "Person": 3}

    prediction = to_prediction(
        ITEM, look_twice(detections(row)), plan, model_version="w-1", served="u_disagree", label_counts=counts
    )

    meta = prediction["prediction_meta"]
    assert (prediction["result"], prediction["score"], meta["served_score"]) == ([], 0.5, "u_disagree")
    assert (meta["u_mean"], meta["u_disagree"], meta["u_rare"]) == (0.5, 0.5, 0.5)


def test_views_that_agree_on_a_box_that_is_shown_do_not_disagree(plan: LabelPlan, detections: MakeDetections) -> None:
    found = look_twice(detections((90, 10, 110, 60, 0.75, 3)))

    meta = to_prediction(ITEM, found, plan, model_version="w-1")["prediction_meta"]

    assert meta["u_disagree"] == pytest.approx(0.0, abs=1e-6)


def test_views_disagree_about_labels_and_not_about_classes_that_one_label_stands_for(
    plan: LabelPlan, detections: MakeDetections
) -> None:
    """One look takes the van for a car, the other for a truck, less surely: both are a «Car»."""
    car, truck, person = (
        detections((20, 10, 120, 60, score, number)) for score, number in ((0.8, 0), (0.6, 1), (0.6, 3))
    )

    said = [
        to_prediction(ITEM, fuse([car, other], Fusion(), (200, 100)), plan, model_version="w-1")["prediction_meta"]
        for other in (truck, person)
    ]

    assert [meta["u_disagree"] for meta in said] == [pytest.approx(1 - 0.6 / 0.8), 1.0]


def test_a_label_counts_for_the_disagreement_from_its_own_threshold_on(
    config_xml: str, detections: MakeDetections
) -> None:
    found = fuse([detections((20, 10, 120, 60, 0.125, 3)), detections()], Fusion(), (200, 100))

    def read(thresholds: Thresholds) -> float:
        plan = build_plan(LabelConfig.from_xml(config_xml), NAMES, thresholds=thresholds)
        meta = to_prediction(ITEM, found, plan, model_version="w-1")["prediction_meta"]
        return float(meta["u_disagree"])

    # One look shows it from .1 on, and the other does not see it; from .2 on neither shows anything.
    assert (read(Thresholds(0.2, {"person": 0.1})), read(Thresholds(0.2))) == (1.0, NOTHING_FOUND_UNCERTAINTY)


def test_two_boxes_in_one_place_have_two_ids(plan: LabelPlan, detections: MakeDetections) -> None:
    labels = to_labels(ITEM, detections(*[(1, 2, 30, 40, 0.5, 0)] * 3), plan, model_version="w-1")

    assert len({label.id for label in labels}) == 3


def test_an_id_changes_with_the_sample_the_file_the_model_and_the_place() -> None:
    ids = [
        compute_region_id(ITEM, "w-1", "Car 1 2 3 4 0"),
        compute_region_id(PredictedItem("sample 2", "ab12", SIZE), "w-1", "Car 1 2 3 4 0"),
        compute_region_id(PredictedItem("sample 1", "ab13", SIZE), "w-1", "Car 1 2 3 4 0"),
        compute_region_id(ITEM, "w-2", "Car 1 2 3 4 0"),
        compute_region_id(ITEM, "w-1", "Car 1 2 3 4 1"),
    ]

    assert len(set(ids)) == 5


@given(st.text(), st.text(), st.text())
def test_every_id_is_one_that_fiftyone_takes(identity: str, version: str, place: str) -> None:
    bson = pytest.importorskip("bson")

    region_id = compute_region_id(PredictedItem(identity, "ab12", SIZE), version, place)

    assert str(bson.ObjectId(region_id)) == region_id
    assert region_id == compute_region_id(PredictedItem(identity, "ab12", SIZE), version, place)


box = st.tuples(
    st.floats(0, 200, width=32),
    st.floats(0, 100, width=32),
    st.floats(0, 200, width=32),
    st.floats(0, 100, width=32),
    st.floats(0, 1, width=32),
    st.integers(0, 5),
)


@given(rows=st.lists(box, max_size=12))
def test_whatever_is_found_the_prediction_is_valid_for_its_config(rows: list[tuple[float, ...]]) -> None:
    boxes = '<RectangleLabels name="l" toName="i"><Label value="car"/></RectangleLabels>'
    plan = build_plan(
        LabelConfig.from_xml(f'<View><Image name="i" value="$i"/>{boxes}</View>'), NAMES, thresholds=Thresholds(0.2)
    )
    table = np.array(rows, np.float32).reshape(-1, 6)
    found = Detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))

    prediction = to_prediction(ITEM, found, plan, model_version="w-1")

    labels = from_result(prediction["result"], plan.config, item="task 1")
    expected = [
        row for row in rows if row[2] > row[0] and row[3] > row[1] and row[4] >= np.float32(0.2) and row[5] == 0
    ]
    assert len(labels) == len({label.id for label in labels}) == len(expected)
    assert 0 <= prediction["score"] <= 1
    meta = prediction["prediction_meta"]
    assert all(0 <= meta[name] <= 1 for name in ("u_mean", "u_sum"))
