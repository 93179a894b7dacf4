from pathlib import Path

import pytest

from labels.config import LabelConfig, default_label_config_path
from labels.errors import LabelConfigError


def config_of(controls: str) -> LabelConfig:
    return LabelConfig.from_xml(f'<View><Image name="image" value="$image"/>{controls}</View>')


def test_the_config_that_comes_with_labelloop_holds_coco_and_an_image_quality():
    config = LabelConfig.read(default_label_config_path())
    assert len(config.region_classes) == 80
    assert config.region_classes[:3] == ("person", "bicycle", "car")
    assert config.region_classes[79] == "toothbrush"
    assert [(control.name, control.kind) for control in config.controls] == [
        ("label", "RectangleLabels"),
        ("quality", "Choices"),
    ]
    assert config.control("quality").classes == ("keep", "trash")
    assert config.image_key == "image"


def test_no_hotkey_is_given_twice():
    text = default_label_config_path().read_text(encoding="utf-8")
    hotkeys = [part.split('"')[0] for part in text.split('hotkey="')[1:]]
    assert len(hotkeys) == len(set(hotkeys))


def test_model_classes_map_to_classes_whatever_their_case():
    control = config_of(
        '<RectangleLabels name="b" toName="image" model_score_threshold="0.4">'
        '<Label value="Vehicle" predicted_values="car, Truck"/><Label value="Person"/></RectangleLabels>'
    ).control("b")
    assert [control.class_for(name) for name in ("CAR", "truck", "person", "Vehicle", "dog")] == [
        "Vehicle",
        "Vehicle",
        "Person",
        "Vehicle",
        None,
    ]
    assert control.score_threshold == 0.4


def test_a_class_of_its_own_name_comes_before_another_ones_predicted_value():
    control = config_of(
        '<RectangleLabels name="b" toName="image"><Label value="Vehicle" predicted_values="car"/>'
        '<Label value="Car"/></RectangleLabels>'
    ).control("b")
    assert control.class_for("car") == "Car"


def test_the_class_order_is_that_of_the_file_over_all_drawing_controls():
    config = config_of(
        '<PolygonLabels name="p" toName="image"><Label value="z"/><Label value="a"/></PolygonLabels>'
        '<Choices name="c" toName="image"><Choice value="indoor"/></Choices>'
        '<RectangleLabels name="b" toName="image"><Label value="a"/><Label value="m"/></RectangleLabels>'
    )
    assert config.region_classes == ("z", "a", "m")
    assert config.box_control is not None
    assert config.box_control.name == "b"


@pytest.mark.parametrize(
    ("controls", "problem"),
    [
        ("", "no control"),
        ('<TextArea name="t" toName="image"/>', "not supported"),
        ('<RectangleLabels name="b" toName="other"><Label value="a"/></RectangleLabels>', "expected the image"),
        ('<RectangleLabels name="b" toName="image"></RectangleLabels>', "no classes"),
        ('<RectangleLabels name="b" toName="image"><Label value="$x"/></RectangleLabels>', "fixed name"),
        ('<RectangleLabels name="b" toName="image"><Label value="a"/><Label value="a"/></RectangleLabels>', "twice"),
        (
            '<RectangleLabels name="b" toName="image" choice="multiple"><Label value="a"/></RectangleLabels>',
            "several classes",
        ),
        (
            '<RectangleLabels name="b" toName="image" model_score_threshold="nan"><Label value="a"/></RectangleLabels>',
            "0..1",
        ),
        ('<Choices name="c" toName="image" perRegion="true"><Choice value="a"/></Choices>', "perRegion"),
        ('<Choices name="predictions" toName="image"><Choice value="a"/></Choices>', "taken"),
        ('<Rating name="r" toName="image" maxRating="many"/>', "maxRating"),
        ('<Rating name="r" toName="image"/><Rating name="r" toName="image"/>', "used twice"),
        ('<Image name="second" value="$b"/><Rating name="r" toName="image"/>', "2 <Image> tags"),
    ],
)
def test_a_config_that_cannot_be_carried_is_refused_by_name(controls: str, problem: str):
    with pytest.raises(LabelConfigError, match=problem):
        config_of(controls)


def test_text_that_is_not_xml_and_entity_bombs_are_refused(tmp_path: Path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><View>&b;</View>'
    for text in ("<View>", bomb):
        path = tmp_path / "label_config.xml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(LabelConfigError, match=r"label_config\.xml: the label config is not valid XML"):
            LabelConfig.read(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(LabelConfigError, match=r"absent\.xml: cannot be read"):
        LabelConfig.read(tmp_path / "absent.xml")
