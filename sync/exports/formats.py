"""The formats that an export can have, by name, and the one way to write each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from labels.config import LabelConfig
from labels.errors import LabelingError
from sync.exports.class_folders import write_folders
from sync.exports.coco import write_coco
from sync.exports.drafts import Draft, Written, finish
from sync.exports.folder import open_stage
from sync.exports.records import ExportImage, ExportResult, Order
from sync.exports.shards import write_tfrecord, write_webdataset
from sync.exports.tables import write_csv, write_parquet
from sync.exports.voc import write_voc
from sync.exports.yolo import write_yolo


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what writes it, whether it holds answers about whole images too, and whether it wants a control."""

    write: Callable[[Iterable[ExportImage], Draft], Written]
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


def write_export(images: Iterable[ExportImage], config: LabelConfig, order: Order) -> ExportResult:
    """Write the reviewed images in the format that is asked for; the same input gives the same bytes.

    An earlier export at that place is replaced; an error leaves it as it is.

    Raises:
        LabelConfigError: a label's class is not in the config.
        LabelingError: the place holds something that no export wrote, or cannot be written to; or the format cannot
            hold what is asked for.
    """
    chosen = FORMATS[order.format]
    if order.control is not None and not chosen.takes_control:
        raise LabelingError("control: only the format folders has one")
    with open_stage(order.out_dir) as stage:
        draft = Draft(order, config, stage, chosen.holds_answers)
        return finish(draft, chosen.write(images, draft))
