"""Which images are like others, or like a text: the nearest vectors, in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.embedders import Model, TextEmbedder, load_text_embedder, parse_model
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from labels.errors import LabelingError


class Near(NamedTuple):
    """``ids`` of the nearest vectors, nearest first, and their cosine ``distances``."""

    ids: list[str]
    distances: list[float]


def find_like(found: Embeddings, ids: Sequence[str], *, count: int) -> Near:
    """Return the images (or crops) most like the middle of those named, which come first themselves.

    Raises:
        LabelingError: none of them has a vector.
    """
    chosen = found.only(ids)
    if not len(chosen):
        raise LabelingError(f"what is selected has no vector ({found.key.name}): compute embeddings of it first")
    return find_nearest(found, chosen.normalised().mean(axis=0), count=count)


def find_nearest(found: Embeddings, direction: NDArray[np.float32], *, count: int) -> Near:
    """Return what lies nearest to a direction; all are compared, equal ones in the order of their ids."""
    length = float(np.linalg.norm(direction))
    if length == 0:
        raise LabelingError("what is selected has no direction in common: select fewer, or more alike")
    distances = 1 - found.normalised() @ (direction / length)
    order = np.lexsort((found.ids, distances))[:count]
    return Near(found.ids[order].tolist(), [float(one) for one in distances[order]])


def find_by_text(store: EmbeddingStore, found: Embeddings, text: str, *, count: int) -> Near:
    """Return the images (or crops) nearest to a text.

    Raises:
        LabelingError: the model of the vectors reads no text, or cannot be loaded any more.
    """
    return find_nearest(found, load_reader_of(store, found).embed_texts([text])[0], count=count)


def list_text_keys(store: EmbeddingStore) -> list[str]:
    """Return the keys whose model reads texts too."""
    models = {name: _read_model(store, name) for name in store.keys()}  # noqa: SIM118  it is no dictionary
    return [name for name, model in models.items() if model is not None and model.reads_text]


def list_text_sources(store: EmbeddingStore) -> dict[str, dict[str, str | None]]:
    """Return how each model that reads texts and was used here is loaded again, by its name."""
    sources = {store.read_key(name).model: store.read_source(name) for name in list_text_keys(store)}
    return {name: source for name, source in sources.items() if source is not None}


def choose_text_key(store: EmbeddingStore, asked: str | None = None) -> str:
    """Return the key that was asked for, else one whose model reads texts.

    Raises:
        LabelingError: there is none.
    """
    keys = list_text_keys(store)
    if asked is None and not keys:
        raise LabelingError(
            "there are no embeddings of a model that reads text: compute them with a CLIP first (labelloop embed"
            " --model clip, or Compute embeddings in the App)"
        )
    return keys[-1] if asked is None else asked


def load_reader_of(store: EmbeddingStore, found: Embeddings) -> TextEmbedder:
    """Load the model that made these vectors, to read texts.

    Raises:
        LabelingError: it reads none, its weights are gone, or they were changed.
    """
    source = store.read_source(found.key.name)
    if source is None:
        raise LabelingError(f"{found.key.name}: it was not kept how its model is loaded; compute the embeddings anew")
    model = parse_model(source["model"] or "", source["weights"])
    if model.name != found.model:
        where = Path(source["weights"] or "").name
        raise LabelingError(f"{found.key.name}: its weights {where} were changed since; compute the embeddings anew")
    return load_text_embedder(model)


def _read_model(store: EmbeddingStore, name: str) -> Model | None:
    source = store.read_source(name)
    try:
        return None if source is None else parse_model(source["model"] or "", source["weights"])
    except LabelingError:
        # Its weights are gone: it reads nothing any more.
        return None
