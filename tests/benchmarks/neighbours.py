"""Prints what the neighbour index costs and finds at scale, beside FiftyOne's brain. Asserts nothing.

    uv run python -m tests.benchmarks.neighbours --count 100000 --brain
    uv run python -m tests.benchmarks.neighbours --count 1000000
    uv run python -m tests.benchmarks.neighbours --count 100000 --vectors CHUNK.npz --brain

Vectors are 200 clusters in 512 dimensions of which 3 % come again with a little noise, or those of a file (a chunk of
the embedding store, or any .npz with ``vectors``), repeated with noise of different strength until there are enough,
and projected to 512 dimensions. The brain gets them with their middle at zero, as it moves it there itself.
``recall`` is the part of the brain's pairs (each duplicate with the nearest that stays) that ours has too; ``truth``
is against all pairs, for 500 vectors. CPU seconds beside wall seconds: only the former compare on a busy machine.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fiftyone_plugins.embeddings.neighbours import NeighbourIndex, Pairs, build_index

WIDTH = 512
Floats = NDArray[np.float32]
T = TypeVar("T")


def make_clusters(count: int) -> Floats:
    random = np.random.default_rng(0)
    middles = random.standard_normal((200, WIDTH), dtype=np.float32)
    vectors = random.standard_normal((count, WIDTH), dtype=np.float32)
    vectors *= 0.8
    vectors += middles[random.integers(0, 200, count)]
    again = count * 3 // 100
    noise = random.standard_normal((again, WIDTH), dtype=np.float32)
    vectors[-again:] = vectors[random.choice(count // 2, again, replace=False)] + 0.04 * noise
    return vectors


def make_real(count: int, file: Path) -> Floats:
    random = np.random.default_rng(0)
    real = np.load(file)["vectors"].astype(np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    turn, _ = np.linalg.qr(random.standard_normal((real.shape[1], min(WIDTH, real.shape[1]))))
    middle, spread = real.mean(axis=0), real - real.mean(axis=0)
    vectors = np.empty((count, turn.shape[1]), np.float32)
    for start in range(0, count, 10_000):
        rows = np.arange(start, min(start + 10_000, count))
        # New pictures: two real ones mixed, so that they lie where pictures lie; every twentieth nearly an old one.
        one, other = random.integers(0, len(real), (2, len(rows)))
        part = random.uniform(0.3, 0.7, (len(rows), 1)).astype(np.float32)
        part[rows % 20 == 0] = random.uniform(0, 0.1)
        mixed = middle + (1 - part) * spread[one] + part * spread[other]
        mixed += 0.01 * random.standard_normal(mixed.shape, dtype=np.float32) * spread.std(axis=0)
        vectors[rows] = mixed @ turn
    return vectors


def timed(name: str, work: Callable[[], T]) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    click.echo(f"{name:34} {time.perf_counter() - wall:8.1f} s  {time.process_time() - cpu:8.1f} cpu s")
    return found


def print_peak() -> None:
    click.echo(f"{'peak memory':34} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:8.2f} GiB")


def run_ours(vectors: Floats, threshold: float, splits: NDArray[np.int64]) -> tuple[NeighbourIndex, Pairs]:
    count = len(vectors)
    index = timed("ours: build", lambda: build_index(vectors))
    pairs = timed(f"ours: pairs within {threshold:g}", lambda: index.pairs_within(threshold))
    links = coo_matrix((np.ones(len(pairs.i), np.int8), (pairs.i, pairs.j)), shape=(count, count))
    _, names = timed("ours: groups", lambda: connected_components(links, directed=False))
    sizes = np.bincount(names)
    leaks = timed(
        "ours: leaky splits", lambda: np.unique(np.r_[pairs.i, pairs.j][np.tile(splits[pairs.i] != splits[pairs.j], 2)])
    )
    nearest = timed("ours: uniqueness and outliers", lambda: index.search(index.vectors, 4).distances[:, 1:])
    timed("ours: 100 queries, 25 each", lambda: [index.search(vectors[row : row + 1], 25) for row in range(100)])
    click.echo(
        f"{count:,} vectors: {len(pairs.i):,} pairs, {(sizes > 1).sum():,} groups, {len(leaks):,} leaks, "
        f"loneliest {np.mean(nearest, axis=1).max():.3f}"
    )
    print_peak()
    return index, pairs


def print_truth(index: NeighbourIndex, pairs: Pairs, threshold: float) -> None:
    found = set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))
    rows = np.linspace(0, len(index) - 1, 500).astype(np.int64)
    distances = 1 - index.vectors[rows] @ index.vectors.T
    distances[np.arange(len(rows)), rows] = np.inf
    which, others = np.nonzero(distances <= threshold)
    right = {
        (min(int(rows[one]), int(other)), max(int(rows[one]), int(other)))
        for one, other in zip(which, others, strict=True)
    }
    nearest = index.search(index.vectors[rows], 4).indices[:, 1:]
    truth = np.argsort(distances, axis=1)[:, :3]
    same = np.mean([len(set(a) & set(b)) / 3 for a, b in zip(nearest.tolist(), truth.tolist(), strict=True)])
    click.echo(f"truth: {len(right & found)} of {len(right)} pairs, {same:.4f} of the nearest three")


def run_brain(vectors: Floats, threshold: float, pairs: Pairs, splits: NDArray[np.int64], *, everything: bool) -> None:
    from tests.benchmarks.own_mongod import run_mongod

    with run_mongod():
        import fiftyone as fo
        import fiftyone.brain as brain

        dataset = fo.Dataset()
        dataset.add_samples(
            (fo.Sample(filepath=f"/{row}.jpg", tags=[f"split{split}"]) for row, split in enumerate(splits)),
            progress=False,
        )
        rows = {one: row for row, one in enumerate(dataset.values("id"))}
        index: Any = brain.compute_similarity(dataset, backend="sklearn", embeddings=vectors.copy())
        timed("brain: near duplicates", lambda: index.find_duplicates(thresh=threshold))
        found = set(zip(pairs.i.tolist(), pairs.j.tolist(), strict=True))
        told = [(rows[one], rows[other]) for one, some in index.neighbors_map.items() for other, _ in some]
        hit = sum((min(pair), max(pair)) in found for pair in told)
        click.echo(f"recall of the brain's pairs: {hit} of {len(told)} ({hit / max(len(told), 1):.4f})")
        if everything:
            timed("brain: uniqueness", lambda: brain.compute_uniqueness(dataset, embeddings=vectors.copy()))
            names = [f"split{split}" for split in range(3)]
            timed(
                "brain: leaky splits",
                lambda: brain.compute_leaky_splits(dataset, names, threshold=threshold, embeddings=vectors.copy()),
            )
        print_peak()


@click.command()
@click.option("--count", default=100_000, show_default=True)
@click.option("--threshold", default=0.05, show_default=True)
@click.option("--vectors", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--brain", is_flag=True, help="Beside the brain's near duplicates.")
@click.option("--all", "everything", is_flag=True, help="Beside the brain's uniqueness and leaky splits too.")
def main(count: int, threshold: float, file: Path | None, brain: bool, everything: bool) -> None:
    """Print the figures."""
    vectors = make_clusters(count) if file is None else make_real(count, file)
    if brain or everything:
        vectors -= vectors.mean(axis=0)
    splits = np.random.default_rng(1).integers(0, 3, count)
    timed("import of faiss", lambda: __import__("faiss"))
    index, pairs = run_ours(vectors, threshold, splits)
    print_truth(index, pairs, threshold)
    del index
    if brain or everything:
        run_brain(vectors, threshold, pairs, splits, everything=everything)


if __name__ == "__main__":
    sys.exit(main())
