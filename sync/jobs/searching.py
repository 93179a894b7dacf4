"""Which images are most like others, or like a text. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sync.jobs.context import Context


def search_images(
    context: Context, *, like: Sequence[str], text: str | None, count: int, vectors: str | None = None
) -> list[tuple[Path, float]]:
    """Return files and their cosine distances, nearest first: to samples by their ids, or to a text.

    Raises:
        LabelingError: there are no embeddings, none of these samples has one, or the model reads no text.
    """
    from fiftyone_plugins.embeddings.reading import read_stored
    from fiftyone_plugins.embeddings.searching import choose_text_key, find_by_text, find_like
    from fiftyone_plugins.embeddings.store import EmbeddingStore

    store = EmbeddingStore(context.home.curation, context.dataset.name)
    key = vectors if text is None else choose_text_key(store, vectors)
    found = read_stored(store, context.dataset.select({}), vectors=key)
    near = find_like(found, like, count=count) if text is None else find_by_text(store, found, text, count=count)
    samples = found.only(near.ids).sample_ids.tolist()
    images = context.dataset.images(samples)
    paths = [images[one].source_path or images[one].path for one in samples]
    return list(zip(paths, near.distances, strict=True))
