"""WebDataset and TFRecord: the labels out of shards, and where in them the images lie.

Nothing is extracted from an archive, so that its names lead nowhere. A TFRecord is read with its checksums, and a
length that the file does not have is an error, not a request for that much memory.
"""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO, Final

from labels.errors import LabelingError
from sync.images import SUFFIXES
from sync.imports.reading import LARGEST_TEXT_BYTES, UnreadableError, find_files, in_one_line, read_span
from sync.imports.records import ImportedImage, ImportedSet, read_each
from sync.imports.tables import to_image

BROKEN: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
ENCODED: Final = "image/encoded"
LENGTH_BYTES: Final = 8
SUM_BYTES: Final = 4
SUM_MASK: Final = 0xA282EAD8


def read_webdataset(path: Path) -> ImportedSet:
    """Return what the JSON files in tar archives say of their images.

    Raises:
        LabelingError: there are no archives, or none of it can be read.
    """
    return read_each(_find_shards(path, ".tar"), _read_archive)


def _read_archive(file: Path, found: ImportedSet) -> None:
    try:
        with tarfile.open(file, "r:") as archive:
            files = (member for member in archive if member.isfile() and not member.issparse())
            for _, members in groupby(files, _to_key):
                _read_group(archive, [*members], file, found)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise UnreadableError(f"is no tar archive, or broken off ({in_one_line(error)})") from error


def _to_key(member: tarfile.TarInfo) -> str:
    """Return what the files of one image have in common: their name up to its first dot."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def _read_group(archive: tarfile.TarFile, members: Sequence[tarfile.TarInfo], file: Path, found: ImportedSet) -> None:
    pictures = [one for one in members if Path(one.name).suffix.lower() in SUFFIXES]
    # Of several nobody knows which one is meant.
    spans = [partial(read_span, file, one.offset_data, one.size) for one in pictures if len(pictures) == 1]
    for member in members:
        if member.name.endswith(".json"):
            item = f"{file.name}, {in_one_line(member.name)}"
            _read_member(archive, member, item, found, read_content=next(iter(spans), None))


def _read_member(
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    item: str,
    found: ImportedSet,
    *,
    read_content: Callable[[], bytes] | None,
) -> None:
    if member.size > LARGEST_TEXT_BYTES:
        found.refuse(item, f"has {member.size} bytes (expected at most {LARGEST_TEXT_BYTES})")
        return
    content = archive.extractfile(member)
    try:
        values = json.loads(b"" if content is None else content.read())
        image = _to_image(values, values.get("objects"), item, found)
        found.images.append(replace(image, read_content=read_content))
    except BROKEN as error:
        found.refuse(item, f"cannot be read ({in_one_line(error)})")


def _to_image(values: Mapping[str, Any], objects: Any, item: str, found: ImportedSet) -> ImportedImage:
    return to_image(values, objects, item, found, sha256=values.get("sha256"))


def read_tfrecord(path: Path) -> ImportedSet:
    """Return what the examples of TFRecord files say of their images.

    Raises:
        LabelingError: there are no such files, or none of it can be read.
    """
    return read_each(_find_shards(path, ".tfrecord"), _read_examples)


def _read_examples(file: Path, found: ImportedSet) -> None:
    from google.protobuf.message import DecodeError

    for number, (start, record) in enumerate(_read_records(file)):
        item = f"{file.name}, example {number}"
        try:
            features = _to_features(record)
            image = _to_image(*_to_values(features), item, found)
            is_inside = ENCODED in features and len(features[ENCODED].bytes_list.value) == 1
            read_content = partial(_read_encoded, file, start, len(record)) if is_inside else None
            found.images.append(replace(image, read_content=read_content))
        except (*BROKEN, DecodeError) as error:
            found.refuse(item, f"cannot be read ({in_one_line(error)})")


def _to_features(record: bytes) -> Mapping[str, Any]:
    from tfrecord.example_pb2 import Example  # it imports torch

    features: Mapping[str, Any] = Example.FromString(record).features.feature
    return features


def _read_encoded(file: Path, start: int, byte_count: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(start)
        record = stream.read(byte_count)
    content: bytes = _to_features(record)[ENCODED].bytes_list.value[0]
    return content


def _to_values(features: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    values = {
        "image": _text_of(features, "image/filename"),
        "width": features["image/width"].int64_list.value[0],
        "height": features["image/height"].int64_list.value[0],
        "sha256": _text_of(features, "image/key/sha256"),
        "has_regions": "image/has_regions" not in features or bool(features["image/has_regions"].int64_list.value[0]),
    }
    if "image/labels" in features:
        return values, [json.loads(text) for text in features["image/labels"].bytes_list.value]
    return values, list(_to_objects(features, values["width"], values["height"]))


def _to_objects(features: Mapping[str, Any], width: int, height: int) -> Iterator[dict[str, Any]]:
    """Yield the boxes of an example of TensorFlow's own object detection."""
    if "image/object/class/text" not in features:
        raise ValueError("has no boxes with the names of their classes")
    names = ("xmin", "ymin", "xmax", "ymax")
    sides = [features[f"image/object/bbox/{name}"].float_list.value for name in names]
    classes = features["image/object/class/text"].bytes_list.value
    if any(len(side) != len(classes) for side in sides):
        raise ValueError("its boxes have not as many sides as classes")
    for number, name in enumerate(classes):
        left, top, right, bottom = [side[number] for side in sides]
        x, y = left * width, top * height
        box = {"x": x, "y": y, "width": right * width - x, "height": bottom * height - y}
        yield {"kind": "box", "class_name": name.decode(), **box}


def _text_of(features: Mapping[str, Any], name: str) -> str:
    values = features[name].bytes_list.value if name in features else []
    return str(values[0].decode()) if len(values) else ""


def _find_shards(path: Path, suffix: str) -> list[Path]:
    files = list(find_files(path, suffix)) if path.is_dir() else [path]
    if not files:
        raise LabelingError(f"{path}: no label files (expected {suffix} files)")
    return files


def _read_records(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield where each record of a TFRecord file begins, and the record: length, sum, content, sum, each checked."""
    try:
        left = size = file.stat().st_size
        with file.open("rb") as stream:
            while left:
                head = _read_part(stream, LENGTH_BYTES, left)
                (length,) = struct.unpack("<Q", head)
                left -= LENGTH_BYTES + SUM_BYTES
                content = _read_part(stream, length, left)
                yield size - left, content
                left -= length + SUM_BYTES
    except (OSError, ValueError) as error:
        raise UnreadableError(f"is no TFRecord file, or broken off ({in_one_line(error)})") from error


def _read_part(stream: BinaryIO, length: int, left: int) -> bytes:
    import crc32c

    if length + SUM_BYTES > left:
        raise ValueError(f"{length} bytes are announced where {max(left - SUM_BYTES, 0)} are left")
    part, told = stream.read(length), stream.read(SUM_BYTES)
    plain = crc32c.crc32c(part)
    expected = ((plain >> 15 | plain << 17) + SUM_MASK) & 0xFFFFFFFF
    if told != struct.pack("<I", expected):
        raise ValueError("a checksum is wrong")
    return part
