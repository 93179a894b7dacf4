"""Which shapes of several people mean the same object, and how far two people agree on an image.

Pure. Matching is optimal, not greedy: in a crowd, a greedy match takes a neighbour's box and leaves two objects alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from labels.config import LabelConfig
from labels.geometry import ImageSize, Keypoint, compute_iou
from labels.results import Label

MATCH_IOU: Final = 0.5
"""From this overlap on, two shapes mean the same object."""
REACH_OF_DIAGONAL: Final = 0.02
"""Two points of one class within this part of the image's diagonal mean the same spot."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """One object, and the label of each person who drew it, by the person's number."""

    members: dict[int, Label]

    def count_classes(self) -> Counter[tuple[str, ...]]:
        """Return how many people gave it which class."""
        return Counter(label.classes for label in self.members.values())


@dataclass(frozen=True, slots=True)
class Match:
    """Two labels, by their positions, that mean the same object; ``similarity`` is 0..1."""

    first: int
    second: int
    similarity: float


def compute_reach_px(size: ImageSize) -> float:
    """Return how far apart two points may lie that mean the same spot."""
    return REACH_OF_DIAGONAL * math.hypot(size.width, size.height)


def compute_similarity(a: Label, b: Label, *, reach_px: float) -> float:
    """Return the overlap of two shapes of one control in 0..1; for points 1 on the spot and 0.5 at the reach.

    Points of two classes are two points, however near; other shapes are compared whatever their classes are.

    >>> compute_similarity(
    ...     Label("1", "nose", ("nose",), Keypoint(0, 0)), Label("2", "nose", ("nose",), Keypoint(3, 4)), reach_px=5
    ... )
    0.5
    """
    if a.control != b.control or a.geometry is None or b.geometry is None:
        return 0.0
    if isinstance(a.geometry, Keypoint) or isinstance(b.geometry, Keypoint):
        return _compute_nearness(a, b, reach_px)
    first, second = a.geometry.to_xyxy(), b.geometry.to_xyxy()
    # Outlines are costly to compare, and most pairs of an image lie apart.
    if first[0] > second[2] or second[0] > first[2] or first[1] > second[3] or second[1] > first[3]:
        return 0.0
    return compute_iou(a.geometry, b.geometry)


def _compute_nearness(a: Label, b: Label, reach_px: float) -> float:
    if not (isinstance(a.geometry, Keypoint) and isinstance(b.geometry, Keypoint)) or a.classes != b.classes:
        return 0.0
    distance_px = math.hypot(a.geometry.x - b.geometry.x, a.geometry.y - b.geometry.y)
    return max(0.0, 1 - distance_px / (2 * reach_px))


def match_pair(first: Sequence[Label], second: Sequence[Label], *, reach_px: float) -> list[Match]:
    """Return the best pairing of two people's shapes: those of one class before the others, then the best overlaps.

    Two shapes that come from the same prediction (one id) are a pair from any overlap on.
    """
    sightings = [Sighting({0: label}) for label in first]
    return _assign(sightings, second, reach_px)


def find_sightings(answers: Sequence[Sequence[Label]], *, reach_px: float) -> list[Sighting]:
    """Return the objects that several people drew, each person's shapes assigned to those of the people before.

    A shape of one person is in exactly one sighting, and a sighting has at most one shape of a person.
    """
    sightings: list[Sighting] = []
    for person, labels in enumerate(answers):
        matches = _assign(sightings, labels, reach_px)
        taken = {match.second for match in matches}
        for match in matches:
            sightings[match.first].members[person] = labels[match.second]
        sightings += [Sighting({person: label}) for number, label in enumerate(labels) if number not in taken]
    return sightings


def _assign(sightings: Sequence[Sighting], labels: Sequence[Label], reach_px: float) -> list[Match]:
    if not sightings or not labels:
        return []
    # Importing it takes longer than most of what uses it: mostly one person answers.
    from scipy.optimize import linear_sum_assignment

    similarity = np.zeros((len(sightings), len(labels)))
    score = np.zeros_like(similarity)
    for row, sighting in enumerate(sightings):
        for column, label in enumerate(labels):
            similarity[row, column] = _compare(sighting, label, reach_px)
            if similarity[row, column] > 0:
                classes = sighting.count_classes()
                # One class counts more than any overlap: a rider is not the bicycle under them.
                score[row, column] = similarity[row, column] + classes[label.classes] / classes.total()
    rows, columns = linear_sum_assignment(score, maximize=True)
    return [
        Match(int(row), int(column), float(similarity[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if similarity[row, column] > 0
    ]


def _compare(sighting: Sighting, label: Label, reach_px: float) -> float:
    """Return how well a label fits a sighting; 0: it means another object."""
    members = sighting.members.values()
    similarity = sum(compute_similarity(member, label, reach_px=reach_px) for member in members) / len(members)
    is_of_one_prediction = any(member.id == label.id for member in members)
    return similarity if similarity >= MATCH_IOU or is_of_one_prediction else 0.0


def compute_agreement(
    first: Sequence[Label], second: Sequence[Label], *, config: LabelConfig, reach_px: float
) -> float:
    """Return how far two people agree on an image, 0..1; 1 too where both say that nothing is there.

    It is the mean over everything either of them said: for an object both drew with one class their overlap, for one
    that only one of them drew, or that has two classes, 0; for an answer about the whole image how near the answers
    are. Source: the Jaccard index, with overlaps in place of ones.
    """
    shapes = [[label for label in labels if label.geometry is not None] for labels in (first, second)]
    matches = match_pair(shapes[0], shapes[1], reach_px=reach_px)
    agreed = sum(
        match.similarity for match in matches if shapes[0][match.first].classes == shapes[1][match.second].classes
    )
    said = len(shapes[0]) + len(shapes[1]) - len(matches)
    answers = [{label.control: label for label in labels if label.geometry is None} for labels in (first, second)]
    for control in sorted({*answers[0], *answers[1]}):
        agreed += _compare_answers(answers[0].get(control), answers[1].get(control), config)
        said += 1
    return agreed / said if said else 1.0


def _compare_answers(a: Label | None, b: Label | None, config: LabelConfig) -> float:
    if a is None or b is None:
        return 0.0
    if a.rating is not None and b.rating is not None:
        span = (config.control(a.control).max_rating or 1) - 1
        return max(0.0, 1 - abs(a.rating - b.rating) / span) if span else 1.0
    return len({*a.classes} & {*b.classes}) / len({*a.classes, *b.classes})
