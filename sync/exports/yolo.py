"""YOLO for detection: ``images/train``, ``labels/train`` and ``data.yaml``, as Ultralytics reads them.

A line is ``class x y width height``, the centre and the sides in 0..1 of the image; the class counts from 0 in the
order of the label config. Shapes that are no upright boxes become the upright box round them, and the result says how
many. Keypoints have no place in this task and are left out, and the result says so. An image that was reviewed and
shows nothing has an empty file. ``data.yaml`` names no ``path``: Ultralytics would read "." as the folder the trainer
was started in, while without one it starts at the place of the file. There is no split yet, so ``val`` is ``train``.
FiftyOne's importer reads it with ``yaml_path="data.yaml"``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from labels.config import LabelConfig
from labels.geometry import XYXY, Box, ImageSize, Mask, Polygon
from sync.exports.folder import open_stage
from sync.exports.items import Item, Region, Tally, finish, prepare_items
from sync.exports.records import ExportImage, ExportResult, ImagesMode

SPLIT: Final = "train"
DIGITS: Final = 8


def write_yolo(
    images: Iterable[ExportImage], config: LabelConfig, out_dir: Path, *, images_mode: ImagesMode = "copy"
) -> ExportResult:
    """Write the reviewed images as a YOLO detection data set; the same input gives the same bytes.

    An earlier export at that place is replaced.

    Raises:
        LabelConfigError: a label's class is not in the config.
        LabelingError: the place holds something that no export wrote, or cannot be written to.
    """
    tally = Tally()
    with open_stage(out_dir) as stage:
        items = prepare_items(images, config, stage, folder=f"images/{SPLIT}", images_mode=images_mode, tally=tally)
        for item in items:
            stage.write(f"labels/{SPLIT}/{item.stem}.txt", _to_text(item).encode())
        stage.write("data.yaml", _to_yaml(config).encode())
        return finish(
            stage,
            config,
            items,
            tally,
            export_format="yolo",
            out_dir=out_dir,
            images_mode=images_mode,
            labels=sum(len(_boxes(item)) for item in items),
            notes=_to_notes(items, images_mode),
        )


def _boxes(item: Item) -> list[Region]:
    return [region for region in item.regions if region.shape.point is None]


def _to_text(item: Item) -> str:
    return "".join(
        f"{region.class_index} " + " ".join(_to_relative(region.shape.xyxy, item.image.size)) + "\n"
        for region in _boxes(item)
    )


def _to_relative(xyxy: XYXY, size: ImageSize) -> Iterator[str]:
    left, top, right, bottom = xyxy
    for value, side in (
        ((left + right) / 2, size.width),
        ((top + bottom) / 2, size.height),
        (right - left, size.width),
        (bottom - top, size.height),
    ):
        yield f"{value / side:.{DIGITS}f}"


def _to_yaml(config: LabelConfig) -> str:
    # A JSON string is a YAML string whatever is in it; bare, a class named "no" would be read as false.
    names = "".join(
        f"  {index}: {json.dumps(name, ensure_ascii=False)}\n" for index, name in enumerate(config.region_classes)
    )
    return f"train: images/{SPLIT}\nval: images/{SPLIT}\nnames:\n{names}"


def _to_notes(items: Sequence[Item], images_mode: ImagesMode) -> Iterator[str]:
    yield "there is no split: val is the same as train"
    counts = Counter(_kind(region) for item in items for region in item.regions)
    for kind in ("polygon", "turned box", "mask"):
        if counts[kind]:
            yield f"{counts[kind]} labels ({kind}) were written as the upright box round them"
    if counts["keypoint"]:
        yield f"{counts['keypoint']} labels (keypoint) are not in it: YOLO detection holds boxes only"
    if images_mode == "none":
        yield f"it holds no images: put them into images/{SPLIT} under the names in labelloop.json to train on it"


def _kind(region: Region) -> str:
    shape = region.label.geometry
    if isinstance(shape, Box):
        return "box" if shape.rotation_deg == 0 else "turned box"
    return "polygon" if isinstance(shape, Polygon) else "mask" if isinstance(shape, Mask) else "keypoint"
