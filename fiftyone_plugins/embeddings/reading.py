"""Which vectors a work goes by: those of its samples, of the key a person names or of the newest one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.embeddings.items import read_ids, read_items
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels.errors import LabelingError


def read_vectors(samples: Any, tools: Tools, *, vectors: str | None = None, patches: str | None = None) -> Embeddings:
    """Return the vectors of the samples, or of the crops of their labels; those without one are not in it.

    Neither are vectors of a picture that was there before, or that cannot be read any more: ``tell_outdated`` says so.

    Raises:
        LabelingError: there are none yet, or none of these samples.
    """
    store = EmbeddingStore(tools.folder, samples._dataset.name)
    found = only_current(store.read(choose_key(store, vectors=vectors, patches=patches)), samples)
    if not len(found):
        raise _to_error(found)
    return found


def read_stored(
    store: EmbeddingStore, samples: Any, *, vectors: str | None = None, patches: str | None = None
) -> Embeddings:
    """Return the vectors of the samples from a store as they lie there, be the files what they may.

    Raises:
        LabelingError: there are none yet, or none of these samples.
    """
    found = only_present(store.read(choose_key(store, vectors=vectors, patches=patches)), samples)
    if not len(found):
        raise _to_error(found)
    return found


def only_present(found: Embeddings, samples: Any) -> Embeddings:
    """Return the vectors of these samples, or of their labels."""
    return _only(found, np.isin(found.ids, np.asarray(read_ids(samples, found.field), dtype=np.str_)))


def only_current(found: Embeddings, samples: Any) -> Embeddings:
    """Return the vectors of these samples, or of their labels, that are of what is there now; looks at every file."""
    stamps = {
        one: stamp
        for item in read_items(samples, found.field)
        for one, stamp in zip(item.ids, item.stamps, strict=True)
    }
    known = [stamps.get(one) for one in found.ids.tolist()]
    is_current = np.array([one == stamp for one, stamp in zip(found.stamps.tolist(), known, strict=True)], np.bool_)
    present = zip(found.ids.tolist(), known, is_current.tolist(), strict=True)
    outdated = tuple(one for one, stamp, is_kept in present if stamp is not None and not is_kept)
    return replace(_only(found, is_current), outdated=outdated)


def tell_outdated(found: Embeddings) -> tuple[str, ...]:
    """Return in words how many vectors were left out since they are of another picture; nothing where none was."""
    if not found.outdated:
        return ()
    count = len(found.outdated)
    return (f"changed or gone since they were embedded, and left out: {count:,} (labelloop embed computes them anew)",)


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


def _only(found: Embeddings, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> Embeddings:
    return found if chosen.all() else found.only(found.ids[chosen].tolist())


def _to_error(found: Embeddings) -> LabelingError:
    if found.outdated:
        problem = f"all {len(found.outdated):,} vectors are of pictures that have changed since, or are gone"
        return LabelingError(f"{problem} ({found.key.name}): compute embeddings of them again first")
    return LabelingError(f"none of these samples has a vector ({found.key.name}): compute embeddings of them first")
