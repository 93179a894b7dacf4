"""From files to vectors: threads decode and prepare while the model works on the batch before. Knows no FiftyOne."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.embeddings.decoding import crop, read_picture
from fiftyone_plugins.embeddings.embedders import Embedder, Prepared
from fiftyone_plugins.embeddings.items import Item
from labels.errors import ItemError

DEFAULT_BATCH: Final = 32
MOST_THREADS: Final = 16
AHEAD: Final = 4
"""So many files a thread are prepared ahead of the model."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of one file: the vector of each id, None for a crop that is too small; or why there is none."""

    item: Item
    vectors: tuple[NDArray[np.float32] | None, ...] = ()
    error: ItemError | None = None


def compute_vectors(
    items: Iterable[Item], embedder: Embedder, *, batch_size: int = DEFAULT_BATCH, threads: int | None = None
) -> Iterator[Looked]:
    """Yield what came of each file, in order; a file that cannot be read is an answer of its own."""
    waiting: list[tuple[Item, list[Prepared | None]]] = []
    count = 0
    for item, prepared in _prepare_ahead(items, embedder, threads or min(os.cpu_count() or 1, MOST_THREADS)):
        if isinstance(prepared, ItemError):
            yield Looked(item, error=prepared)
            continue
        waiting.append((item, prepared))
        count += sum(one is not None for one in prepared)
        if count >= batch_size:
            yield from _embed(waiting, embedder, batch_size)
            waiting, count = [], 0
    yield from _embed(waiting, embedder, batch_size)


def _prepare_ahead(
    items: Iterable[Item], embedder: Embedder, threads: int
) -> Iterator[tuple[Item, list[Prepared | None] | ItemError]]:
    left = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        running: deque[tuple[Item, Future[list[Prepared | None]]]] = deque()
        try:
            while True:
                running.extend(
                    (item, pool.submit(_prepare, item, embedder))
                    for item in islice(left, threads * AHEAD - len(running))
                )
                if not running:
                    return
                item, future = running.popleft()
                try:
                    yield item, future.result()
                except ItemError as error:
                    yield item, error
        finally:
            # Whoever listens may end the work: what was not begun is not done any more.
            pool.shutdown(wait=False, cancel_futures=True)


def _prepare(item: Item, embedder: Embedder) -> list[Prepared | None]:
    # A crop is a part of the image: it is cut from all of its pixels.
    picture = read_picture(Path(item.path), embedder.side if item.boxes is None else None)
    if item.boxes is None:
        return [embedder.prepare(picture)]
    crops = (crop(picture, box) for box in item.boxes)
    return [None if one is None else embedder.prepare(one) for one in crops]


def _embed(waiting: list[tuple[Item, list[Prepared | None]]], embedder: Embedder, batch_size: int) -> Iterator[Looked]:
    prepared = [one for _, ones in waiting for one in ones if one is not None]
    rows = [
        row
        for start in range(0, len(prepared), batch_size)
        for row in embedder.embed(prepared[start : start + batch_size])
    ]
    vectors = iter(rows)
    for item, ones in waiting:
        found = tuple(None if one is None else next(vectors) for one in ones)
        if all(one is None or (np.isfinite(one).all() and one.any()) for one in found):
            yield Looked(item, found)
        else:
            problem = f"{embedder.name} gives no direction for it (its numbers are zero or not finite)"
            yield Looked(item, error=ItemError(Path(item.path).name, problem))
