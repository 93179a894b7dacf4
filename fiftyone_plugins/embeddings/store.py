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
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.chunks import (
    keep_last,
    list_chunks,
    name_writer,
    read_chunk,
    read_stamps,
    read_width,
    save_chunk,
    write_chunk,
)
from labels.errors import LabelingError

Row = TypeVar("Row")

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
    each vector was computed from; ``vectors`` (n, d) are as the model gave them, of any length. ``outdated`` are ids
    that were left out because their image, or the label's place in it, is another one now.
    """

    key: Key
    ids: NDArray[np.str_]
    sample_ids: NDArray[np.str_]
    stamps: NDArray[np.str_]
    vectors: NDArray[np.float32]
    outdated: tuple[str, ...] = ()

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
        return sorted(file.parent.name for file in self.folder.glob(f"*/{ABOUT}") if list_chunks(file.parent))

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
        part = folder / f"{SOURCE}.{name_writer()}.part"
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
        chunks = self._read_chunks(name, read_chunk)
        if not chunks:
            raise LabelingError(f"embeddings {name!r}: there are none yet: labelloop embed computes them")
        ids, sample_ids, stamps, rows = keep_last(*(np.concatenate(column) for column in zip(*chunks, strict=True)))
        return Embeddings(key, ids, sample_ids, stamps, rows)

    def stamps(self, name: str) -> dict[str, str]:
        """Return what each vector of a key was computed from, by its id; empty: there is none. Reads no vector."""
        found: dict[str, str] = {}
        for ids, stamps in self._read_chunks(name, read_stamps):
            found.update(zip(ids.tolist(), stamps.tolist(), strict=True))
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
        chunks = list_chunks(folder)
        if chunks and (width := read_width(chunks[-1])) != vectors.shape[1]:
            raise ValueError(f"the vectors have {vectors.shape[1]} numbers, those that are there {width}")
        folder.mkdir(parents=True, exist_ok=True)
        _write_about(folder / ABOUT, key)
        texts = (ids, ids if sample_ids is None else sample_ids, stamps)
        columns = [np.asarray(text, dtype=np.str_) for text in texts]
        if len(chunks) >= MOST_CHUNKS:
            self._join(key.name, chunks)
        write_chunk(folder, columns, vectors)

    def _read_chunks(self, name: str, read: Callable[[Path], Row]) -> list[Row]:
        while True:
            try:
                return [read(file) for file in list_chunks(self.folder / name)]
            except FileNotFoundError:
                # Somebody joined the chunks since they were listed: all of it is in the one that is there now.
                continue

    def _join(self, name: str, chunks: list[Path]) -> None:
        """Write all chunks as one in the place of the last, then remove the others, which it holds."""
        whole = self.read(name)
        save_chunk(chunks[-1], [whole.ids, whole.sample_ids, whole.stamps], whole.vectors)
        for file in chunks[:-1]:
            file.unlink(missing_ok=True)

    def _written_at(self, name: str) -> int:
        return max(self._read_chunks(name, lambda file: file.stat().st_mtime_ns))


def _write_about(file: Path, key: Key) -> None:
    if not file.exists():
        part = file.with_name(f"{ABOUT}.{name_writer()}.part")
        part.write_text(json.dumps(asdict(key), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(file)


def _to_word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-.")


def _to_folder_name(dataset: str) -> str:
    """Return a folder's name that no two datasets share, whatever their names hold.

    >>> _to_folder_name("photos"), _to_folder_name("Photos/2")
    ('photos-84a6dae4', 'Photos-2-725dd551')
    """
    return f"{_to_word(dataset)}-{hashlib.sha256(dataset.encode()).hexdigest()[:8]}"
