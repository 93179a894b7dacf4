"""CSV and Parquet: a line a label, or a row an image with a list of objects.

CSV of others is read too, when its columns are the file, the class, and the sides of the box: ``filename`` or
``image``, ``class`` or ``label``, and ``xmin``, ``ymin``, ``xmax``, ``ymax``.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from labels.errors import LabelingError
from labels.limits import MAX_IMAGE_BYTES
from sync.exports.tables import CSV_NAME, ROWS_AT_ONCE, from_cell
from sync.imports.objects import to_label
from sync.imports.reading import (
    LARGEST_SET_BYTES,
    UnreadableError,
    find_files,
    find_inside,
    in_one_line,
    read_text,
    to_number,
)
from sync.imports.records import ImportedImage, ImportedLabel, ImportedSet, RawShape, read_each

if TYPE_CHECKING:
    import pyarrow.parquet as pq

OTHER_NAMES: Final = {
    "image": ("image", "filename", "file_name", "file", "image_path", "path", "image_name"),
    "class": ("class", "label", "category", "name", "class_name"),
}
SIDES: Final = ("xmin", "ymin", "xmax", "ymax")
PARQUET_COLUMNS: Final = ("width", "height", "sha256", "has_regions", "objects")
SAYING: Final = ("label_id", "kind", "class_name", "x", "y", "width", "height", "rating", "shape")
PICTURES: Final = "image.bytes"
PICTURES_AT_ONCE: Final = 8
CELL_CHARACTERS: Final = 64 * 1024**2


def read_csv(path: Path) -> ImportedSet:
    """Return what a table holds; of a folder, that of its ``labels.csv``.

    Raises:
        LabelingError: it cannot be read, or its columns are not known.
    """
    file = find_inside(path, CSV_NAME) if path.is_dir() else path
    if file is None:
        raise LabelingError(f"no {CSV_NAME} in {path}; give the file")
    reader = _open_table(file)
    columns = [name.strip() for name in reader.fieldnames or ()]
    is_ours = {"image", "label_id", "kind", "class_name"} <= set(columns)
    if not is_ours:
        _check_columns(file, columns)
    found = ImportedSet()
    images: dict[str, ImportedImage] = {}
    labels: dict[str, list[ImportedLabel]] = {}
    try:
        for number, cells in enumerate(reader, start=2):
            row = {str(name).strip(): from_cell(value or "") for name, value in cells.items() if isinstance(value, str)}
            item = f"{file.name}, line {number}"
            image = _read_our_image(row, item, found) if is_ours else _read_other_image(row, item, found)
            if not image.name:
                if any(row.values()):
                    found.lose(item, "names no image")
                continue
            images.setdefault(image.name, image)
            try:
                labels.setdefault(image.name, []).extend(_read_our_label(row) if is_ours else _read_other_label(row))
            except (ValueError, OverflowError) as error:
                found.refuse(item, in_one_line(error), image=image.name)
    except csv.Error as error:
        raise LabelingError(f"{file}: is no table, or broken off (line {reader.line_num}: {error})") from error
    found.extend(_with_labels(images[name], labels[name]) for name in images)
    return found


def _open_table(file: Path) -> csv.DictReader[str]:
    try:
        text = read_text(file, largest_bytes=LARGEST_SET_BYTES)
    except UnreadableError as error:
        raise LabelingError(f"{file}: {error}") from error
    csv.field_size_limit(CELL_CHARACTERS)
    return csv.DictReader(io.StringIO(text, newline=""), strict=True)


def _with_labels(image: ImportedImage, labels: list[ImportedLabel]) -> ImportedImage:
    return ImportedImage(image.name, tuple(labels), image.size, image.sha256, image.has_regions)


def _check_columns(file: Path, columns: list[str]) -> None:
    lower = [name.lower() for name in columns]
    missing = [key for key, names in OTHER_NAMES.items() if not set(names) & set(lower)]
    missing += [side for side in SIDES if side not in lower]
    if missing:
        raise LabelingError(f"{file}: has no column for {missing[0]} (its columns: {in_one_line(', '.join(columns))})")


def _read_our_image(row: Mapping[str, str], item: str, found: ImportedSet) -> ImportedImage:
    size = found.read_size(item, row.get("image_width"), row.get("image_height"))
    sha256 = row.get("image_sha256") or None
    return ImportedImage(row.get("image", ""), (), size, sha256, row.get("has_regions") != "false")


def _read_our_label(row: Mapping[str, str]) -> list[ImportedLabel]:
    # A row that somebody added may say the class and the box alone.
    return [to_label(row)] if any(row.get(name) for name in SAYING) else []


def _find_cell(row: Mapping[str, str], key: str) -> str:
    return next((row[one] for one in OTHER_NAMES[key] if one in row), "")


def _lower_names(row: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in row.items()}


def _read_other_image(row: Mapping[str, str], item: str, found: ImportedSet) -> ImportedImage:
    lower = _lower_names(row)
    size = found.read_size(item, lower.get("width"), lower.get("height"))
    return ImportedImage(_find_cell(lower, "image"), (), size)


def _read_other_label(row: Mapping[str, str]) -> list[ImportedLabel]:
    lower = _lower_names(row)
    class_name = _find_cell(lower, "class")
    sides = [lower.get(side, "") for side in SIDES]
    if not class_name and not any(sides):
        return []
    if not class_name:
        raise ValueError("has no class")
    left, top, right, bottom = map(to_number, sides)
    return [ImportedLabel((class_name,), (RawShape("box", (left, top, right, bottom)),))]


def read_parquet(path: Path) -> ImportedSet:
    """Return what Parquet files hold.

    Raises:
        LabelingError: there are none, or none of it can be read.
    """
    files = list(find_files(path, ".parquet")) if path.is_dir() else [path]
    if not files:
        raise LabelingError(f"{path}: no label files (expected .parquet files)")
    return read_each(files, _read_table)


def _read_table(file: Path, found: ImportedSet) -> None:
    with _opening(file) as table:
        names = set(table.schema_arrow.names)
        if not {"image", *PARQUET_COLUMNS} <= names:
            raise UnreadableError(f"its columns are {in_one_line(sorted(names))} (expected those of an export)")
        _check_counts(table, file.stat().st_size)
        pictures = _Pictures(file) if _holds_pictures(table) else None
        # The images themselves stay where they are until somebody asks for them.
        columns = ["image.path", *PARQUET_COLUMNS]
        batches = table.iter_batches(ROWS_AT_ONCE, columns=columns)  # type: ignore[no-untyped-call]
        for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
            try:
                image = _to_image(row, f"{file.name}, row {number}", found)
            except (ValueError, LookupError, TypeError) as error:
                found.refuse(f"{file.name}, row {number}", in_one_line(error))
            else:
                read_content = None if pictures is None else partial(pictures.read, number)
                found.images.append(replace(image, read_content=read_content))


@contextmanager
def _opening(file: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq  # a tenth of a second, and only for this

    try:
        with pq.ParquetFile(file) as table:  # type: ignore[no-untyped-call]  # ships none
            yield table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"is no Parquet file, or damaged ({in_one_line(error)})") from error


def _check_counts(table: pq.ParquetFile, byte_count: int) -> None:
    """Refuse a file that repeats its values so often that they would take memory without end."""
    counts = Counter[str]()
    for part in range(table.metadata.num_row_groups):
        columns = table.metadata.row_group(part)
        for one in map(columns.column, range(columns.num_columns)):
            counts[one.path_in_schema] += one.num_values
    most = max(counts.values(), default=0)
    if most > byte_count:
        raise UnreadableError(f"has {most} values in {byte_count} bytes (expected a byte for each at least)")


def _holds_pictures(table: pq.ParquetFile) -> bool:
    return any(
        column.statistics is None or column.statistics.null_count != column.num_values
        for column in _picture_columns(table)
    )


def _picture_columns(table: pq.ParquetFile) -> Iterator[Any]:
    """Yield the column of pictures of each part of the file, if it has one."""
    for part in range(table.metadata.num_row_groups):
        columns = table.metadata.row_group(part)
        yield from (one for one in map(columns.column, range(columns.num_columns)) if one.path_in_schema == PICTURES)


class _Pictures:
    """The images in a Parquet file, some at a time: asked for in their order, the file is read once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._next = 0
        self._rows: Iterator[bytes | None] = iter(())

    def read(self, number: int) -> bytes:
        """Return the image in a row.

        Raises:
            UnreadableError: there is none, it is too large, or the file is damaged.
        """
        if number < self._next or self._next == 0:
            self._rows, self._next = self._read_rows(), 0
        content = next(islice(self._rows, number - self._next, None), None)
        self._next = number + 1
        if content is None:
            raise UnreadableError(f"has no image in {self._file.name}")
        return content

    def _read_rows(self) -> Iterator[bytes | None]:
        with _opening(self._file) as table:
            for column in _picture_columns(table):
                if column.total_uncompressed_size > column.num_values * MAX_IMAGE_BYTES:
                    raise UnreadableError(f"lies in {self._file.name} with images that are too large")
            batches = table.iter_batches(PICTURES_AT_ONCE, columns=[PICTURES])  # type: ignore[no-untyped-call]
            for batch in batches:
                yield from (None if row["image"] is None else row["image"]["bytes"] for row in batch.to_pylist())


def _to_image(row: Mapping[str, Any], item: str, found: ImportedSet) -> ImportedImage:
    return to_image(
        {**row, "image": (row["image"] or {}).get("path")}, row["objects"], item, found, sha256=row["sha256"]
    )


def to_image(
    values: Mapping[str, Any], objects: Any, item: str, found: ImportedSet, *, sha256: object
) -> ImportedImage:
    """Return an image of plain values with its objects; those that cannot be read are noted."""
    name = values.get("image")
    if not isinstance(name, str) or not name:
        raise ValueError("names no image")
    if not isinstance(objects, list):
        raise ValueError("has no list of objects")
    labels = []
    for number, one in enumerate(objects):
        try:
            labels.append(to_label(one))
        except (ValueError, AttributeError, OverflowError, TypeError) as error:
            found.refuse(f"{item}, object {number}", in_one_line(error), image=name)
    size = found.read_size(item, values.get("width"), values.get("height"))
    looked = values.get("has_regions") is not False
    return ImportedImage(name, tuple(labels), size, sha256 if isinstance(sha256, str) and sha256 else None, looked)
