"""A class gets its new name on the tasks of Label Studio: in annotations and predictions.

Annotations of people are changed here, since that is what was asked for. Each is read right before it is written and
again after it, and written anew when somebody saved it in between. They stay as old as they are
(``sync/jobs/rewriting.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from more_itertools import chunked

from labels.report import Failure, OnProgress
from sync.jobs.context import Context
from sync.jobs.corrections import leave_out_corrections
from sync.jobs.pull import OVERLAP
from sync.jobs.rewriting import fetch_tasks, rewrite
from sync.review.relabelling import Renaming, rename_regions
from sync.workbench.label_studio import GONE_STATUS, Prediction, RefusedError, Task, TaskRef, to_timestamp

TASKS_PER_CHUNK: Final = 200
# How often an annotation is written anew because somebody saved it meanwhile.
ATTEMPTS: Final = 5
# How often all tasks are looked through for what was submitted with the old name meanwhile.
LOOKS: Final = 5


@dataclass(slots=True)
class Tally:
    """What was found and changed so far; ``samples`` have it in Label Studio, ``failures`` go by their item."""

    annotations: int = 0
    predictions: int = 0
    samples: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)
    newest: str = ""


def change_tasks(
    context: Context, renaming: Renaming, tally: Tally, tasks_per_chunk: int, on_progress: OnProgress
) -> None:
    """Change all tasks, and look again at those that changed meanwhile until none of them has the old name."""
    look_through(context, renaming, tally, tasks_per_chunk, on_progress)
    for _ in range(LOOKS):
        before = tally.annotations, tally.predictions
        look_through(context, renaming, tally, tasks_per_chunk, on_progress, since=since_newest(tally))
        if (tally.annotations, tally.predictions) == before:
            return


def since_newest(tally: Tally) -> str | None:
    """Return from when on tasks are to be looked at again; None: there was no task.

    A little before the newest that was seen: Label Studio stamps a change before it commits it.
    """
    return to_timestamp(datetime.fromisoformat(tally.newest) - OVERLAP) if tally.newest else None


def look_through(
    context: Context,
    renaming: Renaming,
    tally: Tally,
    tasks_per_chunk: int,
    on_progress: OnProgress,
    *,
    since: str | None = None,
    is_dry_run: bool = False,
) -> None:
    """Read the tasks, all or those changed since a time, and change those that use the old class."""
    total = context.label_studio.fetch_changed_count(since)
    refs = context.label_studio.fetch_task_refs(changed_since=since)
    for number, chunk in enumerate(chunked(refs, tasks_per_chunk)):
        seen = number * tasks_per_chunk
        on_progress(min(1.0, seen / max(total, 1)), f"looking for {renaming.old!r}, {seen}/{total} tasks")
        tally.newest = max(tally.newest, *(ref.updated_at for ref in chunk))
        tasks = [task for task in fetch_tasks(context, _choose_ids(chunk)) if _uses(task, renaming)]
        tally.samples.update(task.sample_id for task in tasks if task.sample_id is not None)
        if is_dry_run:
            tally.annotations += sum(_has_old(one.result, renaming) for task in tasks for one in task.annotations)
            tally.predictions += sum(_has_old(one.result, renaming) for task in tasks for one in task.predictions)
        elif tasks:
            _change_chunk(context, renaming, tasks, tally)


def _choose_ids(refs: Iterable[TaskRef]) -> list[int]:
    return [ref.task_id for ref in refs if ref.annotations or ref.skips or ref.predictions]


def _uses(task: Task, renaming: Renaming) -> bool:
    results = (*(one.result for one in task.annotations), *(one.result for one in task.predictions))
    return any(_has_old(result, renaming) for result in results)


def _has_old(result: Sequence[object], renaming: Renaming) -> bool:
    return rename_regions(result, renaming) is not None


def _change_chunk(context: Context, renaming: Renaming, tasks: Sequence[Task], tally: Tally) -> None:
    """Change a chunk's annotations and predictions; people's stay as old as they are, and so no news to a pull."""
    # Before anything is written: after it, nothing tells any more that they did not agree.
    context.ledger.record_unread(_find_agreeing(context, renaming, tasks))
    for task in tasks:
        for prediction in task.predictions:
            renamed = rename_regions(prediction.result, renaming)
            if renamed is not None:
                problem = _change_prediction(context, task, prediction, renamed, tally)
                _note(tally, task, f"prediction {prediction.prediction_id}", problem)
        for annotation in [one for one in task.annotations if _has_old(one.result, renaming)]:
            problem = _change_annotation(context, renaming, annotation.annotation_id, tally)
            _note(tally, task, f"annotation {annotation.annotation_id}", problem)


def _find_agreeing(context: Context, renaming: Renaming, tasks: Sequence[Task]) -> list[int]:
    """Return the tasks whose people agree afterwards on more than they did: some said the old class, some the new."""
    back = replace(renaming, old=renaming.new, new=renaming.old)
    links = context.ledger.links_by_task([task.task_id for task in tasks if len(task.answers) > 1])
    corrections = context.ledger.corrections([link.sample_id for link in links.values()])
    found = []
    for task in tasks:
        link = links.get(task.task_id)
        if link is not None:
            people = leave_out_corrections(task, corrections.get(link.sample_id, ()), context.config).task.answers
            said = [(_has_old(one.result, renaming), _has_old(one.result, back)) for one in people]
            if len(said) > 1 and all(map(any, zip(*said, strict=True))):
                found.append(task.task_id)
    return found


def _note(tally: Tally, task: Task, what: str, problem: str | None) -> None:
    """Keep a problem, or forget the one of an earlier look."""
    item = f"task {task.task_id}, {what}"
    if problem is None:
        tally.failures.pop(item, None)
    else:
        tally.failures[item] = Failure(item, problem, task.sample_id)


def _change_prediction(
    context: Context, task: Task, prediction: Prediction, renamed: Sequence[object], tally: Tally
) -> str | None:
    try:
        context.label_studio.send_prediction_result(prediction.prediction_id, task.task_id, renamed)
    except RefusedError as error:
        return None if error.status_code == GONE_STATUS else str(error)
    tally.predictions += 1
    return None


def _change_annotation(context: Context, renaming: Renaming, annotation_id: int, tally: Tally) -> str | None:
    """Change one annotation, and return what kept it from being changed; None: nothing did."""
    try:
        for _ in range(ATTEMPTS):
            annotation = context.label_studio.fetch_annotation(annotation_id)
            renamed = rename_regions(annotation.result, renaming)
            if renamed is None:
                # Ours is in place, or what somebody saved meanwhile has no old name.
                return None
            rewrite(context, annotation, renamed)
            tally.annotations += 1
        annotation = context.label_studio.fetch_annotation(annotation_id)
    except RefusedError as error:
        return None if error.status_code == GONE_STATUS else str(error)
    is_old = _has_old(annotation.result, renaming)
    return "is being saved all the time; run it again when that is over" if is_old else None


def find_drafts(context: Context, renaming: Renaming) -> list[int]:
    """Return the tasks on which somebody began something with the old class and did not submit it."""
    return [
        task_id
        for task_id in context.label_studio.fetch_draft_task_ids()
        if any(_has_old(draft.result, renaming) for draft in context.label_studio.fetch_drafts(task_id))
    ]
