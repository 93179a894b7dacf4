"""Where each image of a labelled set lies among the others: labelloop's own embedder, in memory."""

from __future__ import annotations

import numpy as np

from fiftyone_plugins.embeddings.items import Item
from labels.report import OnProgress
from sync.simulation.labelled import LabelledSet
from sync.simulation.strategies import Vectors


def compute_set_vectors(labelled: LabelledSet, on_progress: OnProgress, *, device: str = "auto") -> Vectors:
    """Return a vector (n, d) for each image, in their order.

    Raises:
        ItemError: an image cannot be read.
    """
    from fiftyone_plugins.embeddings.computing import compute_vectors  # torch
    from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model

    items = [Item(str(place), str(item.image), (str(place),), ("",)) for place, item in enumerate(labelled.items)]
    rows = []
    for looked in compute_vectors(items, load_embedder(parse_model(), device=device)):
        if looked.error is not None:
            raise looked.error
        rows.append(looked.vectors[0])
        on_progress(len(rows) / len(items), f"embedding {len(items)} images")
    return np.array(rows, np.float32)
