"""Puts vectors into groups and suggests a name for each. Pure: numbers in, numbers and words out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError

Method = Literal["kmeans", "hdbscan"]
METHODS: Final[Mapping[str, str]] = {
    "kmeans": "k-means: as many groups as asked for, every image in one",
    "hdbscan": "HDBSCAN: as many groups as there are, images like no group stay alone",
}
NO_GROUP: Final = -1
DIMENSIONS: Final = 50
"""Vectors are turned to this many main directions first: distances say more there, and it is quicker."""
MANY: Final = 20_000
"""Above this, k-means looks at parts of the vectors in turn."""
MOST_BY_ITSELF: Final = 30
SMALLEST_GROUP: Final = 5
NAMES_SHOWN: Final = 2

Groups = NDArray[np.int64]


def group_vectors(unit: NDArray[np.float32], method: Method, *, count: int | None = None, seed: int = 0) -> Groups:
    """Return the group (n,) of each of the vectors (n, d) of length 1, 0 the largest; ``NO_GROUP``: like no group.

    ``count`` is how many groups k-means makes, or the fewest members of a group of HDBSCAN; None: chosen by how many
    vectors there are. The same vectors and seed give the same groups.

    Raises:
        LabelingError: there are fewer vectors than groups.
    """
    if len(unit) < 2 or (method == "kmeans" and count is not None and count > len(unit)):
        raise LabelingError(f"{len(unit)} vectors: too few to be put into {count or 'several'} groups")
    reduced = reduce_dimensions(unit, DIMENSIONS, seed=seed)
    if method == "hdbscan":
        from sklearn.cluster import HDBSCAN

        found = HDBSCAN(min_cluster_size=max(2, count or choose_smallest(len(unit))), copy=True).fit_predict(reduced)
    else:
        found = _run_kmeans(reduced, count or choose_count(len(unit)), seed)
    return _order_by_size(np.asarray(found, dtype=np.int64))


def choose_count(vectors: int) -> int:
    """Return how many groups are made of so many vectors.

    >>> choose_count(4), choose_count(200), choose_count(100_000)
    (2, 10, 30)
    """
    return min(MOST_BY_ITSELF, max(2, round(math.sqrt(vectors / 2))))


def choose_smallest(vectors: int) -> int:
    """Return how few vectors may make a group of HDBSCAN.

    >>> choose_smallest(20), choose_smallest(10_000)
    (5, 100)
    """
    return max(SMALLEST_GROUP, vectors // 100)


def reduce_dimensions(vectors: NDArray[np.float32], dimensions: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return the vectors in their main directions; as they are where they have no more than that."""
    most = min(vectors.shape)
    if vectors.shape[1] <= dimensions or most <= dimensions:
        return vectors
    from sklearn.decomposition import PCA

    return np.asarray(PCA(dimensions, random_state=seed).fit_transform(vectors), dtype=np.float32)


def _run_kmeans(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(vectors) > MANY:
        return np.asarray(MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096).fit_predict(vectors))
    return np.asarray(KMeans(count, random_state=seed, n_init=4).fit_predict(vectors))


def _order_by_size(groups: Groups) -> Groups:
    """Return the groups numbered by size; of equal ones, that of the first vector first."""
    counts = Counter(groups[groups != NO_GROUP].tolist())
    first = {group: row for row, group in reversed(list(enumerate(groups.tolist())))}
    order = sorted(counts, key=lambda group: (-counts[group], first[group]))
    places = {group: place for place, group in enumerate(order)} | {NO_GROUP: NO_GROUP}
    return np.array([places[group] for group in groups.tolist()], dtype=np.int64)


def suggest_by_labels(groups: Groups, labels: Sequence[Collection[str] | None]) -> dict[int, str]:
    """Return words for each group: the classes that more of its members have than of all, the most telling first.

    ``labels`` are each member's classes, None where nobody said any. A group without a telling class has no words.

    >>> suggest_by_labels(np.array([0, 0, 1, 1]), [{"car", "road"}, {"car", "road"}, {"cat"}, None])
    {0: 'car, road', 1: 'cat'}
    """
    known = [row for row, one in enumerate(labels) if one is not None]
    everywhere = Counter(name for row in known for name in set(labels[row] or ()))
    suggested = {}
    for group in sorted(set(groups.tolist()) - {NO_GROUP}):
        members = [row for row in known if groups[row] == group]
        counts = Counter(name for row in members for name in set(labels[row] or ()))
        shares = {name: count / len(members) for name, count in counts.items()}
        telling = {name: share - everywhere[name] / len(known) for name, share in shares.items()}
        best = sorted(
            (name for name in shares if telling[name] > 0 or len(members) == len(known)),
            key=lambda name: (-telling[name], -shares[name], name),
        )
        if best:
            suggested[group] = ", ".join(name for name in best[:NAMES_SHOWN] if telling[name] >= telling[best[0]] / 2)
    return suggested


def suggest_by_words(
    groups: Groups, unit: NDArray[np.float32], words: Sequence[str], word_vectors: NDArray[np.float32]
) -> dict[int, str]:
    """Return for each group the words nearest to its middle, as a model that reads texts sees them.

    Compared with the words' nearness to the middle of all: a word that fits every picture tells nothing.
    """
    everywhere = word_vectors @ _find_middle(unit)
    suggested = {}
    for group in sorted(set(groups.tolist()) - {NO_GROUP}):
        nearness = word_vectors @ _find_middle(unit[groups == group]) - everywhere
        suggested[group] = ", ".join(words[row] for row in np.argsort(-nearness, kind="stable")[:NAMES_SHOWN])
    return suggested


def _find_middle(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    middle = unit.mean(axis=0)
    length = float(np.linalg.norm(middle))
    return np.asarray(middle / length if length else middle, dtype=np.float32)


def name_groups(groups: Groups, suggested: Mapping[int, str]) -> list[str]:
    """Return the name of each member's group: its place by size from 1, and what it shows where that is known.

    >>> name_groups(np.array([0, 0, 1, -1]), {0: "car"})
    ['1: car', '1: car', '2', '0: like no group']
    """
    names = {
        group: f"{group + 1}: {suggested[group]}" if group in suggested else f"{group + 1}"
        for group in set(groups.tolist())
    }
    names[NO_GROUP] = "0: like no group"
    return [names[group] for group in groups.tolist()]
