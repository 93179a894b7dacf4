"""How unsure a detector is of one image: four scores in 0..1, higher = look here first, and two habits to compare with.

All are made from probabilities that mean what they say (``models/calibration.py``). Label Studio hands out the
lowest prediction score first, so a prediction's score is 1 - uncertainty. None means not computed; «nothing found» has
a value of its own. What each is good for: ``docs/uncertainty.md``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

# An image where nothing is found is either empty or entirely missed, and its probabilities cannot tell which. In the
# middle it comes after the images whose boxes are mostly doubtful and before those whose boxes are mostly sure, so that
# neither a folder of empty photos fills the front of the queue nor a missed photo waits at its end.
NOTHING_FOUND_UNCERTAINTY: Final = 0.5
# Below this a box is noise of the detector, whatever the image shows.
CANDIDATE_FLOOR: Final = 0.05
# More candidates than these say that a scene is crowded, not how wrong the boxes are.
MAX_CANDIDATES: Final = 100
# The expected number of corrections that ``u_sum`` maps to 0.5, the value of «nothing found»: about that of the median
# image (5.4 for yolo11n on coco128), so that such an image comes in the middle here too.
HALFWAY_CORRECTIONS: Final = 5.0
# Two boxes that overlap less are no two views of one object.
MATCH_IOU: Final = 0.5

DEFAULT_SCORE: Final = "u_mean"
SCORE_NAMES: Final = ("u_mean", "u_sum", "u_disagree", "u_rare")


class View(Protocol):
    """What one look at an image found: a flipped view of it, or one member of an ensemble."""

    @property
    def xyxy(self) -> npt.NDArray[np.float32]:
        """Boxes (n, 4) in pixels."""

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """Probabilities (n,) in 0..1."""

    @property
    def class_ids(self) -> npt.NDArray[np.int64]:
        """Class ids (n,)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing the detector may have found: its label, its probability, and whether an annotator sees it."""

    label: str
    probability: float
    is_shown: bool


@dataclass(frozen=True, slots=True)
class Uncertainties:
    """All that is said of one image. ``corrections`` is the expected number of wrong or missing boxes: an effort, 0..∞.

    ``u_disagree`` is None where there was one view only, ``u_rare`` where nobody told how often classes were reviewed.
    ``least_confidence`` and ``mean_entropy`` are the habits of image classification, to compare with.
    """

    u_mean: float
    u_sum: float
    u_disagree: float | None
    u_rare: float | None
    corrections: float
    least_confidence: float
    mean_entropy: float

    def choose(self, name: str) -> tuple[str, float]:
        """Return the score of that name, or ``u_mean`` where it was not computed, and the name of what is returned."""
        value = asdict(self)[name]
        return (DEFAULT_SCORE, self.u_mean) if value is None else (name, value)


def compute_uncertainties(
    candidates: Sequence[Candidate],
    *,
    disagreement: float | None = None,
    label_counts: Mapping[str, int] | None = None,
) -> Uncertainties:
    """Return every score of an image.

    ``disagreement`` is that of ``compute_disagreement``; ``label_counts`` says how many regions of each label people
    have reviewed.

    Raises:
        ValueError: a probability outside 0..1.

    >>> scores = compute_uncertainties([Candidate("car", 0.75, True), Candidate("car", 0.5, True)])
    >>> scores.u_mean, scores.u_disagree
    (0.375, None)
    """
    shown = [candidate for candidate in candidates if candidate.is_shown]
    probabilities = [candidate.probability for candidate in candidates]
    return Uncertainties(
        u_mean=compute_u_mean([candidate.probability for candidate in shown]),
        u_sum=compute_u_sum(probabilities),
        u_disagree=disagreement,
        u_rare=None if label_counts is None else compute_u_rare(shown, label_counts),
        corrections=compute_corrections(probabilities),
        least_confidence=compute_least_confidence(probabilities),
        mean_entropy=compute_mean_entropy(probabilities),
    )


def compute_u_mean(probabilities: Sequence[float]) -> float:
    """Return 1 - the mean probability of the boxes shown; ``NOTHING_FOUND_UNCERTAINTY`` where there is none.

    Source: least confidence (Lewis & Gale 1994), averaged over boxes as in Brust et al. 2019. Of a dozen cheap scores
    it found the most mistakes for each box a person has to look at.

    Raises:
        ValueError: a probability outside 0..1.

    >>> compute_u_mean([0.75, 0.25])
    0.5
    >>> compute_u_mean([])
    0.5
    """
    _check(probabilities)
    if not probabilities:
        return NOTHING_FOUND_UNCERTAINTY
    # The mean of ones can come out a hair above one.
    return max(0.0, 1.0 - math.fsum(probabilities) / len(probabilities))


def compute_corrections(probabilities: Sequence[float]) -> float:
    """Return the summed binary entropy, in bits, of the boxes above ``CANDIDATE_FLOOR``; 0.0 where there is none.

    Source: entropy summed over boxes (Brust et al. 2019). It goes with the number of wrong and missing boxes of an
    image, which is what a person has to correct; the most probable ``MAX_CANDIDATES`` boxes count.

    >>> compute_corrections([0.5, 0.5, 1.0, 0.01])
    2.0
    """
    return math.fsum(map(_compute_entropy, _select_candidates(probabilities)))


def compute_u_sum(probabilities: Sequence[float]) -> float:
    """Return the expected corrections c as c / (c + ``HALFWAY_CORRECTIONS``), which keeps their order in 0..1.

    Where no box is above ``CANDIDATE_FLOOR`` it is ``NOTHING_FOUND_UNCERTAINTY``: there is nothing to add up.

    >>> compute_u_sum([0.5] * 5), compute_u_sum([1.0]), compute_u_sum([])
    (0.5, 0.0, 0.5)
    """
    if not _select_candidates(probabilities):
        return NOTHING_FOUND_UNCERTAINTY
    corrections = compute_corrections(probabilities)
    return corrections / (corrections + HALFWAY_CORRECTIONS)


def compute_u_rare(shown: Sequence[Candidate], label_counts: Mapping[str, int]) -> float:
    """Return the mean over the boxes shown of (1 - probability) x the rarity of the box's label.

    Where nothing is shown it is ``NOTHING_FOUND_UNCERTAINTY`` x the mean rarity of what people reviewed, so that such
    images keep their place in the middle. Source: ``u_mean``, weighted as repeat-factor sampling does (Gupta et al.
    2019).

    >>> compute_u_rare([Candidate("car", 0.5, True), Candidate("bus", 0.5, True)], {"car": 15, "bus": 0})
    0.3125
    """
    if shown:
        _check([candidate.probability for candidate in shown])
        weighted = [(1.0 - one.probability) * compute_rarity(one.label, label_counts) for one in shown]
        return math.fsum(weighted) / len(shown)
    reviewed = sum(label_counts.values())
    if reviewed == 0:
        return NOTHING_FOUND_UNCERTAINTY
    rarity = math.fsum(count * compute_rarity(label, label_counts) for label, count in label_counts.items()) / reviewed
    return NOTHING_FOUND_UNCERTAINTY * min(rarity, 1.0)


def compute_rarity(label: str, label_counts: Mapping[str, int]) -> float:
    """Return sqrt((1 + fewest) / (1 + count)) in 0..1: 1 for the label reviewed least often, or never.

    >>> compute_rarity("car", {"car": 15, "bus": 0}), compute_rarity("bus", {"car": 15, "bus": 0})
    (0.25, 1.0)
    """
    count = label_counts.get(label, 0)
    return math.sqrt((1 + min(count, min(label_counts.values(), default=0))) / (1 + count))


def compute_disagreement(
    views: Sequence[View], *, thresholds: Mapping[int, float] | None = None, shown_floor: float = 0.2
) -> float | None:
    """Return how little two or more looks at one image agree, in 0..1; None where there was one look only.

    For each pair of views: the boxes of one class are matched, best overlap first; a pair of boxes disagrees by
    1 - IoU x (lower score / higher score), a box without a match entirely. The mean is over the boxes that at least one
    of the two views shows, from the threshold of their class on (by class id, else ``shown_floor``); where none shows
    any it is ``NOTHING_FOUND_UNCERTAINTY``.

    Source: query by committee (Haussmann et al. 2020) and consistency under augmentation (CALD, Yu et al. 2021).
    """
    if len(views) < 2:
        return None

    def is_shown(score: float, class_id: np.int64) -> bool:
        # Scores are float32: one at the threshold is shown, here as in the result.
        return score >= float(np.float32((thresholds or {}).get(int(class_id), shown_floor)))

    pairs = [_compare(first, second, is_shown) for first, second in itertools.combinations(views, 2)]
    doubts = [doubt for pair in pairs for doubt in pair]
    return math.fsum(doubts) / len(doubts) if doubts else NOTHING_FOUND_UNCERTAINTY


def compute_least_confidence(probabilities: Sequence[float]) -> float:
    """Return 1 - the highest probability: a habit of image classification, near useless for detection.

    >>> compute_least_confidence([0.25, 0.75])
    0.25
    """
    _check(probabilities)
    return 1.0 - max(probabilities) if probabilities else NOTHING_FOUND_UNCERTAINTY


def compute_mean_entropy(probabilities: Sequence[float]) -> float:
    """Return the mean binary entropy of the boxes above ``CANDIDATE_FLOOR``, in bits: likewise near useless.

    >>> compute_mean_entropy([0.5, 1.0, 0.01])
    0.5
    """
    candidates = _select_candidates(probabilities)
    if not candidates:
        return NOTHING_FOUND_UNCERTAINTY
    return math.fsum(map(_compute_entropy, candidates)) / len(candidates)


def to_score(uncertainty: float) -> float:
    """Return the prediction score that stands for an uncertainty: higher = surer.

    >>> to_score(0.25)
    0.75
    """
    return 1.0 - uncertainty


def _check(probabilities: Sequence[float]) -> None:
    for probability in probabilities:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability {probability!r} is not in 0..1")


def _select_candidates(probabilities: Sequence[float]) -> list[float]:
    _check(probabilities)
    return sorted((p for p in probabilities if p > CANDIDATE_FLOOR), reverse=True)[:MAX_CANDIDATES]


def _compute_entropy(probability: float) -> float:
    if probability in (0.0, 1.0):
        return 0.0
    rest = 1.0 - probability
    return -probability * math.log2(probability) - rest * math.log2(rest)


def _compare(first: View, second: View, is_shown: Callable[[float, np.int64], bool]) -> list[float]:
    """Return the doubt about each object that at least one of the two views shows."""
    overlap = compute_iou_matrix(first.xyxy, second.xyxy)
    overlap[first.class_ids[:, None] != second.class_ids[None, :]] = 0.0
    doubts: list[float] = []
    free_first, free_second = set(range(len(first.scores))), set(range(len(second.scores)))
    # The best overlap first; equal ones in the order of the boxes, so that the same boxes give the same number.
    for place in np.argsort(-overlap, axis=None, kind="stable"):
        row, column = (int(index) for index in np.unravel_index(place, overlap.shape))
        if overlap[row, column] < MATCH_IOU:
            break
        if row in free_first and column in free_second:
            free_first.remove(row)
            free_second.remove(column)
            low, high = sorted((float(first.scores[row]), float(second.scores[column])))
            if is_shown(high, first.class_ids[row]):
                doubts.append(1.0 - float(overlap[row, column]) * (low / high))
    alone = [(first, row) for row in free_first] + [(second, row) for row in free_second]
    return doubts + [1.0 for view, row in alone if is_shown(float(view.scores[row]), view.class_ids[row])]


def compute_iou_matrix(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the IoU in 0..1 of every box (n, 4) with every other (m, 4); boxes without an area overlap nothing.

    >>> compute_iou_matrix(np.array([[0.0, 0, 2, 1]]), np.array([[1.0, 0, 3, 1], [0, 0, 2, 1]])).round(3).tolist()
    [[0.333, 1.0]]
    """
    a, b = first.astype(np.float64)[:, None, :], second.astype(np.float64)[None, :, :]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0.0), axis=-1)
    union = _compute_areas(a) + _compute_areas(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), dtype=np.float64)


def _compute_areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    areas: npt.NDArray[np.float64] = np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)
    return areas
