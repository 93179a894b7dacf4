"""Images a second of computing embeddings, with decoding, preparing and the model apart, beside the bare forward.

    python -m tests.benchmarks.embeddings FOLDER [--images 300] [--model efficientnet-lite0] [--device auto]

Each part is timed alone in one thread over the same images, then all of it together as ``labelloop embed`` does it. The
bare forward is the model on batches that are on its device already: what could be reached at most. On a machine that
does other work beside it, compare images per second of CPU.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import torch
from more_itertools import chunked

from fiftyone_plugins.embeddings.computing import MOST_THREADS, compute_vectors
from fiftyone_plugins.embeddings.decoding import read_picture
from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model
from fiftyone_plugins.embeddings.items import Item
from fiftyone_plugins.embeddings.torch_models import TorchEmbedder
from sync.images import find_images


@contextmanager
def timed(name: str, images: int, told: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Keep images a second, and images a second of work of the processor's cores, under a name."""
    start, worked = time.perf_counter(), time.process_time()
    yield
    told[name] = images / (time.perf_counter() - start), images / (time.process_time() - worked)


def measure_forward(embedder: TorchEmbedder, prepared: list[torch.Tensor], batch_size: int) -> Callable[[], None]:
    """Return what runs the bare model over batches that lie on its device."""
    batches = [torch.stack(part).to(embedder.device) for part in chunked(prepared, batch_size)]
    is_gpu = embedder.device.type == "cuda"

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16, enabled=is_gpu):
            for batch in batches:
                embedder.forward(batch)
        if is_gpu:
            torch.cuda.synchronize()

    run()
    return run


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--weights")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch-size", type=int, default=32)
    chosen = parser.parse_args()
    # Of a small folder every image is looked at several times.
    paths = list(islice(cycle(list(find_images(chosen.folder))), chosen.images))
    embedder = load_embedder(parse_model(chosen.model, chosen.weights), device=chosen.device)
    assert isinstance(embedder, TorchEmbedder)
    embedder.embed([embedder.prepare(read_picture(paths[0], embedder.side))] * chosen.batch_size)
    told: dict[str, tuple[float, float]] = {}
    with timed("decode, one thread", len(paths), told):
        pictures = [read_picture(path, embedder.side) for path in paths]
    with timed("prepare, one thread", len(paths), told):
        prepared = [embedder.prepare(picture) for picture in pictures]
    with timed("to the device, forward, back", len(paths), told):
        for part in chunked(prepared, chosen.batch_size):
            embedder.embed(part)
    run = measure_forward(embedder, prepared, chosen.batch_size)
    with timed("bare forward", len(paths), told):
        run()
    items = [Item(str(row), str(path), (str(row),), ("",)) for row, path in enumerate(paths)]
    with timed("all of it, as labelloop embed", len(paths), told):
        failed = sum(one.error is not None for one in compute_vectors(items, embedder, batch_size=chosen.batch_size))
    threads = min(os.cpu_count() or 1, MOST_THREADS)
    print(f"{embedder.name} on {embedder.device}, {len(paths)} images, {threads} threads that decode, {failed} failed")  # noqa: T201
    bare, _ = told["bare forward"]
    print(f"{'':<32} {'images/s':>10} {'of the bare forward':>20} {'images/CPU s':>13}")  # noqa: T201
    for name, (rate, worked) in told.items():
        print(f"{name:<32} {rate:>10.1f} {rate / bare:>20.2f} {worked:>13.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
