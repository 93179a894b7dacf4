"""What cleanlab's Datalab says of labelled images: its issues, in scores and words of ours. Knows no FiftyOne.

Datalab comes with the extra ``datalab``: cleanlab without it lacks one package that nothing else here needs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

NEEDED: Final = "datasets"
HOW_TO_GET_IT: Final = "Datalab needs a package that is not installed: pip install 'cleanlab[datalab]'"
NEIGHBOURS: Final = 10
LABEL: Final = "label"
NEAR_DUPLICATE: Final = "near_duplicate"
IN_WORDS: Final[Mapping[str, str]] = {
    "outlier": "unlike all other images",
    NEAR_DUPLICATE: "nearly the same as another image",
    "non_iid": "images beside it in the dataset are like it: they do not come in random order",
    "class_imbalance": "its class is rare",
    "underperforming_group": "of a group of like images that are confused with other classes more often than the rest",
}
"""Issues beside a wrong label, which is a finding of its own, in words."""

KINDS: Final = (LABEL, *IN_WORDS)
"""All that Datalab scores."""


@dataclass(frozen=True, slots=True)
class Issues:
    """What Datalab says of one image: 1 - its score of each kind, 0..1; those it calls issues, the likeliest first.

    ``twin`` is the row of the image that it is nearly the same as; None: of none.
    """

    scores: Mapping[str, float]
    issues: tuple[str, ...]
    twin: int | None = None


def has_datalab() -> bool:
    """Return whether Datalab can be used here."""
    return find_spec(NEEDED) is not None


def find_issues(
    labels: Sequence[str], probabilities: Floats, classes: Sequence[str], vectors: NDArray[np.float32] | None
) -> list[Issues]:
    """Return what Datalab says of each image; ``probabilities`` (n, classes) are out of sample.

    Without ``vectors`` it is not asked what their neighbours tell.

    Raises:
        LabelingError: Datalab is not installed.
    """
    if not has_datalab():
        raise LabelingError(HOW_TO_GET_IT)
    from cleanlab import Datalab

    # Datalab sorts classes by name; columns are to be in that order.
    order = np.argsort(np.asarray(classes))
    lab = Datalab(data={LABEL: list(labels)}, label_name=LABEL, verbosity=0)
    given = np.isin(np.asarray(classes)[order], np.unique(labels))
    columns = probabilities[:, order][:, given]
    columns /= np.maximum(columns.sum(axis=1, keepdims=True), 1e-12)
    graph = None if vectors is None or len(vectors) <= NEIGHBOURS else _make_graph(vectors)
    # It prints what it cannot compute, such as groups among very few images.
    with redirect_stdout(StringIO()) as said:
        lab.find_issues(pred_probs=columns, knn_graph=graph)
    if said.getvalue().strip():
        logger.info("Datalab: %s", " ".join(said.getvalue().split()))
    found = lab.get_issues()
    kinds = [name for name in KINDS if f"{name}_score" in found]
    scores = np.column_stack([1 - found[f"{name}_score"].to_numpy(np.float64) for name in kinds])
    flags = np.column_stack([found[f"is_{name}_issue"].to_numpy(np.bool_) for name in kinds])
    twins = lab.get_info(NEAR_DUPLICATE)["near_duplicate_sets"] if NEAR_DUPLICATE in kinds else [()] * len(labels)
    return [_to_issues(kinds, *row) for row in zip(scores, flags, twins, strict=True)]


def describe_dataset(found: Sequence[Issues]) -> list[str]:
    """Return a line for each kind of issue that Datalab found, with how many images have it."""
    counts = {name: sum(name in one.issues for one in found) for name in IN_WORDS}
    return [f"Datalab, {name}: {count} images" for name, count in counts.items() if count]


def _make_graph(vectors: NDArray[np.float32]) -> Any:
    """Return the nearest of each as Datalab takes them: its own search compares all with all."""
    from scipy.sparse import csr_matrix

    from fiftyone_plugins.embeddings.neighbours import build_index

    index, count = build_index(vectors), len(vectors)
    found = index.search(vectors, NEIGHBOURS + 1)
    distances, indices = np.empty((count, NEIGHBOURS)), np.empty((count, NEIGHBOURS), np.int64)
    for row in range(count):
        # Among exact copies an image is not always the first that it finds.
        others = found.indices[row] != row
        distances[row] = found.distances[row][others][:NEIGHBOURS]
        indices[row] = found.indices[row][others][:NEIGHBOURS]
    starts = np.arange(0, count * NEIGHBOURS + 1, NEIGHBOURS)
    return csr_matrix((distances.ravel(), indices.ravel(), starts), shape=(count, count))


def _to_issues(kinds: Sequence[str], scores: Floats, flags: NDArray[np.bool_], twins: Sequence[int]) -> Issues:
    by_kind = {name: float(np.clip(score, 0, 1)) for name, score in zip(kinds, scores, strict=True)}
    flagged = [name for name, is_issue in zip(kinds, flags, strict=True) if is_issue and name in IN_WORDS]
    issues = tuple(sorted(flagged, key=lambda name: -by_kind[name]))
    return Issues(by_kind, issues, int(twins[0]) if len(twins) else None)
