"""Pascal VOC: ``VOCdevkit/VOC2007`` with ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``.

The layout torchvision's ``VOCDetection`` reads with ``year="2007"``; FiftyOne's importer takes ``JPEGImages`` and
``Annotations``. Images keep their own suffix: torchvision itself opens JPEGs alone. Coordinates are pixels from 0, with
decimals where a box has them. Shapes that are no upright boxes become the upright box round them, and the result says
how many. Key points are left out, and the result says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from sync.exports.drafts import Draft, Written
from sync.exports.items import Item, Region
from sync.exports.records import ExportImage, ImagesMode
from sync.exports.yolo_lines import KINDS, to_kind

ROOT: Final = "VOCdevkit/VOC2007"
SETS: Final = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}
CHANNELS: Final = 3
DIGITS: Final = 4
# XML 1.0 has no way to write these, not even escaped.
FORBIDDEN: Final = {code: None for code in range(32) if chr(code) not in "\t\n\r"}


def write_voc(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as a VOC data set."""
    items = draft.prepare(images, lambda _image: f"{ROOT}/JPEGImages")
    for item in items:
        draft.stage.write(f"{ROOT}/Annotations/{item.stem}.xml", _to_xml(item, draft.order.images_mode).encode())
    for name, parts in SETS.items():
        stems = [item.stem for item in items if item.image.part in parts]
        if stems:
            draft.stage.write(f"{ROOT}/ImageSets/Main/{name}.txt", "".join(f"{stem}\n" for stem in stems).encode())
    return Written(items, sum(len(_boxes(item)) for item in items), _to_notes(items))


def _boxes(item: Item) -> list[Region]:
    return [region for region in item.regions if region.shape.point is None]


def _to_xml(item: Item, images_mode: ImagesMode) -> str:
    size = item.image.size
    path = f"  <path>{_text(str(item.image.path))}</path>\n" if images_mode == "none" else ""
    objects = "".join(_to_object(region) for region in _boxes(item))
    return (
        f"<annotation>\n  <folder>VOC2007</folder>\n  <filename>{_text(item.file_name)}</filename>\n{path}"
        "  <source>\n    <database>labelloop export</database>\n  </source>\n"
        f"  <size>\n    <width>{size.width}</width>\n    <height>{size.height}</height>\n"
        f"    <depth>{CHANNELS}</depth>\n  </size>\n  <segmented>0</segmented>\n{objects}</annotation>\n"
    )


def _to_object(region: Region) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), region.shape.xyxy, strict=True)
    box = "".join(f"      <{name}>{_number(value)}</{name}>\n" for name, value in sides)
    return (
        f"  <object>\n    <name>{_text(region.label.class_name)}</name>\n    <pose>Unspecified</pose>\n"
        f"    <truncated>{int(region.shape.is_clipped)}</truncated>\n    <difficult>0</difficult>\n"
        f"    <bndbox>\n{box}    </bndbox>\n  </object>\n"
    )


def _number(value: float) -> str:
    """Return a number without decimals that say nothing.

    >>> _number(12.0), _number(0.25)
    ('12', '0.25')
    """
    return f"{round(value, DIGITS) + 0.0:.{DIGITS}f}".rstrip("0").rstrip(".")


def _text(value: str) -> str:
    return escape(value.translate(FORBIDDEN))


def _to_notes(items: Sequence[Item]) -> Iterator[str]:
    counts = Counter(to_kind(region) for item in items for region in item.regions)
    for kind in KINDS[1:-1]:
        if counts[kind]:
            yield f"{counts[kind]} labels ({kind}) were written as the upright box round them"
    if counts["keypoint"]:
        yield f"{counts['keypoint']} labels (keypoint) are not in it: VOC holds boxes only"
