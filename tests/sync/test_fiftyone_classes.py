"""Which samples use a class and its new name, on a real MongoDB with every kind of label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from labels import fields
from labels.config import LabelConfig
from labels.errors import LabelConfigError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label
from sync.catalogue.samples import NewImage, SamplePrediction
from sync.review.relabelling import Renaming
from sync.services.label_config_check import check_catalogue_keeps_its_classes

XML = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>
<RectangleLabels name="second" toName="image"><Label value="car"/></RectangleLabels>
<BrushLabels name="brush" toName="image"><Label value="car"/></BrushLabels>
<PolygonLabels name="outline" toName="image"><Label value="car"/></PolygonLabels>
<KeyPointLabels name="point" toName="image"><Label value="car"/></KeyPointLabels>
<Choices name="kind" toName="image"><Choice value="car"/><Choice value="scan"/></Choices>
<Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
<Rating name="stars" toName="image"/></View>"""
CONFIG = LabelConfig.from_xml(XML)
SIZE = ImageSize(64, 36)
KINDS = {control.name: control.kind for control in CONFIG.controls}


def paint() -> Mask:
    pixels = np.zeros((SIZE.height, SIZE.width), dtype=np.bool_)
    pixels[3:9, 4:20] = True
    return Mask(pixels)


SHAPES: dict[str, Any] = {
    "box": Box(3, 4, 20, 9),
    "second": Box(30, 4, 20, 9),
    "brush": paint(),
    "outline": Polygon(((1, 2), (40, 3), (20, 30))),
    "point": Keypoint(12, 7, 2),
    "kind": None,
}
LABELS = [
    Label(f"{number:024x}", control, ("car",), shape)
    for number, (control, shape) in enumerate(SHAPES.items(), start=1)
]  # fmt: skip


@pytest.fixture
def dataset(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Two samples: one with the class in every control and some choices, one with nothing."""
    from sync.catalogue.dataset import Dataset

    dataset = Dataset.open(request.node.name, CONFIG)
    images = [NewImage(Path(f"/nowhere/{n}.jpg"), SIZE, f"{n:064x}", 100, "image/jpeg") for n in range(2)]
    first, _ = dataset.write_images(images)
    ticks = Label("a" * 24, "scene", ("day", "rain"))
    dataset.write_labels({first: [*LABELS, ticks, Label("b" * 24, "stars", rating=4)]})
    dataset.write_predictions({first: SamplePrediction("yolo-1", 0.5, tuple(LABELS))})
    yield dataset
    dataset._dataset.delete()


def rename(dataset: Any, control: str, old: str, new: str) -> None:
    from sync.catalogue.fiftyone_classes import DatasetClasses

    DatasetClasses(dataset.name, CONFIG).write_class(Renaming(control, KINDS[control], old, new))


def classes(labels: Any) -> dict[str, tuple[str, ...]]:
    return {label.control: label.classes for label in labels if label.classes}


@pytest.mark.parametrize("control", SHAPES)
def test_a_class_is_renamed_in_its_control_alone(dataset: Any, control: str):
    first, _ = dataset.sample_ids()
    before = dataset.labels()[first].labels
    rename(dataset, control, "car", "Auto")
    after = dataset.labels()[first].labels
    expected = dict.fromkeys(SHAPES, ("car",)) | {control: ("Auto",)}
    assert classes(after) == expected | {"scene": ("day", "rain")}
    assert classes(dataset.predictions()[first].labels) == expected
    assert [(label.id, label.geometry) for label in after] == [(label.id, label.geometry) for label in before]


def test_a_label_that_names_no_control_is_the_first_ones_of_its_kind(dataset: Any):
    first, _ = dataset.sample_ids()
    sample = fo.load_dataset(dataset.name)[first]
    plain = fo.Detection(label="car", bounding_box=[0.1, 0.1, 0.2, 0.2])
    painted = fo.Detection(label="car", bounding_box=[0.1, 0.1, 0.2, 0.2], mask=np.ones((3, 3), dtype=np.bool_))
    sample[fields.GROUND_TRUTH] = fo.Detections(detections=[plain, painted])
    sample.save()
    for control, expected in (("second", "car"), ("box", "Auto")):
        rename(dataset, control, "car", "Auto")
        sample.reload()
        assert [one.label for one in sample[fields.GROUND_TRUTH].detections] == [expected, "car"]
    rename(dataset, "brush", "car", "Maske")
    sample.reload()
    assert [one.label for one in sample[fields.GROUND_TRUTH].detections] == ["Auto", "Maske"]


def test_fiftyone_offers_the_new_name_in_place_of_the_old_one(dataset: Any):
    from sync.catalogue.fiftyone_classes import DatasetClasses

    new = LabelConfig.from_xml(XML.replace('"dog"', '"wolf"'))
    DatasetClasses(dataset.name, CONFIG).write_names(new)
    stored = fo.load_dataset(dataset.name)
    assert stored.classes["ground_truth"] == stored.classes["predictions"] == ["car", "wolf"]
    assert stored.label_schemas["ground_truth"]["classes"] == ["car", "wolf"]


def test_two_ticks_that_become_one_are_one(dataset: Any):
    first, _ = dataset.sample_ids()
    rename(dataset, "scene", "day", "rain")
    assert classes(dataset.labels()[first].labels)["scene"] == ("rain",)
    assert len(fo.load_dataset(dataset.name)[first]["scene"].classifications) == 1


def test_a_second_time_nothing_is_written(dataset: Any):
    rename(dataset, "box", "car", "Auto")
    samples = fo.load_dataset(dataset.name)._sample_collection
    before = list(samples.find().sort("_id"))
    rename(dataset, "box", "car", "Auto")
    assert list(samples.find().sort("_id")) == before


def test_what_uses_a_class_is_named(dataset: Any):
    from sync.catalogue.fiftyone_classes import DatasetClasses

    found = DatasetClasses(dataset.name, CONFIG)
    first, _ = dataset.sample_ids()
    assert found.reviewed_samples("box", "car") == {first: "/nowhere/0.jpg"}
    assert found.reviewed_samples("box", "dog") == {}
    assert found.reviewed_samples("scene", "rain") == {first: "/nowhere/0.jpg"}
    assert found.reviewed_samples("stars", None) == {first: "/nowhere/0.jpg"}
    assert found.predicted_samples("outline", "car") == {first: "/nowhere/0.jpg"}


def test_a_config_without_what_the_catalogue_uses_is_refused_with_the_images(dataset: Any):
    def check(xml: str) -> None:
        check_catalogue_keeps_its_classes(dataset.name, CONFIG, LabelConfig.from_xml(xml))

    check(XML)
    check(XML.replace('<Label value="dog"/>', ""))
    with pytest.raises(LabelConfigError, match=r"in FiftyOne: class 'car' of control 'box' \(1 image: 0.jpg\)"):
        check(XML.replace('<Label value="car"/><Label value="dog"/>', '<Label value="dog"/>'))
    with pytest.raises(LabelConfigError, match=r"control 'stars' \(1 image: 0.jpg\).*labelloop relabel OLD NEW"):
        check(XML.replace('<Rating name="stars" toName="image"/>', ""))
    check_catalogue_keeps_its_classes("no such dataset", CONFIG, LabelConfig.from_xml(XML.replace("car", "bus")))
