"""What imagededup and cleanvision find in a folder, one JSON object a line. Runs in an environment of its own.

uv run --no-project --with imagededup --with cleanvision python tests/benchmarks/duplicate_peers.py FOLDER
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable
from itertools import combinations


def tell(name: str, pairs: Iterable[tuple[str, str]], since: float) -> None:
    found = sorted({(min(pair), max(pair)) for pair in pairs})
    sys.stdout.write(json.dumps({"name": name, "pairs": found, "seconds": time.perf_counter() - since}) + "\n")
    sys.stdout.flush()


def run_imagededup(folder: str) -> None:
    from imagededup.methods import DHash, PHash

    for kind, distances in ((PHash, (4, 10)), (DHash, (4, 10))):
        hasher = kind(verbose=False)
        since = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            hashes = hasher.encode_images(folder)
        for distance in distances:
            with contextlib.redirect_stdout(sys.stderr):
                found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=distance)
            pairs = [(one, other) for one, others in found.items() for other in others]
            tell(f"imagededup {kind.__name__}, {distance}", pairs, since)


def run_cleanvision(folder: str) -> None:
    from cleanvision import Imagelab

    since = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        lab = Imagelab(data_path=folder)
        lab.find_issues({"exact_duplicates": {}, "near_duplicates": {}}, n_jobs=1)
    sets = [one for kind in lab.info for one in lab.info[kind].get("sets", [])]
    names = [[path.rsplit("/", 1)[-1] for path in some] for some in sets]
    tell("cleanvision", [pair for some in names for pair in combinations(some, 2)], since)


if __name__ == "__main__":
    for run in (run_imagededup, run_cleanvision):
        try:
            run(sys.argv[1])
        except Exception as error:  # noqa: BLE001  # one peer that fails is told of, and the other one runs
            sys.stderr.write(f"{run.__name__}: {type(error).__name__}: {error}\n")
