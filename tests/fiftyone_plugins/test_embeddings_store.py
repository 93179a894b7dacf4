"""Vectors in files: what a killed run leaves, what replaces what, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fiftyone_plugins.embeddings import store as store_module
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels.errors import LabelingError

KEY = Key("resnet18-1a2b3c4d")


def ids_of(*numbers: int) -> list[str]:
    return [f"{number:024x}" for number in numbers]


def make_vectors(*numbers: float) -> NDArray[np.float32]:
    return np.array([[number, 1, 2] for number in numbers], dtype=np.float32)


def test_what_is_appended_is_read_by_id(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    store.append(KEY, ids_of(2, 1), make_vectors(2, 1), stamps=["b", "a"])
    store.append(KEY, ids_of(7), make_vectors(7), stamps=["c"])

    found = EmbeddingStore(tmp_path, "photos").read(KEY.name)

    assert found.ids.tolist() == ids_of(1, 2, 7)
    assert found.sample_ids.tolist() == found.ids.tolist()
    assert found.vectors.tolist() == [[1, 1, 2], [2, 1, 2], [7, 1, 2]]
    assert found.vectors.dtype == np.float32
    assert (found.model, found.field) == ("resnet18-1a2b3c4d", None)
    assert store.stamps(KEY.name) == dict(zip(ids_of(1, 2, 7), "abc", strict=True))
    assert np.allclose(np.linalg.norm(found.normalised(), axis=1), 1)


def test_a_vector_that_is_written_again_replaces_the_old_one(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    store.append(KEY, ids_of(1, 2), make_vectors(1, 2), stamps=["old", "old"])
    store.append(KEY, ids_of(1), make_vectors(9), stamps=["new"])

    found = store.read(KEY.name)

    assert found.ids.tolist() == ids_of(1, 2)
    assert found.vectors[:, 0].tolist() == [9, 2]
    assert store.stamps(KEY.name) == dict(zip(ids_of(1, 2), ["new", "old"], strict=True))


def test_many_chunks_are_joined_and_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_CHUNKS", 3)
    store = EmbeddingStore(tmp_path, "photos")
    for number in range(1, 12):
        store.append(KEY, ids_of(number % 5), make_vectors(number), stamps=[str(number)])

    assert len(list((store.folder / KEY.name).glob("*.npz"))) <= 4
    assert store.stamps(KEY.name) == dict(zip(ids_of(0, 1, 2, 3, 4), ["10", "11", "7", "8", "9"], strict=True))
    assert store.read(KEY.name).vectors[:, 0].tolist() == [10, 11, 7, 8, 9]


def test_who_reads_while_another_joins_the_chunks_gets_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MOST_CHUNKS", 3)
    store, other = EmbeddingStore(tmp_path, "photos"), EmbeddingStore(tmp_path, "photos")
    for number in (1, 2, 3):
        store.append(KEY, ids_of(number), make_vectors(number), stamps=[str(number)])
    read, still_to_write = store_module.read_chunk, [4]

    def read_and_join(file: Path) -> tuple[NDArray[Any], ...]:
        found = read(file)
        while still_to_write:
            number = still_to_write.pop()
            other.append(KEY, ids_of(number), make_vectors(number), stamps=[str(number)])
        return found

    monkeypatch.setattr(store_module, "read_chunk", read_and_join)

    assert store.read(KEY.name).ids.tolist() == ids_of(1, 2, 3, 4)
    assert sorted(file.stem for file in (store.folder / KEY.name).glob("*.npz")) == ["000003", "000004"]


def test_a_chunk_that_was_not_written_to_its_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    store.append(KEY, ids_of(1), make_vectors(1), stamps=["a"])

    def be_killed(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", be_killed)
    with pytest.raises(KeyboardInterrupt):
        store.append(KEY, ids_of(2), make_vectors(2), stamps=["b"])
    monkeypatch.undo()

    assert store.read(KEY.name).ids.tolist() == ids_of(1)
    store.append(KEY, ids_of(2), make_vectors(2), stamps=["b"])
    assert store.read(KEY.name).ids.tolist() == ids_of(1, 2)


def test_crops_know_their_sample_and_are_chosen_by_it(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    crops = Key("resnet18-1a2b3c4d", "ground_truth")
    samples = ids_of(100, 100, 200)
    store.append(crops, ids_of(1, 2, 3), make_vectors(1, 2, 3), stamps=list("abc"), sample_ids=samples)

    found = store.read(crops.name)

    assert found.of_samples(ids_of(200)).ids.tolist() == ids_of(3)
    assert found.only([*ids_of(3, 99, 1)]).vectors[:, 0].tolist() == [3, 1]
    assert store.latest() is None
    assert store.latest_of("ground_truth") == crops.name


def test_the_latest_key_is_the_one_written_last(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    assert (store.keys(), store.latest()) == ([], None)
    other = Key("vit")
    for number, key in enumerate((other, KEY)):
        store.append(key, ids_of(1), make_vectors(1), stamps=["a"])
        for file in (store.folder / key.name).glob("*.npz"):
            os.utime(file, ns=(number, number))

    assert store.keys() == sorted([KEY.name, other.name])
    assert store.latest() == KEY.name


def test_datasets_of_like_names_do_not_meet(tmp_path: Path) -> None:
    EmbeddingStore(tmp_path, "a b").append(KEY, ids_of(1), make_vectors(1), stamps=["a"])

    assert EmbeddingStore(tmp_path, "a-b").keys() == []


@pytest.mark.parametrize("vector", [[0, 0, 0], [1, float("nan"), 0], [1, float("inf"), 0]])
def test_what_has_no_direction_is_never_kept(tmp_path: Path, vector: list[float]) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    with pytest.raises(ValueError, match="zero or not finite"):
        store.append(KEY, ids_of(1), np.array([vector], dtype=np.float32), stamps=["a"])
    assert store.keys() == []


def test_vectors_of_two_lengths_do_not_mix(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    store.append(KEY, ids_of(1), make_vectors(1), stamps=["a"])
    with pytest.raises(ValueError, match="have 2 numbers, those that are there 3"):
        store.append(KEY, ids_of(2), np.ones((1, 2), dtype=np.float32), stamps=["a"])


def test_a_key_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, "photos")
    with pytest.raises(LabelingError, match="labelloop embed computes them"):
        store.read("nothing")
    store.append(KEY, ids_of(1), make_vectors(1), stamps=["a"])
    with pytest.raises(LabelingError, match="known: resnet18-1a2b3c4d@images"):
        store.read("nothing")
    (damaged,) = (store.folder / KEY.name).glob("*.npz")
    damaged.write_bytes(b"no zip")
    with pytest.raises(LabelingError, match="damaged"):
        store.read(KEY.name)
