"""Pull: what people submitted in Label Studio since the last time, merged into the catalogue.

Order of writes: the catalogue, then the ledger, at last the cursor. Killed between any two, the next pull reads the
same tasks again and comes to the same end. A task that is gone, skipped or cannot be read never takes a label away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Literal

from more_itertools import chunked

from labels import fields
from labels.errors import ItemError
from sync.jobs.context import Context
from sync.jobs.reviewing import Outcome, read_review
from sync.jobs.states import mirror_states
from sync.label_studio import Task, TaskRef, to_timestamp
from sync.ledger import Link
from sync.report import Failure, OnProgress, Report, ignore_progress
from sync.samples import Reviewer, SampleLabels

CURSOR: Final = "pull"
# Label Studio stamps a change before it commits it: what was stamped just before the cursor may have come after it.
OVERLAP: Final = timedelta(seconds=10)
TASKS_PER_CHUNK: Final = 200
# How often a sample is merged anew because a curator changed it meanwhile.
ATTEMPTS: Final = 5
CHANGES_TOO_FAST: Final = "its sample is being changed all the time; pull again when that is over"

Preference = Literal["reviewed", "curated"]


@dataclass(slots=True)
class _Tally:
    moved: int = 0
    unchanged: int = 0
    skipped: int = 0
    reopened: int = 0
    several: int = 0
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def pull(
    context: Context,
    *,
    prefer: Preference | None = None,
    everything: bool = False,
    tasks_per_chunk: int = TASKS_PER_CHUNK,
    on_progress: OnProgress = ignore_progress,
) -> Report:
    """Merge changed reviews into the catalogue, by label id, against what both sides last agreed on.

    A label changed on both sides is a conflict: both versions stay where they are, the sample is tagged and listed,
    unless ``prefer`` decides it (``reviewed``: Label Studio's version, ``curated``: FiftyOne's). ``everything`` reads
    all tasks again instead of those changed since the last pull. A task that cannot be read is reported and tried again
    next time.

    Raises:
        ServiceError: Label Studio or MongoDB did not answer; what was merged before stays.
    """
    on_progress(None, "asking Label Studio what changed")
    tally = _Tally()
    refs = list(_fetch_changed_refs(context, everything=everything))
    links = context.ledger.links_by_task()
    waiting = _choose_tasks(refs, links, everything=everything)
    for done, chunk in enumerate(chunked(waiting, tasks_per_chunk)):
        on_progress(done * tasks_per_chunk / len(waiting), f"merging reviews, {done * tasks_per_chunk}/{len(waiting)}")
        _pull_chunk(context, list(context.label_studio.fetch_tasks(chunk)), links, prefer, tally)
    _note_deleted_tasks(context, refs, links, tally)
    if tally.several:
        tally.notes.append(f"tasks with several annotations: {tally.several}; of each the one changed last counts")
    if not waiting:
        tally.notes.append("nothing new; what is submitted also comes by itself while the console runs")
    mirror_states(context)
    if refs:
        context.ledger.record_cursor(CURSOR, max(ref.updated_at for ref in refs))
    return Report(
        "pull",
        moved=tally.moved,
        unchanged=tally.unchanged,
        failed=tuple(tally.failed),
        conflicts=tuple(_describe_conflicts(context)),
        notes=tuple(tally.notes),
        details={
            name: count for name, count in {"skipped": tally.skipped, "reopened": tally.reopened}.items() if count
        },
    )


def _fetch_changed_refs(context: Context, *, everything: bool) -> Iterator[TaskRef]:
    """Yield the tasks that may say something new; the first time, those that say anything."""
    cursor = context.ledger.cursor(CURSOR)
    if everything:
        return context.label_studio.fetch_task_refs()
    if cursor is None:
        return context.label_studio.fetch_answered_refs()
    since = datetime.fromisoformat(cursor) - OVERLAP
    return context.label_studio.fetch_task_refs(changed_since=to_timestamp(since))


def _choose_tasks(refs: Sequence[TaskRef], links: Mapping[int, Link], *, everything: bool) -> list[int]:
    """Return the tasks to read whole: those with a word of people, and those an earlier pull could not finish."""
    chosen = []
    for ref in refs:
        link = links.get(ref.task_id)
        if link is None or (link.task_updated_at == ref.updated_at and not everything):
            continue
        if everything or ref.annotations or ref.skips or link.annotation_id is not None:
            chosen.append(ref.task_id)
    unfinished = (
        task_id for task_id, link in links.items() if link.problem is not None or link.state == fields.CONFLICT
    )
    return list(dict.fromkeys((*chosen, *unfinished)))


def _pull_chunk(
    context: Context,
    tasks: Sequence[Task],
    links: Mapping[int, Link],
    prefer: Preference | None,
    tally: _Tally,
    attempts_left: int = ATTEMPTS,
) -> None:
    """Merge one chunk: read all of it, write the catalogue, write the ledger."""
    known = [task for task in tasks if _is_known(task, links[task.task_id])]
    context.ledger.record_task_times({links[task.task_id].sample_id: task.updated_at for task in known})
    tally.unchanged += len(known)
    tally.several += sum(sum(not one.is_skip for one in task.annotations) > 1 for task in tasks)
    changed = [task for task in tasks if task not in known]
    reopened = [task for task in changed if task.review is None]
    answered = [task for task in changed if task.review is not None]
    ours = context.dataset.labels([links[task.task_id].sample_id for task in answered])
    outcomes, problems = _read_reviews(context, answered, links, ours, prefer)
    lost = _write(context, outcomes, ours, tally)
    _record_reopened(context, reopened, links, tally)
    again = [task for task in answered if links[task.task_id].sample_id in lost]
    if again and attempts_left:
        # A curator wrote while this pull was reading: their edit takes part in a new merge.
        _pull_chunk(context, again, links, prefer, tally, attempts_left - 1)
    elif again:
        problems |= {task.task_id: ItemError(f"task {task.task_id}", CHANGES_TOO_FAST) for task in again}
    _record_problems(context, problems, links, tally)


def _read_reviews(
    context: Context,
    tasks: Sequence[Task],
    links: Mapping[int, Link],
    ours: Mapping[str, SampleLabels | ItemError],
    prefer: Preference | None,
) -> tuple[list[Outcome], dict[int, ItemError]]:
    """Return what the tasks' reviews mean, and what could not be read."""
    sample_ids = [links[task.task_id].sample_id for task in tasks]
    bases, images = context.ledger.bases(sample_ids), context.dataset.images(sample_ids)
    outcomes: list[Outcome] = []
    problems: dict[int, ItemError] = {}
    for task in tasks:
        link = links[task.task_id]
        try:
            if link.sample_id not in images:
                problem = f"its sample {link.sample_id} was deleted from the dataset; if that is meant, delete the task"
                raise ItemError(f"task {task.task_id}", problem)
            side, base = ours.get(link.sample_id), bases.get(link.sample_id)
            outcomes.append(read_review(context, task, link, side, base, prefer))
        except ItemError as error:
            problems[task.task_id] = error
    return outcomes, problems


def _is_known(task: Task, link: Link) -> bool:
    review = task.review
    if link.problem is not None or link.state == fields.CONFLICT:
        return False
    if review is None:
        return link.annotation_id is None
    return (link.annotation_id, link.annotation_updated_at) == (review.annotation_id, review.updated_at)


def _write(
    context: Context,
    outcomes: Sequence[Outcome],
    ours: Mapping[str, SampleLabels | ItemError],
    tally: _Tally,
) -> set[str]:
    """Write the outcomes, and return the samples that somebody changed since they were read; of these nothing is."""
    labels = {outcome.sample_id: outcome.labels for outcome in outcomes if outcome.labels is not None}
    read = {sample_id: said for sample_id, said in ours.items() if isinstance(said, SampleLabels)}
    lost = set(context.dataset.write_labels(labels, instead_of=read)) if labels else set[str]()
    kept = [outcome for outcome in outcomes if outcome.sample_id not in lost]
    answered = [outcome for outcome in kept if outcome.review.state != fields.SKIPPED]
    if answered:
        context.dataset.write_reviewers({outcome.sample_id: _to_reviewer(outcome) for outcome in answered})
    if kept:
        context.ledger.record_reviews(outcome.review for outcome in kept)
    tally.moved += sum(outcome.is_news for outcome in answered)
    tally.unchanged += sum(not outcome.is_news for outcome in answered)
    tally.skipped += len(kept) - len(answered)
    return lost


def _to_reviewer(outcome: Outcome) -> Reviewer:
    return Reviewer(outcome.review.reviewer or "", datetime.fromisoformat(outcome.review.annotation_updated_at))


def _record_reopened(context: Context, tasks: Sequence[Task], links: Mapping[int, Link], tally: _Tally) -> None:
    """Record samples whose annotation somebody deleted: they wait again, and keep the labels they have."""
    if tasks:
        context.ledger.record_links(
            replace(
                links[task.task_id],
                state=fields.QUEUED,
                annotation_id=None,
                annotation_updated_at=None,
                task_updated_at=task.updated_at,
                problem=None,
            )
            for task in tasks
        )
    tally.reopened += len(tasks)


def _record_problems(
    context: Context, problems: Mapping[int, ItemError], links: Mapping[int, Link], tally: _Tally
) -> None:
    """Record tasks that could not be read or written; the next pull tries them again."""
    for task_id, error in problems.items():
        tally.failed.append(Failure(error.item, error.problem))
        context.ledger.record_problem(links[task_id].sample_id, str(error))


def _note_deleted_tasks(context: Context, refs: Sequence[TaskRef], links: Mapping[int, Link], tally: _Tally) -> None:
    """Note tasks that are gone. No time stamp tells of them, so the count is compared first: it is cheap."""
    if context.label_studio.fetch_task_count() >= len(links):
        return
    present = {ref.task_id for ref in context.label_studio.fetch_task_refs()}
    gone = [link for task_id, link in links.items() if task_id not in present]
    if gone:
        tally.notes.append(f"tasks deleted in Label Studio: {len(gone)}; their samples keep all labels")


def _describe_conflicts(context: Context) -> list[str]:
    conflicts = context.ledger.conflicts()
    images = context.dataset.images(list(conflicts))
    return [
        f"{images[sample_id].path.name if sample_id in images else sample_id}: "
        f"changed in FiftyOne and in Label Studio, labels: {len(found)} (sample {sample_id})"
        for sample_id, found in sorted(conflicts.items())
        if found
    ]
