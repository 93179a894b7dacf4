"""The neighbour index against plain all-pairs arithmetic, and as a backend of FiftyOne's brain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fiftyone_plugins.app.brain import CONFIG_CLASS, to_backend_environment
from fiftyone_plugins.embeddings import cells, neighbours
from fiftyone_plugins.embeddings.neighbours import build_index
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key

THRESHOLD = 0.05


def make_vectors(count: int, width: int = 96) -> NDArray[np.float32]:
    """Clusters, and every tenth vector again with a little noise."""
    random = np.random.default_rng(3)
    middles = random.standard_normal((20, width), dtype=np.float32)
    vectors = middles[random.integers(0, 20, count)] + 0.8 * random.standard_normal((count, width), dtype=np.float32)
    copies = count // 10
    vectors[-copies:] = vectors[:copies] + 0.05 * random.standard_normal((copies, width), dtype=np.float32)
    return vectors


def compare_all(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(1 - unit @ unit.T)


def list_pairs(distances: NDArray[np.float64]) -> set[tuple[int, int]]:
    return {(int(i), int(j)) for i, j in np.argwhere(np.triu(distances <= THRESHOLD, 1))}


def pairs_of(vectors: NDArray[np.float32]) -> set[tuple[int, int]]:
    pairs = build_index(vectors).pairs_within(THRESHOLD)
    return set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))


def test_a_small_set_gives_exactly_the_pairs_that_all_pairs_give() -> None:
    vectors = make_vectors(300)
    distances = compare_all(vectors)
    expected = list_pairs(distances)
    pairs = build_index(vectors).pairs_within(THRESHOLD)
    assert set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)) == expected
    assert len(expected) >= 30
    np.testing.assert_allclose(pairs.distance, distances[pairs.i, pairs.j], atol=1e-5)


@pytest.fixture
def searched_in_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells already for a few thousand vectors."""
    monkeypatch.setattr(neighbours, "SMALL", 1000)


@pytest.mark.usefixtures("searched_in_cells")
def test_a_large_set_gives_the_same_pairs_in_cells_and_the_same_every_time() -> None:
    vectors = make_vectors(3000)
    found = pairs_of(vectors)
    assert found == list_pairs(compare_all(vectors))
    assert found == pairs_of(vectors)


@pytest.mark.usefixtures("searched_in_cells")
def test_among_very_many_the_few_nearest_of_each_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (neighbours, cells):
        monkeypatch.setattr(module, "MANY", 2000)
    vectors = make_vectors(3000)
    vectors[:200] = vectors[0] + 0.01 * np.random.default_rng(1).standard_normal((200, 96), dtype=np.float32)
    expected = list_pairs(compare_all(vectors))
    found = pairs_of(vectors)

    assert found < expected
    assert {pair for pair in expected if pair[0] >= 200} <= found
    assert min(np.bincount(np.array(sorted(found)).ravel())[:200]) >= neighbours.FEW_NEIGHBOURS


@pytest.mark.usefixtures("searched_in_cells")
def test_pairs_are_found_among_hundreds_that_are_alike_in_the_main_directions_alone() -> None:
    random = np.random.default_rng(5)
    vectors = make_vectors(3000, 128)
    # The crowd differs where few others do: hundreds of it look near in the directions searched, and are not.
    vectors[:, 64:] *= 0.3
    vectors[:800, :64] = vectors[0, :64]
    vectors[:800, 64:] = 0.4 * random.standard_normal((800, 64))
    vectors[400:800] = vectors[:400] + 0.05 * random.standard_normal((400, 128))
    distances = compare_all(vectors)
    found, expected = pairs_of(vectors), list_pairs(distances)
    assert len(expected) > 4000
    assert expected <= found
    assert all(distances[pair] < THRESHOLD + 1e-5 for pair in found)


@pytest.mark.usefixtures("searched_in_cells")
def test_of_a_few_nearest_those_within_the_threshold_are_told() -> None:
    vectors = make_vectors(3000)
    distances = compare_all(vectors)
    pairs = build_index(vectors).pairs_within(THRESHOLD, most=12)
    assert set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True)) == list_pairs(distances)
    np.testing.assert_allclose(pairs.distance, distances[pairs.i, pairs.j], atol=1e-5)


def test_what_was_found_is_thinned_out_to_the_nearest_of_each_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = make_vectors(3000)
    monkeypatch.setattr(neighbours, "SMALL", 1000)
    whole = build_index(vectors).pairs_within(0.4, most=40)
    monkeypatch.setattr(neighbours, "PAIRS_HELD", 500)
    thinned = build_index(vectors).pairs_within(0.4, most=40)
    assert whole.i.tolist() == thinned.i.tolist()
    assert whole.j.tolist() == thinned.j.tolist()
    assert np.bincount(np.r_[whole.i, whole.j]).max() > 40


@pytest.mark.usefixtures("searched_in_cells")
def test_a_search_in_cells_finds_the_nearest_with_itself_first() -> None:
    vectors = make_vectors(3000)
    distances = compare_all(vectors)
    found = build_index(vectors).search(vectors[:200], 2)
    assert found.indices[:, 0].tolist() == list(range(200))
    np.fill_diagonal(distances, np.inf)
    copied = distances[:200].argmin(axis=1)
    assert (found.indices[:, 1] == copied).mean() > 0.97
    np.testing.assert_allclose(found.distances[:, 0], 0, atol=1e-5)


@pytest.mark.usefixtures("searched_in_cells")
def test_a_search_among_few_finds_those_alone_wherever_they_lie() -> None:
    vectors = make_vectors(3000)
    among = np.zeros(3000, np.bool_)
    among[[5, 1700]] = True
    found = build_index(vectors).search(vectors[:50], 3, among=among)
    assert {frozenset(row) for row in found.indices[:, :2].tolist()} == {frozenset((5, 1700))}
    assert (found.indices[:, 2] == -1).all()
    assert np.isinf(found.distances[:, 2]).all()


@pytest.mark.usefixtures("searched_in_cells")
def test_every_one_of_many_equal_vectors_stays_in_one_group() -> None:
    vectors = make_vectors(3000)
    vectors[100:900] = vectors[100]
    pairs = build_index(vectors).pairs_within(THRESHOLD, most=20)
    equal = set(range(100, 900))
    assert equal <= {*pairs.i.tolist(), *pairs.j.tolist()}


def test_a_vector_of_zeros_is_near_nobody_not_even_another_one() -> None:
    vectors = np.array([[0, 0], [0, 0], [1, 0]], np.float32)
    index = build_index(vectors)
    assert len(index.pairs_within(0.5).i) == 0
    assert index.search(vectors[:1], 1).distances.tolist() == [[1.0]]


def test_fewer_vectors_than_asked_for_leave_places_empty() -> None:
    found = build_index(np.eye(2, dtype=np.float32)).search(np.array([[1.0, 0.1]]), 4)
    assert found.indices.tolist() == [[0, 1, -1, -1]]
    assert build_index(np.empty((0, 4), np.float32)).pairs_within(0.5).i.tolist() == []


@pytest.mark.parametrize("bad", [np.array([[1.0, np.nan]]), np.array([[np.inf, 0.0]])])
def test_a_vector_that_is_not_finite_is_refused_by_its_row(bad: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="vector 0"):
        build_index(bad)


@pytest.fixture
def backend(fiftyone: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The backend by the name under which the environment registers it."""
    import fiftyone.brain as brain
    from fiftyone.brain.config import BrainConfig

    for name, value in to_backend_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(brain, "brain_config", BrainConfig())
    return "labelloop"


@pytest.fixture
def collection(fiftyone: Any) -> Any:
    dataset = fiftyone.Dataset()
    dataset.add_samples([fiftyone.Sample(filepath=f"/{number}.jpg") for number in range(300)], progress=False)
    yield dataset
    dataset.delete()


def test_the_brain_finds_the_same_duplicates_with_our_backend_as_with_its_own(collection: Any, backend: str) -> None:
    import fiftyone.brain as brain

    # The brain's own backend moves the middle of all vectors to zero before it measures.
    vectors = make_vectors(300)
    vectors -= vectors.mean(axis=0)
    ours = brain.compute_similarity(collection, embeddings=vectors, backend=backend, brain_key="ours")
    stock = brain.compute_similarity(collection, embeddings=vectors, backend="sklearn", brain_key="stock")
    assert type(ours.config).__name__ == CONFIG_CLASS.rpartition(".")[2]
    for index in (ours, stock):
        brain.compute_near_duplicates(collection, similarity_index=index, threshold=THRESHOLD)
    assert sorted(ours.duplicate_ids) == sorted(stock.duplicate_ids)
    assert ours.neighbors_map.keys() == stock.neighbors_map.keys()
    assert len(ours.duplicates_view()) == len(stock.duplicates_view()) > 30
    for count in (290, 40):
        ours.find_unique(count)
        assert len(set(ours.unique_ids)) == count


def test_sorting_by_similarity_works_on_views_and_after_a_reload(collection: Any, backend: str) -> None:
    import fiftyone.brain as brain

    vectors = make_vectors(300)
    brain.compute_similarity(collection, embeddings=vectors, backend=backend, brain_key="ours")
    ids = collection.values("id")
    distances = compare_all(vectors)
    collection.clear_cache()
    for samples, rows in ((collection, np.arange(300)), (collection[100:200], np.arange(100, 200))):
        nearest = rows[np.argsort(distances[7, rows], kind="stable")]
        assert samples.sort_by_similarity(ids[7], k=5, brain_key="ours").values("id") == [
            ids[row] for row in nearest[:5]
        ]
        furthest = samples.sort_by_similarity(ids[7], k=5, reverse=True, brain_key="ours").values("id")
        assert furthest == [ids[row] for row in nearest[::-1][:5]]


def test_vectors_of_the_store_stay_there_and_leaks_between_splits_are_found(
    collection: Any, backend: str, tmp_path: Any
) -> None:
    import fiftyone.brain as brain

    ids = collection.values("id")
    key = Key("a-model")
    EmbeddingStore(tmp_path, collection.name).append(key, ids, make_vectors(300), stamps=["1"] * 300)
    stored = {"store_folder": str(tmp_path), "store_key": key.name}
    index = brain.compute_similarity(collection, embeddings=False, backend=backend, brain_key="stored", **stored)
    collection[:150].tag_samples("train")
    collection[150:].tag_samples("test")
    leaks = brain.compute_leaky_splits(collection, ["train", "test"], threshold=THRESHOLD, similarity_index=index)
    assert set(ids[:30]) | set(ids[270:]) <= set(leaks.leak_ids)
    assert index.attributes() == [name for name in index.attributes() if "embeddings" not in name]
    brain.compute_uniqueness(collection, similarity_index=index, embeddings=index.get_embeddings()[0])
    assert min(collection.values("uniqueness")) >= 0
