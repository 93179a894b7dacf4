"""COCO: one JSON file with images, annotations and categories; boxes, outlines, run lengths and key points.

An annotation with ``keypoints`` becomes one point for each that is there, named as the category's ``keypoints`` are;
where these are just one, ``point``, it has the category's own name. One without is a box or an outline like any other.
An object of several outlines is one label: a mask, or else its outlines joined. What is a crowd is read as one object,
and counted.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from labels.results import OBJECT_ID
from sync.imports.reading import find_files, find_inside, in_one_line, read_json, to_number
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape

SINGLE_POINT: Final = "point"
LABELS_NAME: Final = "labels.json"
PARTS: Final = ("images", "annotations", "categories")
BROKEN: Final = (ValueError, LookupError, TypeError, AttributeError, OverflowError)


class _CategoryError(Exception):
    """Nobody knows which class a category is."""


@dataclass(frozen=True, slots=True)
class _Category:
    name: str
    points: tuple[str, ...]


def read_coco(path: Path) -> ImportedSet:
    """Return what a COCO file holds; of a folder, that of its ``labels.json``, or of the one JSON file it has.

    Raises:
        LabelingError: it is no COCO file, or two categories have one id.
    """
    file = _find_file(path)
    content = read_json(file)
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in PARTS):
        raise LabelingError(f"{file}: is no COCO file (expected an object with lists of {', '.join(PARTS)})")
    found = ImportedSet()
    # A name begins where its file lies.
    start = file.parent.relative_to(path) if path.is_dir() else Path()
    names = _read_names(content["images"], found, start)
    try:
        categories = _read_categories(content["categories"], found)
    except _CategoryError as error:
        raise LabelingError(f"{file}: {error}") from error
    labels = _read_annotations(content["annotations"], names, categories, found)
    for image in content["images"]:
        image_id = str(image.get("id")) if isinstance(image, Mapping) else ""
        if image_id in names and names[image_id] == _to_name(image.get("file_name"), start):
            size = found.read_size(names[image_id], image.get("width"), image.get("height"))
            found.images.append(ImportedImage(names.pop(image_id), tuple(labels.get(image_id, ())), size))
    return found


def _read_annotations(
    listed: Sequence[Any], names: Mapping[str, str], categories: Mapping[str, _Category], found: ImportedSet
) -> dict[str, list[ImportedLabel]]:
    labels: dict[str, list[ImportedLabel]] = {}
    unlisted = Counter[str]()
    for number, annotation in enumerate(listed):
        item = f"annotation {_name(annotation, number)}"
        try:
            image_id = str(annotation["image_id"])
        except BROKEN as error:
            found.lose(item, f"names no image ({in_one_line(error)})")
            continue
        if image_id not in names:
            unlisted[image_id] += 1
            continue
        try:
            labels.setdefault(image_id, []).extend(_to_labels(annotation, categories))
            found.crowds += bool(annotation.get("iscrowd"))
        except BROKEN as error:
            found.refuse(item, in_one_line(error), image=names[image_id])
    for image_id, count in sorted(unlisted.items()):
        found.lose(f"image id {in_one_line(image_id)}", f"{count} annotations are of an image that is not listed")
    return labels


def find_only_file(folder: Path) -> Path | None:
    """Return the one JSON file of a folder, where there is just one and it looks like COCO."""
    files = list(find_files(folder, ".json"))
    if len(files) != 1 or not files[0].stat().st_size:
        return None
    try:
        with files[0].open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return files[0] if all(content.find(f'"{part}"'.encode()) >= 0 for part in PARTS) else None
    except OSError:
        return None


def _find_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    file = find_inside(path, LABELS_NAME) or find_only_file(path)
    if file is None:
        raise LabelingError(f"no {LABELS_NAME} in {path}; give the file")
    return file


def _read_names(listed: Sequence[Any], found: ImportedSet, start: Path) -> dict[str, str]:
    """Return the names of the images by their ids; an id that two have says of neither which labels are its own."""
    names: dict[str, str] = {}
    for number, image in enumerate(listed):
        try:
            image_id, name = str(image["id"]), _to_name(image["file_name"], start)
        except BROKEN as error:
            found.refuse(f"image {number}", f"has no {in_one_line(error)}")
            continue
        if image_id in names:
            other = names[image_id] if names[image_id] != name else None
            found.refuse(name, f"image id {image_id} is there twice", image=other)
        names.setdefault(image_id, name)
    return names


def _to_name(file_name: Any, start: Path) -> str:
    return str(file_name) if start == Path() else str(start / str(file_name))


def _name(annotation: Any, number: int) -> str:
    return in_one_line(annotation.get("id", number) if isinstance(annotation, Mapping) else number)


def _read_categories(listed: Sequence[Any], found: ImportedSet) -> dict[str, _Category]:
    categories: dict[str, _Category] = {}
    for number, one in enumerate(listed):
        try:
            points = one.get("keypoints") or ()
            category_id, category = str(one["id"]), _Category(str(one["name"]), tuple(str(name) for name in points))
        except BROKEN as error:
            found.refuse(f"category {number}", in_one_line(error))
            continue
        if categories.setdefault(category_id, category) != category:
            both = f"{in_one_line(categories[category_id].name)!r} and {in_one_line(category.name)!r}"
            raise _CategoryError(f"category id {in_one_line(category_id)} is there twice ({both})")
    return categories


def _to_labels(annotation: Mapping[str, Any], categories: Mapping[str, _Category]) -> Iterator[ImportedLabel]:
    number = str(annotation["category_id"])
    if number not in categories:
        raise ValueError(f"category {number} is not listed")
    category = categories[number]
    label_id = annotation.get("label_id")
    label_id = label_id if isinstance(label_id, str) and OBJECT_ID.fullmatch(label_id) else None
    box = _to_box(annotation["bbox"]) if annotation.get("bbox") else None
    points = list(_to_points(annotation, category, box))
    if points and category.points == (SINGLE_POINT,):
        yield ImportedLabel((category.name,), (points[0][1],), label_id=label_id)
        return
    shapes = (*_to_exact(annotation), *([] if box is None else [box]))
    if not shapes and not points:
        raise ValueError("has neither a box nor an outline")
    if shapes:
        yield ImportedLabel((category.name,), shapes, label_id=label_id)
    for name, shape in points:
        yield ImportedLabel((name,), (shape,))


def _to_box(bbox: Sequence[Any]) -> RawShape:
    x, y, width, height = (to_number(value) for value in bbox)
    return RawShape("box", (x, y, x + width, y + height))


def _to_points(
    annotation: Mapping[str, Any], category: _Category, box: RawShape | None
) -> Iterator[tuple[str, RawShape]]:
    values = annotation.get("keypoints") or ()
    if not values:
        return
    if len(values) != 3 * len(category.points):
        raise ValueError(f"has {len(values)} numbers of key points (expected {3 * len(category.points)})")
    is_single = category.points == (SINGLE_POINT,)
    diameter: tuple[float, ...] = ()
    if is_single and annotation.get("diameter") is not None:
        diameter = (to_number(annotation["diameter"]),)
    elif is_single and box is not None:
        diameter = (box.numbers[2] - box.numbers[0],)
    for at, name in enumerate(category.points):
        x, y, seen = (to_number(value) for value in values[3 * at : 3 * at + 3])
        if seen > 0:
            yield name, RawShape("keypoint", (x, y, *diameter))


def _to_exact(annotation: Mapping[str, Any]) -> tuple[RawShape, ...]:
    """Return the outline or the run lengths; of several outlines of one object what they are together, best first."""
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, Mapping):
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        if isinstance(counts, str):
            counts = _decompress(counts)
        return (RawShape("run lengths", tuple(to_number(count) for count in counts), size=(height, width)),)
    if not segmentation:
        return ()
    outlines = [tuple(to_number(value) for value in outline) for outline in segmentation]
    numbers = tuple(chain.from_iterable(outlines))
    if len(outlines) > 1:
        lengths = tuple(map(len, outlines))
        return RawShape("painted outlines", numbers, lengths=lengths), RawShape("outlines", numbers, lengths=lengths)
    if len(numbers) == 8 and annotation.get("rotation_deg") is not None:
        return (RawShape("turned box", numbers),)
    return (RawShape("polygon", numbers),)


def _decompress(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed form: base 32 and differences to the last but one.

    Source: rleFrString of the COCO API. ``ValueError``: it is broken off.

    >>> _decompress("13")
    [1, 3]
    """
    counts: list[int] = []
    at = 0
    codes = text.encode("ascii")
    while at < len(codes):
        value, shift, is_more = 0, 0, True
        while is_more:
            if at >= len(codes) or not 48 <= codes[at] < 112 or shift > 60:
                raise ValueError("its run lengths are broken off")
            code = codes[at] - 48
            value |= (code & 0x1F) << shift
            is_more = bool(code & 0x20)
            at, shift = at + 1, shift + 5
            if not is_more and code & 0x10:
                value |= -1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts
