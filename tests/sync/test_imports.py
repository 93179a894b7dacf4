"""Label files of others: what they say, what does not fit, and what somebody meant to do harm with."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label
from sync.exports.objects import NAMES
from sync.exports.shapes import to_run_lengths
from sync.exports.tables import _to_schema as parquet_schema
from sync.imports.coco import _decompress, read_coco
from sync.imports.fitting import Classes, Fitted, check_size, count_unknown, fit_labels
from sync.imports.formats import READERS, guess_format, read_labels
from sync.imports.geometries import FitError, to_geometry
from sync.imports.matching import FileIndex
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape
from sync.imports.shards import read_tfrecord, read_webdataset
from sync.imports.tables import read_csv, read_parquet
from sync.imports.turned import to_turned_box
from sync.imports.voc import read_voc
from sync.imports.yolo import read_yolo

# pycocotools 2.0.11 was built before numpy 2 settled this; its numbers are right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE = ImageSize(40, 20)
CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/>
    <RectangleLabels name="label" toName="image"><Label value="Car" predicted_values="truck"/><Label value="dog"/>
    </RectangleLabels>
    <PolygonLabels name="outline" toName="image"><Label value="lake"/></PolygonLabels>
    <BrushLabels name="brush" toName="image"><Label value="fog"/></BrushLabels>
    <KeyPointLabels name="points" toName="image"><Label value="nose"/></KeyPointLabels></View>"""
)
XML = """<annotation><filename>{name}</filename><size><width>{width}</width><height>{height}</height></size>
<object><name>{label}</name><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object></annotation>"""


def coco(**changes: object) -> dict[str, object]:
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "car"}],
    } | changes


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def fit(*labels: ImportedLabel, mapped: dict[str, str] | None = None) -> Fitted:
    image = ImportedImage("a.jpg", labels, SIZE)
    return fit_labels(image, SIZE, Classes(CONFIG, mapped or {}), image_sha256="0" * 64, taken=set())


def box(*xyxy: float, name: str = "Car", label_id: str | None = None) -> ImportedLabel:
    return ImportedLabel((name,), (RawShape("box", xyxy),), label_id=label_id)


# What fits, and what does not


def test_a_box_over_the_edge_is_cut_and_counted():
    fitted = fit(box(-5, -5, 50, 10))
    assert [label.geometry for label in fitted.labels] == [Box(0, 0, 40, 10)]
    assert (fitted.clipped, fitted.problems) == (1, [])


@pytest.mark.parametrize(
    ("xyxy", "problem"),
    [((5, 5, 5, 9), "has no area"), ((5, 9, 8, 9), "has no area"), ((50, 1, 60, 9), "lies outside the image")],
)
def test_a_box_without_area_or_outside_is_left_out_and_named(xyxy: tuple[float, ...], problem: str):
    fitted = fit(box(*xyxy), box(1, 1, 9, 9))
    assert fitted.problems == [f"label 1 (Car): {problem}"]
    assert len(fitted.labels) == 1


def test_corners_in_any_order_are_the_same_box():
    assert fit(box(9, 10, 1, 2)).labels[0].geometry == Box(1, 2, 8, 8)


def test_a_label_that_is_there_twice_is_taken_once_and_a_doubled_id_is_replaced():
    fitted = fit(
        box(1, 2, 3, 4), box(1, 2, 3, 4), box(1, 2, 5, 6, label_id="a" * 24), box(2, 3, 5, 6, label_id="a" * 24)
    )
    ids = [label.id for label in fitted.labels]
    assert fitted.doubled == 1
    assert len(set(ids)) == len(ids) == 3
    assert "a" * 24 in ids
    assert fit(box(1, 2, 3, 4)).labels == fit(box(1, 2, 3, 4)).labels, "an id that is made is the same each time"


def test_classes_are_mapped_by_the_person_then_the_same_then_by_alias():
    classes = Classes(CONFIG, {"auto": "Car", "rubbish": ""})
    found = ImportedSet([ImportedImage("a", (box(1, 1, 2, 2, name="?"), box(1, 1, 3, 3, name="?"), box(1, 1, 2, 2)))])
    assert count_unknown(found, classes) == {"?": 2}
    names = ("auto", "CAR", "truck", "dog", "rubbish")
    image = ImportedImage("a", tuple(box(1, 1, number + 2, 9, name=name) for number, name in enumerate(names)), SIZE)
    fitted = fit_labels(image, SIZE, classes, image_sha256="", taken=set())
    assert [label.class_name for label in fitted.labels] == ["Car", "Car", "Car", "dog"]
    assert dict(classes.by_alias) == {("CAR", "Car"): 1, ("truck", "Car"): 1}
    assert dict(classes.dropped) == {"rubbish": 1}


def test_the_best_shape_is_taken_that_the_config_has_a_control_for():
    shapes = (RawShape("polygon", (0, 0, 10, 0, 0, 8)), RawShape("box", (0, 0, 10, 8)))
    lake, car = ImportedLabel(("lake",), shapes), ImportedLabel(("Car",), shapes)
    fitted = fit(lake, car)
    assert [type(label.geometry) for label in fitted.labels] == [Polygon, Box]
    assert fitted.simpler == 1


def test_labels_of_another_size_are_refused_and_a_turned_one_is_explained():
    with pytest.raises(FitError, match="drawn on 400x200, the image is 40x20"):
        check_size(ImportedImage("a", (), ImageSize(400, 200)), SIZE)
    with pytest.raises(FitError, match="before it was turned"):
        check_size(ImportedImage("a", (), ImageSize(20, 40)), SIZE)
    check_size(ImportedImage("a", (), None), SIZE)


@given(st.floats(0, 359.9), st.floats(5, 50), st.floats(5, 50))
def test_a_turned_box_is_found_again_from_its_corners(angle: float, width: float, height: float):
    given_box = Box(100, 100, width, height, angle)
    found = to_turned_box(given_box.corners())
    assert np.allclose(found.corners(), given_box.corners(), atol=1e-6)
    other_way = to_turned_box(given_box.corners()[::-1])
    assert sorted(map(tuple, np.round(other_way.corners(), 5))) == sorted(map(tuple, np.round(found.corners(), 5)))


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_compressed_run_lengths_are_those_of_pycocotools(painted: list[bool]):
    pixels = np.array(painted).reshape(3, 4)
    packed = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))
    assert _decompress(packed["counts"].decode()) == to_run_lengths(pixels)
    shape = RawShape("run lengths", tuple(map(float, to_run_lengths(pixels))), size=(3, 4))
    assert to_geometry(shape, ImageSize(4, 3)) == Mask(pixels)


@pytest.mark.parametrize("counts", [(-1.0, 801.0), (1e9, 1.0), (799.0,), ()])
def test_run_lengths_that_make_no_image_are_refused(counts: tuple[float, ...]):
    with pytest.raises(FitError, match="run lengths"):
        to_geometry(RawShape("run lengths", counts, size=(20, 40)), SIZE)


# COCO


def test_coco_reports_what_it_cannot_read_and_takes_the_rest(tmp_path: Path):
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]},
        {"id": 4, "image_id": 1, "category_id": 1, "bbox": [1, float("nan"), 3, 4]},
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3]},
        {"id": 6, "image_id": 1, "category_id": 1},
        "nothing",
        {"id": 8, "category_id": 1},
    ]
    images = [
        {"id": 1, "file_name": "a.jpg", "width": 0, "height": 0},
        {"id": 1, "file_name": "b.jpg"},
        {"file_name": "c.jpg"},
    ]
    found = read_coco(write_json(tmp_path / "a.json", coco(annotations=annotations, images=images)))
    assert [(image.name, len(image.labels), image.size) for image in found.images] == [("a.jpg", 1, None)]
    assert len(found.problems) == 9
    assert "category 9 is not listed" in [problem.text for problem in found.problems]
    assert list(found.broken) == ["a.jpg"]
    assert found.stray is not None


@pytest.mark.parametrize("annotations", [None, {}, "nothing"])
def test_coco_without_a_list_of_annotations_is_an_error_and_not_a_set_of_empty_images(
    tmp_path: Path, annotations: object
):
    with pytest.raises(LabelingError, match=r"is no COCO file .*lists of images, annotations, categories"):
        read_coco(write_json(tmp_path / "a.json", coco(annotations=annotations)))
    content = coco()
    del content["annotations"]
    with pytest.raises(LabelingError, match="is no COCO file"):
        read_coco(write_json(tmp_path / "a.json", content))


def test_two_categories_of_one_id_are_an_error_unless_they_say_the_same(tmp_path: Path):
    categories = [{"id": 1, "name": "car"}, {"id": "1", "name": "dog"}]
    with pytest.raises(LabelingError, match=r"a\.json: category id 1 is there twice \('car' and 'dog'\)"):
        read_coco(write_json(tmp_path / "a.json", coco(categories=categories)))
    twice = coco(categories=[{"id": 1, "name": "car"}] * 2)
    assert len(read_coco(write_json(tmp_path / "a.json", twice)).images) == 1


def test_two_images_of_one_id_leave_both_out(tmp_path: Path):
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    found = read_coco(write_json(tmp_path / "a.json", coco(images=images)))
    assert [found.find_fault(image) for image in found.images] == [
        "a label of it cannot be read (b.jpg: image id 1 is there twice)"
    ]


def test_json_that_is_nested_too_deeply_is_said_in_words(tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_bytes(GARBAGE["deep"])
    with pytest.raises(LabelingError, match=r"broken off \(it is nested too deeply\)"):
        read_coco(path)


def test_a_folder_of_coco_is_its_one_file_or_a_question_for_the_file(tmp_path: Path):
    with pytest.raises(LabelingError, match=rf"no labels\.json in {tmp_path}; give the file"):
        read_coco(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "README.dataset.txt").write_text("Made by others.")
    write_json(tmp_path / "train" / "_annotations.coco.json", coco())
    assert guess_format(tmp_path) == "coco"
    assert [image.name for image in read_coco(tmp_path).images] == ["train/a.jpg"]
    write_json(tmp_path / "other.json", coco())
    with pytest.raises(LabelingError, match="cannot be told"):
        guess_format(tmp_path)
    with pytest.raises(LabelingError, match="give the file"):
        read_coco(tmp_path)


@pytest.mark.parametrize("content", [{"images": []}, {}])
def test_a_folder_with_one_json_file_of_another_kind_is_not_taken_for_coco(tmp_path: Path, content: object):
    write_json(tmp_path / "settings.json", content)
    with pytest.raises(LabelingError, match="cannot be told"):
        guess_format(tmp_path)
    (tmp_path / "settings.json").write_text("")
    with pytest.raises(LabelingError, match="cannot be told"):
        guess_format(tmp_path)


def test_coco_key_points_become_points_under_their_names(tmp_path: Path):
    annotation = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "keypoints": [3, 4, 2, 0, 0, 0]}
    category = {"id": 1, "name": "person", "keypoints": ["nose", "tail"]}
    found = read_coco(write_json(tmp_path / "a.json", coco(annotations=[annotation], categories=[category])))
    assert [label.classes for label in found.images[0].labels] == [("person",), ("nose",)]
    assert fit(found.images[0].labels[1]).labels[0].geometry == Keypoint(3, 4)


def test_coco_labels_without_key_points_are_boxes_also_where_their_class_has_some(tmp_path: Path):
    annotations = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": []},
        {"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [1, 2]},
    ]
    category = {"id": 1, "name": "Car", "keypoints": ["nose", "tail"]}
    found = read_coco(write_json(tmp_path / "a.json", coco(annotations=annotations, categories=[category])))
    assert [label.shapes[0].kind for label in found.images[0].labels] == ["box", "box"]  # type: ignore[union-attr]
    assert [problem.text for problem in found.problems] == ["has 2 numbers of key points (expected 6)"]


SEVERAL = {
    "image_id": 1,
    "category_id": 1,
    "bbox": [0, 0, 40, 20],
    "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10], [30, 10, 40, 10, 40, 20, 30, 20]],
}


@pytest.mark.parametrize(("name", "simpler"), [("fog", 0), ("lake", 1), ("dog", 1)])
def test_an_object_of_several_outlines_is_one_label_as_exact_as_it_can_be(tmp_path: Path, name: str, simpler: int):
    content = coco(annotations=[SEVERAL], categories=[{"id": 1, "name": name}])
    (image,) = read_coco(write_json(tmp_path / "a.json", content)).images
    assert count_unknown(ImportedSet([image]), Classes(CONFIG)) == {}
    fitted = fit(*image.labels)
    ((shape,), by_others) = (
        [one.geometry for one in fitted.labels],
        coco_mask.frPyObjects(SEVERAL["segmentation"], 20, 40),
    )
    assert (fitted.simpler, fitted.problems) == (simpler, [])
    if isinstance(shape, Mask):
        assert np.array_equal(shape.pixels, coco_mask.decode(coco_mask.merge(by_others)))
    elif isinstance(shape, Polygon):
        assert shape.area == 200, "the way there and back has no area"
        assert {(10, 10), (30, 10), (40, 20), (0, 0)} <= {*shape.points}
    else:
        assert shape == Box(0, 0, 40, 20)


def test_an_outline_of_too_few_points_is_named_also_among_several(tmp_path: Path):
    annotation = SEVERAL | {"segmentation": [[0, 0, 9, 9], [1, 1, 2, 2, 3, 1]]}
    content = coco(annotations=[annotation], categories=[{"id": 1, "name": "lake"}])
    (image,) = read_coco(write_json(tmp_path / "a.json", content)).images
    assert fit(*image.labels).problems == ["label 1 (lake): an outline of 4 numbers (expected pairs, at least three)"]


def test_a_crowd_is_read_as_one_object_and_counted(tmp_path: Path):
    crowd = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    found = read_coco(write_json(tmp_path / "a.json", coco(annotations=[crowd, SEVERAL])))
    assert len(found.images[0].labels) == 2
    assert found.notes() == ["1 labels are crowds (iscrowd), each of several objects, and were read as one"]


# YOLO


def test_yolo_labels_of_images_called_test_or_readme_are_read_and_lists_are_not(tmp_path: Path):
    labels = tmp_path / "labels"
    labels.mkdir()
    (tmp_path / "data.yaml").write_text("names: [Car]\n")
    for name in ("test", "val", "readme", "a"):
        (labels / f"{name}.txt").write_text("\n0 .5 .5 .5 .5\n")
    (labels / "train.txt").write_text("0 .5 .5\n")
    (labels / "classes.txt").write_text("Car\n")
    (tmp_path / "train.txt").write_text("./images/a.jpg\n")
    (tmp_path / "README.txt").write_text("Made by others.\n")
    found = read_yolo(tmp_path)
    assert [image.name for image in found.images] == [
        f"images/{name}" for name in ("a", "readme", "test", "train", "val")
    ]
    assert [problem.item for problem in found.problems] == ["labels/train.txt, line 1"]


def test_yolo_splits_that_hold_images_and_labels_each_keep_names_apart(tmp_path: Path):
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir(parents=True)
        (tmp_path / split / "labels" / "0001.txt").write_text("0 .5 .5 .5 .5\n")
    (tmp_path / "data.yaml").write_text("names: [Car]\n")
    names = [image.name for image in read_yolo(tmp_path).images]
    for folder in ("images/", ""):
        files = [tmp_path / split / f"{folder}0001.jpg" for split in ("train", "valid")]
        assert [FileIndex(tmp_path, files).find(name) for name in names] == files
    files = [tmp_path / "images" / split / "0001.jpg" for split in ("train", "valid")]
    assert [FileIndex(tmp_path, files).find(name) for name in names] == files


def test_an_empty_line_in_a_list_of_classes_counts_as_a_number_that_has_no_class(tmp_path: Path):
    (tmp_path / "classes.txt").write_text("Car\n\ndog\n\n")
    (tmp_path / "a.txt").write_text("2 .5 .5 .5 .5\n0 .5 .5 .2 .2\n1 .5 .5 .5 .5\n")
    found = read_yolo(tmp_path)
    assert [label.classes for label in found.images[0].labels] == [("dog",), ("Car",)]
    assert [problem.text for problem in found.problems] == ["class 1 is out of range (2 have a name)"]


def test_yolo_rows_are_boxes_outlines_and_poses(tmp_path: Path):
    (tmp_path / "labels" / "train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [Car, lake]\n")
    (tmp_path / "labels" / "train" / "a.txt").write_text("0 .5 .5 .5 .5\n1 0 0 .25 0 0 .4\n")
    (tmp_path / "labels" / "train" / "b.txt").write_text("")
    found = read_yolo(tmp_path)
    assert [(image.name, len(image.labels)) for image in found.images] == [("images/train/a", 2), ("images/train/b", 0)]
    first, second = fit(*found.images[0].labels).labels
    assert (first.geometry, second.geometry) == (Box(10, 5, 20, 10), Polygon(((0, 0), (10, 0), (0, 8))))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("7 .5 .5 .5 .5", "class 7 is out of range"),
        ("-1 .5 .5 .5 .5", "class '-1' is no whole number"),
        ("0.5 .5 .5 .5 .5", "is no whole number"),
        ("0 nan .5 .5 .5", "no finite number"),
        ("0 1e999 .5 .5 .5", "no finite number"),
        ("0 .5 .5", "has 3 numbers"),
        ("car .5 .5 .5 .5", "could not convert"),
    ],
)
def test_a_row_that_says_nothing_is_named_and_the_others_count(tmp_path: Path, row: str, problem: str):
    (tmp_path / "data.yaml").write_text("names: {0: Car}\n")
    (tmp_path / "a.txt").write_text(f"0 .5 .5 .5 .5\n{row}\n")
    found = read_yolo(tmp_path)
    assert len(found.images[0].labels) == 1
    assert found.problems[0].item == "a.txt, line 2"
    assert found.broken.keys() == {"a"}
    assert problem in found.problems[0].text


def test_a_box_far_outside_its_image_is_left_out(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0 5 5 .5 .5\n")
    found = read_yolo(tmp_path)
    fitted = fit(*found.images[0].labels, mapped={"0": "Car"})
    assert "lies outside the image" in fitted.problems[0]
    assert not fitted.is_whole


def test_a_label_that_does_not_fit_takes_its_image_with_it_and_an_empty_one_only_where_it_is_alone():
    assert not fit(box(50, 1, 60, 9), box(1, 1, 9, 9)).is_whole
    assert fit(box(5, 5, 5, 9), box(1, 1, 9, 9)).is_whole
    assert not fit(box(5, 5, 5, 9)).is_whole
    assert fit().is_whole
    assert fit(box(1, 1, 9, 9, name="rubbish"), mapped={"rubbish": ""}).is_whole


def test_numbers_too_large_for_a_box_are_named_like_others():
    fitted = fit(box(-1e308, 0, 1.7e308, 9))
    assert len(fitted.problems) == 1
    assert not fitted.is_whole


@pytest.mark.parametrize(
    "text",
    [
        "names: 7\n",
        "[]",
        "names: {a: b}\n",
        "names: [[a]]\n",
        "!!python/object/apply:os.system ['touch /tmp/harm']\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b]\n",
        "\t",
        "names: [a]\nkpt_shape: [1]\n",
    ],
)
def test_a_data_file_that_is_none_is_one_clear_error(tmp_path: Path, text: str):
    (tmp_path / "data.yaml").write_text(text)
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5\n")
    with pytest.raises(LabelingError, match=r"data\.yaml: is no data file of YOLO"):
        read_yolo(tmp_path)


# VOC


def voc(folder: Path, name: str = "a.jpg", **changes: object) -> Path:
    values: dict[str, object] = {"width": 40, "height": 20, "label": "Car", "box": (1, 2, 9, 10)} | changes
    path = folder / f"{Path(name).stem}.xml"
    path.write_text(XML.format(name=name, **values))
    return path


def test_voc_boxes_are_read_with_decimals_and_a_size_of_nothing_is_not_known(tmp_path: Path):
    voc(tmp_path, width=0, height=0, box=(1.5, 2, "9", 10.25))
    (image,) = read_voc(tmp_path).images
    assert (image.name, image.size) == ("a.jpg", None)
    assert fit(*image.labels).labels[0].geometry == Box(1.5, 2, 7.5, 8.25)
    assert read_voc(tmp_path).notes() == []


@pytest.mark.parametrize("width", [-40, "wide", "1e999"])
def test_a_size_that_is_none_counts_as_not_known_and_is_noted(tmp_path: Path, width: object):
    voc(tmp_path, width=width)
    found = read_voc(tmp_path)
    assert found.images[0].size is None
    assert found.notes() == [f"1 sizes are none and count as not known (the first: a.xml: {width}x20)"]


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, "", "<annotation>", "<html/>", "\x00", "<a>" * 5000], ids=range(7))
def test_xml_that_is_broken_or_meant_to_harm_is_named_and_the_others_count(tmp_path: Path, text: str):
    voc(tmp_path)
    (tmp_path / "b.xml").write_text(text)
    found = read_voc(tmp_path)
    assert [image.name for image in found.images] == ["a.jpg"]
    (problem,) = found.problems
    assert problem.item == "b.xml"
    assert "root:" not in problem.text, "nothing of another file is told"
    assert len(problem.text) < 400


@pytest.mark.parametrize("bad", [(1, 2, "x", 4), (1, 2, "nan", 4), (1, 2, "", 4), (1, 2, "1e400", 4)])
def test_an_object_without_numbers_is_named(tmp_path: Path, bad: tuple[object, ...]):
    voc(tmp_path, box=bad)
    found = read_voc(tmp_path)
    assert found.images[0].labels == ()
    assert found.problems[0].item == "a.xml, object 1"
    assert found.broken.keys() == {"a.jpg"}


# CSV, Parquet, shards


def test_a_csv_of_others_is_read_by_its_columns(tmp_path: Path):
    path = tmp_path / "boxes.csv"
    path.write_text("filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,40,20,Car,1,2,9,10\nb.jpg,40,20,,,,,\n")
    found = read_csv(path)
    assert [(image.name, len(image.labels), image.size) for image in found.images] == [
        ("a.jpg", 1, SIZE),
        ("b.jpg", 0, SIZE),
    ]


def test_csv_lines_that_say_nothing_are_named(tmp_path: Path):
    path = tmp_path / "boxes.csv"
    path.write_text("filename,class,xmin,ymin,xmax,ymax\n,Car,1,2,9,10\na.jpg,Car,1,2,nan,10\na.jpg,,1,2,3,4\na.jpg\n")
    found = read_csv(path)
    assert [problem.item for problem in found.problems] == [
        "boxes.csv, line 2",
        "boxes.csv, line 3",
        "boxes.csv, line 4",
    ]
    assert (found.broken.keys(), found.stray) == ({"a.jpg"}, "boxes.csv, line 2: names no image")
    path.write_text("filename,class,xmin,ymin,xmax,ymax\na.jpg,,,,,\n,,,,,\n")
    assert (read_csv(path).problems, read_csv(path).stray) == ([], None)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(LabelingError, match="has no column for image"):
        read_csv(path)
    path.write_text('filename,class,xmin,ymin,xmax,ymax\n"a.jpg,Car,1')
    with pytest.raises(LabelingError, match="is no table, or broken off"):
        read_csv(path)


def test_a_row_that_somebody_added_to_our_table_is_a_box_and_half_a_one_is_named(tmp_path: Path):
    path = tmp_path / "labels.csv"
    head = "image,label_id,kind,class_name,x,y,width,height,rating,has_regions"
    rows = ("a.jpg,,,Car,1,2,3,4,,true", "b.jpg,,,,1,2,3,4,,true", "c.jpg,,rating,,,,,,3.9,true", "d.jpg,,,,,,,,,true")
    path.write_text("\n".join((head, *rows)))
    found = read_csv(path)
    assert [(image.name, len(image.labels)) for image in found.images] == [
        ("a.jpg", 1), ("b.jpg", 0), ("c.jpg", 0), ("d.jpg", 0),
    ]  # fmt: skip
    assert [problem.text for problem in found.problems] == ["has no class", "rating 3.9 is no whole number"]
    assert [found.find_fault(image) is None for image in found.images] == [True, False, False, True]


def test_an_archive_is_read_and_nothing_is_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = write_json(tmp_path / "x", {"image": "../../a.jpg", "objects": [{"kind": "box"}, 7]})
    with tarfile.open(tmp_path / "train-000000.tar", "w") as archive:
        for name in ("../../harm.json", "/harm.json", "b.json"):
            archive.add(content, name)
    content.unlink()
    monkeypatch.chdir(tmp_path)
    found = read_webdataset(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train-000000.tar"]
    assert [image.name for image in found.images] == ["../../a.jpg"] * 3
    assert len(found.problems) == 6
    assert found.broken.keys() == {"../../a.jpg"}


@pytest.mark.parametrize("content", [{"image": "a.jpg"}, {"image": "a.jpg", "objects": None}])
def test_an_image_in_a_shard_without_a_list_of_objects_says_nothing(tmp_path: Path, content: object):
    with tarfile.open(tmp_path / "train-000000.tar", "w") as archive:
        archive.add(write_json(tmp_path / "x", content), "a.json")
    found = read_webdataset(tmp_path)
    assert found.images == []
    assert "has no list of objects" in found.problems[0].text


def test_a_tfrecord_that_announces_more_than_it_has_is_an_error_and_not_a_request_for_memory(tmp_path: Path):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(struct.pack("<Q", 2**60) + b"\0" * 20)
    with pytest.raises(LabelingError, match="is no TFRecord file, or broken off"):
        read_tfrecord(path)


def test_a_parquet_file_that_repeats_its_values_without_end_is_refused_before_they_are_read(tmp_path: Path):
    schema = parquet_schema()
    objects = [dict.fromkeys(NAMES) | {"kind": "box", "class_name": "Car", "x": 1, "y": 1, "width": 5, "height": 5}]
    row: dict[str, object] = {"image": {"bytes": None, "path": "a.jpg"}, "width": 40, "height": 20, "sha256": None}
    row |= {"sample_id": None, "split": None, "has_regions": True}
    for count, is_read in ((5_000, True), (100_000, False)):
        table = pa.Table.from_pylist([row | {"objects": objects * count}], schema=schema)
        pq.write_table(table, tmp_path / "train.parquet", compression="zstd")
        if is_read:
            assert [len(image.labels) for image in read_parquet(tmp_path).images] == [count]
        else:
            assert (tmp_path / "train.parquet").stat().st_size < count
            with pytest.raises(LabelingError, match=r"has 100000 values in \d+ bytes"):
                read_parquet(tmp_path)


# Any reader


def read_or_refuse(read: Callable[[], ImportedSet]) -> ImportedSet | str:
    """Return what was read, or the one line that says why nothing was."""
    try:
        return read()
    except LabelingError as error:
        line = str(error)
    assert "\n" not in line
    return line


GARBAGE: dict[str, bytes] = {
    "nothing": b"",
    "zeros": b"\0" * 100,
    "noise": bytes(range(256)) * 4,
    "latin": "filename,class,xmin,ymin,xmax,ymax\ncafé.jpg,Car,1,2,3,4\n".encode("latin-1"),
    "deep": b"[" * 100_000,
    "number": b"1" * 10_000,
    "list": b"[]",
    "wide": "{}".encode("utf-16"),
}
SUFFIXES = {"voc": ".xml", "csv": ".csv", "webdataset": ".tar", "tfrecord": ".tfrecord", "parquet": ".parquet"}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_none_is_one_clear_error_or_is_named(tmp_path: Path, name: str, garbage: str):
    path = tmp_path / f"labels{SUFFIXES.get(name, '.json' if name == 'coco' else '.txt')}"
    path.write_bytes(GARBAGE[garbage])
    target = tmp_path if name.startswith("yolo") else path
    said = read_or_refuse(lambda: READERS[name](target))
    if isinstance(said, str):
        assert str(tmp_path) in said
    else:
        assert sum(len(image.labels) for image in said.images) == 0


@pytest.mark.parametrize("read", [read_parquet, read_webdataset, read_tfrecord, read_voc, read_yolo])
def test_a_folder_without_label_files_is_one_clear_error(tmp_path: Path, read: Callable[[Path], object]):
    with pytest.raises(LabelingError, match="no label files"):
        read(tmp_path)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["images", "annotations", "categories", "id", "file_name", "bbox", "image_id", "category_id",
                         "segmentation", "keypoints", "size", "counts", "name"]),
        inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@given(image=ANY_JSON, annotation=ANY_JSON, category=ANY_JSON)
def test_any_image_annotation_and_category_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, image: object, annotation: object, category: object
):
    listed = {"images": [image], "annotations": [annotation], "categories": [category]}
    found = read_coco(write_json(tmp_path_factory.getbasetemp() / "any.json", listed))
    labels = [label for one in found.images for label in one.labels]
    named = [problem.text for problem in found.problems]
    assert len(found.images) == 1 or named
    assert len(labels) == 1 or named
    assert all("\n" not in text for text in named)
    for one in found.images:
        # With an annotation that could not be read, an image without labels must not pass for one without objects.
        assert one.labels or found.find_fault(one) is not None
        fitted = fit_labels(one, SIZE, Classes(CONFIG), image_sha256="", taken=set())
        assert len(fitted.labels) + len(fitted.problems) + fitted.doubled == len(one.labels)


@given(content=ANY_JSON)
def test_any_json_that_is_no_coco_is_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: object):
    path = write_json(tmp_path_factory.getbasetemp() / "any.json", content)
    parts = ("images", "annotations", "categories")
    is_coco = isinstance(content, dict) and all(isinstance(content.get(part), list) for part in parts)
    said = read_or_refuse(lambda: read_coco(path))
    assert is_coco or (isinstance(said, str) and said.startswith(f"{path}: is no COCO file"))


def test_the_format_is_told_by_what_is_there(tmp_path: Path):
    for name, expected in {"a.json": "coco", "a.csv": "csv", "a.tar": "webdataset", "a.tfrecord": "tfrecord"}.items():
        (tmp_path / name).write_text("")
        assert guess_format(tmp_path / name) == expected
    with pytest.raises(LabelingError, match="cannot be told"):
        guess_format(tmp_path)
    with pytest.raises(LabelingError, match="no such file"):
        read_labels(tmp_path / "nowhere", CONFIG)


def test_a_link_that_leads_out_of_the_folder_is_not_read(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    voc(inside)
    (inside / "b.xml").symlink_to(voc(outside, "b.jpg"))
    assert [image.name for image in read_voc(inside).images] == ["a.jpg"]


@pytest.mark.parametrize("name", ["labels.json", "labels.csv", "classes.txt", "data.yaml", "labelloop.json"])
def test_nor_is_a_link_under_a_name_that_a_reader_looks_for(tmp_path: Path, name: str):
    inside = tmp_path / "in"
    inside.mkdir()
    (inside / "a.txt").write_text("0 .5 .5 .5 .5\n")
    written = {"labels.json": json.dumps(coco()), "labelloop.json": json.dumps({"format": "coco"})}
    (tmp_path / name).write_text(written.get(name, "names: [secret]\nsecret\n"))
    (inside / name).symlink_to(tmp_path / name)
    found = read_labels(inside, CONFIG)
    assert [(image.name, [label.classes for label in image.labels]) for image in found.images] == [("a", [("0",)])]


def test_a_voc_name_begins_where_its_file_lies(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    voc(tmp_path)
    voc(tmp_path / "deep")
    assert [image.name for image in read_voc(tmp_path).images] == ["a.jpg", "deep/a.jpg"]


def test_an_answer_keeps_what_it_says():
    label = Label("1" * 24, "label", ("Car",), Box(1, 2, 3, 4))
    assert replace(fit(box(1, 2, 4, 6)).labels[0], id=label.id) == label
