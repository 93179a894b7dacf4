"""Prints what each way of finding duplicates finds in a folder whose truth is known. Asserts nothing.

    uv run python -m tests.benchmarks.duplicates FOLDER [--truth groups.csv] [--brain] [--peers]

FOLDER holds images; the truth is a CSV with the columns file and group (empty: like no other), by default
groups.csv in FOLDER, else what ``TRUTHS`` knows of well-known folders. One line a method:
  pairs     precision and recall of pairs of images that are in one group, all groups closed
  groups    groups found exactly, of those there are; groups with a stranger in them
``--brain`` adds FiftyOne's brain on the same vectors at several thresholds, the best of which is marked: it was
chosen knowing the truth. ``--peers`` adds imagededup and cleanvision, which uv installs for the run alone.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from pathlib import Path

import click
import numpy as np
from more_itertools import chunked
from numpy.typing import NDArray

from fiftyone_plugins.duplicates.finding import NEAR, Checker, Rules, find_pairs
from fiftyone_plugins.duplicates.fingerprints import Fingerprint, read_fingerprint
from fiftyone_plugins.duplicates.grouping import METHODS, Pair, join_pairs
from fiftyone_plugins.duplicates.work import DEFAULT_THRESHOLD
from fiftyone_plugins.embeddings.decoding import read_picture
from fiftyone_plugins.embeddings.embedders import load_embedder, parse_model
from labels.errors import ItemError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
BRAIN_THRESHOLDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
PEERS = ("imagededup>=0.3.3", "cleanvision>=0.3.6")
Group = frozenset[str]


def _name_pdq(file: str) -> str:
    return "bridge" if file.startswith(("bridge-mods/", "dih/")) or "/modes/" in file else ""


def _name_ukbench(file: str) -> str:
    return "" if "corrupt" in file else Path(file).stem.split("_")[0]


TRUTHS: dict[str, Callable[[str], str]] = {"pdq_images": _name_pdq, "imagededup_examples": _name_ukbench}


def read_truth(folder: Path, file: Path | None, names: Sequence[str]) -> set[Group]:
    file = file or folder / "groups.csv"
    if file.is_file():
        with file.open(encoding="utf-8") as stream:
            by_file = {row["file"]: row["group"] for row in csv.DictReader(stream)}
        named = {name: by_file.get(Path(name).name, "") for name in names}
    else:
        named = {name: TRUTHS[folder.name](name) for name in names}
    members: dict[str, set[str]] = defaultdict(set)
    for name, group in named.items():
        if group:
            members[group].add(name)
    return {frozenset(group) for group in members.values() if len(group) > 1}


def to_groups(pairs: Iterable[tuple[str, str]]) -> set[Group]:
    """Return the groups that pairs make together."""
    names = sorted({name for pair in pairs for name in pair})
    rows = {name: row for row, name in enumerate(names)}
    held = join_pairs([Pair(NEAR, 0.0, rows[one], rows[other]) for one, other in pairs], len(names))
    return {frozenset(names[row] for pair in one for row in (pair.first, pair.second)) for one in held.values()}


def print_line(name: str, found: set[Group], truth: set[Group], seconds: float | None = None) -> float:
    ours, right = _to_pairs(found), _to_pairs(truth)
    precision = len(ours & right) / len(ours) if ours else float("nan")
    recall = len(ours & right) / len(right)
    mixed = sum(not any(group <= one for one in truth) for group in found)
    took = "" if seconds is None else f"   {seconds:.1f} s"
    click.echo(
        f"{name:34} pairs P {precision:.4f} R {recall:.4f}   "
        f"groups {len(found & truth)} of {len(truth)}, {mixed} with a stranger{took}"
    )
    return 2 * precision * recall / (precision + recall) if ours and precision + recall else 0.0


def find_ours(
    names: Sequence[str], prints: Sequence[Fingerprint], vectors: dict[int, NDArray[np.float32]], rules: Rules
) -> set[Group]:
    held = join_pairs(find_pairs(prints, vectors, rules), len(names), (), Checker(prints, rules))
    return {frozenset(names[row] for pair in one for row in (pair.first, pair.second)) for one in held.values()}


def print_brain(names: Sequence[str], vectors: dict[int, NDArray[np.float32]], folder: Path, truth: set[Group]) -> None:
    from tests.benchmarks.own_mongod import run_mongod

    with run_mongod():
        import fiftyone as fo
        import fiftyone.brain as brain

        dataset = fo.Dataset()
        rows = sorted(vectors)
        dataset.add_samples([fo.Sample(filepath=str(folder / names[row])) for row in rows], progress=False)
        by_id = dict(zip(dataset.values("id"), (names[row] for row in rows), strict=True))
        exact = brain.compute_exact_duplicates(dataset)
        print_line(
            "brain exact", to_groups([(by_id[one], by_id[two]) for one, some in exact.items() for two in some]), truth
        )
        index = brain.compute_similarity(
            dataset, backend="sklearn", embeddings=np.stack([vectors[row] for row in rows]), brain_key="own"
        )
        for threshold in BRAIN_THRESHOLDS:
            since = time.perf_counter()
            index.find_duplicates(thresh=threshold)
            pairs = [(by_id[one], by_id[other]) for one, some in index.neighbors_map.items() for other, _ in some]
            print_line(f"brain near, {threshold:g}", to_groups(pairs), truth, time.perf_counter() - since)


def print_peers(folder: Path, names: Sequence[str], truth: set[Group]) -> None:
    script = Path(__file__).with_name("duplicate_peers.py")
    with_peers = [part for peer in PEERS for part in ("--with", peer)]
    with tempfile.TemporaryDirectory() as place:
        flat = {f"{number:05d}{Path(name).suffix}": name for number, name in enumerate(names)}
        for link, name in flat.items():
            (Path(place) / link).symlink_to(folder / name)
        said = subprocess.run(
            ["uv", "run", "--no-project", *with_peers, "python", str(script), place],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout
    for line in said.splitlines():
        if line.startswith("{"):
            answer = json.loads(line)
            pairs = [(flat[one], flat[other]) for one, other in answer["pairs"]]
            print_line(answer["name"], to_groups(pairs), truth, answer["seconds"])


def _to_pairs(groups: Iterable[Group]) -> set[tuple[str, str]]:
    return {pair for group in groups for pair in combinations(sorted(group), 2)}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--truth", type=click.Path(exists=True, path_type=Path))
@click.option("--brain", is_flag=True)
@click.option("--peers", is_flag=True)
def main(folder: Path, truth: Path | None, brain: bool, peers: bool) -> None:
    """Print the figures."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    names, prints = [], []
    embedder = load_embedder(parse_model())
    since = time.perf_counter()
    for file in files:
        try:
            prints.append(read_fingerprint(file))
        except ItemError as error:
            click.echo(f"left out: {error}")
            continue
        names.append(str(file.relative_to(folder)))
    click.echo(f"{len(names)} images; fingerprints {time.perf_counter() - since:.1f} s")
    since = time.perf_counter()
    vectors: dict[int, NDArray[np.float32]] = {}
    for rows in chunked(range(len(names)), 16):
        found = embedder.embed([embedder.prepare(read_picture(folder / names[row], embedder.side)) for row in rows])
        vectors |= dict(zip(rows, found, strict=True))
    click.echo(f"vectors of {embedder.name}: {time.perf_counter() - since:.1f} s")
    known = read_truth(folder, truth, names)
    for title, rules in (
        ("exact", Rules(("exact",))),
        ("exact, phash", Rules(("exact", "phash"))),
        ("near", Rules(("near",), DEFAULT_THRESHOLD)),
        ("near, not looked at, 0.2", Rules(("near",), 0.2, check=False)),
        ("exact, phash, near (the default)", Rules(METHODS, DEFAULT_THRESHOLD)),
    ):
        since = time.perf_counter()
        print_line(title, find_ours(names, prints, vectors, rules), known, time.perf_counter() - since)
    if brain:
        print_brain(names, vectors, folder, known)
    if peers:
        print_peers(folder, names, known)


if __name__ == "__main__":
    sys.exit(main())
