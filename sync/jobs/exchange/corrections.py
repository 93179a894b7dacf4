"""Corrections: what a curator changed on a reviewed sample, on its way back to Label Studio and there.

An annotation of a person is never changed: Label Studio takes a stale write without a word, so a change of ours could
take away what somebody is drawing, and that person's next save would silently take ours away. A correction is an
annotation of its own, and the ledger knows its content. While nobody touches it, it is no word of people. When a
person changes it, it is theirs from then on, made from what was sent. A correction that was sent is not changed either,
for the same reason: the next one is another annotation.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from labels import fields
from labels.config import LabelConfig
from labels.errors import ItemError, LabelingError
from labels.report import Failure, OnProgress, ignore_progress
from labels.results import Label, from_result
from sync.catalogue.samples import SampleLabels, find_cleared, restore_cleared
from sync.jobs.context import Context
from sync.jobs.exchange.answers import has_same_answers
from sync.jobs.exchange.parcels import count_over_edge, to_failure, to_people_result
from sync.jobs.exchange.rewriting import fetch_tasks
from sync.jobs.exchange.sending import announce_correction
from sync.ledger import Correction, Link
from sync.ledger.rows import labels_to_json
from sync.review.merge import is_same_set
from sync.workbench.label_studio import Annotation, Task

NAMESPACE: Final = uuid.UUID("6f0dbd2c-3a0e-5d0c-8f5c-2f4b7f0d9a11")
TO_BE_SENT: Final = "changes of curators to be sent"
DELETED: Final = "corrections deleted in Label Studio, FiftyOne keeps the change"


@dataclass(frozen=True, slots=True)
class People:
    """A task without the corrections that nobody has touched.

    ``taken_over`` are corrections that a person has changed, by annotation id: in the task they are that person's.
    ``confirmed`` are corrections that were found, though the job that sent them ended before it knew. ``family`` are
    annotations that a correction was made from or that were corrections once: they come from one another. ``deleted``
    is the newest correction where somebody has deleted it: that takes nothing back in the catalogue.
    """

    task: Task
    taken_over: Mapping[int, Correction]
    confirmed: tuple[Correction, ...]
    family: frozenset[int]
    deleted: Correction | None = None


def leave_out_corrections(task: Task, corrections: Sequence[Correction], config: LabelConfig) -> People:
    """Return what people said of a task. Pure."""
    by_mark = {correction.mark: correction for correction in corrections}
    kept: list[Annotation] = []
    taken_over: dict[int, Correction] = {}
    confirmed: list[Correction] = []
    family: set[int] = set()
    for annotation in task.annotations:
        correction = None if annotation.import_id is None else by_mark.get(annotation.import_id)
        if annotation.import_id is not None and annotation.parent_id is not None:
            family |= {annotation.annotation_id, annotation.parent_id}
        if correction is None:
            kept.append(annotation)
        elif is_untouched(annotation, correction, config):
            found = replace(
                correction, annotation_id=annotation.annotation_id, annotation_updated_at=annotation.updated_at
            )
            confirmed += [found] if found != correction else []
        else:
            kept.append(replace(annotation, reviewer=annotation.updated_by or annotation.reviewer))
            taken_over[annotation.annotation_id] = correction
    return People(
        replace(task, annotations=tuple(kept)),
        taken_over,
        tuple(confirmed),
        frozenset(family),
        _find_deleted(task, corrections),
    )


def _find_deleted(task: Task, corrections: Sequence[Correction]) -> Correction | None:
    last = find_last(corrections)
    there = {annotation.annotation_id for annotation in task.annotations}
    return None if last is None or last.task_id != task.task_id or last.annotation_id in there else last


def find_last(corrections: Sequence[Correction]) -> Correction | None:
    """Return the correction that was sent last and is known to have arrived; None: there is none."""
    return next((one for one in reversed(corrections) if one.annotation_updated_at is not None), None)


def is_untouched(annotation: Annotation, correction: Correction, config: LabelConfig) -> bool:
    """Return whether nobody saved the annotation since it was sent."""
    if correction.annotation_id is not None:
        sent = (correction.annotation_id, correction.annotation_updated_at)
        return (annotation.annotation_id, annotation.updated_at) == sent
    # It was sent by a job that ended before it knew. Whoever saved it since may have left it as it was, or given it the
    # star: that is a person's word too.
    if annotation.was_saved_again:
        return False
    try:
        said = from_result(annotation.result, config, item=f"annotation {annotation.annotation_id}")
        return not annotation.is_skip and is_same_set(said, correction.labels)
    except LabelingError:
        return False


def is_newer(correction: Correction | None, link: Link) -> bool:
    """Return whether a correction is the newest word on its sample: people's was read before it was sent."""
    return correction is not None and (correction.annotation_updated_at or "") >= (link.annotation_updated_at or "")


@dataclass(slots=True)
class Sent:
    """What sending corrections has done so far.

    ``waiting`` counts samples that must be pulled first, ``cleared`` those of which a field was cleared, which says
    nothing, ``over_edge`` labels that were sent and reach over their image's edge.
    """

    corrections: int = 0
    waiting: int = 0
    cleared: int = 0
    over_edge: int = 0
    failed: list[Failure] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reviewed sample and what is known of it: ``labels`` are the catalogue's, ``base`` what was agreed last."""

    link: Link
    labels: tuple[Label, ...]
    base: tuple[Label, ...]
    corrections: tuple[Correction, ...]

    def is_shown(self) -> bool:
        """Whether Label Studio's newest word on the sample, a person's or ours, is what the catalogue says."""
        last = find_last(self.corrections)
        shown = last.labels if last is not None and is_newer(last, self.link) else self.base
        return is_same_set(self.labels, shown)


def send_corrections(
    context: Context, sample_ids: Sequence[str], sent: Sent, on_progress: OnProgress = ignore_progress
) -> None:
    """Send the curators' changes on these samples that Label Studio does not show; a second time does nothing."""
    candidates, done = _find_candidates(context, sample_ids, sent)
    tasks = {task.task_id: task for task in fetch_tasks(context, [one.link.task_id for one in candidates])}
    for candidate in candidates:
        on_progress(None, f"sending corrections of curators, {sent.corrections} so far")
        task = tasks.get(candidate.link.task_id)
        if task is None:
            context.ledger.record_gone([candidate.link.task_id])
            continue
        is_done = _send(context, candidate, task, sent)
        done[candidate.link.sample_id] = is_done
    context.ledger.record_due({sample_id: not is_done for sample_id, is_done in done.items()})


def find_unsent(context: Context, sample_ids: Sequence[str]) -> list[str]:
    """Return the samples of these with a curator's change that Label Studio does not show."""
    candidates, _ = _find_candidates(context, sample_ids, Sent())
    return [candidate.link.sample_id for candidate in candidates]


def _find_candidates(
    context: Context, sample_ids: Sequence[str], sent: Sent
) -> tuple[list[Candidate], dict[str, bool]]:
    """Return the reviewed samples that say something else than Label Studio shows, and which others are done with."""
    linked = context.ledger.links(sample_ids)
    links = {
        sample_id: link
        for sample_id, link in linked.items()
        if link.state == fields.REVIEWED and link.annotation_id is not None
        if not link.is_gone
    }
    # A sample that waits for people is looked at again when they have answered.
    done = {sample_id: True for sample_id, link in linked.items() if link.state != fields.REVIEWED or link.is_gone}
    ours, bases = context.dataset.labels(list(links)), context.ledger.bases(list(links))
    corrections = context.ledger.corrections(list(links))
    candidates: list[Candidate] = []
    for sample_id, link in links.items():
        said, base = ours.get(sample_id), bases.get(sample_id)
        sent.cleared += not isinstance(said, ItemError) and bool(find_cleared(said, base or ()))
        if isinstance(said, ItemError):
            sent.failed.append(Failure(said.item, said.problem, sample_id))
            done[sample_id] = False
        elif isinstance(said, SampleLabels) and base is not None:
            candidate = Candidate(link, restore_cleared(said, base), base, corrections.get(sample_id, ()))
            if _check(candidate, sent, done):
                candidates.append(candidate)
    return candidates, done


def _check(candidate: Candidate, sent: Sent, done: dict[str, bool]) -> bool:
    sample_id = candidate.link.sample_id
    try:
        done[sample_id] = candidate.is_shown()
    except LabelingError as error:
        sent.failed.append(Failure(f"sample {sample_id}", str(error), sample_id))
        done[sample_id] = False
        return False
    return not done[sample_id]


def _send(context: Context, candidate: Candidate, task: Task, sent: Sent) -> bool:
    """Send one correction; return whether nothing is left to do."""
    people = leave_out_corrections(task, candidate.corrections, context.config)
    if people.taken_over or not has_same_answers(people.task, candidate.link):
        sent.waiting += 1
        return False
    confirmed = {one.mark: one for one in people.confirmed}
    known = [confirmed.get(one.mark, one) for one in candidate.corrections]
    context.ledger.record_corrections(confirmed.values())
    lost = [one for one in known if one.annotation_id is None]
    context.ledger.record_dropped_corrections([one.mark for one in lost])
    candidate = replace(candidate, corrections=tuple(one for one in known if one.annotation_id is not None))
    if candidate.is_shown():
        return True
    link, sample_id = candidate.link, candidate.link.sample_id
    assert link.annotation_id is not None
    image = context.dataset.images([sample_id]).get(sample_id)
    if image is None:
        sent.failed.append(Failure(f"sample {sample_id}", "its size is not known", sample_id))
        return False
    try:
        result = to_people_result(candidate.labels, context.config, image.size)
    except LabelingError as error:
        sent.failed.append(to_failure(image, error))
        return False
    mark = _to_mark(candidate)
    correction = Correction(mark, sample_id, link.task_id, link.annotation_id, candidate.labels)
    # The ledger first: an annotation it did not know would pass for a person's, and our change for one that they made.
    context.ledger.record_corrections([correction])
    with announce_correction(context, link.task_id, mark):
        made = context.label_studio.send_annotation(
            link.task_id,
            result,
            unique_id=str(uuid.uuid5(NAMESPACE, str(mark))),
            import_id=mark,
            parent_id=link.annotation_id,
        )
    if made is not None:
        context.ledger.record_corrections([replace(correction, annotation_id=made[0], annotation_updated_at=made[1])])
        sent.corrections += 1
        sent.over_edge += count_over_edge(candidate.labels, image.size)
    return made is not None


def _to_mark(candidate: Candidate) -> int:
    """Return the number the correction's annotation will carry: the same for the same attempt, 62 bits."""
    link = candidate.link
    said = (link.task_id, link.annotation_id, link.annotation_updated_at, len(candidate.corrections))
    text = f"{said} {labels_to_json(candidate.labels)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 2
