"""Finds the nearest of many vectors by cosine distance: never all pairs, always the same answer for the same vectors.

Candidates come from cells of turned vectors (see ``cells``), and are then measured in all dimensions. A small set is
searched whole. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.cells import BLOCK, MANY, Cells, Floats, Indices, build_cells, load_faiss

SMALL: Final = 10_000
"""Up to so many vectors every one is compared with every other."""

CANDIDATES: Final = 4
"""So many times more candidates than neighbours are measured in all dimensions."""

MOST_NEIGHBOURS: Final = 256
"""Of a vector with more neighbours than these within a threshold, only the nearest are told."""

FIRST_NEIGHBOURS: Final = 24
FEW_NEIGHBOURS: Final = 32
"""Up to so many neighbours of each are looked for one vector at a time, more are found a cell at a time.

Among very many vectors no more than these are looked for: there all that is near in some directions is too much.
"""

PAIRS_HELD: Final = 16_000_000
"""More are thinned out to the nearest of each vector."""

# Rounding lets the distance of a vector to itself come out a little above 0.
ROUNDING: Final = 1e-6


class Neighbours(NamedTuple):
    """Cosine ``distances`` (n, k), nearest first, and ``indices`` (n, k); where there are fewer: infinity and -1."""

    distances: Floats
    indices: Indices


class Pairs(NamedTuple):
    """Pairs within a threshold: ``i`` < ``j``, sorted, and their cosine ``distance``."""

    i: Indices
    j: Indices
    distance: Floats


class Found(NamedTuple):
    """Neighbours as they are found, from one side or both: ``rows``, each with one of ``others`` at ``distances``."""

    rows: Indices
    others: Indices
    distances: Floats

    def thin_out(self, most: int) -> Found:
        """Return the ``most`` nearest of each row."""
        order = np.lexsort((self.others, self.distances, self.rows))
        rows = self.rows[order]
        place = np.arange(len(rows)) - np.searchsorted(rows, rows)
        kept = order[place < most]
        return Found(self.rows[kept], self.others[kept], self.distances[kept])


class NeighbourIndex:
    """Searches among ``vectors`` (n, d), which are of length 1 here, or 0: those are near nobody."""

    def __init__(self, vectors: Floats, cells: Cells | None) -> None:
        self.vectors = vectors
        self._cells = cells

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, vectors: NDArray[Any], k: int, *, among: NDArray[np.bool_] | None = None) -> Neighbours:
        """Return the ``k`` nearest of each of ``vectors`` (m, d); one that is in the index finds itself first.

        Only vectors marked in ``among`` (n) are found, where it is given.
        """
        # A block at a time: a copy of all would be as large as the index.
        found = [
            self._search_block(to_unit_length(vectors[start : start + BLOCK]), k, among)
            for start in range(0, len(vectors), BLOCK)
        ]
        if not found:
            return Neighbours(np.empty((0, k), np.float32), np.empty((0, k), np.int64))
        return Neighbours(
            np.concatenate([one.distances for one in found]), np.concatenate([one.indices for one in found])
        )

    def pairs_within(self, threshold: float, *, most: int = MOST_NEIGHBOURS) -> Pairs:
        """Return each pair not further apart than ``threshold`` once; of one vector at most its ``most`` nearest.

        Above ``cells.MANY`` vectors, at most its ``FEW_NEIGHBOURS`` nearest.
        """
        if self._cells is None:
            found = _gather(self._find_in_all(threshold, most), most)
        elif most <= FEW_NEIGHBOURS or len(self) > MANY:
            found = _gather(self._find_nearest(threshold, min(most, FEW_NEIGHBOURS)), most)
        else:
            found = _gather(self._find_in_cells(self._cells, threshold, most), most)
        # A pair is found from either side, or from both.
        keys = np.minimum(found.rows, found.others) * len(self) + np.maximum(found.rows, found.others)
        keys, first = np.unique(keys, return_index=True)
        i, j = np.divmod(keys, max(len(self), 1))
        return Pairs(i, j, found.distances[first])

    def measure(self, i: Indices, j: Indices) -> Floats:
        """Return the cosine distance of each pair, in all dimensions; 0 to 2."""
        faiss = load_faiss()
        i, j = np.ascontiguousarray(i, np.int64), np.ascontiguousarray(j, np.int64)
        products = np.empty(len(i), np.float32)
        vectors = faiss.swig_ptr(self.vectors)
        faiss.pairwise_indexed_inner_product(
            self.vectors.shape[1], len(i), vectors, faiss.swig_ptr(i), vectors, faiss.swig_ptr(j),
            faiss.swig_ptr(products),
        )  # fmt: skip
        return np.clip(1 - products, 0, 2)

    def _search_block(self, queries: Floats, k: int, among: NDArray[np.bool_] | None) -> Neighbours:
        if self._cells is None:
            return self._search_all(queries, k, among)
        indices = self._cells.look(queries, max(k * CANDIDATES, FIRST_NEIGHBOURS), among)
        found = _take_nearest(self._measure_table(queries, indices), indices, k)
        # Cells may hold too few: a search in a part of the vectors, or among very few.
        missing = np.nonzero(found.indices[:, -1] < 0)[0]
        if len(missing) > 0:
            whole = self._search_all(queries[missing], k, among)
            found.distances[missing], found.indices[missing] = whole
        return found

    def _search_all(self, queries: Floats, k: int, among: NDArray[np.bool_] | None) -> Neighbours:
        """Compare with every vector, a block of queries at a time."""
        chosen = np.arange(len(self)) if among is None else np.nonzero(among)[0]
        vectors = self.vectors if among is None else self.vectors[chosen]
        distances = np.full((len(queries), k), np.inf, np.float32)
        indices = np.full((len(queries), k), -1, np.int64)
        kept = min(k, len(chosen))
        rows = max(1, 20_000_000 // max(len(chosen), 1))
        for start in range(0, len(queries) if kept else 0, rows):
            part = slice(start, start + rows)
            all_distances = np.clip(1 - queries[part] @ vectors.T, 0, 2)
            # One more than is asked for would not help: equal ones are told by their index.
            nearest = np.argpartition(all_distances, kept - 1, axis=1)[:, :kept]
            block = _take_nearest(np.take_along_axis(all_distances, nearest, axis=1), chosen[nearest], kept)
            distances[part, :kept], indices[part, :kept] = block
        return Neighbours(distances, indices)

    def _find_in_cells(self, cells: Cells, threshold: float, most: int) -> Iterator[Found]:
        """Yield who is near in all dimensions, of those near in the directions searched."""
        # |a - b|² = 2 (1 - cos) for vectors of length 1.
        reach = float(np.sqrt(2 * threshold))
        for rows, others in cells.join(self.vectors, reach, most * CANDIDATES):
            distances = self.measure(rows, others)
            near = (distances <= threshold + ROUNDING) & (rows != others)
            yield Found(rows[near], others[near], distances[near])

    def _find_nearest(self, threshold: float, most: int) -> Iterator[Found]:
        for start in range(0, len(self), BLOCK):
            nearest = self._search_block(self.vectors[start : start + BLOCK], most + 1, None)
            which, columns = np.nonzero(nearest.distances <= threshold + ROUNDING)
            rows, others = start + which, nearest.indices[which, columns]
            yield Found(*(one[rows != others] for one in (rows, others, nearest.distances[which, columns])))

    def _find_in_all(self, threshold: float, most: int) -> Iterator[Found]:
        for start in range(0, len(self), 1024):
            rows = np.arange(start, min(start + 1024, len(self)))
            distances = np.clip(1 - self.vectors[rows] @ self.vectors.T, 0, 2)
            distances[np.arange(len(rows)), rows] = np.inf
            if len(self) > most + 1:
                # What is further than the nearest ``most`` is left out.
                limits = np.partition(distances, most - 1, axis=1)[:, most - 1]
                distances[distances > limits[:, None]] = np.inf
            which, columns = np.nonzero(distances <= threshold + ROUNDING)
            yield Found(rows[which], columns, distances[which, columns])

    def _measure_table(self, queries: Floats, indices: Indices) -> Floats:
        """Return the distance (n, k) of each query to the vectors ``indices`` (n, k) names; infinity where -1."""
        faiss = load_faiss()
        products = np.empty(indices.shape, np.float32)
        faiss.fvec_inner_products_by_idx(
            faiss.swig_ptr(products),
            faiss.swig_ptr(queries),
            faiss.swig_ptr(self.vectors),
            faiss.swig_ptr(indices),
            queries.shape[1],
            *indices.shape,
        )
        distances = np.clip(1 - products, 0, 2)
        distances[indices < 0] = np.inf
        return distances


def build_index(vectors: NDArray[Any]) -> NeighbourIndex:
    """Return an index of vectors (n, d); it keeps a copy of length 1, n * (d + 64) * 4 bytes.

    Raises:
        ValueError: they are no table of finite numbers.

    >>> index = build_index(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]]))
    >>> index.pairs_within(0.05).i, index.pairs_within(0.05).j
    (array([0]), array([1]))
    """
    unit = to_unit_length(vectors)
    return NeighbourIndex(unit, None if len(unit) <= SMALL else build_cells(unit))


def to_unit_length(vectors: NDArray[Any]) -> Floats:
    """Return vectors (n, d) at length 1; one of length 0 stays so.

    Raises:
        ValueError: they are no table of finite numbers.
    """
    if vectors.ndim != 2:
        raise ValueError(f"vectors of shape {vectors.shape}: expected a table, one row a vector")
    unit = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), BLOCK):
        part = np.asarray(vectors[start : start + BLOCK], np.float32)
        lengths = np.linalg.norm(part, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            bad = start + int(np.nonzero(~np.isfinite(lengths[:, 0]))[0][0])
            raise ValueError(f"vector {bad}: holds numbers that are not finite")
        np.divide(part, lengths, out=unit[start : start + BLOCK], where=lengths > 0)
        unit[start : start + BLOCK][lengths[:, 0] == 0] = 0
    return unit


def _gather(blocks: Iterator[Found], most: int) -> Found:
    """Return all that was found, the ``most`` nearest of each row where it is more than can be held."""
    held: list[Found] = []
    count, limit = 0, PAIRS_HELD
    for block in blocks:
        held.append(block)
        count += len(block.rows)
        if count > limit:
            held = [_join(held).thin_out(most)]
            count = len(held[0].rows)
            limit = count * 2 + PAIRS_HELD
    return _join(held).thin_out(most)


def _join(found: list[Found]) -> Found:
    if not found:
        return Found(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    rows, others, distances = (np.concatenate(column) for column in zip(*found, strict=True))
    return Found(rows, others, distances)


def _take_nearest(distances: Floats, indices: Indices, k: int) -> Neighbours:
    """Return the ``k`` nearest of each row, nearest first, equal ones by index."""
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    return Neighbours(np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1))
