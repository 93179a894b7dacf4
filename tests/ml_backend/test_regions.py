import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label, from_result, to_result
from ml_backend.answers.label_plans import LabelPlan, Thresholds, build_plan
from ml_backend.answers.predictions import to_prediction
from ml_backend.answers.regions import PredictedItem, to_candidates, to_labelled_box, to_labels, to_mask, to_polygon
from ml_backend.detectors import Detections, MaskCrop

SIZE = ImageSize(200, 100)
ITEM = PredictedItem("sample 1", "ab12", SIZE)
NAMES = {0: "car", 1: "person", 2: "zebra"}
MakeDetections = Callable[..., Detections]


def make_plan(controls: str, *, task: str, names: dict[int, str] | None = None) -> LabelPlan:
    xml = f'<View><Image name="image" value="$image"/>{controls}</View>'
    return build_plan(LabelConfig.from_xml(xml), names or NAMES, thresholds=Thresholds(0.2), task=task)


def make_control(kind: str, *labels: str, attributes: str = "") -> str:
    tag = "Choice" if kind == "Choices" else "Label"
    inside = "".join(f'<{tag} value="{label}"/>' for label in labels)
    return f'<{kind} name="{kind.lower()}" toName="image" {attributes}>{inside}</{kind}>'


def draw(found: Detections, plan: LabelPlan) -> list[Label]:
    return to_labels(ITEM, found, plan, model_version="w-1")


# Oriented boxes


def test_a_turned_box_turns_round_its_top_left_corner_and_stays_where_it_was(detections: MakeDetections) -> None:
    # 60 x 20 round (100, 50), a quarter turn clockwise: what was its top left corner (70, 40) is at (110, 20).
    found = replace(detections((70, 40, 130, 60, 0.9, 0)), rotations_deg=np.array([90], np.float32))
    plan = make_plan(make_control("RectangleLabels", "car"), task="obb")

    (region,) = to_result(draw(found, plan), plan.config, SIZE)

    # Percent of 200 x 100 pixels; the sides stay those of the box before its turn.
    assert region["value"] == {
        "x": pytest.approx(55.0),
        "y": pytest.approx(20.0),
        "width": 30.0,
        "height": 20.0,
        "rotation": 90.0,
        "rectanglelabels": ["car"],
    }
    (label,) = from_result([region], plan.config, item="task 1")
    assert isinstance(label.geometry, Box)
    expected = [(110, 20), (110, 80), (90, 80), (90, 20)]
    assert np.allclose(label.geometry.corners(), expected, atol=1e-5)


def test_a_box_turned_by_30_degrees_has_the_corners_worked_out_by_hand(detections: MakeDetections) -> None:
    found = replace(detections((80, 40, 120, 60, 0.9, 0)), rotations_deg=np.array([30], np.float32))
    plan = make_plan(make_control("RectangleLabels", "car"), task="obb")

    (label,) = draw(found, plan)

    assert isinstance(label.geometry, Box)
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    across, down = np.array([20 * cos, 20 * sin]), np.array([-10 * sin, 10 * cos])
    centre = np.array([100.0, 50.0])
    expected = [centre - across - down, centre + across - down, centre + across + down, centre - across + down]
    assert np.allclose(label.geometry.corners(), expected, atol=1e-4)


@given(
    st.floats(5, 195), st.floats(5, 95), st.floats(1, 80), st.floats(1, 60), st.floats(-360, 720, allow_subnormal=False)
)
def test_a_turned_box_is_one_label_studio_takes_and_covers_the_same(
    x: float, y: float, width: float, height: float, turn: float
) -> None:
    box = Box(0, 0, width, height, turn)
    placed = replace(box, x=x, y=y)

    taken = to_labelled_box(placed, SIZE)

    assert taken is not None
    assert taken == placed or 0 <= taken.rotation_deg < 360
    if taken != placed:
        assert 0 <= taken.x <= SIZE.width
        assert 0 <= taken.y <= SIZE.height
        same = sorted((round(px, 3), round(py, 3)) for px, py in taken.corners())
        assert np.allclose(same, sorted((round(px, 3), round(py, 3)) for px, py in placed.corners()), atol=2e-3)


def test_a_turned_box_with_all_corners_outside_is_cut_at_the_edge() -> None:
    taken = to_labelled_box(Box(100, -100, 220, 220, 45), SIZE)

    assert taken == Box(0, 0, 200, 100)


# Masks


def make_crop() -> MaskCrop:
    pixels = np.zeros((40, 60), np.bool_)
    pixels[10:30, 5:55] = True
    pixels[0:2, 0:2] = True  # a speck that is no part of the object
    return MaskCrop(20, 30, pixels)


def test_a_mask_becomes_a_brush_stroke_of_the_whole_image(detections: MakeDetections) -> None:
    found = replace(detections((20, 30, 80, 70, 0.9, 0)), masks=(make_crop(),))
    plan = make_plan(make_control("BrushLabels", "car"), task="segment")

    labels = draw(found, plan)

    (read_back,) = from_result(to_result(labels, plan.config, SIZE), plan.config, item="task 1")
    assert isinstance(read_back.geometry, Mask)
    painted = np.zeros((100, 200), np.bool_)
    painted[40:60, 25:75] = True
    painted[30:32, 20:22] = True
    assert np.array_equal(read_back.geometry.pixels, painted)


def test_a_mask_becomes_the_outline_of_its_largest_part(detections: MakeDetections) -> None:
    found = replace(detections((20, 30, 80, 70, 0.9, 0)), masks=(make_crop(),))
    plan = make_plan(make_control("PolygonLabels", "car"), task="segment")

    (label,) = draw(found, plan)

    assert isinstance(label.geometry, Polygon)
    # 50 x 20 pixels from (25, 40); the outline cuts the corners of pixels.
    assert label.geometry.area == pytest.approx(1000, rel=0.01)
    assert np.allclose(label.geometry.to_xyxy(), (25, 40, 75, 60), atol=0.01)
    assert len(label.geometry.points) <= 8


def test_a_mask_that_sticks_out_of_the_image_is_cut() -> None:
    crop = MaskCrop(-2, 95, np.ones((10, 6), np.bool_))

    mask, polygon = to_mask(crop, SIZE), to_polygon(crop, SIZE)

    assert mask.to_xyxy() == (0, 95, 4, 100)
    assert polygon is not None
    assert polygon.to_xyxy() == (0, 95, 4, 100)


@pytest.mark.parametrize("kind", ["BrushLabels", "PolygonLabels"])
def test_an_empty_mask_is_not_drawn(kind: str, detections: MakeDetections) -> None:
    empty = MaskCrop(20, 30, np.zeros((4, 5), np.bool_))
    found = replace(detections((20, 30, 25, 34, 0.9, 0)), masks=(empty,))

    assert draw(found, make_plan(make_control(kind, "car"), task="segment")) == []


def test_a_mask_of_one_pixel_has_an_outline() -> None:
    polygon = to_polygon(MaskCrop(7, 8, np.ones((1, 1), np.bool_)), SIZE)

    assert polygon is not None
    assert polygon.to_xyxy() == (7, 8, 8, 9)


# Key points


def make_pose(detections: MakeDetections) -> Detections:
    points = np.zeros((1, 17, 3), np.float32)
    points[0, 0] = (50, 20, 0.9)
    points[0, 1] = (60, 25, 0.1)  # hardly to be seen
    points[0, 2] = (250, 25, 0.9)  # outside of the image
    return replace(detections((10, 10, 90, 90, 0.8, 1)), keypoints=points)


def test_a_pose_is_a_box_and_the_points_that_can_be_seen(detections: MakeDetections) -> None:
    controls = make_control("RectangleLabels", "person") + make_control(
        "KeyPointLabels", "nose", "left_eye", "right_eye"
    )
    plan = make_plan(controls, task="pose")

    labels = draw(make_pose(detections), plan)

    assert [(label.control, label.classes, label.geometry) for label in labels] == [
        ("rectanglelabels", ("person",), Box(10, 10, 80, 80)),
        ("keypointlabels", ("nose",), Keypoint(50, 20, 2.0)),
    ]
    assert labels[1].confidence == pytest.approx(0.9)


def test_a_pose_without_a_control_for_its_box_has_its_points_alone(detections: MakeDetections) -> None:
    plan = make_plan(make_control("KeyPointLabels", "nose"), task="pose")
    sure = make_pose(detections)
    doubtful = replace(sure, scores=np.array([0.125], np.float32))

    assert [label.classes for label in draw(sure, plan)] == [("nose",)]
    assert draw(doubtful, plan) == []
    assert [one.is_shown for one in (*to_candidates(sure, plan, SIZE), *to_candidates(doubtful, plan, SIZE))] == [
        True,
        False,
    ]


# Found, and nothing of it can be drawn


def make_masked(detections: MakeDetections, crop: MaskCrop, score: float = 0.95) -> Detections:
    return replace(detections((20, 30, 25, 34, score, 0)), masks=(crop,))


def make_undrawable(case: str, detections: MakeDetections) -> tuple[Detections, LabelPlan]:
    empty, outside = np.zeros((0, 0), np.bool_), np.ones((4, 5), np.bool_)
    if case == "pose":
        hidden = replace(make_pose(detections), scores=np.array([0.95], np.float32))
        points = np.array(hidden.keypoints)
        points[..., 2] = 0.01
        return replace(hidden, keypoints=points), make_plan(make_control("KeyPointLabels", "nose"), task="pose")
    if case == "turned":
        found = replace(detections((400, 300, 440, 320, 0.95, 0)), rotations_deg=np.array([30], np.float32))
        return found, make_plan(make_control("RectangleLabels", "car"), task="obb")
    kind, place = case.split()
    crop = MaskCrop(0, 0, empty) if place == "empty" else MaskCrop(300, 200, outside)
    return make_masked(detections, crop), make_plan(make_control(kind, "car"), task="segment")


@pytest.mark.parametrize(
    "case",
    ["BrushLabels empty", "BrushLabels outside", "PolygonLabels empty", "PolygonLabels outside", "pose", "turned"],
)
@pytest.mark.parametrize("score", [0.95, 0.125])
def test_an_object_of_which_nothing_can_be_drawn_is_nothing_found_in_every_score(
    case: str, score: float, detections: MakeDetections
) -> None:
    found, plan = make_undrawable(case, detections)
    found = replace(found, scores=np.array([score], np.float32))
    counts = {"car": 3, "nose": 3}

    said, nothing = (
        to_prediction(ITEM, one, plan, model_version="w-1", label_counts=counts)
        for one in (found, Detections.nothing())
    )

    assert said == nothing
    assert (said["result"], said["score"]) == ([], 0.5)
    meta = said["prediction_meta"]
    assert (meta["u_mean"], meta["u_sum"], meta["u_rare"], meta["effort"]) == (0.5, 0.5, 0.5, 0.0)


@given(
    st.lists(st.tuples(st.integers(-8, 208), st.integers(-8, 108), st.integers(0, 12), st.integers(0, 12)), max_size=5),
    st.sampled_from(["BrushLabels", "PolygonLabels", "RectangleLabels"]),
)
def test_what_counts_as_shown_is_what_has_a_region(places: list[tuple[int, int, int, int]], kind: str) -> None:
    rows = np.array([(20, 30, 25, 34)] * len(places), np.float32).reshape(-1, 4)
    masks = tuple(MaskCrop(x, y, np.ones((height, width), np.bool_)) for x, y, width, height in places)
    found = Detections(rows, np.full(len(rows), 0.9, np.float32), np.zeros(len(rows), np.int64), masks=masks)
    plan = make_plan(make_control(kind, "car"), task="segment")

    candidates = to_candidates(found, plan, SIZE)

    assert len(draw(found, plan)) == len(candidates) == sum(one.is_shown for one in candidates)


# Classification


def make_answer(*probabilities: float) -> Detections:
    return Detections.nothing(np.array(probabilities, np.float32))


def test_a_single_choice_is_the_best_class(detections: MakeDetections) -> None:
    plan = make_plan(make_control("Choices", "car", "person", "zebra"), task="classify")

    (label,) = draw(make_answer(0.25, 0.625, 0.125), plan)

    assert (label.control, label.classes, label.geometry, label.confidence) == ("choices", ("person",), None, 0.625)
    (region,) = to_result([label], plan.config, SIZE)
    assert (region["type"], region["value"]) == ("choices", {"choices": ["person"]})


def test_several_choices_are_all_classes_at_their_threshold() -> None:
    plan = make_plan(make_control("Choices", "car", "person", "zebra", attributes='choice="multiple"'), task="classify")

    (label,) = draw(make_answer(0.25, 0.625, 0.125), plan)

    assert (label.classes, label.confidence) == (("person", "car"), 0.625)


def test_an_image_no_class_fits_has_no_choice_and_its_doubt_all_the_same() -> None:
    plan = make_plan(make_control("Choices", "car", "person", "zebra"), task="classify")
    answer = make_answer(0.125, 0.0625, 0.03125)

    assert draw(answer, plan) == []
    assert [(one.label, one.is_shown) for one in to_candidates(answer, plan, SIZE)] == [
        ("car", False),
        ("person", False),
    ]


# Doubled objects and votes


def test_one_object_found_as_two_classes_of_one_label_is_drawn_once(
    config_xml: str, detections: MakeDetections
) -> None:
    plan = build_plan(LabelConfig.from_xml(config_xml), {0: "car", 1: "truck"}, thresholds=Thresholds(0.2))
    found = detections(
        (10, 10, 90, 50, 0.75, 0),
        (11, 10, 90, 50, 0.5, 1),  # the same, taken for a truck
        (10, 10, 90, 49, 0.375, 0),  # of one class: the detector's own suppression has let it pass
        (10, 60, 90, 90, 0.25, 1),
    )

    assert [label.confidence for label in draw(found, plan)] == [0.75, 0.375, 0.25]


def test_votes_travel_with_the_region_and_are_read_back(detections: MakeDetections) -> None:
    found = replace(detections((10, 10, 90, 50, 0.75, 0)), votes=np.array([2]))
    plan = make_plan(make_control("RectangleLabels", "car"), task="detect")

    (region,) = to_result(draw(found, plan), plan.config, SIZE)

    assert region["meta"] == {"text": ["2 votes"], "votes": 2}
    (label,) = from_result([region], plan.config, item="task 1")
    assert label.votes == 2
