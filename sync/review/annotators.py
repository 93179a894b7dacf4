"""Several people's annotations on one task: which one counts, or what they agree on.

Reads nothing and writes nothing. What counts goes into the merge; what is left out stays in Label Studio, where it was
drawn, is counted, and raises the disagreement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labels.config import LabelConfig
from labels.errors import ItemError
from labels.geometry import ImageSize
from labels.results import Label, from_result
from sync.review.consensus import POLICIES, Policy, Vote, choose_leading, find_consensus
from sync.workbench.tasks import Annotation, Task

__all__ = ["POLICIES", "Answer", "Policy", "choose_answer"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What counts of a task's annotations.

    ``annotation`` is the one that stands for the review, ``annotators`` the number of people who answered;
    ``disagreement`` is 0..1, higher is look here first, and None for fewer than two people. ``left_out`` holds labels
    that fewer than half of the people gave. ``notes`` names annotations that cannot be read, and have no say.
    ``is_fused``: the labels are no single annotation's.
    """

    labels: tuple[Label, ...]
    annotation: Annotation
    annotators: int
    disagreement: float | None
    left_out: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    is_fused: bool = False


def choose_answer(task: Task, policy: Policy, config: LabelConfig, size: ImageSize) -> Answer | None:
    """Return what counts of a task's annotations; None where nobody answered (a skip is no answer, and no vote).

    ``size`` is that of the task's image.

    Raises:
        ItemError: an annotation that has a say cannot be carried. One that has none is noted, and not compared.
    """
    item = f"task {task.task_id}"
    annotations = {one.annotation_id: one for one in task.annotations if not one.is_skip}
    if not annotations:
        return None
    leading = choose_leading([_to_vote(one, ()) for one in annotations.values()], policy)
    votes: list[Vote] = []
    notes: list[str] = []
    for annotation in annotations.values():
        try:
            labels = from_result(annotation.result, config, item=item, size=size)
        except ItemError as error:
            if policy == "agreement" or annotation.annotation_id == leading.annotation_id:
                raise
            notes.append(f"{item}: annotation {annotation.annotation_id} is not compared with the others ({error})")
            continue
        # What a person vouches for has no confidence and no votes: these are the model's word.
        votes.append(_to_vote(annotation, [replace(label, confidence=None, votes=None) for label in labels]))
    consensus = find_consensus(votes, policy, config=config, size=size)
    return Answer(
        labels=consensus.labels,
        annotation=annotations[consensus.leading.annotation_id],
        annotators=len({one.reviewer or one.annotation_id for one in annotations.values()}),
        disagreement=consensus.disagreement,
        left_out=consensus.left_out,
        notes=tuple(notes),
        is_fused=policy == "agreement" and consensus.annotators > 1,
    )


def _to_vote(annotation: Annotation, labels: Sequence[Label]) -> Vote:
    return Vote(
        annotation_id=annotation.annotation_id,
        reviewer=annotation.reviewer,
        updated_at=annotation.updated_at,
        is_ground_truth=annotation.ground_truth,
        labels=tuple(labels),
    )
