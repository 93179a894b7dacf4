"""The COCO export, read back by pycocotools and by FiftyOne's importer, beside numbers worked out by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from labels.config import LabelConfig
from labels.errors import LabelConfigError, LabelingError
from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.report import Failure
from labels.results import Label
from sync.exports.formats import write_export
from sync.exports.layout import export_stem
from sync.exports.records import ExportImage, ExportResult, Order

# pycocotools 2.0.11 was built before numpy 2 settled this; its numbers are right.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

AddImage = Callable[..., ExportImage]
PAINT = np.zeros((20, 40), dtype=bool)
PAINT[2:5, 30:39] = True

BOX = Label("b", "label", ("car",), Box(10, 5, 20, 10))
OVER_THE_EDGE = Label("c", "label", ("person",), Box(30, 15, 30, 30))
# Turned clockwise by 90 degrees round (30, 2): it reaches 6 to the left and 12 down.
TURNED = Label("d", "label", ("car",), Box(30, 2, 12, 6, rotation_deg=90))
TRIANGLE = Label("e", "outline", ("bus",), Polygon(((0.0, 0.0), (10.0, 0.0), (0.0, 8.0))))
BRUSH = Label("f", "brush", ("bus",), Mask(PAINT))
POINT = Label("g", "points", ("no",), Keypoint(20, 10, 4))
KEEP = Label("h", "quality", ("keep",))
EVERY_KIND = (POINT, KEEP, BRUSH, TRIANGLE, TURNED, OVER_THE_EDGE, BOX)


def write_coco(images: Iterable[ExportImage], config: LabelConfig, out_dir: Path, **options: Any) -> ExportResult:
    return write_export(images, config, Order("coco", out_dir, **options))


def _read(out_dir: Path) -> COCO:
    return COCO(str(out_dir / "labels.json"))


def _files(out_dir: Path) -> dict[str, bytes]:
    return {path.relative_to(out_dir).as_posix(): path.read_bytes() for path in out_dir.rglob("*") if path.is_file()}


def _annotation(annotation_id: int, category_id: int, label_id: str, bbox: list[float], area: float) -> dict[str, Any]:
    return {
        "id": annotation_id,
        "image_id": 1,
        "category_id": category_id,
        "label_id": label_id,
        "bbox": bbox,
        "area": area,
        "iscrowd": 0,
        "segmentation": [],
    }


def test_every_kind_of_label_lies_at_its_pixels(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    result = write_coco([add_image("a.png", EVERY_KIND)], config, tmp_path / "coco")
    coco = _read(tmp_path / "coco")
    turned = _annotation(3, 2, "d", [24, 2, 6, 12], 72) | {"segmentation": [[30, 2, 30, 14, 24, 14, 24, 2]]}
    turned["rotation_deg"] = 90
    triangle = _annotation(4, 3, "e", [0, 0, 10, 8], 40) | {"segmentation": [[0, 0, 10, 0, 0, 8]]}
    # Thirty columns of 20 and two rows, then three painted in each of nine columns.
    counts = [602, 3, *[17, 3] * 8, 35]
    brush = _annotation(5, 3, "f", [30, 2, 9, 3], 27) | {"segmentation": {"size": [20, 40], "counts": counts}}
    point = _annotation(6, 4, "g", [18, 8, 4, 4], 16) | {"keypoints": [20, 10, 2], "num_keypoints": 1}
    point["diameter"] = 4
    assert coco.dataset["annotations"] == [
        _annotation(1, 2, "b", [10, 5, 20, 10], 200),
        _annotation(2, 1, "c", [30, 15, 10, 5], 50),
        turned,
        triangle,
        brush,
        point,
    ]
    assert (result.labels, result.clipped, result.left_out) == (6, 1, ())
    assert result.notes == (
        "1 labels reached beyond their image and were cut at its edge",
        "1 answers of 'quality' are not in it: the format holds drawn labels only",
    )


def test_pycocotools_sees_the_same_pixels(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    write_coco([add_image("a.png", (TURNED, BRUSH))], config, tmp_path / "coco")
    coco = _read(tmp_path / "coco")
    turned, brush = (coco.annToMask(annotation).astype(bool) for annotation in coco.dataset["annotations"])
    assert np.array_equal(brush, PAINT)
    expected = np.zeros((20, 40), dtype=bool)
    expected[2:14, 24:30] = True
    assert np.array_equal(turned, expected)


def test_pycocotools_takes_the_boxes_as_results(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    write_coco([add_image("a.png", (BOX, OVER_THE_EDGE))], config, tmp_path / "coco")
    coco = _read(tmp_path / "coco")
    boxes = [{name: one[name] for name in ("image_id", "category_id", "bbox")} for one in coco.dataset["annotations"]]
    detections = coco.loadRes([box | {"score": 1.0} for box in boxes])
    assert [detections.anns[n]["area"] for n in (1, 2)] == [200, 50]


def test_categories_follow_the_config_and_not_the_alphabet(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    write_coco([add_image("a.png")], config, tmp_path / "coco")
    assert _read(tmp_path / "coco").dataset["categories"] == [
        {"id": 1, "name": "person", "supercategory": ""},
        {"id": 2, "name": "car", "supercategory": ""},
        {"id": 3, "name": "bus", "supercategory": ""},
        {"id": 4, "name": "no", "supercategory": "", "keypoints": ["point"], "skeleton": []},
    ]


def test_reviewed_and_empty_is_a_negative(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    images = [add_image("a.png", ()), add_image("c.png", (BOX,)), add_image("d.png", (KEEP,))]
    result = write_coco(images, config, tmp_path / "coco")
    assert (result.images, result.negatives) == (3, 2)
    names = [image["file_name"][0] for image in _read(tmp_path / "coco").dataset["images"]]
    assert names == ["a", "c", "d"]


def test_a_second_export_is_byte_identical_whatever_the_order(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    images = [add_image("b.png", EVERY_KIND), add_image("a.jpg", (BOX,), orientation=6)]
    first = write_coco(images, config, tmp_path / "one")
    shuffled = [replace(images[1], labels=images[1].labels), replace(images[0], labels=EVERY_KIND[::-1])]
    second = write_coco(shuffled, config, tmp_path / "two")
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    assert first.content_sha256 == second.content_sha256
    assert write_coco(images[:1], config, tmp_path / "two").content_sha256 != first.content_sha256


def test_same_names_and_byte_identical_copies_stay_apart(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    images = [add_image("x/cat.png", (BOX,)), add_image("y/cat.png", ()), add_image("y/CAT.png", (TRIANGLE,))]
    write_coco(images, config, tmp_path / "coco")
    coco = _read(tmp_path / "coco")
    boxes = {coco.imgs[one["image_id"]]["file_name"]: one["label_id"] for one in coco.dataset["annotations"]}
    assert boxes == {f"{export_stem(images[0].path)}.png": "b", f"{export_stem(images[2].path)}.png": "e"}
    assert len(list((tmp_path / "coco" / "data").iterdir())) == 3


def test_labels_without_a_place_are_left_out_and_named(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    flat, outside = replace(BOX, geometry=Box(5, 5, 0, 10)), replace(OVER_THE_EDGE, geometry=Box(41, 0, 5, 5))
    twofold = Label("z", "label", ("car", "person"), Box(1, 1, 2, 2))
    result = write_coco([add_image("a.png", (flat, outside, twofold, TRIANGLE))], config, tmp_path / "coco")
    assert result.labels == 1
    assert result.left_out == (
        Failure("sample s1", "label b: has no area"),
        Failure("sample s1", "label c: lies outside the image"),
        Failure("sample s1", "label z: has 2 classes (expected one)"),
    )


def test_images_that_are_missing_broken_or_changed_are_left_out_and_named(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    images = [add_image(name, (BOX,)) for name in ("a.png", "b.png", "c.png", "d.png", "e.png")]
    images[0].path.unlink()
    broken = replace(images[1], sha256="5" * 64)
    images[2].path.write_bytes(b"no image")
    images[2] = replace(images[2], sha256="b6f3e6a1ef3dcfbd2bd2d1a3b7f37ff31b2d8b4ce4cc8b7b9e29a2ddb9d1e0c5")
    sized = replace(images[3], size=images[3].size.__class__(20, 40))
    result = write_coco([images[0], broken, images[2], sized, images[4]], config, tmp_path / "coco")
    assert [failure.item for failure in result.left_out] == ["sample s1", "sample s2", "sample s3", "sample s4"]
    problems = [failure.problem.replace(str(tmp_path), "") for failure in result.left_out]
    assert problems[0].startswith("/photos/a.png cannot be read ([Errno 2]")
    assert problems[1] == "/photos/b.png has changed since it was catalogued (ingest it again)"
    assert problems[3] == "/photos/d.png is 40x20 (its labels were drawn on 20x40)"
    assert (result.images, result.labels) == (1, 1)
    assert len(list((tmp_path / "coco" / "data").iterdir())) == 1


def test_a_class_that_is_not_in_the_config_stops_the_export(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    write_coco([add_image("a.png", (BOX,))], config, tmp_path / "coco")
    before = _files(tmp_path / "coco")
    odd, odder = replace(BOX, classes=("Forklift",)), replace(BOX, classes=("Trukc",))
    with pytest.raises(LabelConfigError) as caught:
        write_coco([add_image("b.png", (odd, odder)), add_image("c.png", (odd,))], config, tmp_path / "coco")
    assert str(caught.value) == (
        "nothing was exported: 3 labels have a class that is not in label_config.xml: 'Forklift' on b.png (sample s2), "
        "'Forklift' on c.png (sample s3), 'Trukc' on b.png (sample s2); give the label a class of the config in "
        "FiftyOne, or rename the class everywhere: labelloop relabel OLD NEW"
    )
    assert _files(tmp_path / "coco") == before


def test_of_very_many_unknown_classes_a_few_are_named_and_all_are_counted(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    odd = tuple(replace(BOX, classes=(f"odd{number:02}",)) for number in range(30))
    with pytest.raises(LabelConfigError, match=r"30 labels .* 'odd19' on b\.png \(sample s1\) and 10 more; give"):
        write_coco([add_image("b.png", odd)], config, tmp_path / "coco")


@pytest.mark.parametrize(("name", "orientation"), [("a.jpg", 6), ("a.png", 8), ("a.webp", 3), ("a.tif", 5)])
def test_every_reader_sees_a_turned_image_upright(
    add_image: AddImage, config: LabelConfig, tmp_path: Path, name: str, orientation: int
) -> None:
    image = add_image(name, (BOX,), size=(40, 20), orientation=orientation)
    result = write_coco([image], config, tmp_path / "coco")
    assert "1 images were written upright, as their EXIF tag says" in result.notes
    record = _read(tmp_path / "coco").dataset["images"][0]
    file = tmp_path / "coco" / "data" / record["file_name"]
    with Image.open(file) as plain:
        assert plain.size == (record["width"], record["height"]) == (image.size.width, image.size.height)
        pillow = np.asarray(plain.convert("RGB"))
    loaded = cv2.imread(str(file))
    assert loaded is not None
    opencv = cv2.cvtColor(loaded, cv2.COLOR_BGR2RGB)
    assert np.abs(opencv.astype(int) - pillow).max() <= 2
    # The red half was on the left: turned by 90 degrees clockwise it is on top, by 270 below, by 180 on the right.
    row, column = {6: (5, 10), 8: (35, 10), 3: (10, 35), 5: (5, 10)}[orientation]
    assert np.abs(pillow[row, column].astype(int) - (255, 0, 0)).max() <= 2


def test_an_image_without_a_turn_is_copied_byte_for_byte(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    image = add_image("a.jpg", (BOX,), orientation=1)
    write_coco([image], config, tmp_path / "coco")
    (copy,) = (tmp_path / "coco" / "data").iterdir()
    assert copy.read_bytes() == image.path.read_bytes()
    assert copy.stat().st_ino != image.path.stat().st_ino


def test_images_can_be_linked_and_a_turned_one_is_still_a_copy(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    plain, turned = add_image("a.jpg", (BOX,)), add_image("b.jpg", (BOX,), orientation=6)
    write_coco([plain, turned], config, tmp_path / "linked", images_mode="link")
    first, second = sorted((tmp_path / "linked" / "data").iterdir())
    assert first.samefile(plain.path)
    assert not second.samefile(turned.path)
    write_coco([plain, turned], config, tmp_path / "copied")
    assert _files(tmp_path / "linked").keys() == _files(tmp_path / "copied").keys()
    assert turned.path.exists()


def test_images_can_be_referenced_where_they_lie(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    image = add_image("a.jpg", (BOX,))
    write_coco([image], config, tmp_path / "coco", images_mode="none")
    assert _read(tmp_path / "coco").dataset["images"][0]["file_name"] == str(image.path)
    assert sorted(_files(tmp_path / "coco")) == ["labelloop.json", "labels.json"]


def test_the_manifest_tells_where_each_image_came_from(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    image = add_image("a.png", (BOX, KEEP))
    result = write_coco([image], config, tmp_path / "coco")
    manifest = json.loads((tmp_path / "coco" / "labelloop.json").read_text())
    file_name = f"{export_stem(image.path)}.png"
    assert manifest["images"] == [
        {
            "file_name": file_name,
            "sample_id": "s1",
            "source": str(image.path),
            "sha256": image.sha256,
            "labels": ["b"],
        }
    ]
    assert manifest["classes"] == ["person", "car", "bus", "no"]
    assert manifest["files"][f"data/{file_name}"] == image.sha256
    assert manifest["content_sha256"] == result.content_sha256


def test_the_images_own_folder_is_never_written_over(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    image = add_image("a.png", (BOX,))
    with pytest.raises(LabelingError, match="is no export of labelloop"):
        write_coco([image], config, image.path.parent)
    assert image.path.exists()


def test_an_export_of_nothing_can_be_read(config: LabelConfig, tmp_path: Path) -> None:
    assert write_coco([], config, tmp_path / "coco").images == 0
    assert _read(tmp_path / "coco").dataset["images"] == []


FIFTYONE_READER = """
import json, sys
from fiftyone.utils.coco import COCODetectionDatasetImporter as Importer
found = {}
with Importer(dataset_dir=sys.argv[1], label_types=["detections", "segmentations", "keypoints"]) as importer:
    for path, size, label in importer:
        boxes = [[d.label, d.label_id, *d.bounding_box] for d in label["detections"].detections]
        masks = {d.label_id: int(d.mask.sum()) for d in label["segmentations"].detections if d.mask is not None}
        points = [[k.label, *k.points[0]] for k in label["keypoints"].keypoints] if "keypoints" in label else []
        found[path] = [size.width, size.height, boxes, masks, points]
print(json.dumps(found))
"""


def test_fiftyones_importer_reads_it_as_it_is(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    write_coco([add_image("a.png", EVERY_KIND)], config, tmp_path / "coco")
    # In a process of its own: importing FiftyOne here would fix its settings for all other tests.
    command = [sys.executable, "-c", FIFTYONE_READER, str(tmp_path / "coco")]
    environment = os.environ | {"FIFTYONE_DO_NOT_TRACK": "true"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    ((path, (width, height, boxes, masks, points)),) = json.loads(done.stdout.splitlines()[-1]).items()
    assert Path(path).is_file()
    assert (width, height) == (40, 20)
    assert boxes[:3] == [
        ["car", "b", 0.25, 0.25, 0.5, 0.5],
        ["person", "c", 0.75, 0.75, 0.25, 0.25],
        ["car", "d", 0.6, 0.1, 0.15, 0.6],
    ]
    assert masks == {"d": 72, "e": pytest.approx(40, abs=8), "f": 27}
    assert points == [["no", 0.5, 0.5]]
