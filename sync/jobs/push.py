"""Push: samples of the catalogue become tasks of Label Studio, with what the detector drew and how sure it was.

Order of writes: Label Studio, then the ledger, then the catalogue. Killed between any two, the next push finds the
tasks by the sample id they carry and goes on from there; nothing is made twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from labels.errors import LabelingError
from labels.results import Label
from sync.jobs.context import Context
from sync.jobs.ingest import complete_images
from sync.jobs.parcels import Parcel, carries, make_parcels, to_failure, to_prediction, to_pushed, to_task
from sync.jobs.states import mirror_states
from sync.label_studio import TaskRef
from sync.ledger import Link
from sync.report import Failure, OnProgress, Report, ignore_progress

TASKS_PER_IMPORT: Final = 500


@dataclass(slots=True)
class _Outcome:
    """What the push has done so far."""

    created: int = 0
    predictions_added: int = 0
    unchanged: int = 0
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    newest_version: str | None = None


def push(
    context: Context,
    *,
    sample_ids: Sequence[str] | None = None,
    tasks_per_import: int = TASKS_PER_IMPORT,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Make a task for each of the samples, or for all, that has none, and show the annotators its prediction.

    Samples whose newest prediction Label Studio does not have get it; labels people made travel as an annotation. A
    task somebody deleted in Label Studio is made again only when its sample is named. The second push changes nothing.

    Raises:
        ServiceError: Label Studio, MongoDB did not answer or refused; what was sent before stays.
    """
    on_progress(None, "comparing with Label Studio")
    outcome = _Outcome()
    unreadable = complete_images(context.dataset, sample_ids)
    refs = _refs_by_sample(context.label_studio.fetch_task_refs(), outcome)
    parcels, unsendable = make_parcels(context, sample_ids)
    outcome.failed += (*unreadable, *unsendable)
    _adopt_unrecorded(context, refs, parcels)
    links = context.ledger.links()
    new, present = _sort_out(parcels, refs, links, sample_ids, outcome)
    for done, chunk in enumerate(chunked(new, tasks_per_import)):
        on_progress(done * tasks_per_import / len(new), f"sending tasks, {done * tasks_per_import}/{len(new)}")
        _send_new(context, chunk, outcome)
    outdated = [parcel for parcel in present if links[parcel.image.sample_id].model_version != parcel.model_version]
    for chunk in chunked([parcel for parcel in outdated if parcel.prediction is not None], tasks_per_import):
        on_progress(None, f"sending {len(chunk)} new predictions")
        _send_predictions(context, chunk, links, outcome)
    _show_version(context, outcome)
    mirror_states(context)
    moved = outcome.created + outcome.predictions_added
    return Report(
        "push",
        moved=moved,
        unchanged=outcome.unchanged,
        failed=tuple(outcome.failed),
        notes=tuple(outcome.notes),
        details={"tasks created": outcome.created, "predictions added": outcome.predictions_added} if moved else {},
    )


def _refs_by_sample(refs: Iterable[TaskRef], outcome: _Outcome) -> dict[str, TaskRef]:
    found: dict[str, TaskRef] = {}
    doubled = 0
    for ref in refs:
        if ref.sample_id is None:
            continue
        # The older task is the one people may have worked on.
        kept = min(ref, found.get(ref.sample_id, ref), key=lambda one: (-one.annotations, one.task_id))
        doubled += ref.sample_id in found
        found[ref.sample_id] = kept
    if doubled:
        outcome.notes.append(f"tasks for a sample that has another task already: {doubled}")
    return found


def _sort_out(
    parcels: Iterable[Parcel],
    refs: Mapping[str, TaskRef],
    links: Mapping[str, Link],
    sample_ids: Sequence[str] | None,
    outcome: _Outcome,
) -> tuple[list[Parcel], list[Parcel]]:
    """Return the parcels that need a task, and those that have one."""
    new: list[Parcel] = []
    present: list[Parcel] = []
    gone = 0
    for parcel in parcels:
        sample_id = parcel.image.sample_id
        if sample_id in refs:
            present.append(parcel)
        elif sample_id in links and sample_ids is None:
            gone += 1
        else:
            new.append(parcel)
    if gone:
        outcome.notes.append(
            f"tasks deleted in Label Studio: {gone}; to make them again, select and send their samples"
        )
    outcome.unchanged = len(present) + gone
    # The most uncertain first: their tasks get the lowest numbers, which is the order of an unsorted list.
    new.sort(key=lambda parcel: (-_uncertainty_of(parcel), parcel.image.sample_id))
    return new, present


def _uncertainty_of(parcel: Parcel) -> float:
    return parcel.prediction.uncertainty if parcel.prediction is not None else -1.0


def _send_new(context: Context, parcels: Sequence[Parcel], outcome: _Outcome) -> None:
    interface = LabelInterface(context.config.xml)
    good: list[Parcel] = []
    tasks: list[dict[str, Any]] = []
    for parcel in parcels:
        try:
            tasks.append(to_task(context, parcel, interface))
            good.append(parcel)
        except LabelingError as error:
            outcome.failed.append(to_failure(parcel.image, error))
    if not tasks:
        return
    task_ids = context.label_studio.send_tasks(tasks)
    _record(context, dict(zip(task_ids, good, strict=True)))
    outcome.created += len(task_ids)
    outcome.newest_version = next((p.model_version for p in reversed(good) if p.prediction), outcome.newest_version)


def _record(context: Context, parcels: Mapping[int, Parcel]) -> None:
    """Record tasks that were just made. Those with people's labels are read once to know that annotation again."""
    labelled = [task_id for task_id, parcel in parcels.items() if parcel.labels is not None]
    reviews = {task.task_id: task.review for task in context.label_studio.fetch_tasks(labelled)} if labelled else {}
    links = []
    for task_id, parcel in parcels.items():
        review = reviews.get(task_id)
        links.append(
            Link(
                sample_id=parcel.image.sample_id,
                task_id=task_id,
                image_sha256=parcel.image.sha256,
                model_version=parcel.model_version,
                state=parcel.state,
                annotation_id=None if review is None else review.annotation_id,
                annotation_updated_at=None if review is None else review.updated_at,
            )
        )
    context.ledger.record_pushed(to_pushed(parcels.values()))
    context.ledger.record_bases({p.image.sample_id: p.labels for p in parcels.values() if p.labels is not None})
    context.ledger.record_links(links)


def _send_predictions(
    context: Context, parcels: Sequence[Parcel], links: Mapping[str, Link], outcome: _Outcome
) -> None:
    """Send predictions to tasks that are there; a task that has this version's already is only recorded."""
    interface = LabelInterface(context.config.xml)
    tasks = {links[parcel.image.sample_id].task_id: parcel for parcel in parcels}
    versions = {
        task.task_id: {prediction.model_version for prediction in task.predictions}
        for task in context.label_studio.fetch_tasks(list(tasks))
    }
    predictions, good = [], list[Parcel]()
    for task_id, parcel in tasks.items():
        try:
            prediction = to_prediction(context, parcel, interface) | {"task": task_id}
        except LabelingError as error:
            outcome.failed.append(to_failure(parcel.image, error))
            continue
        good.append(parcel)
        if parcel.model_version not in versions.get(task_id, set()):
            predictions.append(prediction)
    if predictions:
        context.label_studio.send_predictions(predictions)
    context.ledger.record_pushed(to_pushed(good))
    context.ledger.record_links(
        replace(links[parcel.image.sample_id], model_version=parcel.model_version) for parcel in good
    )
    outcome.predictions_added += len(predictions)
    outcome.unchanged -= len(predictions)
    outcome.newest_version = good[-1].model_version if good else outcome.newest_version


def _adopt_unrecorded(context: Context, refs: Mapping[str, TaskRef], parcels: Iterable[Parcel]) -> None:
    """Record tasks that were made by a push which was killed before it could record them."""
    known = context.ledger.links()
    lost = [parcel for parcel in parcels if _is_unrecorded(refs.get(parcel.image.sample_id), known)]
    if not lost:
        return
    by_task = {refs[parcel.image.sample_id].task_id: parcel for parcel in lost}
    links, bases, pushed = [], dict[str, tuple[Label, ...]](), list[Parcel]()
    for task in context.label_studio.fetch_tasks(list(by_task)):
        parcel = by_task[task.task_id]
        sent = {prediction.model_version for prediction in task.predictions}
        is_ours = carries(context, task, parcel.labels)
        review = task.review if is_ours else None
        links.append(
            Link(
                sample_id=parcel.image.sample_id,
                task_id=task.task_id,
                image_sha256=parcel.image.sha256,
                model_version=parcel.model_version if parcel.model_version in sent else None,
                state=parcel.state,
                annotation_id=None if review is None else review.annotation_id,
                annotation_updated_at=None if review is None else review.updated_at,
            )
        )
        if is_ours and parcel.labels is not None:
            bases[parcel.image.sample_id] = parcel.labels
        if parcel.model_version in sent:
            pushed.append(parcel)
    context.ledger.record_pushed(to_pushed(pushed))
    context.ledger.record_bases(bases)
    context.ledger.record_links(links)


def _is_unrecorded(ref: TaskRef | None, links: Mapping[str, Link]) -> bool:
    if ref is None:
        return False
    link = links.get(ref.sample_id or "")
    return link is None or link.task_id != ref.task_id


def _show_version(context: Context, outcome: _Outcome) -> None:
    """Make annotators see the predictions that were sent: until the project names their version, none is shown."""
    version = outcome.newest_version
    shown = context.label_studio.fetch_model_version()
    if version is None:
        counted = Counter(link.model_version for link in context.ledger.links().values() if link.model_version)
        version = shown if shown in counted else counted.most_common(1)[0][0] if counted else None
    if version is not None and version != shown:
        context.label_studio.send_model_version(version)
