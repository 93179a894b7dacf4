"""One review: what a person submitted, merged with what the catalogue holds, and what became of each predicted label.

Reads nothing and writes nothing; ``sync/jobs/pull.py`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.results import Label, from_result
from sync.feedback import Verdict, compare_review
from sync.jobs.context import Context
from sync.label_studio import Annotation, Task
from sync.ledger import Link, Review
from sync.merge import merge, resolve
from sync.samples import SampleLabels


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is to be written for one review. ``labels`` None: the catalogue holds the right ones already.

    ``is_news``: something about the sample changes by it.
    """

    sample_id: str
    labels: tuple[Label, ...] | None
    review: Review
    is_news: bool


def read_review(
    context: Context,
    task: Task,
    link: Link,
    ours: SampleLabels | ItemError | None,
    base: tuple[Label, ...] | None,
    prefer: str | None,
) -> Outcome:
    """Return what the task's review means for its sample.

    Raises:
        ItemError: the review or the sample's own labels cannot be carried; nothing is to be written then.
    """
    annotation, item = task.review, f"task {task.task_id}"
    if annotation is None:
        raise ItemError(item, "has no annotation")
    if annotation.is_skip:
        return _skip(task, link, annotation)
    if isinstance(ours, ItemError):
        raise ours
    theirs = [replace(label, confidence=None) for label in from_result(annotation.result, context.config, item=item)]
    try:
        # A field that was cleared says nothing; only an empty list says that nothing is there.
        merged = merge(base, ours.labels if ours else base or (), theirs)
    except LabelingError as error:
        raise ItemError(item, str(error)) from error
    if merged.conflicts and prefer is not None:
        merged = resolve(merged, prefer="theirs" if prefer == "reviewed" else "ours")
    # «Nothing here» is an answer: the sample gets an empty list where nobody had looked before.
    is_first_look = ours is None or not ours.has_regions
    state = fields.CONFLICT if merged.conflicts else fields.REVIEWED
    model_version, verdicts = _judge_prediction(context, task, link, annotation, theirs)
    review = replace(
        _to_review(task, link, annotation, state),
        base=merged.new_base,
        conflicts=merged.conflicts,
        verdicts=verdicts,
        model_version=model_version,
    )
    is_known = (link.annotation_id, link.annotation_updated_at) == (annotation.annotation_id, annotation.updated_at)
    return Outcome(
        link.sample_id,
        merged.labels if merged.changed or is_first_look else None,
        review,
        is_news=merged.changed or is_first_look or not is_known or state != link.state,
    )


def _skip(task: Task, link: Link, annotation: Annotation) -> Outcome:
    review = _to_review(task, link, annotation, fields.SKIPPED)
    return Outcome(link.sample_id, None, review, is_news=link.state != fields.SKIPPED)


def _to_review(task: Task, link: Link, annotation: Annotation, state: str) -> Review:
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
    )


def _judge_prediction(
    context: Context, task: Task, link: Link, annotation: Annotation, reviewed: Sequence[Label]
) -> tuple[str | None, tuple[Verdict, ...]]:
    """Return the version of the prediction the person saw, and what became of each of its labels; or nothing."""
    if annotation.prediction_id is None:
        return None, ()
    shown = next((one for one in task.predictions if one.prediction_id == annotation.prediction_id), None)
    if shown is not None:
        predicted = from_result(shown.result, context.config, item=f"task {task.task_id}, its prediction")
        return shown.model_version, compare_review(predicted, reviewed)
    if link.model_version is None:
        return None, ()
    # The prediction is gone from Label Studio; the ledger knows what was sent.
    pushed = context.ledger.pushed(link.sample_id, link.model_version)
    return link.model_version, () if pushed is None else compare_review(pushed, reviewed)
