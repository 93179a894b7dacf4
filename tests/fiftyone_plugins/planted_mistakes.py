"""Twelve photos with planted mistakes, what a detector sees in them, and what is found then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fiftyone_plugins.app.work import DrawnBoxes, Tools, find_work
from fiftyone_plugins.embeddings.items import read_items
from fiftyone_plugins.embeddings.store import EmbeddingStore, Key
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import Finding, list_findings
from fiftyone_plugins.mistakes.storing import read_documents
from labels.errors import ItemError
from labels.report import Report

WIDE, HIGH = 200, 100
CAR_BOX = [0.1, 0.2, 0.4, 0.4]
DOG_BOX = [0.6, 0.1, 0.2, 0.5]
# What the detector sees in every image but the last, which it cannot read.
SEEN = [("car", CAR_BOX, 0.9), ("dog", DOG_BOX, 0.95)]
LABELS: list[list[tuple[str, list[float]]] | None] = [
    *[[("car", CAR_BOX), ("dog", DOG_BOX)]] * 6,
    [("dog", CAR_BOX), ("dog", DOG_BOX)],
    [("car", CAR_BOX)],
    [("car", [0.32, 0.2, 0.4, 0.4]), ("dog", DOG_BOX)],
    [],
    None,
    [("car", CAR_BOX)],
]
SWAPPED, MISSING, SHIFTED, EMPTY, UNSEEN, BROKEN = range(6, 12)


def draw(images: Iterable[Path], *, model: str | None, score_floor: float) -> Iterator[DrawnBoxes | ItemError]:
    for path in images:
        if path.stem == str(BROKEN):
            yield ItemError(str(path), "is no image")
            continue
        sides = np.array([box for _, box, _ in SEEN], np.float32) * [WIDE, HIGH, WIDE, HIGH]
        sides[:, 2:] += sides[:, :2]
        scores = np.array([score for *_, score in SEEN], np.float32)
        yield DrawnBoxes(sides, scores, tuple(name for name, *_ in SEEN), frozenset({"car", "dog"}))


def refuse_to_draw(
    images: Iterable[Path], *, model: str | None, score_floor: float
) -> Iterator[DrawnBoxes | ItemError]:
    raise AssertionError("the detector was loaded")


def make_planted(fiftyone: Any, folder: Path) -> Any:
    """Twelve photos: six are right, then a swapped class, a missing and a shifted box, and three odd ones."""
    dataset = fiftyone.Dataset("planted")
    samples = []
    for number, said in enumerate(LABELS):
        size = fiftyone.ImageMetadata(width=WIDE, height=HIGH)
        sample = fiftyone.Sample(filepath=write_picture(folder, number), metadata=size)
        if said is not None:
            made = [fiftyone.Detection(label=name, bounding_box=box, colour="red") for name, box in said]
            sample["ground_truth"] = fiftyone.Detections(detections=made)
        samples.append(sample)
    dataset.add_samples(samples, dynamic=True, progress=False)
    return dataset


def write_picture(folder: Path, number: int) -> str:
    """Write an image to a file and return its path."""
    path = folder / f"{number}.jpg"
    Image.new("RGB", (WIDE, HIGH)).save(path)
    return str(path)


def embed_as(dataset: Any, folder: Path, vectors: NDArray[np.float32]) -> None:
    """Store vectors as those of a dataset's first images, as they are now."""
    items = list(read_items(dataset.limit(len(vectors)), None))
    ids, stamps = [item.sample_id for item in items], [item.stamps[0] for item in items]
    EmbeddingStore(folder, dataset.name).append(Key("made-up"), ids, vectors, stamps=stamps)


def run(samples: Any, folder: Path, *, has_detector: bool = True, **params: Any) -> Report:
    report = find_work("mistakes").perform(samples, params, Tools(folder, draw=draw if has_detector else None))
    samples._dataset.reload()
    return report


def read_found(dataset: Any, folder: Path, *labels: str) -> list[Finding]:
    names = labels or ("ground_truth",)
    documents = read_documents(dataset, dataset.values("id"), names)
    return list_findings(documents, names, Decisions(folder, dataset.name).kept())


def read_all(dataset: Any, folder: Path) -> dict[str, Finding]:
    return {one.kind: one for one in read_found(dataset, folder)}
