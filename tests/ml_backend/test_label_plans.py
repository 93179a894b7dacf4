import pytest

from labels.config import LabelConfig
from labels.errors import LabelConfigError
from ml_backend.answers.label_plans import (
    COCO_KEYPOINTS,
    LabelPlan,
    LabelPlans,
    Thresholds,
    build_plan,
    parse_class_thresholds,
)

NAMES = {0: "car", 1: "truck", 2: "zebra", 3: "PERSON"}
IMAGE = '<Image name="image" value="$image"/>'


def make_plan(controls: str, *, task: str = "detect", thresholds: Thresholds | None = None) -> LabelPlan:
    config = LabelConfig.from_xml(f"<View>{IMAGE}{controls}</View>")
    return build_plan(config, NAMES, thresholds=thresholds or Thresholds(0.2), task=task)


def make_control(kind: str, name: str, labels: str, attributes: str = "") -> str:
    return f'<{kind} name="{name}" toName="image" {attributes}>{labels}</{kind}>'


def test_model_classes_become_labels_whatever_their_case_and_by_predicted_values(config_xml: str) -> None:
    plan = build_plan(LabelConfig.from_xml(config_xml), NAMES, thresholds=Thresholds(0.2))

    assert {class_id: target.label for class_id, target in plan.classes.items()} == {0: "Car", 1: "Car", 3: "Person"}


def test_labels_no_model_class_stands_for_are_listed_and_logged_once(
    config_xml: str, caplog: pytest.LogCaptureFixture
) -> None:
    plans = LabelPlans(NAMES, score_threshold=0.2)

    first, second = plans.get(config_xml), plans.get(config_xml)

    assert first is second
    assert first.unmapped_labels == ("Forklift",)
    assert len([record for record in caplog.records if "Forklift" in record.getMessage()]) == 1


def test_labels_of_controls_the_model_draws_nothing_with_are_listed_too() -> None:
    controls = (
        make_control("RectangleLabels", "a", '<Label value="Car"/>')
        + make_control("KeyPointLabels", "b", '<Label value="Car"/><Label value="Wheel"/>')
        + make_control("PolygonLabels", "c", '<Label value="Road"/>')
        + make_control("Choices", "d", '<Choice value="indoor"/>')
    )

    # A key point that is clicked for an object is named as the object; a choice is a person's.
    assert make_plan(controls).unmapped_labels == ("Wheel", "Road")
    assert make_plan(controls, task="segment").unmapped_labels == ("Wheel", "Road")


def test_a_threshold_of_a_request_stands_in_for_all_others() -> None:
    labels = '<Label value="Car" model_score_threshold="0.6"/><Label value="Truck"/>'
    control = make_control("RectangleLabels", "a", labels, 'model_score_threshold="0.4"')
    xml = f"<View>{IMAGE}{control}</View>"
    plans = LabelPlans(NAMES, score_threshold=0.2, class_thresholds={"truck": 0.9})

    low, usual = plans.get(xml, score_threshold=0.05), plans.get(xml)

    assert {target.threshold for target in low.classes.values()} == {0.05}
    assert {target.label: target.threshold for target in usual.classes.values()} == {"Car": 0.6, "Truck": 0.9}
    assert plans.get(xml, score_threshold=0.05) is low


def test_the_nearest_threshold_counts() -> None:
    labels = (
        '<Label value="Car" model_score_threshold="0.6"/><Label value="Truck"/>'
        '<Label value="Zebra"/><Label value="Person"/>'
    )
    controls = make_control("RectangleLabels", "a", labels, 'model_score_threshold="0.4"')

    plan = make_plan(controls, thresholds=Thresholds(0.2, {"car": 0.1, "truck": 0.3}))

    assert {target.label: target.threshold for target in plan.classes.values()} == {
        "Car": 0.6,  # the label's own
        "Truck": 0.3,  # the setting
        "Zebra": 0.4,  # the control's
        "Person": 0.4,
    }


def test_a_threshold_of_zero_is_one_and_not_the_default(config_xml: str) -> None:
    xml = config_xml.replace('name="label"', 'name="label" model_score_threshold="0"')

    plan = LabelPlans(NAMES, score_threshold=0.2).get(xml)

    assert {target.threshold for target in plan.classes.values()} == {0.0}
    assert plan.score_floor == 0.0


def test_the_floor_lets_through_what_counts_for_the_effort_and_what_a_low_threshold_shows(config_xml: str) -> None:
    low = config_xml.replace('value="Car"', 'value="Car" model_score_threshold="0.01"')

    assert LabelPlans(NAMES, score_threshold=0.9).get(config_xml).score_floor == pytest.approx(0.05, abs=1e-5)
    assert LabelPlans(NAMES, score_threshold=0.9).get(low).score_floor == pytest.approx(0.01, abs=1e-5)


@pytest.mark.parametrize("text", ["car", "=0.5", "car=", "car=2", "car=-1", "car=high", "car=nan", "a=0.1,b"])
def test_a_class_threshold_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=text.rpartition(",")[2]):
        parse_class_thresholds(text)


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


def test_the_error_names_what_the_model_needs() -> None:
    with pytest.raises(LabelConfigError, match="<PolygonLabels> or <BrushLabels> or <RectangleLabels>"):
        make_plan(make_control("Choices", "c", '<Choice value="x"/>'), task="segment")


def test_only_so_many_plans_are_kept(config_xml: str) -> None:
    plans = LabelPlans(NAMES, score_threshold=0.2)
    first = plans.get(config_xml)

    for number in range(32):
        plans.get(config_xml + " " * (number + 1))

    assert plans.get(config_xml) is not first
    assert plans.get(config_xml) == first


def test_an_object_is_drawn_once_as_a_mask_where_the_config_has_one_and_as_a_box_elsewhere() -> None:
    boxes = make_control("RectangleLabels", "boxes", '<Label value="car"/><Label value="person"/>')
    masks = make_control("BrushLabels", "masks", '<Label value="car"/>')

    plan = make_plan(boxes + masks, task="segment")

    drawn = {target.label: target.control.name for target in plan.classes.values()}
    assert drawn == {"car": "masks", "person": "boxes"}
    assert plan.unmapped_labels == ()


def test_polygons_and_brushes_are_taken_in_the_order_of_the_config() -> None:
    polygons = make_control("PolygonLabels", "outlines", '<Label value="car"/>')
    brushes = make_control("BrushLabels", "masks", '<Label value="car"/>')

    for controls, expected in ((polygons + brushes, "outlines"), (brushes + polygons, "masks")):
        assert make_plan(controls, task="segment").classes[0].control.name == expected


def test_key_points_are_found_by_their_number_or_their_name() -> None:
    points = make_control(
        "KeyPointLabels", "points", '<Label value="tip" model_index="0"/><Label value="Left eye"/><Label value="tail"/>'
    )

    plan = make_plan(points, task="pose")

    assert {number: target.label for number, target in plan.keypoints.items()} == {0: "tip", 1: "Left eye"}
    assert COCO_KEYPOINTS[1] == "left_eye"
    assert plan.unmapped_labels == ("tail",)


@pytest.mark.parametrize("attributes", ['model_index="-1"', 'model_index="one"'])
def test_a_model_index_that_is_no_number_is_refused(attributes: str) -> None:
    with pytest.raises(LabelConfigError, match="model_index"):
        make_plan(make_control("KeyPointLabels", "points", f'<Label value="tip" {attributes}/>'), task="pose")


def test_a_threshold_of_a_label_outside_of_0_to_1_is_refused() -> None:
    with pytest.raises(LabelConfigError, match=r"'car'.*model_score_threshold '7'"):
        make_plan(make_control("RectangleLabels", "a", '<Label value="car" model_score_threshold="7"/>'))


def test_a_threshold_of_a_label_that_is_not_in_the_config_is_named(caplog: pytest.LogCaptureFixture) -> None:
    control = make_control("RectangleLabels", "a", '<Label value="Car"/><Label value="Truck"/>')
    xml = f"<View>{IMAGE}{control}</View>"

    LabelPlans(NAMES, score_threshold=0.2, class_thresholds={"car": 0.5, "lorry": 0.3}).get(xml)

    assert "LABELLOOP_CLASS_THRESHOLDS: no label of the config is named lorry (known: Car, Truck)" in caplog.text


def test_a_label_with_a_line_break_forges_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    control = make_control("RectangleLabels", "a", '<Label value="Car"/><Label value="x&#10;ERROR all is lost"/>')

    LabelPlans(NAMES, score_threshold=0.2).get(f"<View>{IMAGE}{control}</View>")

    (message,) = caplog.messages
    assert "'x\\nERROR all is lost'" in message
    assert "\n" not in message
