"""How the next images are chosen: by the functions that choose them in a real queue, told what a model sees. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from labels.errors import LabelingError
from ml_backend.answers.uncertainty import Candidate as SeenBox
from ml_backend.answers.uncertainty import compute_uncertainties
from ml_backend.detectors import Detections
from ml_backend.training import TrainingItem
from sync.review.choosing import Candidate, Selection, choose_farthest, choose_highest, choose_random

RANDOM: Final = "random"
DIVERSITY: Final = "diversity"
UNCERTAINTIES: Final[Mapping[str, str]] = {
    "uncertainty": "u_mean",
    "corrections": "u_sum",
    "rare": "u_rare",
}
"""A strategy, and the uncertainty whose highest values it takes."""
BOTH: Final = "+"
"""Between two strategies: the first narrows the pool down, diversity spreads over what is left."""
NARROWED: Final = 4
"""So many times what is wanted is kept by the first of two strategies. Source: Ash et al. 2021 use 5 to 10."""
SHOWN_FLOOR: Final = 0.2

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known when images are chosen. ``seen`` is what the model sees on each place of the pool.

    ``labelled`` are places that are answered already, ``vectors`` (one row a place of the whole set) say what is alike.
    """

    classes: tuple[str, ...]
    items: Sequence[TrainingItem]
    pool: tuple[int, ...]
    labelled: tuple[int, ...]
    seen: Mapping[int, Detections]
    vectors: Vectors | None
    seed: int


def check_strategy(name: str) -> None:
    """Refuse a strategy nobody knows.

    Raises:
        LabelingError: it is none.
    """
    known = {RANDOM, DIVERSITY, *UNCERTAINTIES, *(f"{one}{BOTH}{DIVERSITY}" for one in UNCERTAINTIES)}
    if name not in known:
        raise LabelingError(f"strategy {name!r} is not known (known: {', '.join(sorted(known))})")


def needs_vectors(name: str) -> bool:
    """Return whether a strategy asks what images look alike.

    >>> needs_vectors("uncertainty+diversity"), needs_vectors("rare")
    (True, False)
    """
    return DIVERSITY in name


def choose_next(name: str, situation: Situation, count: int) -> tuple[int, ...]:
    """Return the places of the pool that are labelled next, up to ``count``."""
    if name == RANDOM:
        candidates = [Candidate(str(place)) for place in situation.pool]
        return _places(choose_random(candidates, [], count, seed=situation.seed))
    first, _, second = name.partition(BOTH)
    if first == DIVERSITY:
        return _spread(situation, situation.pool, count)
    ranked = _rank(first, situation)
    if not second:
        return _places(choose_highest(ranked, [], count))
    narrowed = _places(choose_highest(ranked, [], NARROWED * count))
    return _spread(situation, narrowed, count)


def _rank(name: str, situation: Situation) -> list[Candidate]:
    counts = Counter(situation.classes[box.class_id] for at in situation.labelled for box in situation.items[at].boxes)
    reviewed = {label: counts[label] for label in situation.classes}
    ranked = []
    for place in situation.pool:
        found = situation.seen[place]
        boxes = [
            SeenBox(situation.classes[class_id], float(score), bool(score >= SHOWN_FLOOR))
            for class_id, score in zip(found.class_ids, found.scores, strict=True)
        ]
        scores = compute_uncertainties(boxes, label_counts=reviewed)
        ranked.append(Candidate(str(place), scores.choose(UNCERTAINTIES[name])[1]))
    return ranked


def _spread(situation: Situation, places: Sequence[int], count: int) -> tuple[int, ...]:
    vectors = situation.vectors
    assert vectors is not None, "a strategy that spreads was given no vectors"

    def describe(place: int) -> Candidate:
        return Candidate(str(place), embedding=tuple(vectors[place]))

    answered = [describe(place) for place in situation.labelled]
    return _places(choose_farthest([describe(place) for place in places], [], answered, count))


def _places(selection: Selection) -> tuple[int, ...]:
    return tuple(int(one.sample_id) for one in selection.chosen)
