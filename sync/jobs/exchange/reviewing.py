"""One review: what people submitted, merged with what the catalogue holds, and what became of each predicted label.

Reads nothing and writes nothing; ``sync/jobs/exchange/merging.py`` does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.geometry import ImageSize
from labels.results import Label, from_result, is_same
from sync.catalogue.samples import SampleLabels, find_cleared, is_never_looked_at
from sync.jobs.exchange.answers import name_answers
from sync.jobs.exchange.corrections import People
from sync.ledger import Link, Reading, Replaced, Review
from sync.review.annotators import Answer, Policy, choose_answer
from sync.review.feedback import Verdict, compare_review, find_version_seen
from sync.review.merge import Conflict, Merge, Side, decide, is_same_set, label_key, merge, with_bases_of
from sync.workbench.label_studio import Annotation, Task, to_timestamp

logger = logging.getLogger(__name__)

Decide = Callable[[str, Conflict], Side | None]
"""Decides a conflict of a sample for a side; None leaves it open."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger and the catalogue know of a sample before its review is read.

    ``size`` is the image's, ``ours`` what the catalogue holds (None: nobody looked), and ``ours_at`` since when at the
    latest. ``replaced`` are predictions in whose place the same version drew others. ``was_labelled``: its task had
    labels of people from the start.
    """

    link: Link
    size: ImageSize
    ours: SampleLabels | ItemError | None
    ours_at: str | None = None
    base: tuple[Label, ...] | None = None
    conflicts: tuple[Conflict, ...] = ()
    readings: Mapping[int, Reading] = field(default_factory=dict)
    pushed: Mapping[str, tuple[Label, ...]] = field(default_factory=dict)
    replaced: Sequence[Replaced] = ()
    was_labelled: bool = False


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
    answer = choose_answer(task, policy, config, known.size)
    if answer is None:
        return _skip(task, known, policy)
    if isinstance(known.ours, ItemError):
        raise known.ours
    base = _find_base(people, known, answer)
    cleared = _find_cleared(known.ours, known.base or (), base or ())
    said = () if known.ours is None else known.ours.labels
    merged = _decide(_merge(base, (*cleared, *said), answer.labels, item), known, answer, choose)
    # «Nothing here» is an answer: the sample gets an empty list where nobody had looked before.
    is_changed = merged.changed or bool(cleared) or is_never_looked_at(known.ours, config)
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
        problem="; ".join(answer.notes) or None,
    )
    return Outcome(
        link.sample_id,
        merged.labels if is_changed else None,
        (*others, review),
        is_news=is_changed or link.answers != review.answers or state != link.state,
        annotators=answer.annotators,
        disagreement=answer.disagreement,
        left_out=len(answer.left_out),
        restored=sum(label in cleared for label in merged.labels),
        notes=(*answer.notes, *notes, *problem),
    )


def _find_cleared(ours: SampleLabels | None, agreed: Sequence[Label], base: Sequence[Label]) -> tuple[Label, ...]:
    """Return what stands where a field was cleared: what was agreed, else what the answer was made from."""
    keys = {label_key(label) for label in agreed}
    return find_cleared(ours, (*agreed, *(label for label in base if label_key(label) not in keys)))


def _merge(base: Sequence[Label] | None, ours: Sequence[Label], theirs: Sequence[Label], item: str) -> Merge:
    try:
        return merge(base, ours, theirs)
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


def _skip(task: Task, known: Known, policy: Policy) -> Outcome:
    annotation = max(task.annotations, key=lambda one: one.updated_at)
    # With nobody's answer there is nothing to disagree on; the next answer is compared with the same base.
    link = known.link
    review = _to_review(task, link, annotation, fields.SKIPPED, policy)
    review = replace(review, conflicts=(), model_version=_name_no_model(known))
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
            labels = _read_labels(annotation, known, config)
        except ItemError:
            # The policy has named it already where it has a say.
            continue
        verdicts, model_version, problem = _judge(people.task, known, annotation, labels, config)
        review = _to_review(people.task, known.link, annotation, fields.REVIEWED, "latest")
        reviews.append(replace(review, verdicts=verdicts, model_version=model_version))
        notes += problem
    return reviews, tuple(notes)


def _read_labels(annotation: Annotation, known: Known, config: LabelConfig) -> tuple[Label, ...]:
    labels = from_result(annotation.result, config, item=f"task {known.link.task_id}", size=known.size)
    return tuple(replace(label, confidence=None) for label in labels)


def _read_family(people: People, known: Known, config: LabelConfig) -> Iterable[Reading]:
    """Yield what annotations say that come from one another, and those that did while the others were there."""
    for annotation in people.task.answers:
        if annotation.annotation_id in people.family or annotation.annotation_id in known.readings:
            try:
                labels = _read_labels(annotation, known, config)
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
    if shown.model_version == fields.MISTAKES_VERSION:
        # It marked what was suspicious, and is no detector's word.
        return (), _name_no_model(known), ()
    before = _find_replaced(known, annotation, shown.model_version)
    if before is not None:
        return compare_review(before, reviewed), shown.model_version, ()
    try:
        predicted = from_result(shown.result, config, item=f"task {task.task_id}, its prediction", size=known.size)
    except ItemError as error:
        return (), shown.model_version, (f"{error}; its review was merged, without feedback",)
    return compare_review(predicted, reviewed), shown.model_version, ()


def _find_replaced(known: Known, annotation: Annotation, version: str) -> tuple[Label, ...] | None:
    """Return what the version had drawn when the person began, if it has drawn anew since; None: it has not."""
    if not known.replaced:
        return None
    ended = datetime.fromisoformat(annotation.created_at or annotation.updated_at)
    began = to_timestamp(ended - timedelta(seconds=annotation.lead_time_s or 0))
    later = (one for one in known.replaced if one.model_version == version and one.until > began)
    shown = min(later, key=lambda one: one.until, default=None)
    return None if shown is None else shown.labels


def _judge_unseen(
    known: Known, annotation: Annotation, reviewed: Sequence[Label]
) -> tuple[tuple[Verdict, ...], str | None, tuple[str, ...]]:
    """Judge by what the ledger says was sent: the prediction is gone from Label Studio, or there never was one."""
    if annotation.prediction_id is None and annotation.lead_time_s is None:
        # Nobody drew it: it was imported.
        return (), _name_no_model(known), ()
    version = find_version_seen(reviewed, known.pushed)
    if version is None and annotation.prediction_id is not None:
        version = known.link.model_version
    if version is None:
        return (), _name_no_model(known), ()
    before = _find_replaced(known, annotation, version)
    predicted = known.pushed.get(version) if before is None else before
    return () if predicted is None else compare_review(predicted, reviewed), version, ()


def _name_no_model(known: Known) -> str | None:
    """Return what stands in place of a model version where the person saw no prediction."""
    return fields.SENT_LABELS if known.was_labelled else None


@contextmanager
def reporting_surprises(item: str) -> Iterator[None]:
    """Turn what nobody foresaw into an error of this item, with the traceback in the log: the others go on.

    Raises:
        ItemError: in place of any exception that is no LabelingError.
    """
    try:
        yield
    except LabelingError:
        raise
    except Exception as error:
        # One annotation's surprise must not end the pull of all the others.
        logger.exception("%s could not be read", item)
        problem = f"cannot be read, by a mistake of labelloop ({type(error).__name__}: {error}); please report it"
        raise ItemError(item, problem) from error
