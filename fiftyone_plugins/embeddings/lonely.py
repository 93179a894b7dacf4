"""How far each vector is from its nearest ones: what is like nothing else. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.neighbours import NeighbourIndex
from labels.errors import LabelingError

DEFAULT_NEIGHBOURS: Final = 10
UNIQUENESS_WEIGHTS: Final = (0.6, 0.3, 0.1)
"""Of the distances to the three nearest, as FiftyOne's brain weighs them."""


class Lonely(NamedTuple):
    """Two scores (n,) of each vector, 0..1.

    ``outlier`` is the mean cosine distance to its nearest ones: 0 there are many like it, 1 nothing is. It says the
    same in every dataset. ``uniqueness`` is 1 for the loneliest here: FiftyOne's own score.
    """

    outlier: NDArray[np.float64]
    uniqueness: NDArray[np.float64]


def compute_lonely(index: NeighbourIndex, *, neighbours: int = DEFAULT_NEIGHBOURS) -> Lonely:
    """Return both scores of every vector in an index.

    Raises:
        LabelingError: there are fewer than two vectors.
    """
    count = len(index)
    if count < 2:
        raise LabelingError(f"{count} vectors: an outlier is one among others, compute more embeddings first")
    wanted = min(count - 1, max(neighbours, len(UNIQUENESS_WEIGHTS)))
    distances = _find_others(index, wanted)
    outlier = _average(distances[:, :neighbours])
    if count <= len(UNIQUENESS_WEIGHTS):
        return Lonely(outlier, np.ones(count))
    nearest = distances[:, : len(UNIQUENESS_WEIGHTS)]
    weighted = np.where(np.isfinite(nearest), nearest, 1.0) @ np.asarray(UNIQUENESS_WEIGHTS)
    largest = weighted.max()
    return Lonely(outlier, weighted / largest if largest > 0 else weighted)


def _find_others(index: NeighbourIndex, wanted: int) -> NDArray[np.float64]:
    """Return the distances (n, wanted) to the nearest others, nearest first; infinite where there are no more."""
    found = index.search(index.vectors, wanted + 1)
    own = found.indices == np.arange(len(index))[:, None]
    # Among many that are the same it may not be among the first: then the last one found is left out.
    own[~own.any(axis=1), -1] = True
    return np.asarray(found.distances[~own].reshape(len(index), wanted), dtype=np.float64).clip(min=0)


def _average(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(distances)
    total = np.where(known, distances, 0).sum(axis=1)
    counts = known.sum(axis=1)
    return np.where(counts > 0, total / np.maximum(counts, 1), 1.0).clip(0, 1)
