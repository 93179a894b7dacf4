"""The YOLO export, read back by Ultralytics and by FiftyOne's importer, beside numbers worked out by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labels.config import LabelConfig
from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.results import Label
from sync.exports.formats import write_export
from sync.exports.layout import export_stem
from sync.exports.records import ExportImage, ExportResult, Order

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
EVERY_KIND = (POINT, BRUSH, TRIANGLE, TURNED, OVER_THE_EDGE, BOX)
LINES = """\
1 0.50000000 0.50000000 0.50000000 0.50000000
0 0.87500000 0.87500000 0.25000000 0.25000000
1 0.67500000 0.40000000 0.15000000 0.60000000
2 0.12500000 0.20000000 0.25000000 0.40000000
2 0.86250000 0.17500000 0.22500000 0.15000000
"""


def write_yolo(images: Iterable[ExportImage], config: LabelConfig, out_dir: Path, **options: Any) -> ExportResult:
    return write_export(images, config, Order("yolo", out_dir, **options))


def _files(out_dir: Path) -> dict[str, bytes]:
    return {path.relative_to(out_dir).as_posix(): path.read_bytes() for path in out_dir.rglob("*") if path.is_file()}


def _run(script: str, folder: Path, config_folder: Path) -> Any:
    # In a process of its own and elsewhere: both libraries write settings, and a path must not depend on where one is.
    environment = os.environ | {"YOLO_CONFIG_DIR": str(config_folder), "YOLO_OFFLINE": "true"}
    environment |= {"FIFTYONE_DO_NOT_TRACK": "true"}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=config_folder, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def test_every_kind_of_label_becomes_its_upright_box(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    image = add_image("a.png", EVERY_KIND)
    result = write_yolo([image], config, tmp_path / "yolo")
    assert (tmp_path / "yolo" / "labels" / "train" / f"{export_stem(image.path)}.txt").read_text() == LINES
    assert (result.labels, result.clipped, result.left_out) == (5, 1, ())
    assert result.notes == (
        "1 labels reached beyond their image and were cut at its edge",
        "there is no split: val is the same as train",
        "1 labels (polygon) were written as the upright box round them",
        "1 labels (turned box) were written as the upright box round them",
        "1 labels (mask) were written as the upright box round them",
        "1 labels (keypoint) are not in it: YOLO detection holds boxes only",
    )


def test_the_data_file_names_classes_in_the_configs_order_and_no_path(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    write_yolo([add_image("a.png")], config, tmp_path / "yolo")
    assert (tmp_path / "yolo" / "data.yaml").read_text() == (
        'train: images/train\nval: images/train\nnames:\n  0: "person"\n  1: "car"\n  2: "bus"\n  3: "no"\n'
    )


def test_a_second_export_is_byte_identical_also_over_a_trainers_cache(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    images = [add_image("b.png", EVERY_KIND), add_image("a.jpg", (BOX,), orientation=6), add_image("c.png", ())]
    write_yolo(images, config, tmp_path / "yolo")
    before = _files(tmp_path / "yolo")
    (tmp_path / "yolo" / "labels" / "train.cache").write_bytes(b"made by a trainer")
    write_yolo([replace(image, labels=image.labels) for image in reversed(images)], config, tmp_path / "yolo")
    assert _files(tmp_path / "yolo") == before


def test_an_image_with_nothing_on_it_has_an_empty_file(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    result = write_yolo([add_image("a.png", ())], config, tmp_path / "yolo")
    assert [path.read_bytes() for path in (tmp_path / "yolo" / "labels" / "train").iterdir()] == [b""]
    assert len(list((tmp_path / "yolo" / "images" / "train").iterdir())) == 1
    assert (result.images, result.negatives) == (1, 1)


def test_a_mask_that_is_not_what_its_one_outline_holds_is_counted(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    whole, hole, parts = (np.zeros((20, 40), dtype=bool) for _ in range(3))
    for paint in (whole, hole, parts):
        paint[2:12, 2:12] = True
    hole[5:8, 5:8] = False
    parts[15:18, 30:35] = True
    labels = tuple(Label(f"{at}", "brush", ("bus",), Mask(paint)) for at, paint in enumerate((whole, hole, parts)))
    order = Order("yolo-segment", tmp_path / "out", "copy")
    alone = write_export([add_image("a.png", labels[:1])], config, order)
    assert not any("mask" in note for note in alone.notes)
    result = write_export([add_image("a.png", labels)], config, order)
    assert result.labels == 3
    assert [note for note in result.notes if "mask" in note] == [
        "2 labels (mask) were written as the one outline (holes filled, parts joined) round them"
    ]


def test_without_images_the_result_says_what_is_missing(
    add_image: AddImage, config: LabelConfig, tmp_path: Path
) -> None:
    result = write_yolo([add_image("a.png", (BOX,))], config, tmp_path / "yolo", images_mode="none")
    assert result.notes[-1] == (
        "it holds no images: put them into images/train under the names in labelloop.json to train on it"
    )
    assert not (tmp_path / "yolo" / "images").exists()


ULTRALYTICS_READER = """
import json, sys
from pathlib import Path
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1] + "/data.yaml", autodownload=False)
dataset = YOLODataset(img_path=data["train"], data=data, task="detect", imgsz=64, augment=False)
rows = {
    Path(label["im_file"]).name: [label["shape"], label["cls"].ravel().tolist(), label["bboxes"].tolist()]
    for label in dataset.labels
}
print()
print(json.dumps([data["names"], data["train"], data["val"], rows]))
"""


def test_ultralytics_reads_it_from_anywhere(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    images = [
        add_image("a.png", EVERY_KIND),
        add_image("images/b.jpg", (BOX,), size=(20, 40), orientation=6),
        add_image("c.png", ()),
    ]
    write_yolo(images, config, tmp_path / "yolo")
    (tmp_path / "elsewhere").mkdir()
    names, train, val, rows = _run(ULTRALYTICS_READER, tmp_path / "yolo", tmp_path / "elsewhere")
    assert names == {"0": "person", "1": "car", "2": "bus", "3": "no"}
    assert train == val == str(tmp_path / "yolo" / "images" / "train")
    first, turned, empty = (rows[f"{export_stem(image.path)}{image.path.suffix}"] for image in images)
    assert first == [
        [20, 40],
        [1.0, 0.0, 1.0, 2.0, 2.0],
        [pytest.approx([float(word) for word in line.split()[1:]]) for line in LINES.splitlines()],
    ]
    assert turned == [[20, 40], [1.0], [pytest.approx([0.5, 0.5, 0.5, 0.5])]]
    assert empty == [[20, 40], [], []]
    assert (tmp_path / "yolo" / "labels" / "train.cache").exists()


FIFTYONE_READER = """
import json, sys
from fiftyone.utils.yolo import YOLOv5DatasetImporter as Importer
found = {}
with Importer(sys.argv[1], yaml_path="data.yaml", split="train", include_all_data=True) as importer:
    for path, size, label in importer:
        found[path] = None if label is None else [[d.label, *d.bounding_box] for d in label.detections]
print(json.dumps(found))
"""


def test_fiftyones_importer_reads_it_as_it_is(add_image: AddImage, config: LabelConfig, tmp_path: Path) -> None:
    image, empty = add_image("a.png", (BOX, OVER_THE_EDGE)), add_image("c.png", ())
    write_yolo([image, empty], config, tmp_path / "yolo")
    found = _run(FIFTYONE_READER, tmp_path / "yolo", tmp_path)
    folder = tmp_path / "yolo" / "images" / "train"
    assert found == {
        str(folder / f"{export_stem(image.path)}.png"): [
            ["car", 0.25, 0.25, 0.5, 0.5],
            ["person", 0.75, 0.75, 0.25, 0.25],
        ],
        str(folder / f"{export_stem(empty.path)}.png"): [],
    }
