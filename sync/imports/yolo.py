"""YOLO: text files in ``labels`` folders and ``data.yaml``; boxes, outlines, turned boxes and poses.

Classes are those of ``data.yaml``, else the lines of ``classes.txt`` or ``obj.names``, else the numbers themselves. An
image without a file is not spoken of; one with an empty file shows nothing. A row of nine numbers is an outline unless
the format says that it is a turned box. Beside ``labels`` lies ``images`` with the same below it, as for Ultralytics.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from labels.errors import LabelingError
from sync.imports.matching import IMAGES_FOLDER
from sync.imports.reading import UnreadableError, find_files, find_inside, in_one_line, read_text, to_number
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape

LISTS: Final = ("classes.txt", "obj.names")
SPLIT_LISTS: Final = ("train.txt", "val.txt", "test.txt")
OTHERS: Final = (*LISTS, *SPLIT_LISTS, "readme.txt", "readme.roboflow.txt", "readme.dataset.txt")
LABELS_FOLDER: Final = "labels"
FEWEST_NUMBERS: Final = 5
DATA_NAMES: Final = ("data.yaml", "dataset.yaml", "data.yml")
LARGEST_YAML_BYTES: Final = 1024**2


@dataclass(frozen=True, slots=True)
class _Names:
    """What ``data.yaml`` says: classes, and for poses the points with how many numbers each has."""

    classes: Mapping[int, str]
    points: Sequence[str] | None = None
    numbers_each: int = 3


def read_yolo(path: Path, *, is_turned: bool = False) -> ImportedSet:
    """Return what a folder of YOLO label files holds; ``is_turned``: rows of nine numbers are turned boxes.

    Raises:
        LabelingError: there are no label files, or ``data.yaml`` cannot be read.
    """
    root = path.parent if path.is_file() else path
    found = ImportedSet()
    names = _read_names(path, root)
    files = [file for file in find_files(root, ".txt") if is_label_file(file, root)]
    if not files:
        raise LabelingError(f"{path}: no label files (expected .txt files, in folders such as labels/train)")
    for file in files:
        try:
            rows = [line.split() for line in read_text(file).splitlines() if line.strip()]
        except UnreadableError as error:
            found.refuse(str(file.relative_to(root)), str(error))
            continue
        labels: list[ImportedLabel] = []
        image = _to_image_name(file.relative_to(root))
        for number, row in enumerate(rows, start=1):
            try:
                labels += _to_labels(row, names, is_turned=is_turned)
            except (ValueError, OverflowError) as error:
                found.refuse(f"{file.relative_to(root)}, line {number}", in_one_line(error), image=image)
        found.images.append(ImportedImage(image, tuple(labels)))
    return found


def is_label_file(file: Path, root: Path) -> bool:
    """Return whether a text file says what is on an image, also on one that is called test, train or readme."""
    name = file.name.lower()
    if name not in OTHERS or (name in SPLIT_LISTS and LABELS_FOLDER in file.relative_to(root).parts):
        return True
    try:
        words = next((line for line in read_text(file).splitlines() if line.strip()), "").split()
        return len([*map(float, words)]) >= FEWEST_NUMBERS
    except ValueError:
        return False


def _to_image_name(file: Path) -> str:
    """Return the path of an image without a suffix: the last folder called labels is images there.

    >>> _to_image_name(Path("labels/train/a.txt")), _to_image_name(Path("train/labels/a.txt"))
    ('images/train/a', 'train/images/a')
    """
    *folders, name = file.with_suffix("").parts
    if LABELS_FOLDER in folders:
        at = len(folders) - 1 - folders[::-1].index(LABELS_FOLDER)
        folders[at] = IMAGES_FOLDER
    return "/".join((*folders, name))


def _read_names(path: Path, root: Path) -> _Names:
    if path.is_file():
        return _read_yaml(path)
    for name in (*DATA_NAMES, *LISTS):
        file = find_inside(root, name)
        if file is not None:
            return _read_yaml(file) if name in DATA_NAMES else _read_list(file)
    return _Names({})


def _read_list(file: Path) -> _Names:
    """Return the classes of a list: the number of a line is that of its class, so an empty one counts too."""
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except UnreadableError as error:
        raise LabelingError(f"{file}: {error}") from error
    return _Names({number: line for number, line in enumerate(lines) if line})


def _read_yaml(file: Path) -> _Names:
    try:
        content = yaml.safe_load(read_text(file, largest_bytes=LARGEST_YAML_BYTES))
        names: Any = content["names"]
        listed = dict(enumerate(names)) if isinstance(names, list) else {int(key): one for key, one in names.items()}
        if not all(isinstance(one, str | int | float) for one in listed.values()):
            raise ValueError("its names are no texts")
        classes = {number: str(one) for number, one in listed.items()}
        shape = content.get("kpt_shape")
        if shape is None:
            return _Names(classes)
        count, each = int(shape[0]), int(shape[1])
        if not 0 < count <= 1000 or each not in (2, 3):
            raise ValueError("kpt_shape is not how many points there are, and 2 or 3")
        return _Names(classes, _read_points(content.get("kpt_names"), count), each)
    except (
        UnreadableError,
        yaml.YAMLError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise LabelingError(f"{file}: is no data file of YOLO ({in_one_line(error)})") from error


def _read_points(names: object, count: int) -> list[str]:
    """Return the names of the key points: those of any class, since all have the same."""
    some: object = next(iter(names.values()), None) if isinstance(names, Mapping) else names
    if isinstance(some, list) and len(some) == count:
        return [str(name) for name in some]
    return [f"point {number}" for number in range(count)]


def _to_labels(row: Sequence[str], names: _Names, *, is_turned: bool) -> Iterator[ImportedLabel]:
    numbers = tuple(to_number(word) for word in row)
    number = numbers[0]
    if number != int(number) or number < 0:
        raise ValueError(f"class {row[0]!r} is no whole number from 0")
    if names.classes and int(number) not in names.classes:
        raise ValueError(f"class {int(number)} is out of range ({len(names.classes)} have a name)")
    classes = (names.classes.get(int(number), str(int(number))),)
    values = numbers[1:]
    if names.points is not None and len(values) == 4 + len(names.points) * names.numbers_each:
        yield ImportedLabel(classes, (_to_box(values[:4]),))
        yield from _to_points(values[4:], names)
    elif len(values) in (4, 5):
        # A fifth number is a detector's confidence.
        yield ImportedLabel(classes, (_to_box(values[:4]),))
    elif len(values) == 8 and is_turned:
        yield ImportedLabel(classes, (RawShape("turned box", values, "relative"),))
    elif len(values) >= 6 and len(values) % 2 == 0:
        outline = RawShape("polygon", values, "relative")
        box = (min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]))
        yield ImportedLabel(classes, (outline, RawShape("box", box, "relative")))
    else:
        raise ValueError(f"has {len(row)} numbers (expected 5, or a class and at least three points)")


def _to_box(values: Sequence[float]) -> RawShape:
    x, y, width, height = values
    return RawShape("box", (x - width / 2, y - height / 2, x + width / 2, y + height / 2), "relative")


def _to_points(values: Sequence[float], names: _Names) -> Iterator[ImportedLabel]:
    each = names.numbers_each
    for at, name in enumerate(names.points or ()):
        x, y, *seen = values[at * each : (at + 1) * each]
        if (seen and seen[0] > 0) or (not seen and (x, y) != (0, 0)):
            yield ImportedLabel((name,), (RawShape("keypoint", (x, y), "relative"),))
