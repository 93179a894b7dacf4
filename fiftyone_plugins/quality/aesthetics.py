"""How much people would like a picture: votes as AVA counts them, and a small head that expects them of an embedding.

A head belongs to one embedding model: its vectors say nothing to another. How it is trained: ``aesthetic_training``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from more_itertools import chunked
from numpy.typing import NDArray

from fiftyone_plugins.app.work import Tools
from fiftyone_plugins.app.writing import write_values
from fiftyone_plugins.embeddings.reading import only_current, tell_outdated
from fiftyone_plugins.embeddings.store import Embeddings, EmbeddingStore
from fiftyone_plugins.quality.checks import AESTHETIC_CHECK
from labels import fields
from labels.errors import LabelingError

Floats = NDArray[np.float64]

RATINGS: Final = 10
GOOD_MEAN: Final = 6.0
"""From this mean on a picture of AVA is called good."""
HEADS: Final = "aesthetic"
SAMPLES_PER_WRITE: Final = 5000


def read_histograms(file: Path) -> dict[str, Floats]:
    """Return the votes of each image as parts of 1, by image id: ten counts, for the ratings 1 to 10.

    Expects a JSON list of ``{"image_id": …, "label": [ten counts]}``.

    Raises:
        LabelingError: the file cannot be read, or is something else.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelingError(f"{file}: cannot be read ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise LabelingError(f"{file}: expected a list of image ids with ten counts each")
    return dict(_read_row(file, number, row) for number, row in enumerate(rows))


def _read_row(file: Path, number: int, row: Any) -> tuple[str, Floats]:
    votes: Any = row.get("label") if isinstance(row, Mapping) else None
    is_list = isinstance(votes, list) and len(votes) == RATINGS
    if not is_list or not all(isinstance(vote, int | float) and vote >= 0 for vote in votes) or sum(votes) <= 0:
        raise LabelingError(f"{file}, entry {number}: expected ten counts, not all of them zero, under 'label'")
    if "image_id" not in row:
        raise LabelingError(f"{file}, entry {number}: has no 'image_id'")
    return str(row["image_id"]), np.asarray(votes, dtype=np.float64) / sum(votes)


def compute_mean(histogram: NDArray[Any]) -> Any:
    """Return the mean rating of votes, 1 to 10; of several rows one each.

    >>> compute_mean(np.array([0, 0, 0, 0, 1, 1, 0, 0, 0, 0]))
    5.5
    """
    ratings = np.arange(1, RATINGS + 1)
    means = (histogram * ratings).sum(axis=-1) / histogram.sum(axis=-1)
    return float(means) if histogram.ndim == 1 else means


def to_score(mean: float) -> float:
    """Return a mean rating as a score: 0 for the best, 1 for the worst.

    >>> to_score(10), to_score(1), to_score(5.5)
    (0.0, 1.0, 0.5)
    """
    return (RATINGS - mean) / (RATINGS - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """From an embedding to the votes it would get: ``weights`` (d, 10), ``bias`` (10), after centring and scaling.

    ``model`` made the embeddings; ``scores`` say how well it did on images it was not trained on.
    """

    model: str
    centre: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    scores: Mapping[str, float]

    def expect(self, unit_vectors: NDArray[Any]) -> Floats:
        """Return the expected votes (n, 10) of vectors of length 1."""
        logits = (unit_vectors - self.centre) / self.scale @ self.weights + self.bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)

    def write(self, folder: Path) -> Path:
        """Keep the head among the plugins' files, in place of an older one for the same embeddings."""
        file = _file_of(folder, self.model)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(
            part,
            centre=self.centre,
            scale=self.scale,
            weights=self.weights,
            bias=self.bias,
            about=np.array(json.dumps({"model": self.model, "scores": dict(self.scores)})),
        )
        part.replace(file)
        return file

    @classmethod
    def read(cls, folder: Path, model: str) -> Head | None:
        """Return the head for a model's embeddings; None: none was trained.

        Raises:
            LabelingError: its file is damaged.
        """
        file = _file_of(folder, model)
        if not file.exists():
            return None
        try:
            with np.load(file, allow_pickle=False) as content:
                about = json.loads(str(content["about"]))
                arrays = {name: content[name] for name in ("centre", "scale", "weights", "bias")}
        except (OSError, ValueError, KeyError) as error:
            raise LabelingError(f"{file}: is damaged ({error}); labelloop quality --learn makes a new one") from error
        return cls(about["model"], **arrays, scores=about["scores"])


def find_embeddings(tools: Tools, dataset: str) -> tuple[Embeddings, Head] | None:
    """Return the newest embeddings of images for which there is a head; None: there are none."""
    store = EmbeddingStore(tools.folder, dataset)
    latest = store.latest()
    for name in sorted(store.keys(), key=lambda one: one != latest):
        if store.read_key(name).field is not None:
            continue
        head = Head.read(tools.folder, store.read_key(name).model)
        if head is not None:
            return store.read(name), head
    return None


def rate_samples(samples: Any, tools: Tools) -> tuple[int, tuple[str, ...]]:
    """Write the expected rating of every sample with an embedding; return how many, and what is to be known."""
    found = find_embeddings(tools, samples._dataset.name)
    if found is None:
        return 0, ()
    embeddings, head = found
    ids = [str(sample_id) for sample_id in samples.values("id")]
    chosen = only_current(embeddings, samples)
    if not len(chosen):
        return 0, (f"no image is rated: none of them has an embedding of {head.model}", *tell_outdated(chosen))
    means = compute_mean(head.expect(chosen.normalised()))
    values: dict[str, dict[str, float | None]] = {
        sample_id: {fields.AESTHETIC_MEAN: float(mean), AESTHETIC_CHECK.field: to_score(float(mean))}
        for sample_id, mean in zip(chosen.ids.tolist(), means, strict=True)
    }
    # What was rated by a picture that is no more there is not rated.
    values |= {one: {fields.AESTHETIC_MEAN: None, AESTHETIC_CHECK.field: None} for one in chosen.outdated}
    for done, chunk in enumerate(chunked(values.items(), SAMPLES_PER_WRITE)):
        tools.on_progress(done * SAMPLES_PER_WRITE / len(values), "writing ratings")
        write_values(samples._dataset, dict(chunk))
    missing = len(ids) - len(chosen)
    notes = (f"not rated: {missing} images without an embedding of {head.model}",) if missing else ()
    return len(chosen), (*notes, *tell_outdated(chosen))


def _file_of(folder: Path, model: str) -> Path:
    return folder / HEADS / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', model)}.npz"
