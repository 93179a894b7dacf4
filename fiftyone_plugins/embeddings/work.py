"""The work «embed»: computes the vectors of images or crops that have none yet, and keeps them in the store.

Nothing is written to the samples. A run that ends early keeps what it computed; the next one goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.app.params import read_count, read_flag, read_path, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from labels.errors import ItemError
from labels.report import Failure, Report

JOB: Final = "embed"
VECTORS_PER_CHUNK: Final = 4096
SECONDS_PER_CHUNK: Final = 30.0


def read_params(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``embed``.

    Raises:
        LabelingError: a parameter cannot be used, the model is not known, or its weights are not there.
    """
    from fiftyone_plugins.embeddings.embedders import DEFAULT_MODEL, parse_model

    refuse_others(params, "model", "weights", "patches", "device", "batch_size", "again", "dry_run")
    weights = read_path(params, "weights")
    arguments = {
        "model": read_text(params, "model") or DEFAULT_MODEL,
        "weights": None if weights is None else str(weights),
        "patches": read_text(params, "patches"),
        "device": read_text(params, "device") or "auto",
        "batch_size": read_count(params, "batch_size"),
        "again": read_flag(params, "again"),
        "dry_run": read_flag(params, "dry_run"),
    }
    parse_model(str(arguments["model"]), arguments["weights"])  # type: ignore[arg-type]  # a text, or None
    return arguments


def embed(
    samples: Any,
    tools: Tools,
    *,
    model: str,
    weights: str | None = None,
    patches: str | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    again: bool = False,
    dry_run: bool = False,
) -> Report:
    """Compute what has no vector of this model yet, or was changed since; ``again``: everything.

    ``patches`` names a field whose labels are cut out and looked at one by one; None: whole images. ``dry_run`` says
    how many there are, and loads no model.

    Raises:
        LabelingError: the model cannot be loaded, or the field has no boxes.
    """
    from fiftyone_plugins.embeddings.computing import DEFAULT_BATCH, compute_vectors
    from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model
    from fiftyone_plugins.embeddings.items import read_items

    wanted = parse_model(model, weights)
    key = Key(wanted.name, patches)
    store = EmbeddingStore(tools.folder, samples._dataset.name)
    what = "images" if patches is None else f"crops of {patches}"
    tools.on_progress(None, f"looking which {what} have no vector of {wanted.name}")
    items = list(read_items(samples, patches))
    total = sum(len(item.ids) for item in items)
    known = {} if again else store.stamps(key.name)
    left = [rest for item in items if (rest := item.without(known)) is not None]
    count = sum(len(item.ids) for item in left)
    if dry_run or not left:
        return Report(JOB, count if dry_run else 0, total - count, notes=(f"vectors: {key.name}",), is_dry_run=dry_run)
    tools.on_progress(0.0, f"loading {wanted.name}")
    embedder = load_embedder(wanted, device=device)
    store.record_source(key, {"model": model, "weights": weights})
    failed: list[Failure] = []
    done, too_small = 0, 0
    with _Writing(store, key) as writing:
        for looked in compute_vectors(left, embedder, batch_size=batch_size or DEFAULT_BATCH):
            item = looked.item
            done += len(item.ids)
            if looked.error is not None:
                failed.append(to_failure(looked.error, item.path, item.sample_id))
            for one, stamp, vector in zip(item.ids, item.stamps, looked.vectors, strict=False):
                too_small += vector is None
                if vector is not None:
                    writing.add(one, item.sample_id, stamp, vector)
            tools.on_progress(done / count, f"looked at {done:,} of {count:,} {what}")
    details = {"crops too small to be looked at": too_small} if too_small else {}
    return Report(JOB, writing.count, total - count, tuple(failed), notes=(f"vectors: {key.name}",), details=details)


def to_failure(error: ItemError, path: str, sample_id: str) -> Failure:
    """Return the failure of one file."""
    return Failure(Path(path).name, error.problem, sample_id)


class _Writing:
    """Collects vectors and writes them in chunks; what is left is written when the work ends, in whatever way."""

    def __init__(self, store: EmbeddingStore, key: Key) -> None:
        self.count = 0
        self._store, self._key = store, key
        self._rows: list[tuple[str, str, str, NDArray[np.float32]]] = []
        self._since = time.monotonic()

    def add(self, one: str, sample_id: str, stamp: str, vector: NDArray[np.float32]) -> None:
        self._rows.append((one, sample_id, stamp, vector))
        self.count += 1
        if len(self._rows) >= VECTORS_PER_CHUNK or time.monotonic() - self._since > SECONDS_PER_CHUNK:
            self._write()

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def _write(self) -> None:
        rows, self._rows, self._since = self._rows, [], time.monotonic()
        if rows:
            ids, sample_ids, stamps, vectors = zip(*rows, strict=True)
            self._store.append(self._key, ids, np.stack(vectors), stamps=stamps, sample_ids=sample_ids)


EMBED = Work(read_params, embed)
