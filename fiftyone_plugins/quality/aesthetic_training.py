"""Trains the head that expects votes of an embedding, by the earth mover's distance.

Source of the loss: Talebi and Milanfar 2018, "NIMA: Neural Image Assessment", with r = 2.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fiftyone_plugins.quality.aesthetics import GOOD_MEAN, RATINGS, Floats, Head, compute_mean
from labels.errors import LabelingError

FEWEST: Final = 20
HELD_OUT: Final = 0.2
STEPS: Final = 200
SMALL_WEIGHTS: Final = 1e-4
SMOOTH: Final = 1e-8


def train_head(model: str, unit_vectors: NDArray[Any], histograms: Floats, *, seed: int = 0) -> Head:
    """Return a head for the embeddings of a model: vectors (n, d) of length 1, votes (n, 10) as parts of 1.

    A fifth of the images is held out; the head's scores say how it does on them, beside always expecting the mean
    votes of the others. The same input gives the same head.

    Raises:
        LabelingError: too few images.
    """
    if len(unit_vectors) < FEWEST:
        raise LabelingError(f"{len(unit_vectors)} images with votes and an embedding are too few (at least {FEWEST})")
    order = np.random.default_rng(seed).permutation(len(unit_vectors))
    held_out, rest = np.split(order, [int(len(order) * HELD_OUT)])
    tried = _fit(model, unit_vectors[rest], histograms[rest])
    scores = compute_head_scores(tried, unit_vectors[held_out], histograms[held_out], usual=histograms[rest].mean(0))
    whole = _fit(model, unit_vectors, histograms)
    return Head(model, whole.centre, whole.scale, whole.weights, whole.bias, scores | {"images": float(len(order))})


def compute_emd(expected: Floats, true: Floats) -> Floats:
    """Return the earth mover's distance of each pair of votes, with r = 2: 0 is the same.

    >>> compute_emd(np.eye(10)[[0]], np.eye(10)[[0]]).tolist()
    [0.0]
    """
    apart = np.cumsum(expected, axis=1) - np.cumsum(true, axis=1)
    return np.asarray(np.sqrt((apart**2).mean(axis=1)))


def compute_head_scores(head: Head, vectors: NDArray[Any], true: Floats, *, usual: Floats) -> dict[str, float]:
    """Return how well a head does: rank correlation of means, accuracy at 6 of 10, distance, and that of ``usual``."""
    from scipy.stats import spearmanr

    expected = head.expect(vectors)
    means, true_means = compute_mean(expected), compute_mean(true)
    rank = spearmanr(means, true_means).statistic if np.ptp(true_means) and np.ptp(means) else 0.0
    return {
        "rank correlation": float(rank),
        "accuracy at 6": float(((means >= GOOD_MEAN) == (true_means >= GOOD_MEAN)).mean()),
        "distance": float(compute_emd(expected, true).mean()),
        "distance of the usual votes": float(compute_emd(np.tile(usual, (len(true), 1)), true).mean()),
    }


def _fit(model: str, vectors: NDArray[Any], histograms: Floats) -> Head:
    from scipy.optimize import minimize

    centre = vectors.mean(axis=0).astype(np.float64)
    scale = vectors.std(axis=0).astype(np.float64) + 1e-6
    # Divided by the length, so that each step says as much whatever the model.
    reach = float(np.sqrt(vectors.shape[1]))
    inputs = (vectors - centre) / scale / reach
    # From the usual votes on: what the embedding says is only how a picture differs from them.
    bias = np.log(histograms.mean(axis=0) + 1e-4)
    start = np.concatenate([np.zeros(inputs.shape[1] * RATINGS), bias])
    found = minimize(
        _compute_loss, start, (inputs, histograms), jac=True, method="L-BFGS-B", options={"maxiter": STEPS}
    )
    weights, bias = found.x[:-RATINGS].reshape(-1, RATINGS), found.x[-RATINGS:]
    return Head(model, centre, scale, weights / reach, bias, {})


def _compute_loss(numbers: Floats, inputs: Floats, histograms: Floats) -> tuple[float, Floats]:
    """Return the mean earth mover's distance with what keeps weights small, and its slope."""
    weights, bias = numbers[:-RATINGS].reshape(-1, RATINGS), numbers[-RATINGS:]
    logits = inputs @ weights + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    apart = np.cumsum(expected - histograms, axis=1)
    distances = np.sqrt((apart**2).mean(axis=1, keepdims=True) + SMOOTH)
    # Each vote counts in its own sum and in all that follow.
    by_vote = np.cumsum((apart / distances)[:, ::-1], axis=1)[:, ::-1] / (RATINGS * len(inputs))
    by_logit = expected * (by_vote - (by_vote * expected).sum(axis=1, keepdims=True))
    slope = np.concatenate([(inputs.T @ by_logit + 2 * SMALL_WEIGHTS * weights).ravel(), by_logit.sum(axis=0)])
    return float(distances.mean() + SMALL_WEIGHTS * (weights**2).sum()), slope
