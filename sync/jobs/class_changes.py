"""A class gets its new name on the tasks of Label Studio: annotations and predictions, and what a pull knows of them.

Annotations of people are changed here, since that is what was asked for. Each is read right before it is written and
again after it, and written anew when somebody saved it in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from more_itertools import chunked

from sync.jobs.answers import has_same_answers, name_answers, to_policy
from sync.jobs.context import Context
from sync.jobs.corrections import leave_out_corrections
from sync.jobs.pull import OVERLAP
from sync.report import Failure, OnProgress
from sync.review.relabelling import Renaming, rename_regions
from sync.workbench.label_studio import GONE_STATUS, Annotation, Prediction, RefusedError, Task, TaskRef, to_timestamp

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
        tasks = [task for task in context.label_studio.fetch_tasks(_choose_ids(chunk)) if _uses(task, renaming)]
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
    """Change a chunk's annotations and predictions, and record their new times: they are no news to a pull."""
    known = _find_known(context, renaming, tasks)
    times: dict[int, tuple[str, str]] = {}
    for task in tasks:
        for prediction in task.predictions:
            renamed = rename_regions(prediction.result, renaming)
            if renamed is not None:
                problem = _change_prediction(context, task, prediction, renamed, tally)
                _note(tally, task, f"prediction {prediction.prediction_id}", problem)
        for annotation in [one for one in task.annotations if _has_old(one.result, renaming)]:
            problem = _change_annotation(context, renaming, annotation, times, tally)
            _note(tally, task, f"annotation {annotation.annotation_id}", problem)
    context.ledger.record_annotation_times(times)
    _record_answers(context, known, times)


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


def _change_annotation(
    context: Context,
    renaming: Renaming,
    annotation: Annotation,
    times: dict[int, tuple[str, str]],
    tally: Tally,
) -> str | None:
    """Change one annotation, and return what kept it from being changed; None: nothing did."""
    annotation_id, read_at = annotation.annotation_id, annotation.updated_at
    try:
        for _ in range(ATTEMPTS):
            result, before = context.label_studio.fetch_annotation(annotation_id)
            renamed = rename_regions(result, renaming)
            if renamed is None:
                # Ours is in place, or what somebody saved meanwhile has no old name.
                return None
            after = context.label_studio.send_annotation_result(annotation_id, renamed)
            tally.annotations += 1
            if before in (read_at, times.get(annotation_id, ("", ""))[1]):
                times[annotation_id] = (read_at, after)
            else:
                # Somebody saved it since it was listed: its new time stands for something no pull has read.
                times.pop(annotation_id, None)
        result, _ = context.label_studio.fetch_annotation(annotation_id)
    except RefusedError as error:
        return None if error.status_code == GONE_STATUS else str(error)
    return "is being saved all the time; run it again when that is over" if _has_old(result, renaming) else None


@dataclass(frozen=True, slots=True)
class _Known:
    """A task all of whose annotations were pulled before they were changed here."""

    sample_id: str
    answers: str
    times: Mapping[int, str]


def _find_known(context: Context, renaming: Renaming, tasks: Sequence[Task]) -> dict[int, _Known]:
    """Return those of the tasks that hold nothing a pull has not read, by task id.

    Where several people answered and one of them used the new class before, they agree on more than they did: such a
    task has to be read again.
    """
    links = context.ledger.links_by_task([task.task_id for task in tasks])
    corrections = context.ledger.corrections([link.sample_id for link in links.values()])
    known = {}
    for task in tasks:
        link = links.get(task.task_id)
        if link is None or link.answers is None or _agrees_on_more(task, renaming):
            continue
        people = leave_out_corrections(task, corrections.get(link.sample_id, ()), context.config)
        if has_same_answers(people.task, link):
            times = {one.annotation_id: one.updated_at for one in task.annotations}
            known[task.task_id] = _Known(link.sample_id, link.answers, times)
    return known


def _agrees_on_more(task: Task, renaming: Renaming) -> bool:
    back = replace(renaming, old=renaming.new, new=renaming.old)
    return len(task.answers) > 1 and any(_has_old(one.result, back) for one in task.answers)


def _record_answers(context: Context, known: Mapping[int, _Known], times: Mapping[int, tuple[str, str]]) -> None:
    """Record that these tasks are as they were read, but for the new name."""
    corrections = context.ledger.corrections([one.sample_id for one in known.values()])
    answers: dict[str, tuple[str, str]] = {}
    for task in context.label_studio.fetch_tasks(list(known)):
        before = known[task.task_id]
        expected = {key: times[key][1] if key in times else time for key, time in before.times.items()}
        if {one.annotation_id: one.updated_at for one in task.annotations} != expected:
            # Somebody submitted meanwhile: a pull has to read it.
            continue
        people = leave_out_corrections(task, corrections.get(before.sample_id, ()), context.config)
        policy = to_policy(before.answers.partition(":")[0])
        answers[before.sample_id] = (before.answers, name_answers(people.task, policy))
    context.ledger.record_answers(answers)


def find_drafts(context: Context, renaming: Renaming) -> list[int]:
    """Return the tasks on which somebody began something with the old class and did not submit it."""
    return [
        task_id
        for task_id in context.label_studio.fetch_draft_task_ids()
        if any(_has_old(draft.result, renaming) for draft in context.label_studio.fetch_drafts(task_id))
    ]
