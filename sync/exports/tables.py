"""CSV and Parquet: every label with where it comes from, as a table.

CSV: ``labels.csv`` has a line a label, and one with empty label columns for an image that has none; the images lie in
``images/``. A text that a spreadsheet would take for a formula has an apostrophe in front.
Parquet: ``SPLIT.parquet`` has a row an image with a list of objects; with ``copy`` and ``link`` the row holds the image
itself, as ``image.bytes`` and ``image.path``, which is how Hugging Face's ``datasets`` keeps images.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from more_itertools import chunked

from sync.exports.drafts import Draft, Written
from sync.exports.embedding import Embedded, embed
from sync.exports.folder import Stage
from sync.exports.items import Item
from sync.exports.objects import NAMES, to_objects
from sync.exports.records import ExportImage, ImagesMode
from sync.versions.version import SPLITS, Split

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES_FOLDER: Final = "images"
CSV_NAME: Final = "labels.csv"
IMAGE_NAMES: Final = ("image", "split", "image_width", "image_height", "image_sha256", "sample_id", "has_regions")
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
ROWS_AT_ONCE: Final = 200
NUMBERS: Final = {"class_index": "int32", "rating": "int32", **dict.fromkeys(("x", "y", "width", "height"), "float64")}


def write_csv(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as a table."""
    items = draft.prepare(images, lambda _image: IMAGES_FOLDER)
    return Written(items, _write_table(draft.stage, items, draft.order.images_mode))


def _write_table(stage: Stage, items: Sequence[Item], images_mode: ImagesMode) -> int:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*IMAGE_NAMES, *NAMES))
    labels = 0
    for item in items:
        image = _to_image_cells(item, images_mode)
        rows = [[getattr(one, name) for name in NAMES] for one in to_objects(item)]
        labels += len(rows)
        writer.writerows([*image, *map(to_cell, row)] for row in rows or [[None] * len(NAMES)])
    stage.write(CSV_NAME, stream.getvalue().encode())
    return labels


def _to_image_cells(item: Item, images_mode: ImagesMode) -> list[object]:
    image = item.image
    path = str(image.path) if images_mode == "none" else f"{IMAGES_FOLDER}/{item.file_name}"
    looked = "true" if image.has_regions else "false"
    return [to_cell(path), image.split, image.size.width, image.size.height, image.sha256, image.sample_id, looked]


def to_cell(value: object) -> object:
    """Return a value as a cell; None is an empty one. ``from_cell`` takes the apostrophe off again.

    >>> to_cell("=1+1"), to_cell(2.5), from_cell("'=1+1")
    ("'=1+1", 2.5, '=1+1')
    """
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith((*FORMULA_STARTS, "'")) else value


def from_cell(text: str) -> str:
    """Return the text of a cell."""
    return text[1:] if text.startswith("'") else text


def write_parquet(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as Parquet, a file a split."""
    import pyarrow.parquet as pq  # a tenth of a second, and only for this

    items = draft.prepare(images)
    # What loads the file knows the classes in their order.
    schema = _to_schema().with_metadata({"labelloop": json.dumps({"classes": list(draft.config.region_classes)})})
    written: list[Item] = []
    for split in SPLITS:
        some = [item for item in items if item.image.part == split]
        if not some:
            continue
        name = f"{split}.parquet"
        with pq.ParquetWriter(draft.stage.path / name, schema) as writer:  # type: ignore[no-untyped-call]  # ships none
            for chunk in chunked(some, ROWS_AT_ONCE):
                held = list(embed(chunk, draft.order.images_mode, draft.tally))
                writer.write_table(_to_arrow([_to_row(one, split) for one in held], schema))
                written += [one.item for one in held]
        draft.stage.add_written(name)
    return Written(written, sum(len(list(to_objects(item))) for item in written))


def _to_schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {"int32": pa.int32(), "float64": pa.float64()}
    objects = pa.struct([(name, kinds[NUMBERS[name]] if name in NUMBERS else pa.string()) for name in NAMES])
    return pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("sha256", pa.string()),
            ("sample_id", pa.string()),
            ("split", pa.string()),
            ("has_regions", pa.bool_()),
            ("objects", pa.list_(objects)),
        ]
    )


def _to_row(one: Embedded, split: Split) -> dict[str, Any]:
    image = one.item.image
    return {
        "image": {"bytes": one.content, "path": one.file_name},
        "width": image.size.width,
        "height": image.size.height,
        "sha256": image.sha256,
        "sample_id": image.sample_id,
        "split": None if image.split is None else split,
        "has_regions": image.has_regions,
        "objects": [label.to_dict() for label in to_objects(one.item)],
    }


def _to_arrow(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=schema)
