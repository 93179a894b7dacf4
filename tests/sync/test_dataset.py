"""The catalogue on a real MongoDB: every kind of label there and back, and what a second write leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label, is_same
from sync.catalogue.samples import NewImage, Reviewer, SamplePrediction, SampleState

CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="box" toName="image"><Label value="car"/><Label value="dog"/></RectangleLabels>
    <RectangleLabels name="second" toName="image"><Label value="part"/></RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <KeyPointLabels name="point" toName="image"><Label value="nose"/></KeyPointLabels>
    <BrushLabels name="brush" toName="image"><Label value="road"/></BrushLabels>
    <Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
    <Choices name="kind" toName="image"><Choice value="photo"/><Choice value="scan"/></Choices>
    <Rating name="stars" toName="image"/></View>"""
)
SIZE = ImageSize(64, 36)


def ids(number: int) -> str:
    return f"{number:024x}"


def paint(*rows: slice) -> Mask:
    pixels = np.zeros((SIZE.height, SIZE.width), dtype=np.bool_)
    for row in rows:
        pixels[row, 10:33] = True
    return Mask(pixels)


EVERYTHING = [
    Label(ids(1), "box", ("car",), Box(3.25, 4.5, 20.125, 9.75)),
    Label(ids(2), "box", ("dog",), Box(30, 5, 12, 7, 33.0)),
    Label(ids(3), "second", ("part",), Box(0, 0, 64, 36)),
    Label(ids(4), "brush", ("road",), paint(slice(3, 9), slice(12, 13))),
    Label(ids(5), "outline", ("lake",), Polygon(((1, 2), (40.5, 3), (20, 30)))),
    Label(ids(6), "point", ("nose",), Keypoint(12.5, 7.25, 2.0)),
    Label(ids(7), "scene", ("day", "rain")),
    Label(ids(8), "kind", ("scan",)),
    Label(ids(9), "stars", rating=4),
]


@pytest.fixture
def dataset(mongod_uri: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    from sync.catalogue.dataset import Dataset

    dataset = Dataset.open(request.node.name, CONFIG)
    yield dataset
    dataset._dataset.delete()


@pytest.fixture
def samples(dataset: Any) -> list[str]:
    """The ids of two images; no file is needed to keep labels."""
    images = [NewImage(Path(f"/nowhere/{n}.jpg"), SIZE, f"{n:064x}", 100, "image/jpeg") for n in range(2)]
    sample_ids: list[str] = dataset.write_images(images)
    return sample_ids


def test_every_kind_of_label_survives(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: EVERYTHING})
    held = {label.id: label for label in dataset.labels()[samples[0]].labels}
    assert set(held) == {label.id for label in EVERYTHING}
    for label in EVERYTHING:
        assert is_same(held[label.id], label, tolerance_px=1e-9), label


def test_a_turned_box_is_drawn_round_its_object(dataset: Any, samples: list[str]):
    turned = EVERYTHING[1]
    dataset.write_labels({samples[0]: [turned]})
    (detection,) = dataset._dataset[samples[0]][fields.GROUND_TRUTH].detections
    x, y, width, height = detection.bounding_box
    centre = turned.geometry.centre
    assert ((x + width / 2) * SIZE.width, (y + height / 2) * SIZE.height) == pytest.approx(centre)
    assert detection[fields.ROTATION_DEG] == 33.0


def test_never_looked_at_and_nothing_there_are_two_things(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: []})
    assert dataset.labels()[samples[0]].labels == ()
    assert dataset.labels()[samples[0]].has_regions
    assert samples[1] not in dataset.labels()


def test_an_answer_about_the_whole_image_is_no_look_for_objects(dataset: Any, samples: list[str]):
    import fiftyone as fo

    dataset._dataset.set_values("kind", {samples[0]: fo.Classification(label="photo")}, key_field="id")
    said = dataset.labels()[samples[0]]
    assert [label.classes for label in said.labels] == [("photo",)]
    assert not said.has_regions


def test_of_several_fields_the_cleared_ones_say_nothing(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: []})
    # A field of one answer cannot say that there is none.
    single = {"kind", "stars"}
    assert dataset.labels()[samples[0]].silent == single
    dataset._dataset.clear_sample_field("ground_truth")
    said = dataset.labels()[samples[0]]
    boxes = {control.name for control in CONFIG.controls if control.kind in ("RectangleLabels", "BrushLabels")}
    assert (said.has_regions, said.silent) == (True, boxes | single)


def test_a_list_that_was_emptied_since_it_was_read_is_not_filled_again(dataset: Any, samples: list[str]):
    import fiftyone as fo

    dataset.write_labels({samples[0]: EVERYTHING[:1]}, controls={"box", "second", "brush"})
    read = dataset.labels()
    dataset._dataset.set_values("ground_truth_polygons", {samples[0]: fo.Polylines(polylines=[])}, key_field="id")
    assert dataset.write_labels({samples[0]: EVERYTHING[:5]}, instead_of=read) == [samples[0]]
    assert dataset.labels()[samples[0]].labels == tuple(EVERYTHING[:1])


def test_labels_that_say_the_same_keep_what_a_curator_wrote_on_them(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: EVERYTHING[:2]})
    sample = dataset._dataset[samples[0]]
    sample[fields.GROUND_TRUTH].detections[0]["note"] = "mine"
    sample[fields.GROUND_TRUTH].detections[1]["note"] = "mine too"
    sample.save()
    dataset.write_labels({samples[0]: [EVERYTHING[0], replace(EVERYTHING[1], classes=("car",))]})
    dataset._dataset.reload()
    first, second = dataset._dataset[samples[0]][fields.GROUND_TRUTH].detections
    assert (first["note"], second["note"], second.label) == ("mine", "mine too", "car")


def test_choices_that_stay_ticked_keep_their_ids(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: [Label(ids(7), "scene", ("day", "rain"))]})
    before = {one.label: str(one.id) for one in dataset._dataset[samples[0]]["scene"].classifications}
    dataset.write_labels({samples[0]: [Label(ids(7), "scene", ("rain",))]})
    dataset._dataset.reload()
    after = {one.label: str(one.id) for one in dataset._dataset[samples[0]]["scene"].classifications}
    assert after == {"rain": before["rain"]}
    assert dataset.labels()[samples[0]].labels == (Label(ids(7), "scene", ("rain",)),)


def test_what_a_curator_draws_belongs_to_the_first_control_of_its_kind(dataset: Any, samples: list[str]):
    import fiftyone as fo

    drawn = fo.Detections(detections=[fo.Detection(label="dog", bounding_box=[0.25, 0.5, 0.5, 0.25])])
    dataset._dataset.set_values(fields.GROUND_TRUTH, {samples[0]: drawn}, key_field="id")
    (label,) = dataset.labels()[samples[0]].labels
    assert (label.control, label.classes, label.geometry) == ("box", ("dog",), Box(16, 18, 32, 9))


def test_a_label_that_cannot_be_carried_is_named_and_the_others_are_read(dataset: Any, samples: list[str]):
    import fiftyone as fo

    two = fo.Polylines(
        polylines=[fo.Polyline(label="lake", points=[[(0, 0), (1, 1), (1, 0)], [(0, 0), (1, 1), (0, 1)]])]
    )
    dataset._dataset.set_values("ground_truth_polygons", {samples[0]: two}, key_field="id")
    dataset.write_labels({samples[1]: EVERYTHING})
    found = dataset.labels()
    assert isinstance(found[samples[0]], ItemError)
    assert "has 2 outlines (expected one)" in str(found[samples[0]])
    assert len(found[samples[1]].labels) == len(EVERYTHING)


@pytest.mark.parametrize(
    ("label", "box", "problem"),
    [
        (None, [0.1, 0.1, 0.1, 0.1], "has no class"),
        ("car", [0.1, float("nan"), 0.1, 0.1], "not a number or not finite"),
        ("car", None, "not enough values"),
        ("car", [0.1, 0.1], "not enough values"),
    ],
)
def test_a_box_that_makes_no_sense_is_named_and_stays(
    label: Any, box: Any, problem: str, dataset: Any, samples: list[str]
):
    import fiftyone as fo

    drawn = fo.Detections(detections=[fo.Detection(label=label, bounding_box=box)])
    dataset._dataset.set_values(fields.GROUND_TRUTH, {samples[0]: drawn}, key_field="id", validate=False)
    assert problem in str(dataset.labels()[samples[0]])
    assert len(dataset._dataset[samples[0]][fields.GROUND_TRUTH].detections) == 1


def test_a_prediction_of_nothing_is_a_prediction(dataset: Any, samples: list[str]):
    dataset.write_predictions({samples[0]: SamplePrediction("m-1", 0.0, ())})
    assert dataset.predictions() == {samples[0]: SamplePrediction("m-1", 0.0, ())}


def test_a_new_prediction_replaces_the_old_one_and_leaves_people_alone(dataset: Any, samples: list[str]):
    dataset.write_labels({samples[0]: EVERYTHING[:1]})
    for version, label in (("m-1", EVERYTHING[0]), ("m-2", EVERYTHING[1])):
        labels = (replace(label, id=ids(77), confidence=0.0),)
        dataset.write_predictions({samples[0]: SamplePrediction(version, 0.25, labels)})
    found = dataset.predictions()[samples[0]]
    assert (found.model_version, found.uncertainty) == ("m-2", 0.25)
    assert [(label.classes, label.confidence) for label in found.labels] == [(("dog",), 0.0)]
    (detection,) = dataset._dataset[samples[0]][fields.PREDICTIONS].detections
    assert detection[fields.MODEL_VERSION] == "m-2"
    assert dataset.labels()[samples[0]].labels == (EVERYTHING[0],)


def test_a_predicted_point_keeps_its_confidence(dataset: Any, samples: list[str]):
    point = Label(ids(1), "point", ("nose",), Keypoint(12.5, 7.25, 2.0), confidence=0.75)
    bare = Label(ids(2), "point", ("nose",), Keypoint(1.5, 7.25, 2.0))

    dataset.write_predictions({samples[0]: SamplePrediction("m-1", 0.25, (point, bare))})

    assert [label.confidence for label in dataset.predictions()[samples[0]].labels] == [0.75, None]


def test_the_votes_of_an_ensemble_stay_on_the_prediction_and_are_not_vouched_for(dataset: Any, samples: list[str]):
    box = Label(ids(1), "box", ("car",), Box(3, 4, 20, 9), confidence=0.75, votes=2)
    alone = Label(ids(2), "box", ("dog",), Box(30, 5, 12, 7), confidence=0.5)

    dataset.write_predictions({samples[0]: SamplePrediction("m-1", 0.25, (box, alone))})
    dataset.write_labels({samples[0]: [box]})

    assert [label.votes for label in dataset.predictions()[samples[0]].labels] == [2, None]
    assert dataset.labels()[samples[0]].labels[0].votes is None


def test_what_a_detector_says_of_the_whole_image_gets_a_field_when_it_says_it(dataset: Any, samples: list[str]):
    assert not dataset._dataset.has_sample_field("predictions_kind")
    label = Label(ids(5), "kind", ("photo",), confidence=0.75)
    dataset.write_predictions({samples[0]: SamplePrediction("m-1", 0.25, (label,))})
    assert dataset.predictions()[samples[0]].labels == (label,)


def test_the_tag_of_a_conflict_comes_and_goes_with_its_state(dataset: Any, samples: list[str]):
    for state, tags in ((fields.CONFLICT, [fields.CONFLICT_TAG]), (fields.REVIEWED, [])):
        dataset.write_states({samples[0]: SampleState(state, 12)})
        dataset._dataset.reload()
        assert dataset._dataset[samples[0]].tags == tags
    assert dataset.states() == {samples[0]: SampleState("reviewed", 12), samples[1]: SampleState(None, None)}


def test_a_reviewer_is_written_with_the_time_in_utc(dataset: Any, samples: list[str]):
    dataset.write_reviewers({samples[0]: Reviewer("ana@example.com", datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC))})
    document = dataset._dataset[samples[0]]
    assert document[fields.REVIEWER] == "ana@example.com"
    assert document[fields.REVIEWED_AT].replace(tzinfo=UTC) == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    dataset.write_reviewers({samples[0]: None})
    dataset._dataset.reload()
    document = dataset._dataset[samples[0]]
    assert (document[fields.REVIEWER], document[fields.REVIEWED_AT], document[fields.ANNOTATORS]) == (None, None, None)


def test_opening_a_second_time_finds_everything(dataset: Any, samples: list[str]):
    from sync.catalogue.dataset import Dataset

    dataset.write_labels({samples[0]: EVERYTHING})
    again = Dataset.open(dataset.name, CONFIG)
    assert len(again.labels()[samples[0]].labels) == len(EVERYTHING)
    assert again._dataset.persistent


def test_fiftyone_knows_the_classes_of_the_label_config(dataset: Any):
    boxes = ["car", "dog", "part", "road"]
    several, one = ["day", "rain"], ["photo", "scan"]
    assert dataset._dataset.classes == {
        "ground_truth": boxes,
        "ground_truth_polygons": ["lake"],
        "ground_truth_keypoints": ["nose"],
        "predictions": boxes,
        "predictions_polygons": ["lake"],
        "predictions_keypoints": ["nose"],
        "scene": several,
        "kind": one,
    }
    offered = {name: schema["classes"] for name, schema in dataset._dataset.label_schemas.items()}
    assert offered == {"ground_truth": boxes, "scene": several, "kind": one}
    assert sorted(dataset._dataset.active_label_schemas) == sorted(offered)


def test_opening_a_second_time_writes_no_class(dataset: Any, monkeypatch: pytest.MonkeyPatch):
    import fiftyone as fo

    from sync.catalogue.dataset import Dataset

    called = list[str]()
    for name in ("reload", "update_label_schema", "activate_label_schemas"):
        monkeypatch.setattr(fo.Dataset, name, lambda *_, name=name, **__: called.append(name))
    classes = property(lambda self: self._doc.classes, lambda *_: called.append("classes"))
    monkeypatch.setattr(fo.Dataset, "classes", classes)
    Dataset.open(dataset.name, CONFIG)

    assert called == []


def test_another_config_changes_the_classes_alone(dataset: Any):
    import fiftyone as fo

    from sync.catalogue.dataset import Dataset

    made = dataset._dataset
    made.classes = {**made.classes, "somebodys": ["own"]}
    own = {"type": "detections", "component": "radio", "classes": ["car", "dog", "part", "road"], "default": "dog"}
    confidence = {"name": "confidence", "type": "float", "component": "text"}
    gone = {"name": "note", "type": "str", "component": "text"}
    made.update_label_schema("ground_truth", {**own, "attributes": [confidence, gone]}, allow_new_attrs=True)
    free = {"type": "classification", "component": "text", "attributes": []}
    made.update_label_schema("kind", free)
    made.deactivate_label_schemas("scene")

    Dataset.open(dataset.name, LabelConfig.from_xml(CONFIG.xml.replace('"dog"', '"wolf"').replace("rain", "night")))

    changed = fo.load_dataset(dataset.name)
    boxes = ["car", "wolf", "part", "road"]
    assert (changed.classes["ground_truth"], changed.classes["predictions"]) == (boxes, boxes)
    assert changed.classes["somebodys"] == ["own"]
    schemas = changed.label_schemas
    del own["default"]
    assert schemas["ground_truth"] == {**own, "classes": boxes, "attributes": [confidence, gone]}
    assert schemas["kind"] == free
    assert schemas["scene"]["classes"] == ["day", "night"]
    assert "scene" not in changed.active_label_schemas


def test_samples_are_found_by_the_names_of_their_files(dataset: Any):
    def add(path: str, source: str | None = None) -> str:
        image = NewImage(Path(path), SIZE, "0" * 64, 100, "image/jpeg")
        (added,) = dataset.write_images([image if source is None else replace(image, source_path=Path(source))])
        return str(added)

    north, south = add("/photos/north/a+b.jpg"), add("/photos/south/a+b.jpg")
    copied = add("/copies/0123.png", "/photos/scan.tif")
    add("/photos/aab.jpg")

    assert dataset.ids_of_files(["a+b.jpg", "north/a+b.jpg", "scan.tif", "b.jpg", "", ".*"]) == {
        "a+b.jpg": [north, south],
        "north/a+b.jpg": [north],
        "scan.tif": [copied],
    }
