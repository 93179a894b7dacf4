"""What of a version is learned from, and how often each image is seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labels.errors import LabelingError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.polygons import rasterize
from labels.results import Label
from sync.models.training_sets import Choice, make_training_set
from sync.versions.version import Version, VersionImage, VersionLabel

SIZE = ImageSize(200, 100)
XML = """<View><Image name="image" value="$image"/>
<RectangleLabels name="label" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>
<PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
<KeyPointLabels name="point" toName="image"><Label value="nose"/></KeyPointLabels>
<Choices name="quality" toName="image" choice="single-radio"><Choice value="keep"/><Choice value="trash"/></Choices>
<Choices name="weather" toName="image" choice="single-radio"><Choice value="sun"/><Choice value="rain"/></Choices>
<Choices name="many" toName="image" choice="multiple"><Choice value="a"/><Choice value="b"/></Choices></View>"""
CAR = Label("1" * 24, "label", ("car",), Box(10, 20, 30, 40))
TURNED = Label("2" * 24, "label", ("dog",), Box(100, 50, 20, 10, 90))
LAKE = Label("3" * 24, "outline", ("lake",), Polygon(((10.0, 10.0), (50.0, 10.0), (30.0, 60.0))))
NOSE = Label("4" * 24, "point", ("nose",), Keypoint(5, 5))
SUN = Label("5" * 24, "weather", ("sun",))
FLAT = Label("6" * 24, "label", ("car",), Box(10, 20, 0, 40))
GONE = Label("7" * 24, "label", ("boat",), Box(10, 20, 30, 40))


def make_image(name: str, *labels: Label, verdict: str | None = None, **changes: object) -> VersionImage:
    said = tuple(VersionLabel(label, verdict=verdict) for label in labels)
    image = VersionImage(name, Path(f"/images/{name}.jpg"), name * 8, SIZE, "train", labels=said)
    return replace(image, **changes)  # type: ignore[arg-type]


def make_version(*images: VersionImage, number: int = 1) -> Version:
    return Version(f"v{number}-00000000", "0" * 64, "name", ("car", "dog", "lake", "nose"), XML, images)


def test_boxes_are_corners_and_turned_ones_and_polygons_keep_their_outline() -> None:
    chosen = make_training_set(make_version(make_image("a", CAR, TURNED, LAKE, NOSE)), Choice())

    assert chosen.training_set.classes == ("car", "dog", "lake")
    car, dog, lake = chosen.training_set.train[0].boxes
    assert (car.xyxy, car.class_id, car.outline) == ((10, 20, 40, 60), 0, None)
    # Turned by a quarter round its corner, it lies to the left of it.
    assert dog.xyxy == pytest.approx((90, 50, 100, 70))
    assert dog.outline is not None
    assert len(dog.outline) == 4
    assert (lake.xyxy, lake.outline) == ((10, 10, 50, 60), ((10, 10), (50, 10), (30, 60)))


def test_what_a_brush_painted_is_learned_by_its_outline() -> None:
    pixels = np.zeros((SIZE.height, SIZE.width), np.bool_)
    pixels[20:60, 30:80] = True
    painted = Label("8" * 24, "outline", ("lake",), Mask(pixels))

    (lake,) = make_training_set(make_version(make_image("a", painted)), Choice()).training_set.train[0].boxes

    assert lake.xyxy == (30, 20, 80, 60)
    assert lake.outline is not None
    assert np.array_equal(rasterize(lake.outline, height=SIZE.height, width=SIZE.width), pixels)


def test_one_control_alone_can_be_learned() -> None:
    chosen = make_training_set(make_version(make_image("a", CAR, LAKE)), Choice(control="outline"))

    assert chosen.training_set.classes == ("lake",)
    assert [box.class_id for box in chosen.training_set.train[0].boxes] == [0]
    assert chosen.control == "outline"


def test_the_test_split_is_never_part_of_it() -> None:
    version = make_version(make_image("a", CAR), make_image("b", CAR, split="val"), make_image("c", CAR, split="test"))

    found = make_training_set(version, Choice()).training_set

    assert ([item.image.stem for item in found.train], [item.image.stem for item in found.val]) == (["a"], ["b"])


def test_an_image_that_was_looked_at_and_shows_nothing_is_learned_from_and_one_that_was_only_answered_is_not() -> None:
    version = make_version(make_image("a"), make_image("b", SUN, has_regions=False), make_image("c", CAR))

    chosen = make_training_set(version, Choice())

    assert [item.image.stem for item in chosen.training_set.train] == ["a", "c"]
    assert chosen.notes == ("1 left out: images on which nobody looked for objects",)


def test_what_has_no_area_and_what_has_no_known_class_is_left_out_and_counted() -> None:
    chosen = make_training_set(make_version(make_image("a", CAR, FLAT, GONE)), Choice())

    assert len(chosen.training_set.train[0].boxes) == 1
    assert chosen.notes == ("1 left out: labels without an area", "1 left out: labels without one known class")


def test_a_classifier_learns_the_one_choices_there_is_and_quality_is_none() -> None:
    version = make_version(make_image("a", SUN, has_regions=False), make_image("b", CAR))

    chosen = make_training_set(version, Choice(is_classifier=True))

    assert (chosen.control, chosen.training_set.classes) == ("weather", ("sun", "rain"))
    assert [(item.image.stem, item.class_id) for item in chosen.training_set.train] == [("a", 0)]
    assert chosen.notes == ("1 left out: images without one answer",)


@pytest.mark.parametrize(
    ("choice", "problem"),
    [
        (Choice(is_classifier=True, control="many"), "'many': is not an image-level Choices"),
        (Choice(control="weather"), "'weather': is not a control that draws shapes .known: label, outline"),
        (Choice(is_classifier=True, control="quality"), "no image to learn from"),
    ],
)
def test_a_control_that_does_not_fit_is_refused(choice: Choice, problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        make_training_set(make_version(make_image("a", CAR)), choice)


def test_corrected_images_weigh_more() -> None:
    version = make_version(
        make_image("a", CAR, verdict="confirmed"),
        make_image("b", CAR, verdict="moved"),
        make_image("c", verdict=None),
        make_image("d", CAR, verdict="added"),
    )

    chosen = make_training_set(version, Choice(corrections_weight=2.5, deleted_on={"c"}))

    assert {item.image.stem: item.weight for item in chosen.training_set.train} == {
        "a": 1,
        "b": 2.5,
        "c": 2.5,
        "d": 2.5,
    }
    assert chosen.counts["corrected images"] == 3


def test_replay_takes_what_is_new_and_older_images_with_the_classes_even() -> None:
    dogs = [make_image(f"d{number}", TURNED) for number in range(3)]
    cars = [make_image(f"c{number}", CAR) for number in range(40)]
    older = make_version(*cars, *dogs)
    changed = replace(cars[0], labels=(VersionLabel(replace(CAR, classes=("dog",))),))
    version = make_version(changed, *cars[1:], *dogs, make_image("new", CAR), number=2)

    chosen = make_training_set(version, Choice(older=older, replay=6, seed=1))

    names = [item.image.stem for item in chosen.training_set.train]
    assert {"c0", "new"} <= set(names)
    assert len(names) == len(set(names)) == 8
    assert Counter(name[0] for name in names if name not in ("c0", "new")) == {"d": 3, "c": 3}
    assert chosen.counts["replayed images"] == 6
    again = make_training_set(version, Choice(older=older, replay=6, seed=1))
    other = make_training_set(version, Choice(older=older, replay=6, seed=2))
    assert again.training_set == chosen.training_set != other.training_set


def test_replay_without_anything_new_is_refused() -> None:
    version = make_version(make_image("a", CAR))

    with pytest.raises(LabelingError, match="nothing is new since version v1"):
        make_training_set(version, Choice(older=version, replay=3))


def test_more_replay_than_there_is_takes_all() -> None:
    older = make_version(make_image("a", CAR), make_image("b"))
    version = make_version(*older.images, make_image("n", CAR), number=2)

    assert len(make_training_set(version, Choice(older=older, replay=99)).training_set.train) == 3
    assert len(make_training_set(version, Choice(older=older, replay=0)).training_set.train) == 1
