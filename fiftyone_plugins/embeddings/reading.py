"""Which vectors a work goes by: those of its samples, of the key a person names or of the newest one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings.items import read_ids
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels.errors import LabelingError


def read_vectors(samples: Any, tools: Tools, *, vectors: str | None = None, patches: str | None = None) -> Embeddings:
    """Return the vectors of the samples, or of the crops of their labels; those without one are not in it.

    Raises:
        LabelingError: there are none yet, or none of these samples.
    """
    return read_stored(EmbeddingStore(tools.folder, samples._dataset.name), samples, vectors=vectors, patches=patches)


def read_stored(
    store: EmbeddingStore, samples: Any, *, vectors: str | None = None, patches: str | None = None
) -> Embeddings:
    """Return the vectors of the samples from a store, as ``read_vectors`` does."""
    found = store.read(choose_key(store, vectors=vectors, patches=patches))
    present = np.isin(found.ids, np.asarray(read_ids(samples, found.field), dtype=np.str_))
    if not present.any():
        raise LabelingError(f"none of these samples has a vector ({found.key.name}): compute embeddings of them first")
    return found if present.all() else found.only(found.ids[present].tolist())


def choose_key(store: EmbeddingStore, *, vectors: str | None = None, patches: str | None = None) -> str:
    """Return the named key, or the newest one of images or of the crops of a field.

    Raises:
        LabelingError: there is none.
    """
    key = vectors or store.latest_of(patches)
    if key is None:
        what = "the images" if patches is None else f"the crops of {patches}"
        option = "" if patches is None else f" --patches {patches}"
        raise LabelingError(f"there are no embeddings of {what} yet: compute them first (labelloop embed{option})")
    return key
