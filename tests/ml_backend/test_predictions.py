from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.config import LabelConfig
from labels.errors import LabelConfigError
from labels.geometry import Box, ImageSize
from labels.results import from_result
from ml_backend.detectors import Detections
from ml_backend.predictions import (
    LabelPlan,
    LabelPlans,
    PredictedItem,
    build_plan,
    compute_region_id,
    to_labels,
    to_prediction,
)
from ml_backend.uncertainty import NOTHING_FOUND_UNCERTAINTY

NAMES = {0: "car", 1: "truck", 2: "zebra", 3: "PERSON"}
SIZE = ImageSize(200, 100)
ITEM = PredictedItem("sample 1", "ab12", SIZE)
MakeDetections = Callable[..., Detections]


@pytest.fixture
def plan(config_xml: str) -> LabelPlan:
    return build_plan(LabelConfig.from_xml(config_xml), NAMES, score_threshold=0.2)


def test_model_classes_become_labels_whatever_their_case_and_by_predicted_values(plan: LabelPlan) -> None:
    assert plan.classes == {0: "Car", 1: "Car", 3: "Person"}


def test_labels_no_model_class_stands_for_are_listed_and_logged_once(
    config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    plans = LabelPlans(NAMES, score_threshold=0.2)

    first, second = plans.get(config_xml), plans.get(config_xml)

    assert first is second
    assert first.unmapped_labels == ("Forklift",)
    assert len([record for record in caplog.records if "Forklift" in record.getMessage()]) == 1


def test_the_threshold_of_the_control_goes_before_the_default(config_xml: str) -> None:
    xml = config_xml.replace('name="label"', 'name="label" model_score_threshold="0"')

    assert build_plan(LabelConfig.from_xml(xml), NAMES, score_threshold=0.2).score_threshold == 0.0


@pytest.mark.parametrize(
    "xml",
    [
        "<View/>",
        "<View",
        "",
        '<View><Image name="i" value="$i"/><Rating name="r" toName="i"/></View>',
        " " * 1_000_001,
    ],
)
def test_a_config_without_boxes_is_an_error(xml: str) -> None:
    with pytest.raises(LabelConfigError):
        LabelPlans(NAMES, score_threshold=0.2).get(xml)


def test_only_so_many_plans_are_kept(config_xml: str) -> None:
    plans = LabelPlans(NAMES, score_threshold=0.2)
    first = plans.get(config_xml)

    for number in range(32):
        plans.get(config_xml + " " * (number + 1))

    assert plans.get(config_xml) is not first
    assert plans.get(config_xml) == first


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
    plan = build_plan(LabelConfig.from_xml(config_xml), NAMES, score_threshold=0.5)

    assert len(to_labels(ITEM, detections((1, 2, 3, 4, 0.5, 0)), plan, model_version="w-1")) == 1


def test_the_score_is_one_minus_the_uncertainty_of_the_boxes_shown(plan: LabelPlan, detections: MakeDetections) -> None:
    found = detections((0, 0, 9, 9, 0.75, 0), (0, 0, 9, 8, 0.25, 3), (0, 0, 9, 9, 0.99, 2), (0, 0, 9, 9, 0.01, 0))

    assert to_prediction(ITEM, found, plan, model_version="w-1")["score"] == pytest.approx(0.5)


def test_nothing_found_is_an_empty_result_with_its_own_score(plan: LabelPlan, detections: MakeDetections) -> None:
    assert to_prediction(ITEM, detections(), plan, model_version="w-1") == {
        "model_version": "w-1",
        "score": 1 - NOTHING_FOUND_UNCERTAINTY,
        "result": [],
    }


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
        LabelConfig.from_xml(f'<View><Image name="i" value="$i"/>{boxes}</View>'), NAMES, score_threshold=0.2
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
