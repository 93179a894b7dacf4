"""Which reader a folder or file wants, by its name or by what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from labels.config import LabelConfig
from labels.errors import LabelingError
from sync.exports.class_folders import find_choices
from sync.exports.tables import CSV_NAME
from sync.imports.class_folders import read_folders
from sync.imports.coco import LABELS_NAME, find_only_file, read_coco
from sync.imports.reading import find_files, find_inside, read_manifest
from sync.imports.records import ImportedSet
from sync.imports.shards import read_tfrecord, read_webdataset
from sync.imports.tables import read_csv, read_parquet
from sync.imports.voc import read_voc
from sync.imports.yolo import DATA_NAMES, LISTS, is_label_file, read_yolo

READERS: Final[Mapping[str, Callable[[Path], ImportedSet]]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "yolo-segment": read_yolo,
    "yolo-obb": partial(read_yolo, is_turned=True),
    "yolo-pose": read_yolo,
    "voc": read_voc,
    "csv": read_csv,
    "webdataset": read_webdataset,
    "tfrecord": read_tfrecord,
    "parquet": read_parquet,
}
FOLDERS: Final = "folders"
FORMAT_NAMES: Final = (*READERS, FOLDERS)
BY_SUFFIX: Final = {
    ".json": "coco",
    ".csv": "csv",
    ".xml": "voc",
    ".tar": "webdataset",
    ".tfrecord": "tfrecord",
    ".parquet": "parquet",
    ".yaml": "yolo",
    ".yml": "yolo",
}
TEXT: Final = ".txt"
# Of the others a folder may hold some that are no labels.
TELLING: Final = (".xml", ".tar", ".tfrecord", ".parquet", ".csv")


def read_labels(path: Path, config: LabelConfig, *, name: str | None = None, control: str | None = None) -> ImportedSet:
    """Return what a label file or folder holds.

    Raises:
        LabelingError: it is not there, its format is not known, or it cannot be read at all.
    """
    if not path.exists():
        raise LabelingError(f"{path}: no such file or folder")
    name = name or guess_format(path)
    if name == FOLDERS:
        return read_folders(path, control=find_choices(config, control).name)
    if name not in READERS:
        raise LabelingError(f"format {name!r} is not known (known: {', '.join(FORMAT_NAMES)})")
    found = READERS[name](path)
    files = read_manifest(path).get("files")
    found.written = files if isinstance(files, dict) else {}
    return found


def guess_format(path: Path) -> str:
    """Return the format of a file or folder.

    Raises:
        LabelingError: it cannot be told.
    """
    found = BY_SUFFIX.get(path.suffix.lower()) if path.is_file() else _read_format(path) or _guess_by_names(path)
    if found is None:
        raise LabelingError(f"{path}: its format cannot be told; name it with --format ({', '.join(FORMAT_NAMES)})")
    return found


def _read_format(path: Path) -> str | None:
    """Return the format that an export of ours names."""
    name = read_manifest(path).get("format")
    return name if name in FORMAT_NAMES else None


def _guess_by_names(path: Path) -> str | None:
    for name, kind in ((LABELS_NAME, "coco"), (CSV_NAME, "csv"), *((name, "yolo") for name in (*DATA_NAMES, *LISTS))):
        if find_inside(path, name) is not None:
            return kind
    files = [file for file in find_files(path, *TELLING, TEXT) if file.suffix != TEXT or is_label_file(file, path)]
    suffixes = {file.suffix.lower() for file in files}
    kinds = [BY_SUFFIX[suffix] for suffix in TELLING if suffix in suffixes]
    if not kinds and find_only_file(path) is not None:
        kinds = ["coco"]
        kinds += ["yolo"] if TEXT in suffixes else []
    if TEXT in suffixes and not kinds:
        return "yolo"
    return kinds[0] if len(kinds) == 1 else None
