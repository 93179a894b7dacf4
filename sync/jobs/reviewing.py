"""One review: what people submitted, merged with what the catalogue holds, and what became of each predicted label.

Reads nothing and writes nothing; ``sync/jobs/pull.py`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.results import Label, from_result, is_same
from sync.catalogue.samples import SampleLabels, find_cleared, restore_cleared
from sync.jobs.answers import name_answers
from sync.jobs.corrections import People
from sync.ledger import Link, Reading, Review
from sync.review.annotators import Answer, Policy, choose_answer
from sync.review.feedback import Verdict, compare_review, find_version_seen
from sync.review.merge import Conflict, Merge, Side, decide, is_same_set, merge, with_bases_of
from sync.workbench.label_studio import Annotation, Task

Decide = Callable[[str, Conflict], Side | None]
"""Decides a conflict of a sample for a side; None leaves it open."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger and the catalogue know of a sample before its review is read.

    ``ours`` is what the catalogue holds (None: nobody looked), and ``ours_at`` since when at the latest.
    """

    link: Link
    ours: SampleLabels | ItemError | None
    ours_at: str | None = None
    base: tuple[Label, ...] | None = None
    conflicts: tuple[Conflict, ...] = ()
    readings: Mapping[int, Reading] = field(default_factory=dict)
    pushed: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be written for one review. ``labels`` None: the catalogue holds the right ones already.

    ``reviews`` has one entry for each annotation, the one that stands for the sample last. ``is_news``: something about
    the sample changes by it. ``left_out`` counts labels that only a minority of the annotators gave, ``restored`` those
    that come back because their field was cleared in the catalogue, which says nothing.
    """

    sample_id: str
    labels: tuple[Label, ...] | None
    reviews: tuple[Review, ...]
    is_news: bool
    annotators: int | None = None
    disagreement: float | None = None
    left_out: int = 0
    restored: int = 0
    notes: tuple[str, ...] = ()

    @property
    def review(self) -> Review:
        """The review that stands for the sample."""
        return self.reviews[-1]


def read_review(people: People, known: Known, config: LabelConfig, policy: Policy, choose: Decide) -> Outcome:
    """Return what the task's review means for its sample.

    Raises:
        ItemError: the review or the sample's own labels cannot be carried; nothing is to be written then.
    """
    task, link, item = people.task, known.link, f"task {people.task.task_id}"
    answer = choose_answer(task, policy, config)
    if answer is None:
        return _skip(task, link, policy)
    if isinstance(known.ours, ItemError):
        raise known.ours
    merged = _decide(_merge(people, known, answer, item), known, answer, choose)
    # «Nothing here» is an answer: the sample gets an empty list where nobody had looked before.
    cleared = {label.id for label in find_cleared(known.ours, known.base or ())}
    is_first_look = known.ours is None or not known.ours.has_regions or bool(cleared)
    state = fields.CONFLICT if merged.conflicts else fields.REVIEWED
    others, notes = _review_others(people, known, answer, config)
    verdicts, model_version, problem = _judge(task, known, answer.annotation, answer.labels, config)
    review = replace(
        _to_review(task, link, answer.annotation, state, policy),
        base=merged.new_base,
        conflicts=merged.conflicts,
        verdicts=verdicts,
        model_version=model_version,
        correction_due=not merged.conflicts and not is_same_set(merged.labels, answer.labels),
        readings=tuple(_read_family(people, known, config)),
        taken_over=tuple(correction.mark for correction in people.taken_over.values()),
    )
    return Outcome(
        link.sample_id,
        merged.labels if merged.changed or is_first_look else None,
        (*others, review),
        is_news=merged.changed or is_first_look or link.answers != review.answers or state != link.state,
        annotators=answer.annotators,
        disagreement=answer.disagreement,
        left_out=len(answer.left_out),
        restored=sum(label.id in cleared for label in merged.labels),
        notes=(*answer.notes, *notes, *problem),
    )


def _merge(people: People, known: Known, answer: Answer, item: str) -> Merge:
    base = _find_base(people, known, answer)
    try:
        ours = None if isinstance(known.ours, ItemError) else known.ours
        return merge(base, restore_cleared(ours, base or ()), answer.labels)
    except LabelingError as error:
        raise ItemError(item, str(error)) from error


def _find_base(people: People, known: Known, answer: Answer) -> tuple[Label, ...] | None:
    """Return what the answer was made from: its author changed that, and nothing else.

    Mostly it is what both sides last agreed on. A correction of ours that a person changed was made from what was sent;
    and when the annotation it had corrected is changed after it, that one was made from what it said before.
    """
    annotation = answer.annotation
    if answer.is_fused or annotation.annotation_id == known.link.annotation_id:
        return known.base
    if annotation.annotation_id in people.taken_over:
        return with_bases_of(people.taken_over[annotation.annotation_id].labels, known.conflicts)
    if annotation.annotation_id in known.readings:
        return with_bases_of(known.readings[annotation.annotation_id].labels, known.conflicts)
    return known.base


def _decide(merged: Merge, known: Known, answer: Answer, choose: Decide) -> Merge:
    before = {conflict.label_id: conflict for conflict in known.conflicts}
    dated = tuple(
        _date(conflict, before.get(conflict.label_id), known.ours_at, answer.annotation.updated_at)
        for conflict in merged.conflicts
    )
    return decide(replace(merged, conflicts=dated), lambda conflict: choose(known.link.sample_id, conflict))


def _date(conflict: Conflict, before: Conflict | None, ours_at: str | None, theirs_at: str) -> Conflict:
    """Return the conflict with the time since when each side says what it says; a side that did not move keeps its own.

    Finding a conflict changes the sample (its state, its tag), so the time of the first finding is the one to keep.
    """
    if before is not None and is_equal(before.ours, conflict.ours):
        ours_at = before.ours_at
    if before is not None and is_equal(before.theirs, conflict.theirs):
        theirs_at = before.theirs_at or theirs_at
    return replace(conflict, ours_at=ours_at, theirs_at=theirs_at)


def is_equal(one: Label | None, other: Label | None) -> bool:
    """Return whether two versions of a label say the same; None: the label is not there."""
    return one is other if one is None or other is None else is_same(one, other)


def _skip(task: Task, link: Link, policy: Policy) -> Outcome:
    annotation = max(task.annotations, key=lambda one: one.updated_at)
    # With nobody's answer there is nothing to disagree on; the next answer is compared with the same base.
    review = replace(_to_review(task, link, annotation, fields.SKIPPED, policy), conflicts=())
    return Outcome(link.sample_id, None, (review,), is_news=link.state != fields.SKIPPED)


def _to_review(task: Task, link: Link, annotation: Annotation, state: str, policy: Policy) -> Review:
    """Return who said something, when, and on what; it leaves base and conflicts as they are."""
    return Review(
        sample_id=link.sample_id,
        task_id=task.task_id,
        annotation_id=annotation.annotation_id,
        annotation_updated_at=annotation.updated_at,
        reviewer=annotation.reviewer,
        lead_time_s=annotation.lead_time_s,
        state=state,
        base=None,
        conflicts=None,
        task_updated_at=task.updated_at,
        answers=name_answers(task, policy),
    )


def _review_others(
    people: People, known: Known, answer: Answer, config: LabelConfig
) -> tuple[list[Review], tuple[str, ...]]:
    """Return the reviews of the annotations that do not stand for the sample; their word on the prediction counts."""
    reviews, notes = list[Review](), list[str]()
    for annotation in people.task.answers:
        if annotation.annotation_id == answer.annotation.annotation_id:
            continue
        try:
            labels = _read_labels(annotation, config, f"task {people.task.task_id}")
        except ItemError:
            # The policy has named it already where it has a say.
            continue
        verdicts, model_version, problem = _judge(people.task, known, annotation, labels, config)
        review = _to_review(people.task, known.link, annotation, fields.REVIEWED, "latest")
        reviews.append(replace(review, verdicts=verdicts, model_version=model_version))
        notes += problem
    return reviews, tuple(notes)


def _read_labels(annotation: Annotation, config: LabelConfig, item: str) -> tuple[Label, ...]:
    return tuple(replace(label, confidence=None) for label in from_result(annotation.result, config, item=item))


def _read_family(people: People, known: Known, config: LabelConfig) -> Iterable[Reading]:
    """Yield what annotations say that come from one another, and those that did while the others were there."""
    for annotation in people.task.answers:
        if annotation.annotation_id in people.family or annotation.annotation_id in known.readings:
            try:
                labels = _read_labels(annotation, config, f"task {people.task.task_id}")
            except ItemError:
                continue
            yield Reading(annotation.annotation_id, known.link.sample_id, labels)


def _judge(
    task: Task, known: Known, annotation: Annotation, reviewed: Sequence[Label], config: LabelConfig
) -> tuple[tuple[Verdict, ...], str | None, tuple[str, ...]]:
    """Return what became of each label of the prediction the person saw, its version, and what kept it from being read.

    A prediction that cannot be read keeps no review from being merged.
    """
    shown = next((one for one in task.predictions if one.prediction_id == annotation.prediction_id), None)
    if shown is None:
        return _judge_unseen(known, annotation, reviewed)
    try:
        predicted = from_result(shown.result, config, item=f"task {task.task_id}, its prediction")
    except ItemError as error:
        return (), shown.model_version, (f"{error}; its review was merged, without feedback",)
    return compare_review(predicted, reviewed), shown.model_version, ()


def _judge_unseen(
    known: Known, annotation: Annotation, reviewed: Sequence[Label]
) -> tuple[tuple[Verdict, ...], str | None, tuple[str, ...]]:
    """Judge by what the ledger says was sent: the prediction is gone from Label Studio, or there never was one."""
    if annotation.prediction_id is None and annotation.lead_time_s is None:
        # Nobody drew it: it was imported.
        return (), None, ()
    version = find_version_seen(reviewed, known.pushed)
    if version is None and annotation.prediction_id is not None:
        version = known.link.model_version
    if version is None:
        return (), None, ()
    return compare_review(known.pushed[version], reviewed) if version in known.pushed else (), version, ()
