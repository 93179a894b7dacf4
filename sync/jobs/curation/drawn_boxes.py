"""What a detector drew, kept in files: the same image and the same weights are not looked at twice.

One folder for each model version and score floor, parts of some hundred images in it. A part that cannot be read is as
good as none.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np

from fiftyone_plugins.app.work import DrawnBoxes

logger = logging.getLogger(__name__)

IMAGES_PER_PART: Final = 256


def to_file_key(path: Path) -> str:
    """Return what names a file's content without reading it: path, size and time of the last change.

    Raises:
        OSError: the file is gone.
    """
    stat = path.stat()
    return f"{path}|{stat.st_size}|{stat.st_mtime_ns}"


class DrawnStore:
    """The boxes of one model version above one score floor; closing it writes what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, DrawnBoxes] = {}
        self._new: dict[str, DrawnBoxes] = {}
        for part in sorted(folder.glob("*.npz")):
            self._found.update(_read_part(part))

    def find(self, key: str) -> DrawnBoxes | None:
        """Return what was drawn on a file; None: nobody has looked yet."""
        return self._found.get(key)

    def add(self, key: str, boxes: DrawnBoxes) -> None:
        """Remember what was drawn on a file."""
        self._found[key] = self._new[key] = boxes
        if len(self._new) >= IMAGES_PER_PART:
            self.write()

    def write(self) -> None:
        """Write what is new as one more part; a reader sees all of it or none."""
        if not self._new:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._folder / f"{os.getpid()}-{threading.get_ident()}.unfinished"
        drawn = list(self._new.values())
        names = sorted({name for boxes in drawn for name in boxes.names})
        numbers = {name: place for place, name in enumerate(names)}
        with unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                about=np.array(json.dumps({"keys": list(self._new), "names": names})),
                counts=np.array([len(boxes.scores) for boxes in drawn], np.int64),
                xyxy=np.concatenate([boxes.xyxy for boxes in drawn]),
                scores=np.concatenate([boxes.scores for boxes in drawn]),
                classes=np.array([numbers[name] for boxes in drawn for name in boxes.names], np.int32),
            )
        self._put(unfinished)
        self._new.clear()

    def _put(self, unfinished: Path) -> None:
        """Give a part the next free number: another process may be writing, too."""
        number = 1 + max((int(part.stem) for part in self._folder.glob("*.npz")), default=0)
        while True:
            try:
                os.link(unfinished, self._folder / f"{number:06d}.npz")
            except FileExistsError:
                number += 1
            else:
                unfinished.unlink()
                return


def _read_part(part: Path) -> Iterable[tuple[str, DrawnBoxes]]:
    try:
        with np.load(part, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            ends = np.cumsum(stored["counts"])
            xyxy, scores, classes = stored["xyxy"], stored["scores"], stored["classes"]
        keys, names = about["keys"], about["names"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read, its images are looked at again (%s)", part, error)
        return
    for key, end, count in zip(keys, ends, np.diff(ends, prepend=0), strict=True):
        rows = slice(int(end - count), int(end))
        yield key, DrawnBoxes(xyxy[rows], scores[rows], tuple(names[place] for place in classes[rows]))
