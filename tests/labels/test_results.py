import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import decode_rle, encode_rle
from label_studio_sdk.label_interface import LabelInterface

from labels.brush_rle import decode_mask, encode_mask
from labels.config import LabelConfig
from labels.errors import ItemError, LabelConfigError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label, from_record, from_result, is_same, to_record, to_result

CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="box" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <KeyPointLabels name="point" toName="image"><Label value="nose"/></KeyPointLabels>
    <BrushLabels name="brush" toName="image"><Label value="road"/></BrushLabels>
    <Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
    <Rating name="stars" toName="image" maxRating="7"/></View>"""
)
SIZES = st.builds(ImageSize, st.integers(2, 60), st.integers(2, 60)).filter(lambda size: size.width != size.height)
PIXELS = st.floats(0, 5000, allow_nan=False, allow_infinity=False)
POINTS = st.lists(st.tuples(PIXELS, PIXELS), min_size=3, max_size=8).map(tuple)
CONFIDENCES = st.none() | st.floats(0, 1)


@st.composite
def images_with_labels(draw: st.DrawFn) -> tuple[ImageSize, list[Label]]:
    size = draw(SIZES)
    shapes = {
        "box": st.builds(Box, PIXELS, PIXELS, PIXELS, PIXELS, st.floats(-360, 360)),
        "outline": st.builds(Polygon, POINTS),
        "point": st.builds(Keypoint, PIXELS, PIXELS, PIXELS),
        "brush": st.integers(0, 2**31).map(lambda seed: random_mask(seed, size)),
    }
    labels = []
    for number, control in enumerate(draw(st.lists(st.sampled_from([*shapes, "scene", "stars"]), max_size=6))):
        label_id, confidence = f"{number:024x}", draw(CONFIDENCES)
        if control == "stars":
            labels.append(Label(label_id, control, rating=draw(st.integers(1, 7)), confidence=confidence))
        elif control == "scene":
            chosen = draw(st.lists(st.sampled_from(["day", "rain"]), min_size=1, unique=True).map(tuple))
            labels.append(Label(label_id, control, chosen, confidence=confidence))
        else:
            classes = (draw(st.sampled_from(CONFIG.control(control).classes)),)
            labels.append(Label(label_id, control, classes, draw(shapes[control]), confidence=confidence))
    return size, labels


def random_mask(seed: int, size: ImageSize) -> Mask:
    return Mask(np.random.default_rng(seed).random((size.height, size.width)) > 0.6)


@given(images_with_labels())
def test_labels_survive_the_way_to_label_studio_and_back(image: tuple[ImageSize, list[Label]]):
    size, labels = image
    wire = json.loads(json.dumps(to_result(labels, CONFIG, size)))
    back = from_result(wire, CONFIG, item="task 1")
    assert [label.id for label in back] == [label.id for label in labels]
    assert [label.confidence for label in back] == [label.confidence for label in labels]
    assert all(is_same(a, b, tolerance_px=1e-6) for a, b in zip(labels, back, strict=True))


@given(images_with_labels())
def test_labels_survive_the_ledger_unchanged(image: tuple[ImageSize, list[Label]]):
    _, labels = image
    assert [from_record(json.loads(json.dumps(to_record(label)))) for label in labels] == labels


def test_a_box_has_the_region_json_that_label_studio_writes():
    label = Label("a1", "box", ("dog",), Box(100, 20, 50, 40, 30.0), confidence=0.0)
    assert to_result([label], CONFIG, ImageSize(400, 200)) == [
        {
            "id": "a1",
            "type": "rectanglelabels",
            "from_name": "box",
            "to_name": "image",
            "original_width": 400,
            "original_height": 200,
            "image_rotation": 0,
            "value": {
                "x": 25.0,
                "y": 10.0,
                "width": 12.5,
                "height": 20.0,
                "rotation": 30.0,
                "rectanglelabels": ["dog"],
            },
            "score": 0.0,
        }
    ]


def test_label_studios_own_validator_accepts_what_we_write():
    size = ImageSize(40, 20)
    labels = [
        Label("1", "box", ("car",), Box(1, 2, 3, 4, 10.0), confidence=0.5),
        Label("2", "outline", ("lake",), Polygon(((1, 1), (9, 1), (5, 9)))),
        Label("3", "point", ("nose",), Keypoint(5, 5, 1)),
        Label("4", "brush", ("road",), random_mask(1, size)),
        Label("5", "scene", ("day", "rain")),
        Label("6", "stars", rating=3),
    ]
    prediction = {"model_version": "m", "score": 0.5, "result": to_result(labels, CONFIG, size)}
    assert LabelInterface(CONFIG.xml).validate_prediction(prediction, return_errors=True) == []


@given(st.integers(0, 2**31), SIZES)
def test_masks_are_read_and_written_as_label_studios_converter_does(seed: int, size: ImageSize):
    pixels = random_mask(seed, size).pixels
    theirs = encode_rle(np.repeat(pixels.astype(np.uint8) * 255, 4))
    decoded = np.array(decode_rle(encode_mask(pixels))).reshape(size.height, size.width, 4)
    assert np.array_equal(decoded[:, :, 3] > 0, pixels)
    assert np.array_equal(decode_mask(theirs, height=size.height, width=size.width), pixels)


BOX_VALUE = {"x": 1, "y": 1, "width": 1, "height": 1, "rectanglelabels": ["car"]}


def region(**changes: Any) -> dict[str, Any]:
    good = to_result([Label("r1", "box", ("car",), Box(1, 2, 3, 4))], CONFIG, ImageSize(40, 20))[0]
    return good | changes


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"from_name": "absent"}, "control 'absent' is not in label_config.xml"),
        ({"type": "textarea"}, "type 'textarea' is not supported"),
        ({"original_width": 0}, "size must be positive"),
        ({"value": {}}, "0 classes"),
        ({"value": {"rectanglelabels": ["car"]}}, "KeyError: 'x'"),
        ({"value": {"rectanglelabels": ["Forklift"]}}, "label 'Forklift' is not in label_config.xml"),
        ({"image_rotation": 90}, "turned in the editor"),
        ({"type": "relation", "from_name": None}, "is not in label_config.xml"),
        ({"value": {**BOX_VALUE, "x": float("nan")}}, "not a number or not finite"),
        ({"value": {**BOX_VALUE, "width": 1e308, "height": 10**400}}, "OverflowError"),
        ({"value": {**BOX_VALUE, "rectanglelabels": ["car", "dog"]}}, "2 classes (expected one)"),
        ({"value": ["x"]}, "AttributeError"),
        ({"score": "sure"}, "ValueError"),
        ({"from_name": "stars", "type": "rating", "value": {"rating": 2.5}}, "expected a whole number"),
        ({"from_name": "stars", "type": "rating", "value": {"rating": None}}, "TypeError"),
        ({"from_name": "scene", "type": "choices", "value": {"choices": []}}, "0 classes"),
        (
            {"from_name": "brush", "type": "brushlabels", "value": {"brushlabels": ["road"], "rle": [1, 999]}},
            "Overflow",
        ),
    ],
)
def test_a_region_that_cannot_be_carried_is_named_and_never_left_out(changes: dict[str, Any], problem: str):
    with pytest.raises(ItemError) as caught:
        from_result([region(), region(id="r2", **changes)], CONFIG, item="task 41")
    assert str(caught.value).startswith("task 41, region r2: ")
    assert problem in str(caught.value)


def test_a_region_is_read_for_an_image_of_the_size_it_was_drawn_on():
    drawn, other = ImageSize(40, 20), ImageSize(80, 40)
    plain = from_result([region()], CONFIG, item="task 1")
    bare = {key: value for key, value in region().items() if not key.startswith("original")}
    assert from_result([region()], CONFIG, item="task 1", size=drawn) == plain
    assert from_result([bare], CONFIG, item="task 1", size=drawn) == plain
    with pytest.raises(ItemError, match="was drawn on an image of 40x20, and the sample's is 80x40"):
        from_result([region()], CONFIG, item="task 1", size=other)
    with pytest.raises(ItemError, match="cannot be read"):
        from_result([bare], CONFIG, item="task 1")


def test_two_regions_of_one_id_are_refused():
    with pytest.raises(ItemError, match="task 7, region r1: there are two regions of this id"):
        from_result([region(), region()], CONFIG, item="task 7")


def test_a_region_drawn_in_the_editor_has_the_same_label_id_at_every_reading():
    first, second = (from_result([region(id="kX9_b-Q2sA")], CONFIG, item="task 1")[0].id for _ in range(2))
    assert first == second
    assert len(bytes.fromhex(first)) == 12


def test_a_relation_between_regions_is_reported():
    with pytest.raises(ItemError, match="'relation' is not supported"):
        from_result([{"type": "relation", "from_id": "a", "to_id": "b"}], CONFIG, item="task 1")


def test_a_class_the_config_does_not_know_is_not_written():
    with pytest.raises(LabelConfigError, match=r"'cat' is not in label_config.xml \(known to 'box': car, dog\)"):
        to_result([Label("1", "box", ("cat",), Box(0, 0, 1, 1))], CONFIG, ImageSize(4, 3))


def test_sameness_is_about_what_a_label_says():
    label = Label("1", "box", ("car",), Box(10, 10, 5, 5), confidence=0.4)
    assert is_same(label, Label("1", "box", ("car",), Box(10.001, 10, 5, 5)))
    assert is_same(label, Label("1", "box", ("car",), Box(10, 10, 5, 5, 360.0)))
    assert not is_same(label, Label("1", "box", ("dog",), Box(10, 10, 5, 5)))
    assert not is_same(label, Label("1", "box", ("car",), Box(10.1, 10, 5, 5)))
    assert not is_same(Label("1", "stars", rating=1), Label("1", "stars", rating=2))
    assert not is_same(Label("1", "dot", ("nose",), Keypoint(5, 5, 2)), Label("1", "dot", ("nose",), Keypoint(5, 5, 9)))
    assert is_same(Label("1", "scene", ("day", "rain")), Label("1", "scene", ("rain", "day")))
