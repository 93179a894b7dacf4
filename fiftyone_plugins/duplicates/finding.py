"""Finds the pairs of images that show the same: by their bytes, their perceptual hashes, their vectors.

What a hash or a vector proposes is looked at again in the small pictures, unless that is not wanted: a likeness of
numbers is none of pictures. Knows no FiftyOne.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.duplicates.comparing import SAME_PICTURE, compute_likeness
from fiftyone_plugins.duplicates.fingerprints import HASH_BITS, Fingerprint, compute_hashes, list_turns
from fiftyone_plugins.duplicates.grouping import METHODS, Pair
from fiftyone_plugins.embeddings.neighbours import build_index

MOST_BITS: Final = 12
"""Hashes that differ in more of their 64 bits do not propose a pair."""

FLAT_SEARCH: Final = 50_000
"""Above so many images, hashes are looked for by their parts, and those that differ in many bits may be missed."""

MOST_COMPARED: Final = 12
"""So many of an image's nearest by vector are looked at."""

EXACT, PHASH, NEAR = range(3)
assert METHODS == ("exact", "phash", "near")


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts: the methods, the cosine distance of vectors, and whether the pictures themselves are compared."""

    methods: Sequence[str] = METHODS
    threshold: float = 0.35
    check: bool = True


def find_pairs(
    prints: Sequence[Fingerprint], vectors: Mapping[int, NDArray[np.float32]] | None, rules: Rules
) -> list[Pair]:
    """Return every pair that a method proposes; ``vectors`` by number of the image, None: no method needs them."""
    pairs: list[Pair] = []
    if "exact" in rules.methods:
        pairs += find_exact(prints)
    if "phash" in rules.methods:
        pairs += find_by_hash(prints)
    if "near" in rules.methods and vectors is not None:
        pairs += find_near(prints, vectors, rules)
    return pairs


def find_exact(prints: Sequence[Fingerprint]) -> Iterator[Pair]:
    """Yield pairs of files with the same bytes: each with the first of its kind."""
    first: dict[str, int] = {}
    for row, one in enumerate(prints):
        if (found := first.setdefault(one.sha256, row)) != row:
            yield Pair(EXACT, 0.0, found, row)


def find_by_hash(prints: Sequence[Fingerprint]) -> Iterator[Pair]:
    """Yield pairs whose hashes are near, also where one is turned by a right angle or mirrored.

    The distance is the part of the bits that differ. Pictures of a single colour are left out: all are alike.
    """
    rows = np.array([row for row, one in enumerate(prints) if one.has_detail], np.int64)
    if len(rows) < 2:
        return
    hashes = np.stack([compute_hashes(list_turns(prints[row].small)) for row in rows])
    # All pairs of n images that are alike would be n * n / 2: those of one hash hang on the first and the one before,
    # and of each image the nearest other hashes count.
    _, first, kinds = np.unique(hashes[:, 0], axis=0, return_index=True, return_inverse=True)
    kinds = kinds.reshape(-1)
    nearest: dict[tuple[int, int], int] = {}
    last: dict[int, int] = {}
    for one, kind in enumerate(kinds.tolist()):
        if (before := last.get(kind)) is not None:
            nearest[int(first[kind]), one] = nearest[before, one] = 0
        last[kind] = one
    index = _index_hashes(hashes[first, 0])
    for turn in range(hashes.shape[1]):
        bits, found = index.search(np.ascontiguousarray(hashes[:, turn]), min(MOST_COMPARED + 1, len(first)))
        near = (found >= 0) & (bits <= MOST_BITS) & (found != kinds[:, None])
        for one, place in np.argwhere(near).tolist():
            other, count = int(first[found[one, place]]), int(bits[one, place])
            key = (min(one, other), max(one, other))
            nearest[key] = min(nearest.get(key, HASH_BITS), count)
    for (one, other), count in sorted(nearest.items()):
        yield Pair(PHASH, count / HASH_BITS, int(rows[one]), int(rows[other]))


def find_near(
    prints: Sequence[Fingerprint], vectors: Mapping[int, NDArray[np.float32]], rules: Rules
) -> Iterator[Pair]:
    """Yield pairs whose vectors are within the threshold; pictures of a single colour are left out."""
    rows = np.array([row for row in sorted(vectors) if prints[row].has_detail], np.int64)
    if len(rows) < 2:
        return
    index = build_index(np.stack([vectors[row] for row in rows.tolist()]))
    found = index.pairs_within(rules.threshold, **({"most": MOST_COMPARED} if rules.check else {}))
    for one, other, distance in zip(
        rows[found.i].tolist(), rows[found.j].tolist(), found.distance.tolist(), strict=True
    ):
        yield Pair(NEAR, min(distance, 1.0), one, other)


@dataclass(slots=True)
class Checker:
    """Says whether a proposed pair shows the same picture."""

    prints: Sequence[Fingerprint]
    rules: Rules

    def __call__(self, pair: Pair) -> bool:
        """Return whether the pair holds."""
        if pair.rank == EXACT or (pair.rank == NEAR and not self.rules.check):
            return True
        first, second = self.prints[pair.first].small, self.prints[pair.second].small
        return compute_likeness(first, second, turns=pair.rank == PHASH) >= SAME_PICTURE


def choose_examples(pairs: Sequence[Pair], *, step: float = 0.01, of_each: int = 8) -> list[Pair]:
    """Return some pairs of each distance by vector, for a person to choose a threshold by eye."""
    bins: dict[int, list[Pair]] = defaultdict(list)
    for pair in sorted(pairs):
        if pair.rank == NEAR:
            bins[int(pair.distance / step)].append(pair)
    chosen: list[Pair] = []
    for _, some in sorted(bins.items()):
        places = np.unique(np.linspace(0, len(some) - 1, min(of_each, len(some))).astype(np.int64))
        chosen += [some[place] for place in places]
    return chosen


def _index_hashes(hashes: NDArray[np.uint8]) -> Any:
    import faiss

    if len(hashes) <= FLAT_SEARCH:
        index: Any = faiss.IndexBinaryFlat(HASH_BITS)
    else:
        # Four parts of 16 bits, each also with two bits turned: two hashes at most 11 bits apart share one of them.
        index = faiss.IndexBinaryMultiHash(HASH_BITS, 4, 16)
        index.nflip = 2
    index.add(hashes)
    return index
