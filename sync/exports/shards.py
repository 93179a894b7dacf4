"""WebDataset and TFRecord: shards of a thousand images each, ``SPLIT-000000.tar`` and ``SPLIT-000000.tfrecord``.

WebDataset: an image and a JSON file of one name, in tar archives. TFRecord: one ``tf.train.Example`` an image with the
features of TensorFlow's object detection, and ours beside them, ``image/object/shape`` exact; written without
TensorFlow. With ``none`` the images are not in it, their paths are.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from more_itertools import chunked

from sync.exports.drafts import Draft, Written
from sync.exports.embedding import Embedded, embed
from sync.exports.items import Item
from sync.exports.objects import Object, to_objects
from sync.exports.records import ExportImage
from sync.versions.version import SPLITS

IMAGES_A_SHARD: Final = 1000
CLASSES_NAME: Final = "classes.txt"

WriteShard = Callable[[Path, Iterable[Embedded]], Iterator[Item]]
"""Writes one file and yields the items that are in it."""


def write_webdataset(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as WebDataset shards."""
    return _write_shards(images, draft, ".tar", _write_tar)


def write_tfrecord(images: Iterable[ExportImage], draft: Draft) -> Written:
    """Write the reviewed images as TFRecord shards."""
    return _write_shards(images, draft, ".tfrecord", _write_tfrecord)


def _write_shards(images: Iterable[ExportImage], draft: Draft, suffix: str, write: WriteShard) -> Written:
    items = draft.prepare(images)
    written: list[Item] = []
    for split in SPLITS:
        some = [item for item in items if item.image.part == split]
        for number, chunk in enumerate(chunked(some, IMAGES_A_SHARD)):
            name = f"{split}-{number:06}{suffix}"
            written += write(draft.stage.path / name, embed(chunk, draft.order.images_mode, draft.tally))
            draft.stage.add_written(name)
    draft.stage.write(CLASSES_NAME, "".join(f"{name}\n" for name in draft.config.region_classes).encode())
    return Written(written, sum(len(list(to_objects(item))) for item in written))


def _write_tar(path: Path, images: Iterable[Embedded]) -> Iterator[Item]:
    from webdataset.writer import TarWriter  # it imports torch

    # The moment of writing would make other bytes each time.
    with path.open("wb") as file, closing(TarWriter(file, mtime=0, encoder=False)) as writer:
        for one in images:
            parts: dict[str, Any] = {"__key__": one.item.stem, "json": _to_json(_to_values(one)).encode()}
            if one.content is not None:
                parts[Path(one.file_name).suffix.removeprefix(".") or "image"] = one.content
            writer.write(parts)
            yield one.item


def _to_values(one: Embedded) -> dict[str, Any]:
    image = one.item.image
    return {
        "image": one.file_name,
        "width": image.size.width,
        "height": image.size.height,
        "sha256": image.sha256,
        "sample_id": image.sample_id,
        "split": image.split,
        "has_regions": image.has_regions,
        "objects": [label.to_dict() for label in to_objects(one.item)],
    }


def _write_tfrecord(path: Path, images: Iterable[Embedded]) -> Iterator[Item]:
    from tfrecord.example_pb2 import Example  # it imports torch
    from tfrecord.writer import TFRecordWriter

    with path.open("wb") as file:
        for one in images:
            example = Example.FromString(TFRecordWriter.serialize_tf_example(_to_features(one)))
            # The library's own writing puts the features into another order in each process.
            record = example.SerializeToString(deterministic=True)
            length = struct.pack("<Q", len(record))
            sums = [TFRecordWriter.masked_crc(part) for part in (length, record)]
            file.write(b"".join((length, sums[0], record, sums[1])))
            yield one.item


def _to_features(one: Embedded) -> dict[str, tuple[Sequence[Any], str]]:
    image, objects = one.item.image, list(to_objects(one.item))
    drawn = [label for label in objects if label.class_index is not None]
    suffix = Path(one.file_name).suffix.removeprefix(".")
    return {
        "image/filename": ([one.file_name.encode()], "byte"),
        "image/source_id": ([image.sample_id.encode()], "byte"),
        "image/key/sha256": ([image.sha256.encode()], "byte"),
        "image/height": ([image.size.height], "int"),
        "image/width": ([image.size.width], "int"),
        "image/format": ([suffix.encode()], "byte"),
        "image/split": ([(image.split or "").encode()], "byte"),
        "image/has_regions": ([int(image.has_regions)], "int"),
        **({} if one.content is None else {"image/encoded": ([one.content], "byte")}),
        **dict(_to_box_features(one, drawn)),
        # Everything, with what TensorFlow's own features have no place for.
        "image/labels": ([_to_json(label.to_dict()).encode() for label in objects], "byte"),
    }


def _to_box_features(one: Embedded, drawn: Sequence[Object]) -> Iterator[tuple[str, tuple[Sequence[Any], str]]]:
    size = one.item.image.size
    prefix = "image/object/bbox/"
    yield f"{prefix}xmin", ([(label.x or 0) / size.width for label in drawn], "float")
    yield f"{prefix}xmax", ([((label.x or 0) + (label.width or 0)) / size.width for label in drawn], "float")
    yield f"{prefix}ymin", ([(label.y or 0) / size.height for label in drawn], "float")
    yield f"{prefix}ymax", ([((label.y or 0) + (label.height or 0)) / size.height for label in drawn], "float")
    yield "image/object/class/text", ([(label.class_name or "").encode() for label in drawn], "byte")
    # TensorFlow keeps 0 for the background.
    yield "image/object/class/label", ([(label.class_index or 0) + 1 for label in drawn], "int")


def _to_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
