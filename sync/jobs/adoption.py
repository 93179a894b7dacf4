"""Tasks that the ledger does not know: a push made them and was killed before it could record them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

from more_itertools import chunked

from labels import fields
from labels.errors import ItemError
from labels.results import Label
from sync.catalogue.samples import SampleLabels, SamplePrediction
from sync.jobs.answers import name_answers, to_policy
from sync.jobs.context import Context
from sync.jobs.corrections import NAMESPACE
from sync.jobs.parcels import carries
from sync.jobs.pull import CURSOR as PULL_CURSOR
from sync.jobs.rewriting import fetch_tasks
from sync.jobs.sending import announce_predictions
from sync.ledger import Link, Pushed
from sync.workbench.label_studio import MadeTasks, Task, TaskRef

REFS_PER_CHUNK: Final = 500


def adopt_unrecorded(context: Context) -> list[str]:
    """Record tasks that are newer than all the ledger knows, and return what is to be said of others.

    Label Studio numbers tasks upwards: what was made after the newest known one is all that there is to look at.
    """
    doubled = 0
    for refs in chunked(context.label_studio.fetch_task_refs(after_id=context.ledger.max_task_id()), REFS_PER_CHUNK):
        doubled += record_tasks(context, refs)
    if not doubled:
        return []
    return [f"tasks for a sample that has another task already: {doubled}; labelloop sweep says which"]


def record_tasks(context: Context, refs: Sequence[TaskRef]) -> int:
    """Record the tasks whose sample has none; return how many belong to a sample that has another one."""
    named = [ref for ref in refs if ref.sample_id is not None]
    links = _read_live_links(context, [ref.sample_id for ref in named if ref.sample_id])
    best: dict[str, TaskRef] = {}
    for ref in named:
        # The older task is the one people may have worked on.
        kept = min(ref, best.get(str(ref.sample_id), ref), key=lambda one: (-one.annotations, one.task_id))
        best[str(ref.sample_id)] = kept
    lost = {sample_id: ref.task_id for sample_id, ref in best.items() if sample_id not in links}
    _adopt(context, lost)
    kept_ids = {link.task_id for link in links.values()} | set(lost.values())
    return sum(ref.task_id not in kept_ids for ref in named)


def complete_tasks(context: Context, made: MadeTasks, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Give new tasks what was sent with them and is not there; where Label Studio kept all, nothing is asked."""
    sent = dict(zip(made.task_ids, tasks, strict=True))
    if made.predictions != sum(len(task.get("predictions", ())) for task in tasks):
        there = {one.task_id for one in context.label_studio.fetch_predictions(made.task_ids) if one.versions}
        missing = {task_id: task for task_id, task in sent.items() if task_id not in there}
        predictions = [
            one | {"task": task_id} for task_id, task in missing.items() for one in task.get("predictions", ())
        ]
        if predictions:
            with announce_predictions(context, {one["task"]: one["model_version"] for one in predictions}):
                context.label_studio.send_predictions(predictions)
    if made.annotations != sum(len(task.get("annotations", ())) for task in tasks):
        answered = {task.task_id for task in context.label_studio.fetch_tasks(made.task_ids) if task.annotations}
        for task_id, task in sent.items():
            for annotation in task.get("annotations", ()) if task_id not in answered else ():
                unique_id = str(uuid.uuid5(NAMESPACE, f"task {task_id}"))
                context.label_studio.send_annotation(task_id, annotation["result"], unique_id=unique_id)


def _read_live_links(context: Context, sample_ids: Sequence[str]) -> dict[str, Link]:
    links = {key: link for key, link in context.ledger.links(sample_ids).items() if not link.is_gone}
    present = {ref.task_id for ref in context.label_studio.fetch_refs_of([one.task_id for one in links.values()])}
    return {sample_id: link for sample_id, link in links.items() if link.task_id in present}


def _adopt(context: Context, lost: Mapping[str, int]) -> None:
    images = context.dataset.images(list(lost))
    predictions, labels = context.dataset.predictions(list(images)), context.dataset.labels(list(images))
    links: list[Link] = []
    bases: dict[str, tuple[Label, ...]] = {}
    pushed: list[Pushed] = []
    unread: list[str] = []
    tasks = {task.task_id: task for task in fetch_tasks(context, [lost[key] for key in images])}
    for sample_id, image in images.items():
        task = tasks.get(lost[sample_id])
        if task is None:
            continue
        prediction, said = predictions.get(sample_id), labels.get(sample_id)
        held = said.labels if isinstance(said, SampleLabels) else None
        is_ours = carries(context, task, held)
        version = _find_version(task, prediction)
        links.append(to_link(context, sample_id, image.sha256, task, version, is_ours=is_ours))
        if is_ours and held is not None:
            bases[sample_id] = held
        if task.annotations and not is_ours:
            unread.append(task.updated_at)
        if version is not None and isinstance(prediction, SamplePrediction):
            pushed.append(Pushed(sample_id, version, 1 - prediction.uncertainty, prediction.labels))
    _rewind_pull(context, unread)
    context.ledger.record_pushed(pushed)
    context.ledger.record_bases(bases)
    context.ledger.record_links(links)


def _rewind_pull(context: Context, changed_at: Sequence[str]) -> None:
    """Have the next pull look as far back as these times: it passed over tasks that the ledger did not know yet."""
    cursor = context.ledger.cursor(PULL_CURSOR)
    if cursor is not None and changed_at and min(changed_at) < cursor:
        context.ledger.record_cursor(PULL_CURSOR, min(changed_at))


def _find_version(task: Task, prediction: SamplePrediction | ItemError | None) -> str | None:
    if not isinstance(prediction, SamplePrediction):
        return None
    sent = {one.model_version for one in task.predictions}
    return prediction.model_version if prediction.model_version in sent else None


def to_link(
    context: Context, sample_id: str, image_sha256: str, task: Task, model_version: str | None, *, is_ours: bool
) -> Link:
    """Return the link of a task as it was just read; ``is_ours``: its annotation says what was sent with it.

    What people said besides is left for the next pull to read.
    """
    review = task.review if is_ours else None
    policy = to_policy(context.project.annotators)
    return Link(
        sample_id=sample_id,
        task_id=task.task_id,
        image_sha256=image_sha256,
        model_version=model_version,
        state=fields.REVIEWED if is_ours else fields.QUEUED,
        annotation_id=None if review is None else review.annotation_id,
        annotation_updated_at=None if review is None else review.updated_at,
        answers=None if review is None else name_answers(task, policy),
    )
