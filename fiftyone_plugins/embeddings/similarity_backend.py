"""Our neighbour index as a similarity backend of FiftyOne's brain: its own functions and panels then work on it.

FiftyOne finds it by the variables of ``app.brain``, which have to be set before FiftyOne is imported. Distances are
cosine, of the vectors as they are, at every size, and a sample finds itself first; the brain's own backend moves the
middle of all vectors to zero before it measures, and changes its distances above 15,000 samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from fiftyone.brain.internal.core.sklearn import (
    SklearnSimilarity,
    SklearnSimilarityConfig,
    SklearnSimilarityIndex,
)
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.cells import Indices
from fiftyone_plugins.embeddings.neighbours import NeighbourIndex, build_index, to_unit_length
from fiftyone_plugins.embeddings.reading import only_present
from fiftyone_plugins.embeddings.store import EmbeddingStore

LARGE_THRESHOLD: Final = 0.2
"""Above it each vector has so many neighbours that they are compared as they are thinned out, not listed before."""

CACHE: Final = "_neighbors_helper"
"""Attribute of the parent class that it sets to None whenever a vector changes."""

MOST_LISTED: Final = 1_000
BLOCK: Final = 256
AGGREGATIONS: Final = {"mean": None, "post-mean": np.mean, "post-min": np.min, "post-max": np.max}


class NeighboursSimilarityConfig(SklearnSimilarityConfig):  # type: ignore[misc]  # FiftyOne has no types
    """Configures the backend.

    With ``store_folder`` (the folder of the plugins' files) and ``store_key`` the vectors stay in the embedding store;
    without, FiftyOne keeps them in its database as text, which takes long above some 10,000 samples.
    """

    def __init__(self, store_folder: str | None = None, store_key: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.store_folder = store_folder
        self.store_key = store_key

    @property
    def method(self) -> str:
        """The backend's name."""
        return "labelloop"


class NeighboursSimilarity(SklearnSimilarity):  # type: ignore[misc]  # FiftyOne has no types
    """Makes the index; FiftyOne finds this class by the name of its config's."""

    def initialize(self, samples: Any, brain_key: str | None) -> NeighboursSimilarityIndex:
        """Return the index of samples."""
        return NeighboursSimilarityIndex(samples, self.config, brain_key, backend=self)


class NeighboursSimilarityIndex(SklearnSimilarityIndex):  # type: ignore[misc]  # FiftyOne has no types
    """Answers the brain's questions from a ``NeighbourIndex``."""

    def __init__(self, samples: Any, config: Any, brain_key: str | None, embeddings: Any = None, **kwargs: Any) -> None:
        if embeddings is None and config.store_key is not None:
            stored = EmbeddingStore(Path(config.store_folder), samples._dataset.name).read(config.store_key)
            # The store outlives samples and labels: of those that are deleted nothing is found.
            stored = only_present(stored, samples)
            ids = kwargs.get("sample_ids" if stored.field is None else "label_ids")
            stored = stored if ids is None else stored.only(ids.tolist())
            embeddings = stored.vectors
            kwargs |= {
                "sample_ids": stored.sample_ids.astype(object),
                "label_ids": None if stored.field is None else stored.ids.astype(object),
            }
        super().__init__(samples, config, brain_key, embeddings=embeddings, **kwargs)

    def attributes(self) -> list[str]:
        """Return what FiftyOne keeps in its database: not what lies in the store."""
        kept: list[str] = super().attributes()
        return [name for name in kept if name != "embeddings" or self.config.store_key is None]

    def keep_only(self, ids: Any) -> None:
        """Leave out all but these images, or labels of an index of crops, also where the index is read again."""
        is_crops = self.config.patches_field is not None
        present = self.label_ids if is_crops else self.sample_ids
        others = present[~np.isin(present.astype(np.str_), ids)]
        self.remove_from_index(**{"label_ids" if is_crops else "sample_ids": others.tolist()})

    @property
    def neighbours(self) -> NeighbourIndex:
        """The index over all vectors, made at the first question."""
        index: NeighbourIndex | None = getattr(self, CACHE)
        if index is None:
            index = build_index(self._embeddings)
            setattr(self, CACHE, index)
        return index

    def _kneighbors(
        self,
        query: Any = None,
        k: int | None = None,
        reverse: bool = False,
        aggregation: str | None = None,
        return_dists: bool = False,
    ) -> Any:
        if aggregation is not None:
            return self._find_for_all(query, k, reverse, aggregation, return_dists)
        queries, _, is_full, is_single = self._parse_neighbors_query(query)
        if is_full:
            queries = self._current_vectors()
        if k is None or reverse:
            rows = [self._sort_row(row, k, reverse) for row in self._scan(queries)]
        else:
            rows = self._search(queries, k)
        return self._answer(rows, is_full, is_single, return_dists)

    def _radius_neighbors(self, query: Any = None, thresh: float | None = None, return_dists: bool = False) -> Any:
        queries, _, is_full, is_single = self._parse_neighbors_query(query)
        assert thresh is not None
        if is_full:
            rows = self._list_within(thresh)
        else:
            rows = [(near := np.nonzero(row <= thresh)[0], row[near]) for row in self._scan(queries)]
        return self._answer(rows, is_full, is_single, return_dists)

    def _remove_duplicates_thresh(self, thresh: float, ids: Any) -> list[Any]:
        if thresh <= LARGE_THRESHOLD:
            kept: list[Any] = super()._remove_duplicates_thresh(thresh, ids)
            return kept
        return [ids[row] for row in thin_out(self._current_vectors(), thresh)]

    def _find_for_all(self, query: Any, k: int | None, reverse: bool, aggregation: str, return_dists: bool) -> Any:
        """Return the samples by their distance to all queries together."""
        if query is None:
            raise ValueError("Full index queries do not support aggregation")
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation {aggregation!r} is not known (known: {', '.join(AGGREGATIONS)})")
        queries, *_ = self._parse_neighbors_query(query)
        join = AGGREGATIONS[aggregation]
        if join is None:
            row = self._scan(queries.mean(axis=0, keepdims=True))[0]
        else:
            row = np.asarray(join(self._scan(queries), axis=0))
        return self._answer([self._sort_row(row, k, reverse)], False, True, return_dists)

    def _search(self, queries: Any, k: int) -> list[tuple[Indices, Any]]:
        """Return the nearest samples in use of each query, by their place among those in use."""
        keep = self._current_inds
        if keep is None:
            found = self.neighbours.search(queries, k)
            places = found.indices
        else:
            among = np.zeros(len(self.neighbours), np.bool_)
            among[keep] = True
            found = self.neighbours.search(queries, k, among=among)
            places = self._to_places(keep)[found.indices]
        is_there = found.indices >= 0
        return [(row[ok], far[ok]) for row, far, ok in zip(places, found.distances, is_there, strict=True)]

    def _list_within(self, threshold: float) -> list[tuple[Indices, Any]]:
        """Return for each sample in use the others within the threshold."""
        pairs = self.neighbours.pairs_within(threshold, most=MOST_LISTED)
        first, second, distances = np.r_[pairs.i, pairs.j], np.r_[pairs.j, pairs.i], np.tile(pairs.distance, 2)
        count, keep = len(self.neighbours), self._current_inds
        if keep is not None:
            places = self._to_places(keep)
            first, second, count = places[first], places[second], len(keep)
            both = (first >= 0) & (second >= 0)
            first, second, distances = first[both], second[both], distances[both]
        order = np.lexsort((second, first))
        ends = np.searchsorted(first[order], np.arange(1, count))
        return list(zip(np.split(second[order], ends), np.split(distances[order], ends), strict=True))

    def _scan(self, queries: Any) -> NDArray[np.float32]:
        """Return the distance of each query to every sample in use."""
        return np.asarray(np.clip(1 - to_unit_length(np.asarray(queries)) @ self._current_vectors().T, 0, 2))

    def _sort_row(self, row: Any, k: int | None, reverse: bool) -> tuple[Indices, Any]:
        order = np.argsort(-row if reverse else row, kind="stable")[:k]
        return order, row[order]

    def _current_vectors(self) -> NDArray[np.float32]:
        keep = self._current_inds
        return self.neighbours.vectors if keep is None else self.neighbours.vectors[keep]

    def _to_places(self, keep: Any) -> Indices:
        """Return the place among the samples in use of every sample; -1: it is not in use."""
        places = np.full(len(self.neighbours), -1, np.int64)
        places[keep] = np.arange(len(keep))
        return places

    def _answer(self, rows: list[tuple[Indices, Any]], is_full: bool, is_single: bool, return_dists: bool) -> Any:
        indices, distances = [row[0] for row in rows], [row[1] for row in rows]
        return self._format_output(indices, distances, is_full, is_single, return_dists)


def thin_out(vectors: NDArray[np.float32], threshold: float) -> list[int]:
    """Return the rows that stay when, in order, each takes away those after it within the threshold.

    >>> thin_out(np.array([[1, 0], [1, 0], [0, 1]], np.float32), 0.5)
    [0, 2]
    """
    left = np.arange(len(vectors))
    kept: list[int] = []
    while len(left) > 0:
        block, rest = left[:BLOCK], left[BLOCK:]
        stays = _thin_out_block(vectors[block], threshold)
        kept += block[stays].tolist()
        is_near = (1 - vectors[rest] @ vectors[block[stays]].T <= threshold).any(axis=1)
        left = rest[~is_near]
    return kept


def _thin_out_block(vectors: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    near = np.triu(1 - vectors @ vectors.T <= threshold, 1)
    stays = np.ones(len(vectors), np.bool_)
    for row in range(len(vectors)):
        if stays[row]:
            stays &= ~near[row]
    return stays
