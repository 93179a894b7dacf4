"""The files that vectors lie in: each comes into its place in one step, and several processes may write at once."""

from __future__ import annotations

import os
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError


def list_chunks(folder: Path) -> list[Path]:
    """Return the files of a folder, the oldest first."""
    return sorted(folder.glob("[0-9]*.npz"))


def read_chunk(file: Path) -> tuple[NDArray[Any], ...]:
    """Return ids, sample ids, stamps and vectors.

    Raises:
        LabelingError: the file is damaged.
        FileNotFoundError: it was joined with others meanwhile.
    """
    with _opening(file) as content:
        return (*_read_texts(content, "ids", "sample_ids", "stamps"), content["vectors"])


def read_stamps(file: Path) -> tuple[NDArray[np.str_], ...]:
    """Return ids and stamps, as ``read_chunk`` does; reads no vector."""
    with _opening(file) as content:
        return _read_texts(content, "ids", "stamps")


def _read_texts(content: Any, *names: str) -> tuple[NDArray[np.str_], ...]:
    return tuple(content[name].astype(np.str_) for name in names)


def read_width(file: Path) -> int:
    """Return how many numbers a vector has."""
    with _opening(file) as content:
        return int(content["vectors"].shape[1])


def _opening(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LabelingError(f"{file}: is damaged ({error}); remove it, and labelloop embed computes it anew") from error


def keep_last(*columns: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the columns with one row an id, sorted by id: the last row where there are several."""
    ids = columns[0]
    _, from_end = np.unique(ids[::-1], return_index=True)
    rows = len(ids) - 1 - from_end
    if len(rows) == len(ids) and (np.diff(rows) == 1).all():
        yield from columns
        return
    for column in columns:
        yield column[rows]


def write_chunk(folder: Path, columns: Sequence[NDArray[np.str_]], vectors: NDArray[np.float32]) -> None:
    """Write a chunk behind the others: two processes that write at once take two numbers."""
    part = folder / f"{name_writer()}.part"
    save_chunk(part, columns, vectors)
    chunks = list_chunks(folder)
    number = int(chunks[-1].stem) if chunks else 0
    while True:
        number += 1
        try:
            os.link(part, folder / f"{number:06d}.npz")
        except FileExistsError:
            continue
        part.unlink()
        return


def save_chunk(file: Path, columns: Sequence[NDArray[np.str_]], vectors: NDArray[np.float32]) -> None:
    """Write a file whole, in the place of one of that name."""
    part = file.with_name(f"{file.name}.{name_writer()}.writing")
    with part.open("wb") as target:
        # As bytes: numpy keeps four for each letter of a text.
        ids, sample_ids, stamps = (column.astype(np.bytes_) for column in columns)
        np.savez(target, ids=ids, sample_ids=sample_ids, stamps=stamps, vectors=vectors)
        target.flush()
        os.fsync(target.fileno())
    part.replace(file)


def name_writer() -> str:
    """Return a word that no other thread or process writes under."""
    return f"{os.getpid()}-{threading.get_ident()}"
