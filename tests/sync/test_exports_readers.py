"""Every format as tools read it that have nothing to do with labelloop, beside numbers worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torchvision.datasets import ImageFolder, VOCDetection

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.results import Label
from sync.exports.formats import FORMATS, write_export
from sync.exports.records import ExportImage, ExportResult, Order
from sync.versions.version import VersionLabel

AddImage = Callable[..., ExportImage]
PAINT = np.zeros((20, 40), dtype=bool)
PAINT[2:5, 30:39] = True
BOX = Label("1" * 24, "label", ("car",), Box(10, 5, 20, 10))
# Turned clockwise by 90 degrees round (30, 2): it reaches 6 to the left and 12 down.
TURNED = Label("2" * 24, "label", ("person",), Box(30, 2, 12, 6, rotation_deg=90))
TRIANGLE = Label("3" * 24, "outline", ("bus",), Polygon(((0.0, 0.0), (10.0, 0.0), (0.0, 8.0))))
BRUSH = Label("4" * 24, "brush", ("bus",), Mask(PAINT))
POINT = Label("5" * 24, "points", ("no",), Keypoint(20, 10, 4))
KEEP = Label("6" * 24, "quality", ("keep",))
SPLIT_OF = {"a.jpg": "train", "b.jpg": "val", "c.jpg": "test"}

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def images(add_image: AddImage) -> list[ExportImage]:
    """Three images, one a split: one with every kind of label, one with a box, one that shows nothing."""
    labels = {"a.jpg": (BOX, TURNED, TRIANGLE, BRUSH, POINT, KEEP), "b.jpg": (replace(BOX, id="7" * 24),), "c.jpg": ()}
    return [replace(add_image(name, some), split=SPLIT_OF[name]) for name, some in labels.items()]


def write(name: str, images: list[ExportImage], config: LabelConfig, folder: Path, **options: Any) -> ExportResult:
    return write_export(images, config, Order(name, folder, version="v1-00000000", **options))


def run(script: str, *arguments: Path) -> Any:
    """Run a script in a process of its own: these libraries write settings, and keep them."""
    environment = os.environ | {"YOLO_CONFIG_DIR": str(arguments[0]), "YOLO_OFFLINE": "true"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, cwd=arguments[0])
    return json.loads(done.stdout.splitlines()[-1])


def test_pycocotools_and_hotcoco_read_each_split(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    write("coco", images, config, tmp_path / "out")
    for split, count in {"train": 5, "val": 1, "test": 0}.items():
        file = str(tmp_path / "out" / f"{split}.json")
        coco, quick = COCO(file), hotcoco.COCO(file)
        assert len(coco.imgs) == len(quick.imgs) == 1
        assert len(coco.anns) == len(quick.anns) == count
        assert (tmp_path / "out" / "data" / next(iter(coco.imgs.values()))["file_name"]).is_file()
    whole = COCO(str(tmp_path / "out" / "labels.json"))
    train = COCO(str(tmp_path / "out" / "train.json"))
    assert all(whole.anns[number] == one for number, one in train.anns.items()), "the same records, the same numbers"


ULTRALYTICS = """
import json, sys
from pathlib import Path
import numpy as np
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
found = {}
for task in ("detect", "segment", "obb", "pose"):
    data = check_det_dataset(f"{sys.argv[1]}/{task}/data.yaml", autodownload=False)
    for split in ("train", "val", "test"):
        dataset = YOLODataset(img_path=data[split], data=data, task=task, imgsz=64, augment=False)
        (label,) = dataset.labels
        found[f"{task} {split}"] = [
            label["cls"].ravel().tolist(),
            label["bboxes"].astype(float).round(4).tolist(),
            [np.asarray(one, float).round(4).tolist() for one in label["segments"]],
            None if label["keypoints"] is None else np.asarray(label["keypoints"], float).round(4).tolist(),
        ]
print()
print(json.dumps(found))
"""


def test_ultralytics_checks_and_reads_every_task_and_split(
    images: list[ExportImage], config: LabelConfig, tmp_path: Path
):
    for task in ("detect", "segment", "obb", "pose"):
        write("yolo" if task == "detect" else f"yolo-{task}", images, config, tmp_path / task)
    found = run(ULTRALYTICS, tmp_path)
    box = [0.5, 0.5, 0.5, 0.5]
    classes, boxes, *_ = found["detect train"]
    assert (classes, boxes[0]) == ([1.0, 0.0, 2.0, 2.0], box)
    for task in ("detect", "segment", "obb", "pose"):
        assert found[f"{task} val"][:2] == [[1.0], [box]]
        assert found[f"{task} test"][0] == []
    assert found["segment train"][2][2] == [[0.0, 0.0], [0.25, 0.0], [0.0, 0.4]]
    assert found["segment train"][2][0] == [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
    # Its corner first, then clockwise: (30, 2), (30, 14), (24, 14), (24, 2) in an image of 40 x 20.
    assert found["obb train"][2][1] == [[0.75, 0.1], [0.75, 0.7], [0.6, 0.7], [0.6, 0.1]]
    assert found["pose train"][3] == [[[0.5, 0.5, 2.0]], [[0.0, 0.0, 0.0]]]


FIFTYONE = """
import json, sys
from fiftyone.utils.coco import COCODetectionDatasetImporter
from fiftyone.utils.voc import VOCDetectionDatasetImporter
from fiftyone.utils.yolo import YOLOv5DatasetImporter
from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter
root, found = sys.argv[1], {}
with COCODetectionDatasetImporter(
    dataset_dir=f"{root}/coco", data_path="data", labels_path="val.json", label_types="detections"
) as importer:
    found["coco"] = [[d.label, *d.bounding_box] for _, _, label in importer for d in label.detections]
for split in ("train", "val", "test"):
    with YOLOv5DatasetImporter(f"{root}/yolo", yaml_path="data.yaml", split=split, include_all_data=True) as importer:
        found[f"yolo {split}"] = [[d.label for d in (label.detections if label else [])] for _, _, label in importer]
with VOCDetectionDatasetImporter(
    f"{root}/voc/VOCdevkit/VOC2007", data_path="JPEGImages", labels_path="Annotations"
) as importer:
    found["voc"] = sorted([d.label, *d.bounding_box] for _, _, label in importer for d in label.detections)
print()
print(json.dumps(found))
"""


def test_fiftyones_importers_read_coco_yolo_and_voc(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    for name in ("coco", "yolo", "voc"):
        write(name, images, config, tmp_path / name)
    found = run(FIFTYONE, tmp_path)
    assert found["coco"] == [["car", 0.25, 0.25, 0.5, 0.5]]
    assert found["yolo train"] == [["car", "person", "bus", "bus"]]
    assert (found["yolo val"], found["yolo test"]) == ([["car"]], [[]])
    assert found["voc"][2:4] == [["car", 0.25, 0.25, 0.5, 0.5]] * 2


def test_torchvision_reads_voc(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    write("voc", images, config, tmp_path / "out")
    sizes, boxes = {}, {}
    for split in ("train", "val", "test", "trainval"):
        dataset = VOCDetection(str(tmp_path / "out"), year="2007", image_set=split)
        picture, target = dataset[0]
        objects = target["annotation"]["object"]
        boxes[split] = [[one["name"], *map(float, one["bndbox"].values())] for one in objects]
        sizes[split] = picture.size
    assert set(sizes.values()) == {(40, 20)}
    assert boxes["train"][:2] == [["car", 10, 5, 30, 15], ["person", 24, 2, 30, 14]]
    assert (boxes["val"], boxes["test"]) == ([["car", 10, 5, 30, 15]], [])


def test_torchvision_reads_class_folders(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    trash = Label("8" * 24, "quality", ("trash",))
    some = [images[0], replace(images[1], labels=(trash,), split="train"), images[2]]
    result = write("folders", some, config, tmp_path / "out")
    dataset = ImageFolder(str(tmp_path / "out" / "train"))
    assert dataset.classes == ["keep", "trash"]
    assert [(Path(path).name[0], dataset.classes[number]) for path, number in dataset.samples] == [
        ("a", "keep"),
        ("b", "trash"),
    ]
    assert (result.images, result.notes[-1]) == (2, "1 images are not in it: they have no single answer")
    with pytest.raises(LabelingError, match="images is copy or link"):
        write("folders", some, config, tmp_path / "none", images_mode="none")


def test_a_split_that_lacks_a_class_is_named_since_readers_number_the_folders_they_find(
    images: list[ExportImage], config: LabelConfig, tmp_path: Path
):
    trash, gone = Label("8" * 24, "quality", ("trash",)), Label("9" * 24, "quality", ("gone",))
    some = [images[0], replace(images[1], labels=(trash,), split="train"), replace(images[2], labels=(trash,))]
    result = write("folders", some, config, tmp_path / "out")
    assert ImageFolder(str(tmp_path / "out" / "train")).class_to_idx == {"keep": 0, "trash": 1}
    assert ImageFolder(str(tmp_path / "out" / "test")).class_to_idx == {"trash": 0}
    assert [note for note in result.notes if "ImageFolder" in note] == [
        "test has no image of 1 classes that others have (keep): what numbers the folders it finds, as ImageFolder "
        "does, counts otherwise there"
    ]
    some[2] = replace(images[2], labels=(gone,))
    result = write("folders", some, config, tmp_path / "out")
    assert [one.problem for one in result.left_out] == ["its answer 'gone' is no choice of 'quality'"]
    assert not (tmp_path / "out" / "test").exists()
    assert not any("ImageFolder" in note for note in result.notes)


@pytest.mark.parametrize("name", [one for one in FORMATS if one != "folders"])
def test_where_images_are_not_looked_at_it_is_said_that_labels_are_of_them_upright(
    name: str, images: list[ExportImage], config: LabelConfig, tmp_path: Path
):
    notes = write(name, images, config, tmp_path / "none", images_mode="none").notes
    assert sum("as its EXIF tag turns it" in note for note in notes) == 1
    assert not any("EXIF" in note for note in write(name, images, config, tmp_path / "copy").notes)


@pytest.mark.parametrize("name", ["coco", "yolo", "voc", "csv", "webdataset"])
def test_a_name_as_long_as_the_file_system_allows_is_no_obstacle(
    name: str, add_image: AddImage, config: LabelConfig, tmp_path: Path
):
    result = write(name, [add_image(f"{'猫' * 80}.png", (BOX,)), add_image("short.png")], config, tmp_path / "out")
    assert (result.images, result.left_out) == (2, ())


def test_a_class_whose_name_is_too_long_for_a_folder_is_named_and_the_others_are_written(
    images: list[ExportImage], tmp_path: Path
):
    name = "猫" * 86
    config = LabelConfig.from_xml(
        '<View><Image name="image" value="$image"/><Choices name="what" toName="image"><Choice value="dog"/>'
        f'<Choice value="{name}"/></Choices></View>'
    )
    answers = [Label(f"{at}" * 24, "what", (one,)) for at, one in enumerate((name, "dog"))]
    some = [replace(image, labels=(answer,)) for image, answer in zip(images, answers, strict=False)]
    result = write("folders", some, config, tmp_path / "out")
    assert (result.images, [one.item for one in result.left_out]) == (1, ["sample s1"])
    assert "is too long for the name of a folder" in result.left_out[0].problem


def test_a_csv_is_read_by_any_reader(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    origin = VersionLabel(BOX, "ana@example.org", "2026-01-02T03:04:05+00:00", "m-1", "confirmed")
    images[0] = replace(images[0], origins={BOX.id: origin})
    write("csv", images, config, tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "labels.csv").read_text().splitlines()))
    assert [row["kind"] for row in rows] == ["box", "box", "polygon", "mask", "keypoint", "choice", "box", ""]
    assert [row["split"] for row in rows] == ["train"] * 6 + ["val", "test"]
    assert [float(rows[0][name]) for name in ("x", "y", "width", "height")] == [10, 5, 20, 10]
    assert rows[0]["reviewer"] == "ana@example.org"
    assert json.loads(rows[1]["shape"]) == {"box": [30, 2, 12, 6, 90]}


def test_webdataset_reads_shards(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    write("webdataset", images, config, tmp_path / "out")
    for split, count in {"train": 6, "val": 1, "test": 0}.items():
        (shard,) = (tmp_path / "out").glob(f"{split}-*.tar")
        # Its own pipeline leaves the file open.
        with shard.open("rb") as stream:
            parts = [part | {"__url__": str(shard)} for part in tar_file_iterator(stream)]
        (sample,) = group_by_keys(parts)
        said = json.loads(sample["json"])
        with Image.open(io.BytesIO(sample["jpg"])) as picture:
            assert picture.size == (40, 20) == (said["width"], said["height"])
        assert len(said["objects"]) == count


def test_a_tfrecord_reader_reads_boxes_and_images(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    from tfrecord.reader import tfrecord_loader

    write("tfrecord", images, config, tmp_path / "out")
    kinds = {
        "image/encoded": "byte",
        "image/width": "int",
        "image/object/bbox/xmin": "float",
        "image/object/bbox/xmax": "float",
        "image/object/bbox/ymax": "float",
        "image/object/class/label": "int",
    }
    (row,) = tfrecord_loader(str(tmp_path / "out" / "train-000000.tfrecord"), None, kinds)
    with Image.open(io.BytesIO(bytes(row["image/encoded"]))) as picture:
        assert picture.size == (40, 20)
    assert row["image/width"].tolist() == [40]
    assert row["image/object/bbox/xmin"].tolist() == pytest.approx([0.25, 0.6, 0, 0.75, 0.45])
    assert row["image/object/bbox/xmax"].tolist() == pytest.approx([0.75, 0.75, 0.25, 0.975, 0.55])
    assert row["image/object/bbox/ymax"].tolist() == pytest.approx([0.75, 0.7, 0.4, 0.25, 0.6])
    assert row["image/object/class/label"].tolist() == [2, 1, 3, 3, 4]


def test_pyarrow_reads_parquet(images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    import pyarrow.parquet as pq

    write("parquet", images, config, tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "train.parquet").to_pylist()
    with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
        assert picture.size == (row["width"], row["height"]) == (40, 20)
    assert [one["kind"] for one in row["objects"]] == ["box", "box", "polygon", "mask", "keypoint", "choice"]
    assert row["objects"][0]["class_index"] == 1
    (empty,) = pq.read_table(tmp_path / "out" / "test.parquet").to_pylist()
    assert (empty["objects"], empty["has_regions"]) == ([], True)


def test_the_features_of_a_tfrecord_have_one_order_in_every_process(
    images: list[ExportImage], config: LabelConfig, tmp_path: Path
):
    from tfrecord.example_pb2 import Example

    write("tfrecord", images, config, tmp_path / "out")
    content = (tmp_path / "out" / "train-000000.tfrecord").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    record = content[12 : 12 + length]
    assert len(content) == length + 16
    # What this protobuf writes without being told to sort them differs from one process to the next.
    assert record == Example.FromString(record).SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", FORMATS)
def test_a_second_export_has_the_same_bytes(name: str, images: list[ExportImage], config: LabelConfig, tmp_path: Path):
    first = write(name, images, config, tmp_path / "one")
    second = write(name, images[::-1], config, tmp_path / "two")
    assert first.content_sha256 == second.content_sha256
    assert first.images == (1 if name == "folders" else 3)


@pytest.mark.parametrize("name", FORMATS)
def test_an_image_that_cannot_be_read_is_left_out_and_named(
    name: str, images: list[ExportImage], config: LabelConfig, tmp_path: Path
):
    images[1] = replace(images[1], labels=(*images[1].labels, replace(KEEP, id="9" * 24)))
    images[1].path.write_bytes(b"no image")
    result = write(name, images, config, tmp_path / "out")
    assert [one.item for one in result.left_out] == ["sample s2"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
