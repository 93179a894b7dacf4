"""Vectors of images and of object crops in files: one folder a key, one file a chunk. Knows no FiftyOne and no torch.

    FOLDER/embeddings/DATASET-1a2b3c4d/KEY/key.json         what the vectors are of
                                          /source.json        how the model is loaded again
                                          /000001.npz       ids, sample ids, stamps, vectors
                                          /000002.npz       of the same id, a later row replaces an earlier one

A chunk comes into its place in one step, so a run that is killed keeps what it wrote, and the next one goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError

IMAGES: Final = "images"
PATCHES: Final = "patches-"
ABOUT: Final = "key.json"
SOURCE: Final = "source.json"
MOST_CHUNKS: Final = 256
"""Above this many, chunks are joined into one before the next is written."""


@dataclass(frozen=True, slots=True)
class Key:
    """What vectors are of: the ``model`` that made them, named with its weights, and images or the crops of ``field``.

    >>> Key("efficientnet-lite0-57934424").name, Key("dino v2/s", "ground_truth").name
    ('efficientnet-lite0-57934424@images', 'dino-v2-s@patches-ground_truth')
    """

    model: str
    field: str | None = None

    @property
    def name(self) -> str:
        """The key as one word that is a folder's name too."""
        return f"{_to_word(self.model)}@{IMAGES if self.field is None else PATCHES + self.field}"


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors in the order of their ids.

    ``ids`` (n,) are sample ids, of crops label ids; ``sample_ids`` (n,) the sample of each; ``stamps`` (n,) name what
    each vector was computed from; ``vectors`` (n, d) are as the model gave them, of any length.
    """

    key: Key
    ids: NDArray[np.str_]
    sample_ids: NDArray[np.str_]
    stamps: NDArray[np.str_]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def model(self) -> str:
        """The model that made them, named with its weights."""
        return self.key.model

    @property
    def field(self) -> str | None:
        """The field whose crops these are; None: of whole images."""
        return self.key.field

    def normalised(self) -> NDArray[np.float32]:
        """Return the vectors with length 1, so that a product of two is their cosine."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.asarray(self.vectors / lengths, dtype=np.float32)

    def only(self, ids: Sequence[str]) -> Embeddings:
        """Return those of these ids, in the order of the ids; an id without a vector is left out."""
        rows_by_id = {one: row for row, one in enumerate(self.ids.tolist())}
        return self._take([row for one in ids if (row := rows_by_id.get(one)) is not None])

    def of_samples(self, sample_ids: Sequence[str]) -> Embeddings:
        """Return those of these samples, in the order they are in here."""
        return self._take(np.flatnonzero(np.isin(self.sample_ids, np.asarray(sample_ids, dtype=np.str_))))

    def _take(self, rows: Any) -> Embeddings:
        chosen = np.asarray(rows, dtype=np.intp)
        columns = (self.ids, self.sample_ids, self.stamps, self.vectors)
        return Embeddings(self.key, *(column[chosen] for column in columns))  # type: ignore[arg-type]  # same kinds


class EmbeddingStore:
    """The vectors of one dataset, below the folder of the plugins' files."""

    def __init__(self, folder: Path, dataset: str) -> None:
        self.folder = folder / "embeddings" / _to_folder_name(dataset)

    def keys(self) -> list[str]:
        """Return what there are vectors of, by name."""
        return sorted(file.parent.name for file in self.folder.glob(f"*/{ABOUT}") if _list_chunks(file.parent))

    def latest(self) -> str | None:
        """Return the key of the images whose vectors were written last; None: there are none."""
        found = [name for name in self.keys() if self.read_key(name).field is None]
        return max(found, key=lambda name: (self._written_at(name), name), default=None)

    def latest_of(self, field: str | None) -> str | None:
        """Return the key of images (None), or of the crops of a field, that was written last; None: there are none."""
        found = [name for name in self.keys() if self.read_key(name).field == field]
        return max(found, key=lambda name: (self._written_at(name), name), default=None)

    def read_key(self, name: str) -> Key:
        """Return what the vectors of a key are of.

        Raises:
            LabelingError: there are none of that name.
        """
        try:
            return Key(**json.loads((self.folder / name / ABOUT).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            known = ", ".join(self.keys()) or "none yet: labelloop embed computes them"
            raise LabelingError(f"embeddings {name!r}: there are none (known: {known})") from error

    def record_source(self, key: Key, source: Mapping[str, str | None]) -> None:
        """Keep how the model of a key is loaded again, as a person named it (model, weights)."""
        folder = self.folder / key.name
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{SOURCE}.{_name_writer()}.part"
        part.write_text(json.dumps(dict(source), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(folder / SOURCE)

    def read_source(self, name: str) -> dict[str, str | None] | None:
        """Return how the model of a key is loaded again; None: that was not kept."""
        try:
            return dict(json.loads((self.folder / name / SOURCE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None

    def read(self, name: str) -> Embeddings:
        """Return all vectors of a key; of an id that was written several times, the last one.

        Raises:
            LabelingError: there are none of that name, or a file is damaged.
        """
        key = self.read_key(name)
        chunks = [_read_chunk(file) for file in _list_chunks(self.folder / name)]
        if not chunks:
            raise LabelingError(f"embeddings {name!r}: there are none yet: labelloop embed computes them")
        return Embeddings(key, *_keep_last(*(np.concatenate(column) for column in zip(*chunks, strict=True))))

    def stamps(self, name: str) -> dict[str, str]:
        """Return what each vector of a key was computed from, by its id; empty: there is none. Reads no vector."""
        found: dict[str, str] = {}
        for file in _list_chunks(self.folder / name):
            with _opening(file) as content:
                found.update(
                    zip(content["ids"].astype(str).tolist(), content["stamps"].astype(str).tolist(), strict=True)
                )
        return found

    def append(
        self,
        key: Key,
        ids: Sequence[str],
        vectors: NDArray[np.float32],
        *,
        stamps: Sequence[str],
        sample_ids: Sequence[str] | None = None,
    ) -> None:
        """Write a chunk: vectors of new ids, or of old ones anew. ``sample_ids`` None: the ids are those of samples.

        Raises:
            ValueError: a vector has another length than those that are there, is zero, or is not finite.
        """
        if not ids:
            return
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
            raise ValueError("a vector is zero or not finite")
        folder = self.folder / key.name
        chunks = _list_chunks(folder)
        if chunks and (width := _read_width(chunks[-1])) != vectors.shape[1]:
            raise ValueError(f"the vectors have {vectors.shape[1]} numbers, those that are there {width}")
        folder.mkdir(parents=True, exist_ok=True)
        _write_about(folder / ABOUT, key)
        texts = (ids, ids if sample_ids is None else sample_ids, stamps)
        columns = [np.asarray(text, dtype=np.str_) for text in texts]
        if len(chunks) >= MOST_CHUNKS:
            self._join(key.name, chunks)
        _write_chunk(folder, columns, vectors)

    def _join(self, name: str, chunks: list[Path]) -> None:
        """Write all chunks as one in the place of the last, then remove the others, which it holds."""
        whole = self.read(name)
        _save(chunks[-1], [whole.ids, whole.sample_ids, whole.stamps], whole.vectors)
        for file in chunks[:-1]:
            file.unlink(missing_ok=True)

    def _written_at(self, name: str) -> int:
        return max(file.stat().st_mtime_ns for file in _list_chunks(self.folder / name))


def _list_chunks(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.npz"))


def _read_chunk(file: Path) -> tuple[NDArray[Any], ...]:
    with _opening(file) as content:
        return (*_read_texts(content, "ids", "sample_ids", "stamps"), content["vectors"])


def _read_texts(content: Any, *names: str) -> tuple[NDArray[np.str_], ...]:
    return tuple(content[name].astype(np.str_) for name in names)


def _read_width(file: Path) -> int:
    with _opening(file) as content:
        return int(content["vectors"].shape[1])


def _opening(file: Path) -> Any:
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise LabelingError(f"{file}: is damaged ({error}); remove it, and labelloop embed computes it anew") from error


def _keep_last(*columns: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the columns with one row an id, sorted by id: the last row where there are several."""
    ids = columns[0]
    _, from_end = np.unique(ids[::-1], return_index=True)
    rows = len(ids) - 1 - from_end
    if len(rows) == len(ids) and (np.diff(rows) == 1).all():
        yield from columns
        return
    for column in columns:
        yield column[rows]


def _write_about(file: Path, key: Key) -> None:
    if not file.exists():
        part = file.with_name(f"{ABOUT}.{_name_writer()}.part")
        part.write_text(json.dumps(asdict(key), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(file)


def _write_chunk(folder: Path, columns: Sequence[NDArray[np.str_]], vectors: NDArray[np.float32]) -> None:
    """Write a chunk behind the others: two processes that write at once take two numbers."""
    part = folder / f"{_name_writer()}.part"
    _save(part, columns, vectors)
    chunks = _list_chunks(folder)
    number = int(chunks[-1].stem) if chunks else 0
    while True:
        number += 1
        try:
            os.link(part, folder / f"{number:06d}.npz")
        except FileExistsError:
            continue
        part.unlink()
        return


def _save(file: Path, columns: Sequence[NDArray[np.str_]], vectors: NDArray[np.float32]) -> None:
    part = file.with_name(f"{file.name}.{_name_writer()}.writing")
    with part.open("wb") as target:
        # As bytes: numpy keeps four for each letter of a text.
        ids, sample_ids, stamps = (column.astype(np.bytes_) for column in columns)
        np.savez(target, ids=ids, sample_ids=sample_ids, stamps=stamps, vectors=vectors)
        target.flush()
        os.fsync(target.fileno())
    part.replace(file)


def _name_writer() -> str:
    return f"{os.getpid()}-{threading.get_ident()}"


def _to_word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _to_folder_name(dataset: str) -> str:
    """Return a folder's name that no two datasets share, whatever their names hold.

    >>> _to_folder_name("photos"), _to_folder_name("Photos/2")
    ('photos-84a6dae4', 'Photos-2-725dd551')
    """
    return f"{_to_word(dataset)}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
