"""The formats that an export can have, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from sync.exports.class_folders import write_folders
from sync.exports.coco import write_coco
from sync.exports.records import ExportResult
from sync.exports.shards import write_tfrecord, write_webdataset
from sync.exports.tables import write_csv, write_parquet
from sync.exports.voc import write_voc
from sync.exports.yolo import write_yolo


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what writes it, whether it holds answers about whole images too, and whether it wants a control."""

    write: Callable[..., ExportResult]
    holds_answers: bool = False
    takes_control: bool = False


FORMATS: Final[Mapping[str, Format]] = {
    "coco": Format(write_coco),
    "yolo": Format(write_yolo),
    "yolo-segment": Format(partial(write_yolo, task="segment")),
    "yolo-obb": Format(partial(write_yolo, task="obb")),
    "yolo-pose": Format(partial(write_yolo, task="pose")),
    "voc": Format(write_voc),
    "csv": Format(write_csv, holds_answers=True),
    "folders": Format(write_folders, holds_answers=True, takes_control=True),
    "webdataset": Format(write_webdataset, holds_answers=True),
    "tfrecord": Format(write_tfrecord, holds_answers=True),
    "parquet": Format(write_parquet, holds_answers=True),
}
IMAGES_MODES: Final = ("copy", "link", "none")
