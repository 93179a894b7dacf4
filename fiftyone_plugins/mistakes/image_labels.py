"""Classes of whole images that are likely wrong: confident learning (cleanlab) on out-of-sample probabilities.

The probabilities come from a linear head on embeddings, which never judges an image it was fitted to, or from a model's
own answers. Knows no FiftyOne.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError

Floats = NDArray[np.float64]

OWN_HEAD: Final = "embeddings"
"""Where the classes of images come from that theirs are compared with; any other word is a field."""

FOLDS: Final = 5
STRENGTH: Final = 10.0
"""Inverse of the head's regularisation, for vectors of length 1."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One image's label: ``score`` 0..1, whether confident learning calls it wrong, and the class that is likelier."""

    score: float
    is_issue: bool
    suggestion: str
    suggestion_probability: float


def judge_labels(labels: Sequence[str], probabilities: Floats, classes: Sequence[str]) -> list[Judged]:
    """Return the judgement of each label; ``probabilities`` (n, classes) are out of sample and sum to 1.

    The score is 1 - the probability of the given label. Source: Northcutt et al. 2021, confident learning.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    places = {name: place for place, name in enumerate(classes)}
    given = np.array([places[label] for label in labels])
    quality = get_label_quality_scores(given, probabilities, method="self_confidence")
    # One process: its pool takes longer to start than tens of thousands of labels take.
    issues = find_label_issues(given, probabilities, n_jobs=1)
    best = probabilities.argmax(axis=1)
    return [
        Judged(float(1 - quality[row]), bool(issues[row]), classes[best[row]], float(probabilities[row, best[row]]))
        for row in range(len(labels))
    ]


def predict_out_of_sample(
    vectors: NDArray[np.float32], labels: Sequence[str], *, folds: int = FOLDS
) -> tuple[Floats, list[str]]:
    """Return what heads fitted to the other images say of each, and the classes in the order of the columns.

    Images that follow one another are in one part, as far as their classes let them: pictures of one series are often
    labelled alike, and would vouch for one another. Images whose label looks wrong in a first round are left out when
    the heads are fitted again; both rounds count.

    Raises:
        LabelingError: fewer than two classes, or a class with a single image.
    """
    from sklearn.model_selection import StratifiedKFold

    named, given, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    classes = [str(name) for name in named]
    if len(classes) < 2:
        raise LabelingError("the labels have one class: there is no other one to take it for")
    if counts.min() < 2:
        raise LabelingError(f"class {classes[int(counts.argmin())]!r} has one image: nothing can be learned of it")
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    parts = list(StratifiedKFold(min(folds, int(counts.min()))).split(unit, given))
    first = _predict(unit, given, parts, np.ones(len(given), np.bool_))
    wrong = np.array([one.is_issue for one in judge_labels(labels, first, classes)])
    return (first + _predict(unit, given, parts, ~wrong)) / 2, classes


def spread_answers(
    answers: Sequence[str], confidences: Sequence[float | None], labels: Sequence[str]
) -> tuple[Floats, list[str]]:
    """Return the probabilities that a model's answers stand for, and the classes: of labels and answers.

    A model that tells one class and its confidence leaves the rest to all others alike; without a confidence it is
    taken at its word, nearly.
    """
    classes = sorted({*labels, *answers})
    places = {name: place for place, name in enumerate(classes)}
    probabilities = np.zeros((len(answers), len(classes)))
    for row, (answer, confidence) in enumerate(zip(answers, confidences, strict=True)):
        sure = min(max(0.99 if confidence is None else float(confidence), 1e-6), 1 - 1e-6)
        probabilities[row] = (1 - sure) / max(len(classes) - 1, 1)
        probabilities[row, places[answer]] = sure
    return probabilities / probabilities.sum(axis=1, keepdims=True), classes


def _predict(
    vectors: NDArray[np.float32], given: NDArray[np.int64], parts: Sequence[Any], is_used: NDArray[np.bool_]
) -> Floats:
    from sklearn.linear_model import LogisticRegression

    probabilities = np.zeros((len(given), int(given.max()) + 1))
    for fitted, judged in parts:
        used = fitted[is_used[fitted]]
        # Where the first head calls all of a class wrong, it is the one that is.
        used = used if len(np.unique(given[used])) == probabilities.shape[1] else fitted
        head = LogisticRegression(C=STRENGTH, max_iter=300).fit(vectors[used], given[used])
        probabilities[np.ix_(judged, head.classes_)] = head.predict_proba(vectors[judged])
    return probabilities
