"""Push: samples of the catalogue become tasks of Label Studio, with what the detector drew and how sure it was.

Order of writes: Label Studio, then the ledger, then the catalogue. Killed between any two, the next push finds the
tasks by their ids, which are higher than all it knows, and goes on from there; nothing is made twice. Killed while
Label Studio was making them, the next push waits for that. What it costs depends on what is new or changed since the
last push, not on how many tasks there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from label_studio_sdk.label_interface.interface import LabelInterface
from more_itertools import chunked

from labels import fields
from labels.errors import LabelingError
from labels.report import Failure, OnProgress, Report, ignore_progress
from labels.results import Label
from sync.jobs.context import Context
from sync.jobs.datasets.ingest import complete_images
from sync.jobs.exchange.adoption import adopt_unrecorded, complete_tasks, to_link
from sync.jobs.exchange.corrections import Sent, send_corrections
from sync.jobs.exchange.marks import MARKED, Marked, read_suspected, send_marks
from sync.jobs.exchange.parcels import Parcel, carries, count_over_edge, make_parcels, to_failure, to_pushed, to_task
from sync.jobs.exchange.sending import announce_tasks, await_sent
from sync.jobs.exchange.shown_predictions import SentPredictions, send_predictions_to, show_version
from sync.jobs.exchange.states import mirror_states
from sync.ledger import PUSH_CURSOR, Link
from sync.workbench.label_studio import to_timestamp

# Other programs stamp their changes with clocks of their own, and write them a while after. What is stamped with
# another time altogether, the sweep finds.
OVERLAP: Final = timedelta(minutes=2)
TASKS_PER_IMPORT: Final = 500
SAMPLES_PER_CHUNK: Final = 1000


@dataclass(slots=True)
class _Outcome:
    """What the push has done so far."""

    created: int = 0
    predictions_added: int = 0
    over_edge: int = 0
    marks: Marked = field(default_factory=Marked)
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    newest_version: str | None = None
    corrections: Sent = field(default_factory=Sent)

    def add(self, sent: SentPredictions) -> None:
        """Count predictions that were sent."""
        self.predictions_added += sent.sent
        self.failed += sent.failed
        self.newest_version = sent.newest_version or self.newest_version

    def add_marks(self, marked: Marked) -> None:
        """Count tasks on which mistakes were marked."""
        self.marks = marked
        self.failed += marked.failed
        if marked.without:
            self.notes.append(f"nothing to mark: {marked.without}; marked are boxes of annotations in Label Studio")


def push(
    context: Context,
    *,
    sample_ids: Sequence[str] | None = None,
    mark_mistakes: bool = False,
    tasks_per_import: int = TASKS_PER_IMPORT,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Make a task for each of the samples, or for all, that has none, and show the annotators its prediction.

    Samples whose newest prediction Label Studio does not have get it; labels people made travel as an annotation; what
    a curator changed on a reviewed sample is sent as a correction. A task somebody deleted in Label Studio is made
    again only when its sample is named. The second push changes nothing. ``mark_mistakes``: what is likely wrong on the
    samples, or on all that are tagged so, is marked there as well.

    Raises:
        ServiceError: Label Studio, MongoDB did not answer or refused; what was sent before stays.
    """
    on_progress(None, "comparing with Label Studio")
    outcome = _Outcome()
    outcome.failed += complete_images(context.dataset, sample_ids)
    await_sent(context, on_progress)
    adopted = adopt_unrecorded(context)
    outcome.failed += adopted.failed
    if adopted.doubled:
        doubled = len(adopted.doubled)
        outcome.notes.append(f"tasks for a sample that has another task already: {doubled}; labelloop sweep says which")
    mirror_states(context)
    began, newest = context.patience.now(), context.dataset.newest_change()
    is_first = context.ledger.max_task_id() == 0
    new = _find_new(context, sample_ids, outcome)
    for done, chunk in enumerate(chunked(new, tasks_per_import)):
        on_progress(done * tasks_per_import / len(new), f"sending tasks, {done * tasks_per_import}/{len(new)}")
        _send_new(context, chunk, outcome)
    for chunk in chunked(_find_changed(context, sample_ids, is_first=is_first), SAMPLES_PER_CHUNK):
        on_progress(None, "sending what was changed since the last push")
        outcome.add(send_predictions_to(context, chunk))
        send_corrections(context, chunk, outcome.corrections, on_progress)
    show_version(context, outcome.newest_version)
    mirror_states(context)
    if mark_mistakes:
        outcome.add_marks(send_marks(context, read_suspected(context, sample_ids), on_progress))
    if newest is not None and sample_ids is None:
        # A clock that is ahead stamps changes that are still to come: from there on no other would be found.
        context.ledger.record_cursor(PUSH_CURSOR, to_timestamp(min(newest, began)))
    return _to_report(context, sample_ids, outcome)


def _to_report(context: Context, sample_ids: Sequence[str] | None, outcome: _Outcome) -> Report:
    corrections = outcome.corrections
    counts = {
        "tasks created": outcome.created,
        "predictions added": outcome.predictions_added,
        "corrections sent": corrections.corrections,
    }
    moved = sum(counts.values()) + outcome.marks.sent
    marked = outcome.marks.sent + outcome.marks.unchanged
    gone = context.ledger.counts()["gone"] if sample_ids is None else 0
    if gone:
        outcome.notes.append(
            f"tasks deleted in Label Studio: {gone}; to make them again, select and send their samples"
        )
    if corrections.waiting:
        outcome.notes.append(
            f"changes of curators that wait: {corrections.waiting}; their tasks have news, pull first and push again"
        )
    outcome.notes += _describe_labels(corrections.cleared, outcome.over_edge + corrections.over_edge)
    failed = (*outcome.failed, *corrections.failed)
    details = {name: count for name, count in counts.items() if count or name != "corrections sent"} if moved else {}
    asked = context.ledger.link_count() + gone if sample_ids is None else len(set(sample_ids)) - len(failed)
    return Report(
        "push",
        moved=moved,
        unchanged=max(0, asked - moved),
        failed=failed,
        notes=tuple(outcome.notes),
        details=details | ({MARKED: marked} if marked else {}),
    )


def _describe_labels(cleared: int, over_edge: int) -> Iterator[str]:
    if cleared:
        yield (
            f"reviewed samples whose labels were cleared in FiftyOne: {cleared}; that says nothing, and pull --all "
            "brings them back; to say that nothing is there, leave an empty list"
        )
    if over_edge:
        yield (
            f"labels that reach over their image's edge: {over_edge}, sent as they were drawn; Label Studio shows the "
            "part inside, and whoever moves one there moves all of it inside"
        )


def _find_new(context: Context, sample_ids: Sequence[str] | None, outcome: _Outcome) -> list[str]:
    """Return the samples that need a task, the most uncertain first.

    Their tasks get the lowest numbers then, which is the order of an unsorted list.
    """
    if sample_ids is None:
        return list(_without_link(context, context.dataset.unsent_ids()))
    links = context.ledger.links(sample_ids)
    present = {ref.task_id for ref in context.label_studio.fetch_refs_of([link.task_id for link in links.values()])}
    gone = [link.task_id for link in links.values() if link.task_id not in present]
    context.ledger.record_gone(gone)
    wanted = [one for one in dict.fromkeys(sample_ids) if one not in links or links[one].task_id not in present]
    in_conflict = context.ledger.conflicts(wanted)
    problem = "has open conflicts, and its task is gone: decide them first, Label Studio's side is kept nowhere else"
    outcome.failed += [Failure(f"sample {sample_id}", problem, sample_id) for sample_id in in_conflict]
    wanted = [sample_id for sample_id in wanted if sample_id not in in_conflict]
    found = context.dataset.sort_ids(wanted)
    missing = set(wanted).difference(found)
    outcome.failed += [Failure(f"sample {one}", "is not in the dataset", one) for one in wanted if one in missing]
    return found


def _without_link(context: Context, sample_ids: Iterable[str]) -> Iterator[str]:
    """Yield the samples without a task; those that have one and do not say so will."""
    for chunk in chunked(sample_ids, SAMPLES_PER_CHUNK):
        links = context.ledger.links(chunk)
        context.ledger.record_unmirrored(list(links))
        yield from (sample_id for sample_id in chunk if sample_id not in links)


def _find_changed(context: Context, sample_ids: Sequence[str] | None, *, is_first: bool) -> Iterator[str]:
    """Yield the samples whose task may lack something: a newer prediction, or what a curator changed."""
    if sample_ids is not None:
        yield from sample_ids
        return
    due = ""
    while page := context.ledger.due_sample_ids(due, limit=SAMPLES_PER_CHUNK):
        yield from page
        due = page[-1]
    cursor = context.ledger.cursor(PUSH_CURSOR)
    if cursor is not None:
        yield from context.dataset.changed_ids(datetime.fromisoformat(cursor) - OVERLAP)
    elif not is_first:
        yield from context.dataset.changed_ids(None)


def _send_new(context: Context, sample_ids: Sequence[str], outcome: _Outcome) -> None:
    parcels, unsendable = make_parcels(context, sample_ids)
    outcome.failed += unsendable
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
    with announce_tasks(context, [parcel.image.sample_id for parcel in good]):
        made = context.label_studio.send_tasks(tasks)
    complete_tasks(context, made, tasks)
    _record(context, dict(zip(made.task_ids, good, strict=True)))
    outcome.created += len(made.task_ids)
    outcome.over_edge += sum(count_over_edge(parcel.labels or (), parcel.image.size) for parcel in good)
    outcome.newest_version = next((p.model_version for p in reversed(good) if p.prediction), outcome.newest_version)


def _record(context: Context, parcels: Mapping[int, Parcel]) -> None:
    """Record tasks that were just made. Those with people's labels are read once to know that annotation again."""
    labelled = [task_id for task_id, parcel in parcels.items() if parcel.labels is not None]
    tasks = {task.task_id: task for task in context.label_studio.fetch_tasks(labelled)} if labelled else {}
    links, bases = list[Link](), dict[str, tuple[Label, ...]]()
    for task_id, parcel in parcels.items():
        task, image = tasks.get(task_id), parcel.image
        if task is None:
            links.append(Link(image.sample_id, task_id, image.sha256, parcel.model_version, fields.QUEUED))
            continue
        is_ours = carries(context, task, parcel.labels)
        links.append(to_link(context, image.sample_id, image.sha256, task, parcel.model_version, is_ours=is_ours))
        if is_ours and parcel.labels is not None:
            bases[image.sample_id] = parcel.labels
    context.ledger.record_pushed(to_pushed(parcels.values()))
    context.ledger.record_bases(bases)
    context.ledger.record_links(links)
    context.ledger.record_due({parcel.image.sample_id: False for parcel in parcels.values()})
