"""Where candidates for neighbours are looked for: vectors turned to their 64 main directions, and put into cells.

In fewer dimensions vectors only come closer, so nothing near is lost by the turn; what is found here has still to be
measured in all dimensions. The cells are faiss' IVF. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

DIMENSIONS: Final = 64
"""Main directions in which candidates are looked for."""

CELLS_LOOKED_INTO: Final = 32
MANY: Final = 250_000
CELLS_LOOKED_INTO_OF_MANY: Final = 16
"""Above so many vectors a search looks into fewer: cells are larger then, and the nearest ones hold nearly all."""

VECTORS_PER_CELL: Final = 150
ROWS_PER_CELL: Final = 40
"""So many vectors a cell are looked at to place the cells, in so many rounds."""
ROUNDS: Final = 5

BLOCK: Final = 16_384
ROWS_JOINED: Final = 65_536
ENTRIES: Final = 4_000_000
"""So many rows and distances are in memory at a time."""

# In float32 |a|² + |b|² - 2ab comes out a little wrong; what is let in for that is measured and left out.
ROUNDING: Final = 1e-5


class Candidates(NamedTuple):
    """Vectors that may be near: each of ``rows`` (n) with the one of ``others`` (n) in its place."""

    rows: Indices
    others: Indices


class Cells(NamedTuple):
    """``turn`` (d, 64) turns vectors, ``inverted`` is faiss' index of turned ones."""

    turn: Floats
    inverted: Any

    def look(self, queries: Floats, count: int, among: NDArray[np.bool_] | None = None) -> Indices:
        """Return the indices (n, count) of the nearest when turned; -1 where there are no more."""
        faiss = load_faiss()
        is_many = self.inverted.ntotal > MANY
        params = faiss.SearchParametersIVF(nprobe=CELLS_LOOKED_INTO_OF_MANY if is_many else CELLS_LOOKED_INTO)
        if among is not None:
            params.sel = faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
        _, indices = self.inverted.search(queries @ self.turn, count, params=params)
        return np.asarray(indices)

    def join(self, vectors: Floats, reach: float, most: int) -> Iterator[Candidates]:
        """Yield who of the vectors in the cells may be within a length ``reach`` of each of ``vectors`` (n, d).

        A cell at a time, with all the rows that look into it: one product of two small tables. Of a row, only its
        ``most`` nearest in a cell are told.
        """
        middles = self.inverted.quantizer.reconstruct_n(0, self.inverted.nlist)
        gaps = np.sqrt(_measure_squares(middles, middles))
        for start in range(0, len(vectors), ROWS_JOINED):
            turned = _turn(vectors[start : start + ROWS_JOINED], self.turn)
            rows, limits = self._sort_rows_by_cell(turned, gaps, reach)
            for cell in np.nonzero(np.diff(limits))[0].tolist():
                ids, members = self._read_cell(cell)
                for some in _split(rows[limits[cell] : limits[cell + 1]], ENTRIES // max(len(ids), 1)):
                    which, columns = _find_within(turned[some], members, reach, most)
                    yield Candidates(start + some[which], ids[columns])

    def _sort_rows_by_cell(self, turned: Floats, gaps: Floats, reach: float) -> tuple[Indices, Indices]:
        """Return the rows that look into each cell, one cell's after the other's, and where each cell's begin."""
        squares, cells = self.inverted.quantizer.search(turned, min(CELLS_LOOKED_INTO, self.inverted.nlist))
        # What lies in another cell lies behind the plane half way to it: nothing there is nearer than the plane.
        to_plane = squares - squares[:, :1]
        in_reach = to_plane <= 2 * reach * gaps[cells[:, :1], cells] + ROUNDING
        rows, places = np.nonzero(in_reach)
        looked_into = cells[rows, places]
        order = np.argsort(looked_into, kind="stable")
        return rows[order], np.searchsorted(looked_into[order], np.arange(self.inverted.nlist + 1))

    def _read_cell(self, cell: int) -> tuple[Indices, Floats]:
        """Return the indices (m) and turned vectors (m, 64) of a cell, as they lie in faiss' memory."""
        faiss, lists = load_faiss(), self.inverted.invlists
        size, width = lists.list_size(cell), self.turn.shape[1]
        if size == 0:
            return np.empty(0, np.int64), np.empty((0, width), np.float32)
        codes = faiss.rev_swig_ptr(lists.get_codes(cell), size * self.inverted.code_size)
        return faiss.rev_swig_ptr(lists.get_ids(cell), size), codes.view(np.float32).reshape(size, width)


def build_cells(unit: Floats) -> Cells:
    """Return cells over vectors of length 1, trained on rows at equal steps: no chance is in it."""
    faiss = load_faiss()
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


def load_faiss() -> Any:
    """Return the module faiss: its types know neither the keywords of its classes nor half of its functions."""
    return import_module("faiss")


def _find_main_directions(vectors: Floats) -> Floats:
    """Return the directions (d, at most 64) in which vectors differ most, at right angles and of length 1."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(directions[:, ::-1][:, :DIMENSIONS], np.float32)


def _turn(vectors: Floats, turn: Floats) -> Floats:
    return np.concatenate([vectors[start : start + BLOCK] @ turn for start in range(0, len(vectors), BLOCK)])


def _split(rows: Indices, count: int) -> Iterator[Indices]:
    for start in range(0, len(rows), max(count, 1)):
        yield rows[start : start + max(count, 1)]


def _measure_squares(first: Floats, second: Floats) -> Floats:
    """Return the squared lengths (n, m) between two tables of vectors."""
    squares = first @ second.T
    squares *= -2
    squares += np.einsum("nd,nd->n", first, first)[:, None]
    squares += np.einsum("md,md->m", second, second)
    return np.asarray(np.maximum(squares, 0, out=squares))


def _find_within(queries: Floats, members: Floats, reach: float, most: int) -> tuple[Indices, Indices]:
    """Return who of the members is within reach of whom, the ``most`` nearest of each at most."""
    squares = _measure_squares(queries, members)
    near = squares <= reach**2 + ROUNDING
    if near.shape[1] > most:
        crowded = np.nonzero(near.sum(axis=1) > most)[0]
        if len(crowded) > 0:
            limits = np.partition(squares[crowded], most - 1, axis=1)[:, most - 1 : most]
            near[crowded] &= squares[crowded] <= limits
    which, columns = np.nonzero(near)
    return which, columns
