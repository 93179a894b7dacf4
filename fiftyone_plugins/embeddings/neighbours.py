"""Finds the nearest of many vectors by cosine distance: never all pairs, always the same answer for the same vectors.

Candidates come from faiss: the vectors are turned to their 64 main directions (PCA) and put into cells (IVF), of which
a search looks into the nearest few. In fewer dimensions vectors only come closer, so nothing near is lost by the turn;
what is found is then measured in all dimensions. A small set is searched whole. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

SMALL: Final = 10_000
"""Up to so many vectors every one is compared with every other."""

DIMENSIONS: Final = 64
"""Main directions in which candidates are looked for."""

CELLS_LOOKED_INTO: Final = 16
CANDIDATES: Final = 4
"""So many times more candidates than neighbours are measured in all dimensions."""

MOST_NEIGHBOURS: Final = 256
"""Of a vector with more neighbours than these within a threshold, only the nearest are told."""

FIRST_NEIGHBOURS: Final = 24
BLOCK: Final = 16_384
VECTORS_PER_CELL: Final = 150
ROWS_PER_CELL: Final = 40
"""So many vectors a cell are looked at to place the cells, in so many rounds."""
ROUNDS: Final = 5
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


class Cells(NamedTuple):
    """Where candidates are looked for: ``turn`` (d, 64) turns vectors, ``inverted`` is faiss' index of turned ones."""

    turn: Floats
    inverted: Any

    def look(self, queries: Floats, count: int, among: NDArray[np.bool_] | None = None) -> tuple[Floats, Indices]:
        """Return squared distances (n, count) and indices of the nearest when turned; -1 where there are no more."""
        faiss = _load_faiss()
        params = faiss.SearchParametersIVF(nprobe=CELLS_LOOKED_INTO)
        if among is not None:
            params.sel = faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
        squared, indices = self.inverted.search(queries @ self.turn, count, params=params)
        return squared, indices


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
        queries = to_unit_length(vectors)
        found = [
            self._search_block(queries[start : start + BLOCK], k, among) for start in range(0, len(queries), BLOCK)
        ]
        if not found:
            return Neighbours(np.empty((0, k), np.float32), np.empty((0, k), np.int64))
        return Neighbours(
            np.concatenate([one.distances for one in found]), np.concatenate([one.indices for one in found])
        )

    def pairs_within(self, threshold: float, *, most: int = MOST_NEIGHBOURS) -> Pairs:
        """Return each pair not further apart than ``threshold`` once; of one vector at most its ``most`` nearest."""
        blocks = list(self._iterate_pairs(threshold, most))
        rows = np.concatenate([block[0] for block in blocks]) if blocks else np.empty(0, np.int64)
        columns = np.concatenate([block[1] for block in blocks]) if blocks else np.empty(0, np.int64)
        del blocks
        # A pair is found from either side, or from both.
        keys = np.unique(np.minimum(rows, columns) * len(self) + np.maximum(rows, columns))
        i, j = np.divmod(keys, max(len(self), 1))
        distances = self.measure(i, j)
        near = distances <= threshold + ROUNDING
        return Pairs(i[near], j[near], distances[near])

    def measure(self, i: Indices, j: Indices) -> Floats:
        """Return the cosine distance of each pair, in all dimensions; 0 to 2."""
        distances = np.empty(len(i), np.float32)
        for start in range(0, len(i), BLOCK):
            part = slice(start, start + BLOCK)
            distances[part] = 1 - np.einsum("nd,nd->n", self.vectors[i[part]], self.vectors[j[part]])
        return np.clip(distances, 0, 2, out=distances)

    def _search_block(self, queries: Floats, k: int, among: NDArray[np.bool_] | None) -> Neighbours:
        if self._cells is None:
            return self._search_all(queries, k, among)
        _, indices = self._cells.look(queries, max(k * CANDIDATES, FIRST_NEIGHBOURS), among)
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

    def _iterate_pairs(self, threshold: float, most: int) -> Iterator[tuple[Indices, Indices]]:
        """Yield candidates (i, j), each at least as near in the directions searched as ``threshold``."""
        for start in range(0, len(self), BLOCK):
            if self._cells is None:
                yield from self._pair_all(start, threshold, most)
            else:
                rows = np.arange(start, min(start + BLOCK, len(self)))
                yield from self._pair_block(self._cells, rows, threshold, most)

    def _pair_block(
        self, cells: Cells, rows: Indices, threshold: float, most: int
    ) -> Iterator[tuple[Indices, Indices]]:
        count = min(FIRST_NEIGHBOURS, most + 1)
        while len(rows) > 0:
            queries = self.vectors[rows]
            squared, found = cells.look(queries, count)
            # |a - b|² = 2 (1 - cos) for vectors of length 1: what is too far in few dimensions is so in all.
            found[squared > 2 * threshold + ROUNDING] = -1
            near = np.asarray(self._measure_table(queries, found) <= threshold + ROUNDING)
            # Candidates come nearest first: with one within the threshold among the last, there may be more behind.
            goes_on = np.asarray(near[:, count * 2 // 3 :].any(axis=1) & (count <= most))
            near &= (found != rows[:, None]) & ~goes_on[:, None]
            which, columns = np.nonzero(near)
            yield rows[which], found[which, columns]
            rows, count = rows[goes_on], min(count * 4, most + 1)

    def _pair_all(self, start: int, threshold: float, most: int) -> Iterator[tuple[Indices, Indices]]:
        for first in range(start, min(start + BLOCK, len(self)), 1024):
            rows = np.arange(first, min(first + 1024, start + BLOCK, len(self)))
            distances = 1 - self.vectors[rows] @ self.vectors.T
            distances[np.arange(len(rows)), rows] = np.inf
            if len(self) > most + 1:
                # What is further than the nearest ``most`` is left out.
                limits = np.partition(distances, most - 1, axis=1)[:, most - 1]
                distances[distances > limits[:, None]] = np.inf
            which, columns = np.nonzero(distances <= threshold + ROUNDING)
            yield rows[which], columns.astype(np.int64)

    def _measure_table(self, queries: Floats, indices: Indices) -> Floats:
        """Return the distance (n, k) of each query to the vectors ``indices`` (n, k) names; infinity where -1."""
        faiss = _load_faiss()
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
    return NeighbourIndex(unit, None if len(unit) <= SMALL else _build_cells(unit))


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


def _build_cells(unit: Floats) -> Cells:
    """Return cells over vectors of length 1, trained on rows at equal steps: no chance is in it."""
    faiss = _load_faiss()
    count = len(unit)
    cells = int(min(4 * np.sqrt(count), count / VECTORS_PER_CELL))
    training = unit[np.linspace(0, count - 1, min(count, cells * ROWS_PER_CELL)).astype(np.int64)]
    turn = _find_main_directions(training)
    quantizer = faiss.IndexFlatL2(turn.shape[1])
    inverted = faiss.IndexIVFFlat(quantizer, turn.shape[1], cells)
    inverted.cp.niter = ROUNDS
    inverted.cp.max_points_per_centroid = ROWS_PER_CELL
    inverted.train(training @ turn)
    for start in range(0, count, BLOCK):
        inverted.add(unit[start : start + BLOCK] @ turn)
    return Cells(turn, inverted)


def _find_main_directions(vectors: Floats) -> Floats:
    """Return the directions (d, at most 64) in which vectors differ most, at right angles and of length 1."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(directions[:, ::-1][:, :DIMENSIONS], np.float32)


def _load_faiss() -> Any:
    # Its types know neither the keywords of its classes nor half of its functions.
    return import_module("faiss")


def _take_nearest(distances: Floats, indices: Indices, k: int) -> Neighbours:
    """Return the ``k`` nearest of each row, nearest first, equal ones by index."""
    order = np.lexsort((indices, distances), axis=1)[:, :k]
    return Neighbours(np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1))
