"""What several people agree on, on one image, and how far they do. Pure."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from labels.config import LabelConfig
from labels.geometry import ImageSize
from labels.results import Label
from sync.review.annotator_fusing import choose_class, fuse_choice, fuse_rating, fuse_shapes, fuse_ticks
from sync.review.annotator_matching import Sighting, compute_agreement, compute_reach_px, find_sightings
from sync.settings import ANNOTATOR_POLICIES, AnnotatorPolicy

Policy = AnnotatorPolicy
POLICIES: Final = ANNOTATOR_POLICIES


@dataclass(frozen=True, slots=True)
class Vote:
    """What one annotation says. A skip is no answer, and is never given here."""

    annotation_id: int
    reviewer: str
    updated_at: str
    is_ground_truth: bool
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Consensus:
    """What counts of several answers.

    ``labels`` is the label set to merge; ``leading`` the annotation that stands for the review. ``annotators`` is the
    number of people; ``agreement`` is 0..1, and None for fewer than two of them. ``left_out`` holds what people drew
    or said that is not in ``labels``, because fewer than half of them did.
    """

    labels: tuple[Label, ...]
    leading: Vote
    annotators: int
    agreement: float | None
    left_out: tuple[Label, ...] = ()

    @property
    def disagreement(self) -> float | None:
        """1 - agreement: higher is look here first."""
        return None if self.agreement is None else 1 - self.agreement


def find_consensus(answers: Sequence[Vote], policy: Policy, *, config: LabelConfig, size: ImageSize) -> Consensus:
    """Return what counts of the answers on an image of that size.

    ``latest``: the answer changed last. ``ground_truth``: the one starred in Label Studio, else the latest.
    ``agreement``: what at least half of the people drew, each object with the class most of them gave. Of one person
    the latest answer alone has a vote.

    Raises:
        ValueError: there is no answer.
    """
    if not answers:
        raise ValueError("no answer to combine")
    people = _choose_one_per_person(answers)
    agreement = _compute_mean_agreement(people, config=config, size=size) if len(people) > 1 else None
    leading = choose_leading(answers, policy)
    if policy != "agreement" or len(people) == 1:
        return Consensus(leading.labels, leading, len(people), agreement)
    reach_px = compute_reach_px(size)
    shapes, shapes_left = _fuse_shapes(people, leading, reach_px)
    said, said_left = _fuse_image_answers(people, leading, config)
    return Consensus((*shapes, *said), leading, len(people), agreement, (*shapes_left, *said_left))


def choose_leading(answers: Iterable[Vote], policy: Policy) -> Vote:
    """Return the answer that stands for the image: the starred one where that is the policy, else the latest."""
    return max(answers, key=lambda one: _rank(one, policy))


def _rank(answer: Vote, policy: Policy) -> tuple[bool, str, int]:
    return policy == "ground_truth" and answer.is_ground_truth, answer.updated_at, answer.annotation_id


def _choose_one_per_person(answers: Iterable[Vote]) -> list[Vote]:
    """Return each person's latest answer, in the order in which the annotations were made."""
    latest: dict[str, Vote] = {}
    for answer in sorted(answers, key=lambda one: (one.updated_at, one.annotation_id)):
        # Somebody whose name is not known is not the same person as the next one without a name.
        latest[answer.reviewer or f"annotation {answer.annotation_id}"] = answer
    return sorted(latest.values(), key=lambda one: one.annotation_id)


def _compute_mean_agreement(people: Sequence[Vote], *, config: LabelConfig, size: ImageSize) -> float:
    reach_px = compute_reach_px(size)
    pairs = list(itertools.combinations(people, 2))
    agreements = (compute_agreement(a.labels, b.labels, config=config, reach_px=reach_px) for a, b in pairs)
    return sum(agreements) / len(pairs)


def _fuse_shapes(people: Sequence[Vote], leading: Vote, reach_px: float) -> tuple[list[Label], list[Label]]:
    """Return the objects at least half of the people drew, and the labels that are not in them."""
    shapes = [[label for label in one.labels if label.geometry is not None] for one in people]
    by_time = sorted(range(len(people)), key=lambda person: _rank(people[person], "latest"))
    kept, left_out = list[Label](), list[Label]()
    taken: set[str] = set()
    sightings = find_sightings(shapes, reach_px=reach_px)
    ids: dict[int, str] = {}
    # The object most people drew is the first to choose its id.
    for number in sorted(range(len(sightings)), key=lambda n: -len(sightings[n].members)):
        ids[number] = _choose_id(sightings[number], taken)
        taken.add(ids[number])
    for number, sighting in enumerate(sightings):
        members = [sighting.members[person] for person in by_time if person in sighting.members]
        if len(members) * 2 < len(people):
            left_out += members
            continue
        classes = choose_class(members, sighting.members.get(people.index(leading)))
        left_out += [member for member in members if member.classes != classes]
        chosen = Label(ids[number], members[0].control, classes, fuse_shapes(members))
        kept.append(chosen)
    return kept, left_out


def _choose_id(sighting: Sighting, taken: set[str]) -> str:
    """Return the id of the prediction the shapes come from, else the one of the annotation that was made first."""
    ids = [label.id for _, label in sorted(sighting.members.items())]
    counts = Counter(ids)
    for label_id in sorted(counts, key=lambda one: (-counts[one], ids.index(one))):
        if label_id not in taken:
            return label_id
    # Two people dragged one predicted box onto two objects.
    return hashlib.sha256("\n".join((*sorted(taken & {*ids}), *ids, str(len(taken)))).encode()).hexdigest()[:24]


def _fuse_image_answers(people: Sequence[Vote], leading: Vote, config: LabelConfig) -> tuple[list[Label], list[Label]]:
    """Return what people say of the whole image, one label for each control, and the labels that say otherwise."""
    said = [{label.control: label for label in one.labels if label.geometry is None} for one in people]
    leader = said[people.index(leading)]
    kept, left_out = list[Label](), list[Label]()
    for control in [one for one in config.controls if any(one.name in answer for answer in said)]:
        answers = [answer.get(control.name) for answer in said]
        given = [answer for answer in answers if answer is not None]
        fused = replace(given[0], confidence=None)
        if control.kind == "Rating":
            rating = fuse_rating(answers)
            fused = replace(fused, rating=rating)
        elif control.is_multiple:
            ticks = fuse_ticks(answers)
            fused = replace(fused, classes=tuple(name for name in control.classes if name in ticks))
        else:
            choice = fuse_choice(answers, leader.get(control.name))
            fused = replace(fused, classes=() if choice is None else (choice,))
        if fused.classes or fused.rating is not None:
            kept.append(fused)
        left_out += [one for one in given if (sorted(one.classes), one.rating) != (sorted(fused.classes), fused.rating)]
    return kept, left_out
