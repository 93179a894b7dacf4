"""Fingerprints in files, so that an image is read once: chunks of rows; of one sample a later row replaces an earlier.

FOLDER/duplicates/DATASET/fingerprints/000001.npz
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fiftyone_plugins.app.naming import to_file_name
from fiftyone_plugins.duplicates.fingerprints import Fingerprint

ROWS_PER_CHUNK: Final = 2048
COLUMNS: Final = ("sample_ids", "stamps", "sha256", "bytes", "width", "height", "sharpness", "small")


def to_folder(folder: Path, dataset: str) -> Path:
    """Return where this plugin keeps the files of a dataset, below the folder of all plugins.

    >>> to_folder(Path("curation"), "a/b").as_posix()
    'curation/duplicates/a%2Fb'
    """
    return folder / "duplicates" / to_file_name(dataset)


class FingerprintStore:
    """The fingerprints of one dataset; ``stamps`` say which state of a file each is of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "fingerprints"

    def read(self) -> dict[str, tuple[str, Fingerprint]]:
        """Return stamp and fingerprint by sample id; a chunk that is damaged counts as not there."""
        found: dict[str, tuple[str, Fingerprint]] = {}
        for file in self._list():
            found.update(_read_chunk(file))
        return found

    def append(self, rows: Sequence[tuple[str, str, Fingerprint]]) -> None:
        """Write rows of sample id, stamp and fingerprint as a chunk; all of it is there afterwards, or nothing."""
        if not rows:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        ids, stamps, prints = zip(*rows, strict=True)
        columns: Mapping[str, Any] = {
            "sample_ids": np.array(ids, np.bytes_),
            "stamps": np.array(stamps, np.bytes_),
            "sha256": np.array([one.sha256 for one in prints], np.bytes_),
            **{
                name: np.array([getattr(one, name) for one in prints], np.int64)
                for name in ("bytes", "width", "height")
            },
            "sharpness": np.array([one.sharpness for one in prints], np.float64),
            "small": np.stack([one.small for one in prints]),
        }
        last = max((int(file.stem) for file in self._list()), default=0)
        part = self._folder / f"{os.getpid()}.part"
        with part.open("wb") as stream:
            np.savez(stream, **columns)
        part.replace(self._folder / f"{last + 1:06d}.npz")

    def _list(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.npz"))


def _read_chunk(file: Path) -> Iterator[tuple[str, tuple[str, Fingerprint]]]:
    try:
        with np.load(file, allow_pickle=False) as content:
            columns = [content[name] for name in COLUMNS]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        # What it held is read from the images again.
        return
    for one, stamp, sha256, size, width, height, sharpness, small in zip(*columns, strict=True):
        fingerprint = Fingerprint(sha256.decode(), int(size), int(width), int(height), float(sharpness), small)
        yield one.decode(), (stamp.decode(), fingerprint)
