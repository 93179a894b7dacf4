"""A class gets its new name on the tasks of Label Studio: in annotations and predictions.

Annotations of people are changed here, since that is what was asked for. Each is read right before it is written and
again after it, and written anew when somebody saved it in between. They stay as old as they are
(``sync/jobs/exchange/rewriting.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from more_itertools import chunked
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from labels.report import Failure, OnProgress
from sync.jobs.context import Context
from sync.jobs.exchange.corrections import leave_out_corrections
from sync.jobs.exchange.pull import OVERLAP
from sync.jobs.exchange.rewriting import fetch_tasks, rewrite
from sync.review.relabelling import Renaming, rename_regions
from sync.workbench.label_studio import GONE_STATUS, Prediction, RefusedError, Task, TaskRef, to_timestamp

# How often an annotation is written anew because somebody saved it meanwhile, or Label Studio was too busy.
ATTEMPTS: Final = 5
# The last of the pauses after which a busy Label Studio is asked again.
LONGEST_PAUSE_S: Final = 8.0
TOO_MANY_STATUS: Final = 429
BROKEN_STATUS: Final = 500
# How often all tasks are looked through for what was submitted with the old name meanwhile.
LOOKS: Final = 5


@dataclass(slots=True)
class Found:
    """What was found and changed so far; ``samples`` have it in Label Studio, ``failures`` go by their item.

    ``newest`` is the time up to which every task was looked at; empty: there was none.
    """

    annotations: int = 0
    predictions: int = 0
    samples: set[str] = field(default_factory=set)
    failures: dict[str, Failure] = field(default_factory=dict)
    newest: str = ""


def change_tasks(
    context: Context, renaming: Renaming, found: Found, tasks_per_chunk: int, on_progress: OnProgress
) -> None:
    """Change all tasks, and look again at those that changed meanwhile until none of them has the old name."""
    look_through(context, renaming, found, tasks_per_chunk, on_progress)
    for _ in range(LOOKS):
        before = found.annotations, found.predictions
        look_through(context, renaming, found, tasks_per_chunk, on_progress, since=since_newest(found))
        if (found.annotations, found.predictions) == before:
            return


def since_newest(found: Found) -> str | None:
    """Return from when on tasks are to be looked at again; None: there was no task.

    A little before the newest there was: Label Studio stamps a change before it commits it.
    """
    return to_timestamp(datetime.fromisoformat(found.newest) - OVERLAP) if found.newest else None


def look_through(
    context: Context,
    renaming: Renaming,
    found: Found,
    tasks_per_chunk: int,
    on_progress: OnProgress,
    *,
    since: str | None = None,
    is_dry_run: bool = False,
) -> None:
    """Read the tasks, all or those changed since a time, and change those that use the old class."""
    # Before the first page: a task of that page may change while later, younger ones are listed.
    total, newest = context.label_studio.fetch_changed(since)
    found.newest = max(found.newest, newest or "")
    refs = context.label_studio.fetch_task_refs(changed_since=since)
    for number, chunk in enumerate(chunked(refs, tasks_per_chunk)):
        seen = number * tasks_per_chunk
        on_progress(min(1.0, seen / max(total, 1)), f"looking for {renaming.old!r}, {seen}/{total} tasks")
        tasks = [task for task in fetch_tasks(context, _choose_ids(chunk)) if _uses(task, renaming)]
        found.samples.update(task.sample_id for task in tasks if task.sample_id is not None)
        if is_dry_run:
            found.annotations += sum(_has_old(one.result, renaming) for task in tasks for one in task.annotations)
            found.predictions += sum(_has_old(one.result, renaming) for task in tasks for one in task.predictions)
        elif tasks:
            _change_chunk(context, renaming, tasks, found)


def _choose_ids(refs: Iterable[TaskRef]) -> list[int]:
    return [ref.task_id for ref in refs if ref.annotations or ref.skips or ref.predictions]


def _uses(task: Task, renaming: Renaming) -> bool:
    results = (*(one.result for one in task.annotations), *(one.result for one in task.predictions))
    return any(_has_old(result, renaming) for result in results)


def _has_old(result: Sequence[object], renaming: Renaming) -> bool:
    return rename_regions(result, renaming) is not None


def _change_chunk(context: Context, renaming: Renaming, tasks: Sequence[Task], found: Found) -> None:
    """Change a chunk's annotations and predictions; people's stay as old as they are, and so no news to a pull."""
    # Before anything is written: after it, nothing tells any more that they did not agree.
    context.ledger.record_unread(_find_agreeing(context, renaming, tasks))
    for task in tasks:
        for prediction in task.predictions:
            renamed = rename_regions(prediction.result, renaming)
            if renamed is not None:
                problem = _change_prediction(context, task, prediction, renamed, found)
                _note(found, task, f"prediction {prediction.prediction_id}", problem)
        for annotation in [one for one in task.annotations if _has_old(one.result, renaming)]:
            problem = _change_annotation(context, renaming, annotation.annotation_id, found)
            _note(found, task, f"annotation {annotation.annotation_id}", problem)


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


def _note(found: Found, task: Task, what: str, problem: str | None) -> None:
    """Keep a problem, or forget the one of an earlier look."""
    item = f"task {task.task_id}, {what}"
    if problem is None:
        found.failures.pop(item, None)
    else:
        found.failures[item] = Failure(item, problem, task.sample_id)


def _change_prediction(
    context: Context, task: Task, prediction: Prediction, renamed: Sequence[object], found: Found
) -> str | None:
    try:
        context.label_studio.send_prediction_result(prediction.prediction_id, task.task_id, renamed)
    except RefusedError as error:
        return None if error.status_code == GONE_STATUS else str(error)
    found.predictions += 1
    return None


def _change_annotation(context: Context, renaming: Renaming, annotation_id: int, found: Found) -> str | None:
    """Change one annotation, and return what kept it from being changed; None: nothing did."""
    try:
        for _ in range(ATTEMPTS):
            if not _rename_once(context, renaming, annotation_id):
                # Ours is in place, or what somebody saved meanwhile has no old name.
                return None
            found.annotations += 1
        annotation = context.label_studio.fetch_annotation(annotation_id)
    except RefusedError as error:
        return None if error.status_code == GONE_STATUS else str(error)
    is_old = _has_old(annotation.result, renaming)
    return "is being saved all the time; run it again when that is over" if is_old else None


def _is_passing(error: BaseException) -> bool:
    """Return whether Label Studio may say yes later: it is too busy, or its database is locked."""
    status = error.status_code if isinstance(error, RefusedError) else None
    return status is not None and (status == TOO_MANY_STATUS or status >= BROKEN_STATUS)


@retry(
    retry=retry_if_exception(_is_passing),
    stop=stop_after_attempt(ATTEMPTS),
    wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_S),
    reraise=True,
)
def _rename_once(context: Context, renaming: Renaming, annotation_id: int) -> bool:
    """Read an annotation and rewrite it if it has the old name, and return whether it had.

    Each attempt reads anew: what keeps Label Studio from writing may be the save of a person.
    """
    annotation = context.label_studio.fetch_annotation(annotation_id)
    renamed = rename_regions(annotation.result, renaming)
    if renamed is not None:
        rewrite(context, annotation, renamed)
    return renamed is not None


def find_drafts(context: Context, renaming: Renaming) -> list[int]:
    """Return the tasks on which somebody began something with the old class and did not submit it."""
    return [
        task_id
        for task_id in context.label_studio.fetch_draft_task_ids()
        if any(_has_old(draft.result, renaming) for draft in context.label_studio.fetch_drafts(task_id))
    ]
