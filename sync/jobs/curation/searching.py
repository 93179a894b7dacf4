"""Which images are most like others, or like a text. Reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from labels.errors import LabelingError
from sync.jobs.context import Context
from sync.jobs.naming import find_named


def search_images(
    context: Context, *, like: Sequence[str], text: str | None, count: int, vectors: str | None = None
) -> list[tuple[Path, float]]:
    """Return files and their cosine distances, nearest first: to samples by their ids or files' names, or to a text.

    Raises:
        LabelingError: there are no embeddings, one of the names is no sample's, none of these samples has a vector, or
            the model reads no text.
    """
    from fiftyone_plugins.embeddings.reading import read_stored
    from fiftyone_plugins.embeddings.searching import choose_text_key, find_by_text, find_like
    from fiftyone_plugins.embeddings.store import EmbeddingStore

    store = EmbeddingStore(context.home.curation, context.dataset.name)
    key = vectors if text is None else choose_text_key(store, vectors)
    found = read_stored(store, context.dataset.select({}), vectors=key)
    if text is None:
        near = find_like(found, _find_ids(context, like, set(found.ids.tolist())), count=count)
    else:
        near = find_by_text(store, found, text, count=count)
    samples = found.only(near.ids).sample_ids.tolist()
    images = context.dataset.images(samples)
    paths = [images[one].source_path or images[one].path for one in samples]
    return list(zip(paths, near.distances, strict=True))


def _find_ids(context: Context, names: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the ids that were meant; what has a vector may be a label: those of crops go by the labels' ids."""
    ids = [name for name in names if name in known]
    named = find_named(context.dataset, [name for name in names if name not in known])
    if named.failed:
        raise LabelingError(f"{named.failed[0].item}: {named.failed[0].problem}")
    return [*ids, *named.sample_ids]
