"""Fits a calibration to what people made of a model's boxes, and tells by held-back images whether it helps.

An example is one box: its class, its raw score, and whether people kept it. The fit is Platt's (a straight line in
log-odds) or isotonic (any rising line), of scikit-learn, one for each class with enough examples and one for the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from labels.errors import LabelingError
from ml_backend.models.calibration import SHARED, Calibration, Curve, Floats

METHODS: Final = ("platt", "isotonic")
BINS: Final = 15
FOLDS: Final = 5
# Two numbers are fitted: with fewer boxes, or nearly all of them right, chance decides over them.
MIN_EXAMPLES: Final = 50
MIN_OF_EACH: Final = 10
# An isotonic line has flat parts; a little of the raw score is mixed in, so that boxes keep their order.
RAW_SHARE: Final = 0.01
EDGE: Final = 1e-6
# A curve is kept as points, closer together where probabilities are near 0 and 1: evenly in log-odds.
CURVE_POINTS: Final = 97
CURVE_LOG_ODDS: Final = 8.0
# Weak enough not to move a fit of fifty boxes, strong enough to keep one that separates perfectly from running away.
REGULARISATION_C: Final = 100.0
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """One box of one image: what the model said of it, and whether a person agreed."""

    image: str
    class_name: str
    score: float
    is_right: bool


@dataclass(frozen=True, slots=True)
class Bin:
    """Boxes of about one probability: the mean the model gave, the share that was right, and how many they are."""

    mean_probability: float
    right_share: float
    count: int


@dataclass(frozen=True)
class Fit:
    """A calibration, and the reliability of held-back images before and after it."""

    calibration: Calibration
    before: tuple[Bin, ...]
    after: tuple[Bin, ...]


def fit_calibration(
    examples: Sequence[Example],
    *,
    model_version: str,
    method: str = "platt",
    aliases: Mapping[str, Iterable[str]] | None = None,
    label_counts: Mapping[str, int] | None = None,
) -> Fit:
    """Return a calibration; the errors are those of images that were held back from the fit, five times in turn.

    ``aliases`` gives the names under which a model may know a class. The same examples give the same calibration.

    Raises:
        LabelingError: too few boxes, or nearly all of them right or wrong.
    """
    ordered = sorted(examples, key=lambda one: (one.image, one.class_name, one.score, one.is_right))
    _check_enough(ordered)
    scores, hits = _columns(ordered)
    held_back = np.empty(len(ordered))
    for fold, rest in _split_by_image(ordered):
        curves, groups = _fit_groups([ordered[index] for index in rest], method)
        for index in fold:
            one = ordered[index]
            held_back[index] = curves[groups.get(one.class_name.lower(), SHARED)].apply(one.score)
    curves, groups = _fit_groups(ordered, method)
    named = {alias.lower(): group for name, group in groups.items() for alias in _aliases_of(name, aliases)}
    calibration = Calibration(
        model_version=model_version,
        method=method,
        groups=curves,
        classes=dict(sorted(named.items())),
        examples=len(ordered),
        error_before=compute_calibration_error(scores, hits),
        error_after=compute_calibration_error(held_back, hits),
        label_counts=dict(label_counts or {}),
    )
    return Fit(calibration, compute_bins(scores, hits), compute_bins(held_back, hits))


def compute_bins(probabilities: Floats, is_right: Flags) -> tuple[Bin, ...]:
    """Return the boxes by probability, in bins of equal width that hold any."""
    places = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(float(probabilities[rows].mean()), float(is_right[rows].mean()), int(rows.sum()))
        for rows in (places == place for place in np.unique(places))
    )


def compute_calibration_error(probabilities: Floats, is_right: Flags) -> float:
    """Return the expected calibration error in 0..1: the mean distance of said and true share, by bins of equal width.

    Source: Naeini et al. 2015, Guo et al. 2017; for boxes, right means matched by a person's box of the class.

    >>> compute_calibration_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, False, False, False])).__round__(3)
    0.25
    """
    bins = compute_bins(probabilities, is_right)
    count = sum(one.count for one in bins)
    return sum(one.count * abs(one.mean_probability - one.right_share) for one in bins) / count if count else 0.0


def fit_curve(scores: Floats, is_right: Flags, method: str) -> Curve:
    """Return the rising line that fits best.

    Raises:
        LabelingError: the method is not known.
    """
    log_odds = np.linspace(-CURVE_LOG_ODDS, CURVE_LOG_ODDS, CURVE_POINTS)
    raw: Floats = np.array([0.0, *np.round(1 / (1 + np.exp(-log_odds)), 9), 1.0])
    if method == "platt":
        probability = _fit_platt(scores, is_right, raw)
    elif method == "isotonic":
        probability = _fit_isotonic(scores, is_right, raw)
    else:
        raise LabelingError(f"method {method!r} is not known (known: {', '.join(METHODS)})")
    # Rounded for the file; a step of that size between two points keeps the line rising.
    rising = np.maximum.accumulate(np.clip(probability, 0.0, 1.0)) * (1 - 1e-4) + raw * 1e-4
    return Curve(tuple(float(value) for value in raw), tuple(round(float(value), 9) for value in rising))


def _fit_platt(scores: Floats, is_right: Flags, raw: Floats) -> Floats:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=REGULARISATION_C).fit(_to_log_odds(scores)[:, None], is_right)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope <= 0:
        # Surer boxes are more often wrong: chance, or a model that is of no use here. One share for all says just that.
        slope, offset = 0.0, float(_to_log_odds(np.array([is_right.mean()]))[0])
    return np.asarray(1.0 / (1.0 + np.exp(-(slope * _to_log_odds(raw) + offset))))


def _fit_isotonic(scores: Floats, is_right: Flags, raw: Floats) -> Floats:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(scores, is_right.astype(float))
    return np.asarray((1 - RAW_SHARE) * model.predict(raw) + RAW_SHARE * raw)


def _to_log_odds(scores: Floats) -> Floats:
    clipped = np.clip(scores, EDGE, 1 - EDGE)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _fit_groups(examples: Sequence[Example], method: str) -> tuple[dict[str, Curve], dict[str, str]]:
    """Return the curves, and the group of each class that has one of its own, lower-cased."""
    by_class: dict[str, list[Example]] = {}
    for one in examples:
        by_class.setdefault(one.class_name.lower(), []).append(one)
    own = {name: some for name, some in sorted(by_class.items()) if _is_enough(some)}
    rest = [one for one in examples if one.class_name.lower() not in own]
    shared = rest if _is_enough(rest) else examples
    curves = {name: fit_curve(*_columns(some), method) for name, some in own.items()}
    return {**curves, SHARED: fit_curve(*_columns(shared), method)}, {name: name for name in own}


def _columns(examples: Sequence[Example]) -> tuple[Floats, Flags]:
    scores = np.array([one.score for one in examples], dtype=np.float64)
    return scores, np.array([one.is_right for one in examples], dtype=np.bool_)


def _is_enough(examples: Sequence[Example]) -> bool:
    right = sum(one.is_right for one in examples)
    return len(examples) >= MIN_EXAMPLES and right >= MIN_OF_EACH and len(examples) - right >= MIN_OF_EACH


def _check_enough(examples: Sequence[Example]) -> None:
    right = sum(one.is_right for one in examples)
    images = len({one.image for one in examples})
    if not _is_enough(examples) or images < FOLDS:
        raise LabelingError(
            f"too little to calibrate with: {len(examples)} boxes on {images} reviewed images, {right} right and"
            f" {len(examples) - right} wrong (expected at least {MIN_EXAMPLES} boxes on {FOLDS} images,"
            f" {MIN_OF_EACH} of them right and {MIN_OF_EACH} wrong); review more, then try again"
        )


def _split_by_image(examples: Sequence[Example]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the held-back boxes and the others, five times: the boxes of an image stay together.

    Images go round by their number of boxes, so that the folds are of one size; each fold leaves enough to fit.
    """
    counts = Counter(one.image for one in examples)
    order = sorted(counts, key=lambda image: (-counts[image], image))
    fold_of = {image: number % FOLDS for number, image in enumerate(order)}
    for fold in range(FOLDS):
        held = [index for index, one in enumerate(examples) if fold_of[one.image] == fold]
        rest = [index for index, one in enumerate(examples) if fold_of[one.image] != fold]
        if len({examples[index].is_right for index in rest}) < 2:
            raise LabelingError("too little to calibrate with: nearly all wrong boxes are on one image; review more")
        yield held, rest


def _aliases_of(name: str, aliases: Mapping[str, Iterable[str]] | None) -> list[str]:
    return [name, *(alias for label, known in (aliases or {}).items() if label.lower() == name for alias in known)]
