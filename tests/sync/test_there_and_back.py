"""Every format there and back: exported from one project, imported into an empty one, the labels are equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest

from labels.config import LabelConfig
from labels.geometry import Box, Keypoint, Mask, Polygon, compute_iou
from labels.results import Label, is_same
from sync.catalogue.samples import SampleLabels
from sync.cli.version_commands import FORMATS as ASKED_FOR
from sync.exports.formats import FORMATS
from sync.imports.formats import FORMAT_NAMES
from sync.jobs.datasets.export import export
from sync.jobs.datasets.import_labels import Wish, ingest_labels
from tests.fakes.pictures import open_reviewed
from tests.fakes.project import SIZE, FakeProject, open_fake_project

CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="person"/><Label value="a/b &amp; c"/></RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <BrushLabels name="brush" toName="image"><Label value="fog"/></BrushLabels>
    <KeyPointLabels name="points" toName="image"><Label value="left eye"/><Label value="right eye"/></KeyPointLabels>
    <Choices name="scene" toName="image"><Choice value="../in"/><Choice value="out"/></Choices>
    <Choices name="seen" toName="image" choice="multiple"><Choice value="sun"/><Choice value="rain"/></Choices>
    <Rating name="stars" toName="image" maxRating="5"/></View>"""
)
PAINT = np.zeros((SIZE.height, SIZE.width), dtype=bool)
PAINT[20:50, 30:70] = True
PAINT[60:70, 90:100] = True

UPRIGHT = Label("a1" * 12, "label", ("person",), Box(10.25, 5.5, 30.125, 40.0))
OTHER = Label("a2" * 12, "label", ("a/b & c",), Box(1 / 3, 20.0, 50.0, 59.9))
TURNED = Label("a3" * 12, "label", ("person",), Box(70.0, 20.0, 30.0, 15.0, rotation_deg=35.0))
LAKE = Label("b1" * 12, "outline", ("lake",), Polygon(((5.0, 5.0), (60.5, 9.0), (40.0, 70.25), (8.0, 60.0))))
FOG = Label("c1" * 12, "brush", ("fog",), Mask(PAINT))
EYE = Label("d1" * 12, "points", ("left eye",), Keypoint(20.0, 15.0, 4.0))
DOT = Label("d2" * 12, "points", ("left eye",), Keypoint(20.0, 15.0))
SCENE = Label("e1" * 12, "scene", ("../in",))
OUT = Label("e2" * 12, "scene", ("out",))
SEEN = Label("f1" * 12, "seen", ("sun", "rain"))
STARS = Label("f2" * 12, "stars", rating=4)
EVERYTHING = (UPRIGHT, OTHER, TURNED, LAKE, FOG, EYE, SCENE, SEEN, STARS)
HELD = {
    "coco": ("coco", [[UPRIGHT, OTHER, TURNED, LAKE, FOG, EYE], [UPRIGHT], []]),
    "yolo": ("yolo", [[UPRIGHT, OTHER], [UPRIGHT], []]),
    "yolo-segment": ("yolo-segment", [[LAKE], [LAKE], []]),
    "yolo-obb": ("yolo-obb", [[UPRIGHT, TURNED], [TURNED], []]),
    "yolo-pose": ("yolo-pose", [[UPRIGHT, OTHER, DOT], [UPRIGHT], []]),
    "voc": ("voc", [[UPRIGHT, OTHER], [UPRIGHT], []]),
    "csv": ("csv", [[*EVERYTHING], [UPRIGHT, OUT], []]),
    "parquet": ("parquet", [[*EVERYTHING], [UPRIGHT, OUT], []]),
    "webdataset": ("webdataset", [[*EVERYTHING], [UPRIGHT, OUT], []]),
    "tfrecord": ("tfrecord", [[*EVERYTHING], [UPRIGHT, OUT], []]),
    "folders": ("folders", [[SCENE], [OUT], [SCENE]]),
}
WITH_IDS = ("coco", "csv", "parquet", "webdataset", "tfrecord")
WITH_IMAGES_INSIDE = ("parquet", "webdataset", "tfrecord")


def test_every_format_is_tried_and_can_be_asked_for_both_ways():
    assert HELD.keys() == FORMATS.keys()
    assert {*ASKED_FOR} == {*FORMATS} == {*FORMAT_NAMES}


def labels_of(project: FakeProject) -> dict[str, tuple[Label, ...]]:
    """Return what is said of each image, by its content."""
    said = project.context.dataset.labels()
    return {
        sample.image.sha256: found.labels
        for key, sample in project.dataset.samples.items()
        if isinstance(found := said.get(key, SampleLabels((), has_regions=False)), SampleLabels)
    }


@pytest.mark.parametrize("name", HELD)
def test_what_is_exported_is_what_is_imported(name: str, tmp_path: Path):
    export_format, labels = HELD[name]
    # In each image the ids are its own.
    labels = [[replace(one, id=f"{number}{one.id[1:]}") for one in some] for number, some in enumerate(labels)]
    with open_reviewed(labels, config=CONFIG) as source:
        report = export(source.context, export_format=export_format, out_dir=tmp_path / "out")
        assert report.failed == ()
        expected = labels_of(source)
        # Of formats with the images inside, these lie where they came from.
        folder = source.context.home.images if name in WITH_IMAGES_INSIDE else tmp_path / "out"
        photos = tmp_path / "photos"
        photos.mkdir()
        for path in folder.rglob("*.png"):
            (photos / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (photos / path.relative_to(folder)).write_bytes(path.read_bytes())
    with open_fake_project(images=0, config=CONFIG) as target:
        first = ingest_labels(target.context, Wish(photos, tmp_path / "out"))
        assert (first.failed, first.moved, first.details["labels"]) == ((), 3, sum(map(len, labels)))
        found = labels_of(target)
        assert found.keys() == expected.keys()
        for sha256, some in expected.items():
            assert_same(found[sha256], some, with_ids=name in WITH_IDS)
        again = ingest_labels(target.context, Wish(photos, tmp_path / "out"))
        assert (again.failed, again.details["labels"], again.details["images labelled as before"]) == ((), 0, 3)
        assert labels_of(target) == found


@pytest.mark.parametrize("name", WITH_IMAGES_INSIDE)
def test_images_inside_come_back_byte_for_byte_with_their_labels(name: str, tmp_path: Path):
    labels = [[UPRIGHT, SCENE], [replace(OTHER, id="9" * 24), replace(OUT, id="8" * 24)], []]
    with open_reviewed(labels, config=CONFIG) as source:
        export(source.context, export_format=name, out_dir=tmp_path / "out")
        expected, pictures = labels_of(source), pictures_of(source)
    with open_fake_project(images=0, config=CONFIG) as target:
        wish = Wish(tmp_path / "photos", tmp_path / "out", unpacks=True)
        foreseen = ingest_labels(target.context, replace(wish, is_dry_run=True))
        assert not (tmp_path / "photos").exists()
        report = ingest_labels(target.context, wish)
        assert (report.failed, report.moved, report.details["labels"]) == ((), 3, 4)
        assert (report.details["images unpacked"], foreseen.details["images that would be unpacked"]) == (3, 3)
        assert [*report.details.values()] == [*foreseen.details.values()]
        assert (pictures_of(target), foreseen.moved) == (pictures, 3)
        found = labels_of(target)
        assert {key: set(some) for key, some in found.items()} == {key: set(some) for key, some in expected.items()}

        again = ingest_labels(target.context, wish)
        assert (again.failed, again.moved, again.unchanged) == ((), 0, 3)
        assert (again.details["images inside that were there"], again.details["labels"]) == (3, 0)
        assert "images unpacked" not in again.details
        assert (labels_of(target), pictures_of(target)) == (found, pictures)
        assert len([*(tmp_path / "photos").iterdir()]) == 3


def pictures_of(project: FakeProject) -> dict[str, bytes]:
    """Return the bytes of each image's file, by their sum."""
    return {one.image.sha256: one.image.path.read_bytes() for one in project.dataset.samples.values()}


def assert_same(found: tuple[Label, ...], expected: tuple[Label, ...], *, with_ids: bool) -> None:
    assert len(found) == len(expected)
    for label in expected:
        twins = [one for one in found if one.id == label.id or not with_ids]
        assert any(is_same(one, label) for one in twins), f"{label} is not among {twins}"


def test_a_class_that_is_drawn_in_every_way_comes_back_from_coco(tmp_path: Path):
    names = ("RectangleLabels", "PolygonLabels", "KeyPointLabels", "BrushLabels")
    head = '<Label value="head"/>'
    controls = "".join(f'<{name} name="{name}" toName="image">{head}</{name}>' for name in names)
    config = LabelConfig.from_xml(f'<View><Image name="image" value="$image"/>{controls}</View>')
    # The dot reaches over the edge, the other has no size.
    points = (Keypoint(1.0, 10.0, 6.0), Keypoint(50.0, 10.0, 0.0))
    shapes = (UPRIGHT.geometry, TURNED.geometry, LAKE.geometry, *points, FOG.geometry)
    controls_of = (names[0], names[0], names[1], names[2], names[2], names[3])
    labels = [
        Label(f"{number:024x}", control, ("head",), shape)
        for number, (control, shape) in enumerate(zip(controls_of, shapes, strict=True), start=1)
    ]
    with open_reviewed([labels], config=config) as source:
        export(source.context, export_format="coco", out_dir=tmp_path / "out")
    with open_fake_project(images=0, config=config) as target:
        assert ingest_labels(target.context, Wish(tmp_path / "out", tmp_path / "out")).failed == ()
        (found,) = labels_of(target).values()
        assert len(found) == len(labels)
        assert_same(found, tuple(labels), with_ids=True)


def test_a_choice_that_looks_like_a_list_comes_back_as_it_is(tmp_path: Path):
    names = ('["a"]', "[]", "[a")
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in names)
    config = LabelConfig.from_xml(CONFIG.xml.replace('<Choice value="out"/>', choices))
    labels = [[Label(f"{number}" * 24, "scene", (name,))] for number, name in enumerate(names, start=1)]
    with open_reviewed(labels, config=config) as source:
        export(source.context, export_format="csv", out_dir=tmp_path / "out")
        expected = labels_of(source)
    with open_fake_project(images=0, config=config) as target:
        ingest_labels(target.context, Wish(tmp_path / "out", tmp_path / "out"))
        assert labels_of(target) == expected


def test_a_painted_mask_comes_back_from_outlines_nearly_as_it_was(tmp_path: Path):
    config = LabelConfig.from_xml(CONFIG.xml.replace('<Label value="lake"/>', '<Label value="fog"/>'))
    with open_reviewed([[FOG]], config=config) as source:
        export(source.context, export_format="yolo-segment", out_dir=tmp_path / "out")
    with open_fake_project(images=0, config=config) as target:
        ingest_labels(target.context, Wish(tmp_path / "out", tmp_path / "out"))
        ((label,),) = labels_of(target).values()
    assert isinstance(label.geometry, Polygon)
    assert compute_iou(label.geometry, FOG.geometry or UPRIGHT.geometry) > 0.97  # type: ignore[arg-type]


def test_an_import_says_nothing_with_controls_that_its_format_does_not_have(tmp_path: Path):
    with open_reviewed([[SCENE]], config=CONFIG) as source:
        export(source.context, export_format="folders", out_dir=tmp_path / "out")
    with open_fake_project(images=0, config=CONFIG) as target:
        ingest_labels(target.context, Wish(tmp_path / "out", tmp_path / "out"))
        (said,) = target.context.dataset.labels().values()
        assert isinstance(said, SampleLabels)
        assert not said.has_regions, "who sorted images into folders did not look for objects"
