"""Tasks that the ledger does not know: a push made them and was killed before it could record them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from labels import fields
from labels.errors import ItemError, LabelingError
from labels.report import Failure
from labels.results import Label
from sync.catalogue.samples import SamplePrediction
from sync.jobs.context import Context
from sync.jobs.datasets.ingest import complete_images
from sync.jobs.exchange.answers import name_answers, to_policy
from sync.jobs.exchange.corrections import NAMESPACE
from sync.jobs.exchange.parcels import carries, find_labels, make_parcels, to_failure, to_task
from sync.jobs.exchange.pull import CURSOR as PULL_CURSOR
from sync.jobs.exchange.rewriting import fetch_tasks
from sync.jobs.exchange.sending import announce_labels, announce_predictions
from sync.ledger import Link, Pushed
from sync.workbench.label_studio import MadeTasks, Task, TaskRef

TASKS_PER_ADOPTION: Final = 500
WAITS: Final = (
    "is another task of sample {}, whose own was deleted with conflicts open: decide them first, Label Studio's side "
    "is kept nowhere else"
)


@dataclass(slots=True)
class Adopted:
    """What became of unknown tasks: ``doubled`` are of samples that have another one, all others were recorded.

    ``failed`` are those that wait for the conflicts of their sample, and labels that cannot be sent.
    """

    doubled: list[TaskRef] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def adopt_unrecorded(context: Context) -> Adopted:
    """Record tasks that are newer than all the ledger knows.

    Label Studio numbers tasks upwards: what was made after the newest known one is all that there is to look at.
    """
    adopted = Adopted()
    new = context.label_studio.fetch_task_refs(after_id=context.ledger.max_task_id())
    for refs in chunked(new, TASKS_PER_ADOPTION):
        record_tasks(context, refs, adopted)
    return adopted


def record_tasks(context: Context, refs: Sequence[TaskRef], adopted: Adopted) -> None:
    """Record the tasks whose sample has none."""
    named = [ref for ref in refs if ref.sample_id is not None]
    links = _read_live_links(context, [ref.sample_id for ref in named if ref.sample_id])
    # To take another task would end them, and with them the only copy of what Label Studio said.
    in_conflict = context.ledger.conflicts([str(ref.sample_id) for ref in named if ref.sample_id not in links])
    waiting = [ref for ref in named if ref.sample_id in in_conflict]
    adopted.failed += [Failure(f"task {ref.task_id}", WAITS.format(ref.sample_id), ref.sample_id) for ref in waiting]
    named = [ref for ref in named if ref.sample_id not in in_conflict]
    best: dict[str, TaskRef] = {}
    for ref in named:
        # The older task is the one people may have worked on.
        kept = min(ref, best.get(str(ref.sample_id), ref), key=lambda one: (-one.annotations, one.task_id))
        best[str(ref.sample_id)] = kept
    lost = {sample_id: ref.task_id for sample_id, ref in best.items() if sample_id not in links}
    _adopt(context, lost, adopted)
    kept_ids = {link.task_id for link in links.values()} | set(lost.values())
    adopted.doubled += [ref for ref in named if ref.task_id not in kept_ids]


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
                with announce_labels(context, task_id, annotation["result"]):
                    context.label_studio.send_annotation(task_id, annotation["result"], unique_id=unique_id)


def _read_live_links(context: Context, sample_ids: Sequence[str]) -> dict[str, Link]:
    links = {key: link for key, link in context.ledger.links(sample_ids).items() if not link.is_gone}
    present = {ref.task_id for ref in context.label_studio.fetch_refs_of([one.task_id for one in links.values()])}
    return {sample_id: link for sample_id, link in links.items() if link.task_id in present}


def _adopt(context: Context, lost: Mapping[str, int], adopted: Adopted) -> None:
    if not lost:
        return
    # Whoever looks at all samples reports what cannot be read; the task is recorded all the same.
    complete_images(context.dataset, list(lost))
    present, images = context.dataset.states(list(lost)), context.dataset.images(list(lost))
    predictions, said = context.dataset.predictions(list(images)), _read_labels(context, list(images))
    links: list[Link] = []
    bases: dict[str, tuple[Label, ...]] = {}
    pushed: list[Pushed] = []
    unread: list[str] = []
    tasks = {task.task_id: task for task in fetch_tasks(context, [lost[key] for key in present])}
    tasks |= _send_left_out(context, {key: tasks[lost[key]] for key in said if lost[key] in tasks}, adopted)
    for sample_id in present:
        task = tasks.get(lost[sample_id])
        if task is None:
            continue
        image_sha256 = images[sample_id].sha256 if sample_id in images else ""
        prediction, held = predictions.get(sample_id), said.get(sample_id)
        is_ours = carries(context, task, held)
        version = _find_version(task, prediction)
        links.append(to_link(context, sample_id, image_sha256, task, version, is_ours=is_ours))
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


def _read_labels(context: Context, sample_ids: Sequence[str]) -> dict[str, tuple[Label, ...]]:
    """Return the labels that travel with samples, without those that have none or cannot be carried."""
    labels, bases = context.dataset.labels(sample_ids), context.ledger.bases(sample_ids)
    readable = [one for one in sample_ids if not isinstance(labels.get(one), ItemError)]
    found = {one: find_labels(labels.get(one), bases.get(one)) for one in readable}
    return {sample_id: held for sample_id, held in found.items() if held is not None}


def _send_left_out(context: Context, labelled: Mapping[str, Task], adopted: Adopted) -> dict[int, Task]:
    """Send what Label Studio left out of tasks, of whose making nobody heard the end, and return these as they are now.

    ``labelled`` are the tasks of samples with labels; one that says nothing of them, nor ever did, has lost them.
    """
    bases = context.ledger.bases(list(labelled))
    lacking = {key: task for key, task in labelled.items() if not task.annotations and key not in bases}
    parcels, unsendable = make_parcels(context, list(lacking)) if lacking else ([], [])
    adopted.failed += unsendable
    interface = LabelInterface(context.config.xml)
    sent: dict[int, dict[str, Any]] = {}
    for parcel in parcels:
        try:
            sent[lacking[parcel.image.sample_id].task_id] = to_task(context, parcel, interface)
        except LabelingError as error:
            adopted.failed.append(to_failure(parcel.image, error))
    complete_tasks(context, MadeTasks(tuple(sent), 0, 0), list(sent.values()))
    return {task.task_id: task for task in fetch_tasks(context, list(sent))}


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
