"""COCO: ``labels.json`` and the images in ``data/``, the layout FiftyOne's importer reads as it is.

Of a version there are also ``train.json``, ``val.json`` and ``test.json``: the same records under the same numbers, for
trainers that take a file and the folder ``data``. Categories follow the class order of the label config and are
numbered from 1, images and annotations likewise in the order of their names. Boxes have no segmentation. A turned box
is its four corners as a polygon with ``rotation_deg``, and the upright box round it; a mask is an uncompressed
run-length code. A keypoint is an annotation of its own with one point, ``point``; its box is what of the dot that the
annotator saw lies in the image, and ``diameter`` is the dot's.
``label_id`` is the label's id in FiftyOne and Label Studio. Images that were reviewed and show nothing are listed
without annotations. Without images (``none``) ``file_name`` is the source's path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from labels.config import LabelConfig
from labels.geometry import Box, Keypoint
from sync.exports.drafts import Draft, Written
from sync.exports.folder import Stage
from sync.exports.items import Item, Region
from sync.exports.records import ExportImage, ImagesMode
from sync.exports.shapes import to_run_lengths
from sync.versions.version import SPLITS, Split

IMAGES_FOLDER: Final = "data"
LABELS_NAME: Final = "labels.json"
DIGITS: Final = 4
VISIBLE: Final = 2
ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, allow_nan=False)


def write_coco(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as a COCO data set."""
    items = draft.prepare(images, lambda _image: IMAGES_FOLDER)
    _write_labels(draft.stage, draft.config, items, draft.order.images_mode)
    return Written(items, labels=sum(len(item.regions) for item in items))


def _write_labels(stage: Stage, config: LabelConfig, items: Sequence[Item], images_mode: ImagesMode) -> None:
    # One line per record: quick to write, and two versions can be compared line by line.
    categories = [_to_text(category) for category in _to_categories(config)]
    images: list[tuple[Split | None, str]] = []
    annotations: list[tuple[Split | None, str]] = []
    for image_id, item in enumerate(items, start=1):
        split = item.image.split
        images.append((split, _to_text(_to_image(item, image_id, images_mode))))
        for region in item.regions:
            record = _to_annotation(region, image_id, item) | {"id": len(annotations) + 1}
            annotations.append((split, _to_text(record)))
    _write_file(stage, LABELS_NAME, [line for _, line in images], [line for _, line in annotations], categories)
    for part in SPLITS if any(split is not None for split, _ in images) else ():
        in_part = [[line for split, line in records if split == part] for records in (images, annotations)]
        _write_file(stage, f"{part}.json", in_part[0], in_part[1], categories)


def _write_file(
    stage: Stage, name: str, images: Sequence[str], annotations: Sequence[str], categories: Sequence[str]
) -> None:
    sections = {"images": images, "annotations": annotations, "categories": categories}
    body = ",\n".join(f'"{section}": [\n' + ",\n".join(lines) + "\n]" for section, lines in sections.items())
    info = _to_text({"description": "labelloop export"})
    stage.write(name, f'{{"info": {info},\n"licenses": [],\n{body}}}\n'.encode())


def _to_image(item: Item, image_id: int, images_mode: ImagesMode) -> dict[str, Any]:
    size = item.image.size
    file_name = str(item.image.path) if images_mode == "none" else item.file_name
    return {"id": image_id, "file_name": file_name, "width": size.width, "height": size.height}


def _to_categories(config: LabelConfig) -> list[dict[str, Any]]:
    with_points = {name for control in config.controls if control.kind == "KeyPointLabels" for name in control.classes}
    return [
        {"id": category_id, "name": name, "supercategory": ""}
        | ({"keypoints": ["point"], "skeleton": []} if name in with_points else {})
        for category_id, name in enumerate(config.region_classes, start=1)
    ]


def _to_annotation(region: Region, image_id: int, item: Item) -> dict[str, Any]:
    shape = region.shape
    left, top, right, bottom = shape.xyxy
    annotation: dict[str, Any] = {
        "image_id": image_id,
        "category_id": region.class_index + 1,
        "bbox": [_round(value) for value in (left, top, right - left, bottom - top)],
        "area": _round(shape.area),
        "iscrowd": 0,
        "segmentation": [],
        "label_id": region.label.id,
    }
    if shape.outline is not None:
        annotation["segmentation"] = [[_round(value) for point in shape.outline for value in point]]
        if isinstance(region.label.geometry, Box) and not shape.is_clipped:
            annotation["rotation_deg"] = _round(region.label.geometry.rotation_deg)
    if shape.pixels is not None:
        size = item.image.size
        annotation["segmentation"] = {"size": [size.height, size.width], "counts": to_run_lengths(shape.pixels)}
    if shape.point is not None:
        annotation |= {"keypoints": [*(_round(value) for value in shape.point), VISIBLE], "num_keypoints": 1}
        if isinstance(region.label.geometry, Keypoint):
            annotation["diameter"] = _round(region.label.geometry.diameter)
    return annotation


def _round(value: float) -> float:
    return round(float(value), DIGITS) + 0.0


def _to_text(record: dict[str, Any]) -> str:
    return ENCODER.encode(record)
