"""Groups, outlier scores and searching in plain numbers, beside scikit-learn and FiftyOne's brain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from fiftyone_plugins.app.brain import BACKEND, CONFIG_CLASS
from fiftyone_plugins.embeddings.grouping import (
    NO_GROUP,
    group_vectors,
    name_groups,
    suggest_by_labels,
    suggest_by_words,
)
from fiftyone_plugins.embeddings.lonely import compute_lonely
from fiftyone_plugins.embeddings.neighbours import build_index, to_unit_length
from fiftyone_plugins.embeddings.searching import find_like, find_nearest
from fiftyone_plugins.embeddings.store import Embeddings, Key
from labels.errors import LabelingError

Vectors = np.ndarray[Any, Any]


def make_blobs(sizes: list[int], *, dimensions: int = 80, noise: float = 0.15) -> tuple[Vectors, Vectors]:
    """Return unit vectors round as many middles, and which middle each belongs to; in a mixed order."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(len(sizes), dimensions))
    truth = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = middles[truth] + noise * random.normal(size=(len(truth), dimensions))
    return to_unit_length(vectors), truth


@pytest.mark.parametrize(("method", "count"), [("kmeans", 3), ("hdbscan", None)])
def test_the_planted_groups_are_found_the_largest_first(method: Any, count: int | None) -> None:
    unit, truth = make_blobs([60, 30, 15])

    groups = group_vectors(unit, method, count=count)

    inside = groups != NO_GROUP
    assert inside.sum() >= 100
    assert adjusted_rand_score(truth[inside], groups[inside]) == 1.0
    assert np.bincount(groups[inside]).tolist() == sorted(np.bincount(groups[inside]).tolist(), reverse=True)
    assert np.array_equal(groups, group_vectors(unit, method, count=count))


def test_what_is_like_no_group_stays_alone() -> None:
    unit, _ = make_blobs([40, 40])
    lonely = -unit.mean(axis=0, keepdims=True)

    groups = group_vectors(to_unit_length(np.concatenate([unit, lonely])), "hdbscan")

    assert groups[-1] == NO_GROUP
    assert name_groups(groups, {})[-1] == "0: like no group"


def test_more_groups_than_vectors_are_refused() -> None:
    unit, _ = make_blobs([3])
    with pytest.raises(LabelingError, match="3 vectors: too few to be put into 4 groups"):
        group_vectors(unit, "kmeans", count=4)


def test_a_name_is_what_marks_a_group_out_not_what_all_show() -> None:
    groups = np.array([0, 0, 0, 1, 1, 1, 2, NO_GROUP])
    labels = [
        ["road", "car"],
        ["road", "car"],
        ["road"],
        ["road", "cat"],
        ["road", "cat", "dog"],
        ["road"],
        None,
        ["cat"],
    ]

    assert suggest_by_labels(groups, labels) == {0: "car", 1: "cat, dog"}
    assert suggest_by_labels(np.array([0, 0]), [["car"], ["car"]]) == {0: "car"}
    assert suggest_by_labels(np.array([0, 1]), [None, []]) == {}


def test_words_name_a_group_by_what_it_has_more_than_the_others() -> None:
    unit = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]]
    words = to_unit_length(np.array([[1, 0.1, 0], [0.1, 1, 0], [0.6, 0.6, 0.5]]))

    suggested = suggest_by_words(np.array([0, 0, 1, 1]), unit, ["sea", "wood", "photo"], words)

    assert {group: text.split(", ")[0] for group, text in suggested.items()} == {0: "sea", 1: "wood"}


def test_the_outlier_score_is_the_mean_distance_to_the_nearest() -> None:
    unit, _ = make_blobs([70, 40])
    distances, _ = NearestNeighbors(n_neighbors=6, metric="cosine").fit(unit).kneighbors(unit)

    found = compute_lonely(build_index(unit), neighbours=5)

    assert np.allclose(found.outlier, distances[:, 1:].mean(axis=1), atol=1e-5)


def test_uniqueness_is_what_fiftyones_brain_computes(fiftyone: Any) -> None:
    import fiftyone.brain as fob

    unit, _ = make_blobs([50, 30, 20])
    dataset = fiftyone.Dataset()
    dataset.add_samples([fiftyone.Sample(filepath=f"/{row}.png") for row in range(len(unit))], progress=False)
    fob.brain_config.similarity_backends.setdefault(BACKEND, {}).setdefault("config_cls", CONFIG_CLASS)
    index = fob.compute_similarity(dataset, embeddings=unit, backend=BACKEND)
    fob.compute_uniqueness(dataset, similarity_index=index, progress=False)
    expected = dataset.values("uniqueness")
    dataset.delete()

    found = compute_lonely(build_index(unit))

    assert np.allclose(found.uniqueness, expected, atol=1e-5)
    assert found.uniqueness.max() == 1.0


def test_many_that_are_the_same_are_no_outliers() -> None:
    unit = to_unit_length(np.array([[1.0, 0.0]] * 30 + [[0.0, 1.0]]))

    found = compute_lonely(build_index(unit), neighbours=3)

    assert np.allclose(found.outlier[:30], 0, atol=1e-6)
    assert found.outlier[30] == pytest.approx(1.0)
    assert found.uniqueness.tolist()[-1] == 1.0


def test_one_alone_is_no_outlier_among_others() -> None:
    with pytest.raises(LabelingError, match="1 vectors: an outlier is one among others"):
        compute_lonely(build_index(np.ones((1, 3))))


def test_the_nearest_come_first_and_equal_ones_by_their_id() -> None:
    vectors = np.array([[2, 0], [0, 1], [1, 1], [5, 0]], dtype=np.float32)
    ids = np.array(["d", "c", "b", "a"])
    found = Embeddings(Key("model"), ids, ids, ids, vectors)

    near = find_like(found, ["d"], count=3)

    assert near.ids == ["a", "d", "b"]
    assert near.distances == pytest.approx([0, 0, 1 - 1 / np.sqrt(2)], abs=1e-6)
    with pytest.raises(LabelingError, match="has no vector"):
        find_like(found, ["z"], count=3)
    with pytest.raises(LabelingError, match="no direction in common"):
        find_nearest(found, np.zeros(2, dtype=np.float32), count=1)
