"""Which samples people should see next: ranking by a value, spreading over embeddings, holding near-duplicates back.

Pure: numbers in, sample ids out. Higher values come first; a value that was never computed is never taken for zero.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

NEAR_DUPLICATE: Final = 0.05
"""Cosine distance (0 the same direction, 1 unrelated) up to which two images show nearly the same."""
ROWS_AT_ONCE: Final = 20_000

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sample to choose from.

    ``value`` is what it is ranked by, ``embedding`` its direction; None: not computed. Samples that share one of the
    ``groups`` (a duplicate group, the sum of the file's bytes) show the same.
    """

    sample_id: str
    value: float | None = None
    embedding: Sequence[float] | None = None
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A sample that was chosen, and the value it was ranked by: for diversity its distance to what is chosen or sent.

    None: it has no value, and came after all that have one; or there was nothing to be distant from.
    """

    sample_id: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen samples in their order, and those that were passed over as near-duplicates."""

    chosen: tuple[Chosen, ...]
    held_back: tuple[str, ...]


def choose_highest(candidates: Sequence[Candidate], waiting: Sequence[Candidate], count: int) -> Selection:
    """Return the candidates with the highest values, without near-duplicates of each other or of what waits already.

    Equal values keep the order they are given in; those without a value come last, in that order.
    """
    order = sorted(range(len(candidates)), key=lambda n: _rank(candidates[n].value))
    return _take(candidates, order, waiting, count)


def _rank(value: float | None) -> tuple[bool, float]:
    return is_missing(value), 0.0 if value is None or math.isnan(value) else -value


def is_missing(value: float | None) -> bool:
    """Return whether a value was not computed, or is no number.

    >>> is_missing(0.0), is_missing(None), is_missing(float("nan"))
    (False, True, True)
    """
    return value is None or math.isnan(value)


def choose_random(candidates: Sequence[Candidate], waiting: Sequence[Candidate], count: int, *, seed: int) -> Selection:
    """Return candidates in an order that follows from the seed alone, without near-duplicates."""
    order = sorted(range(len(candidates)), key=lambda n: candidates[n].sample_id)
    random.Random(seed).shuffle(order)  # noqa: S311  no secret hangs on it
    return _take(candidates, order, waiting, count)


def _take(candidates: Sequence[Candidate], order: Sequence[int], waiting: Sequence[Candidate], count: int) -> Selection:
    seen = _Seen(waiting)
    chosen: list[Chosen] = []
    held_back: list[str] = []
    for number in order:
        if len(chosen) == count:
            break
        candidate = candidates[number]
        if seen.has_near(candidate):
            held_back.append(candidate.sample_id)
            continue
        seen.add(candidate)
        chosen.append(Chosen(candidate.sample_id, None if is_missing(candidate.value) else candidate.value))
    return Selection(tuple(chosen), tuple(held_back))


class _Seen:
    """What waits or was chosen, asked for near-duplicates."""

    def __init__(self, waiting: Sequence[Candidate]) -> None:
        self._groups = {group for one in waiting for group in one.groups}
        self._vectors: list[Vectors] = []
        vectors = to_directions([one for one in waiting if one.embedding is not None])
        # What waits is many and stays; what is chosen is few and grows.
        self._waiting = _index(vectors) if len(vectors) else None

    def add(self, candidate: Candidate) -> None:
        self._groups.update(candidate.groups)
        if candidate.embedding is not None:
            self._vectors.append(to_directions([candidate])[0])

    def has_near(self, candidate: Candidate) -> bool:
        if self._groups.intersection(candidate.groups):
            return True
        if candidate.embedding is None:
            return False
        vector = to_directions([candidate])
        distances = [] if self._waiting is None else [float(self._waiting.kneighbors(vector)[0][0, 0]) ** 2 / 2]
        if self._vectors:
            distances.append(float(1 - np.max(np.stack(self._vectors) @ vector[0])))
        return min(distances, default=math.inf) <= NEAR_DUPLICATE


def choose_farthest(
    candidates: Sequence[Candidate],
    waiting: Sequence[Candidate],
    answered: Sequence[Candidate],
    count: int,
) -> Selection:
    """Return candidates that differ from each other and from what waits or is answered: the farthest one each time.

    Distance is cosine distance to the nearest; where there is nothing to be distant from, the one nearest the middle of
    all comes first. Near-duplicates are held back; candidates without an embedding come last, in the given order.
    Source: Sener and Savarese 2018, greedy k-center.
    """
    usable = [one for one in candidates if one.embedding is not None]
    vectors = to_directions(usable)
    distance = _compute_distances(
        vectors, to_directions([one for one in (*waiting, *answered) if one.embedding is not None])
    )
    taken_groups = {group for one in waiting for group in one.groups}
    open_rows = np.array([not taken_groups.intersection(one.groups) for one in usable], dtype=np.bool_)
    near = (
        _compute_distances(vectors, to_directions([one for one in waiting if one.embedding is not None]))
        <= NEAR_DUPLICATE
    )
    held_back = [usable[row].sample_id for row in np.flatnonzero(~open_rows | near)]
    open_rows &= ~near
    chosen: list[Chosen] = []
    while len(chosen) < count and open_rows.any():
        row = _find_next(vectors, distance, open_rows)
        value = float(distance[row])
        chosen.append(Chosen(usable[row].sample_id, value if math.isfinite(value) else None))
        open_rows[row] = False
        to_chosen = 1 - vectors @ vectors[row]
        distance = np.minimum(distance, to_chosen)
        groups = {*usable[row].groups}
        for other in np.flatnonzero(open_rows):
            if to_chosen[other] <= NEAR_DUPLICATE or groups.intersection(usable[other].groups):
                open_rows[other] = False
                held_back.append(usable[other].sample_id)
    if len(chosen) == count:
        return Selection(tuple(chosen), tuple(held_back))
    by_id = {one.sample_id: one for one in usable}
    rest = [one for one in candidates if one.embedding is None]
    last = _take(rest, range(len(rest)), [*waiting, *(by_id[one.sample_id] for one in chosen)], count - len(chosen))
    unranked = (Chosen(one.sample_id, None) for one in last.chosen)
    return Selection((*chosen, *unranked), (*held_back, *last.held_back))


def _find_next(vectors: Vectors, distance: npt.NDArray[np.floating[Any]], open_rows: npt.NDArray[np.bool_]) -> int:
    if np.isfinite(distance[open_rows]).any():
        return int(np.argmax(np.where(open_rows, distance, -np.inf)))
    closeness = vectors @ vectors[open_rows].mean(axis=0)
    return int(np.argmax(np.where(open_rows, closeness, -np.inf)))


def _compute_distances(vectors: Vectors, anchors: Vectors) -> npt.NDArray[np.float64]:
    """Return each vector's cosine distance to its nearest anchor; infinite where there is no anchor."""
    distances = np.full(len(vectors), np.inf)
    if len(anchors) and len(vectors):
        neighbours = _index(anchors)
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = neighbours.kneighbors(vectors[start : start + ROWS_AT_ONCE])[0][:, 0]
            # Between directions, the square of the straight distance is twice the cosine distance.
            distances[start : start + ROWS_AT_ONCE] = part**2 / 2
    return distances


def _index(vectors: Vectors) -> Any:
    """Return what finds the nearest of these vectors."""
    # Importing it takes seconds, and every job's registry imports this module.
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1).fit(vectors)


def to_directions(candidates: Sequence[Candidate]) -> Vectors:
    """Return the embeddings of the candidates as rows of length 1.

    Raises:
        ValueError: they are of several lengths, or one has no direction (all zero, or not finite).
    """
    rows = [one.embedding for one in candidates]
    if not rows:
        return np.zeros((0, 1), dtype=np.float32)
    vectors = np.asarray(rows, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ValueError("an embedding is all zero or not finite")
    return np.asarray(vectors / lengths, dtype=np.float32)


def by_group(groups: Mapping[str, Sequence[str | None]]) -> Iterator[tuple[str, ...]]:
    """Yield for each sample the names of its groups, from one column a kind; None: it is in no group of that kind.

    >>> list(by_group({"sum": ["a", None], "look": ["1", "1"]}))
    [('sum:a', 'look:1'), ('look:1',)]
    """
    for row in zip(*groups.values(), strict=True):
        yield tuple(f"{kind}:{name}" for kind, name in zip(groups, row, strict=True) if name is not None)
