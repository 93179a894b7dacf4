"""Requests that make something, and what becomes of them when the job that sent them is dead: they go on without it.

Such a request is in the ledger from before it is sent until its answer is known. A job that finds one there waits until
Label Studio has done what was asked, and records that; sent again meanwhile, it would be there twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from labels.errors import LabelingError
from labels.report import OnProgress, ignore_progress
from sync.jobs.context import Context
from sync.ledger import Sending
from sync.workbench.label_studio import Annotation, NoAnswerError


@contextmanager
def announce_tasks(context: Context, sample_ids: Sequence[str]) -> Iterator[None]:
    """Remember, while the block runs, that tasks for these samples are being made."""
    after = context.ledger.max_task_id()
    with _announce(context, Sending(_now(context), sample_ids=tuple(sample_ids), after_task_id=after)):
        yield


@contextmanager
def announce_predictions(context: Context, versions: Mapping[int, str]) -> Iterator[None]:
    """Remember, while the block runs, that these tasks are being given predictions of these versions."""
    with _announce(context, Sending(_now(context), versions=versions)):
        yield


@contextmanager
def announce_correction(context: Context, task_id: int, mark: int) -> Iterator[None]:
    """Remember, while the block runs, that a task is being given the correction with this mark."""
    with _announce(context, Sending(_now(context), marks={task_id: mark})):
        yield


@contextmanager
def announce_labels(context: Context, task_id: int, result: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Remember, while the block runs, that a task is being given the annotation that it was to be made with."""
    with _announce(context, Sending(_now(context), regions={task_id: tuple(region["id"] for region in result)})):
        yield


@contextmanager
def _announce(context: Context, sending: Sending) -> Iterator[None]:
    context.ledger.record_sending(sending)
    try:
        yield
    except NoAnswerError:
        # Label Studio may be at it for as long again as it was waited for.
        context.ledger.record_sending(replace(sending, at=_now(context)))
        raise
    except LabelingError:
        # It has answered, whatever it said, or was never reached: nothing is under way.
        context.ledger.record_sent()
        raise
    context.ledger.record_sent()


def await_sent(context: Context, on_progress: OnProgress = ignore_progress) -> None:
    """Wait until Label Studio is done with what an earlier job asked of it, if that job never heard how it ended.

    It is done when what was asked for is there, all of which it makes at once. A request that never arrived makes
    nothing, so the wait ends when the request is as old as the context's patience.
    """
    sending, patience = context.ledger.sending(), context.patience
    if sending is None:
        return
    # A clock that was turned back must not make anybody wait for longer.
    age = max(timedelta(0), patience.now() - datetime.fromisoformat(sending.at))
    until = patience.now() + timedelta(seconds=patience.lasts_s) - age
    while patience.now() < until and not _is_there(context, sending):
        left_s = (until - patience.now()).total_seconds()
        on_progress(
            None,
            f"an earlier job ended while Label Studio was making {sending.describe()}: "
            f"waiting for them, {max(0, left_s):.0f} s at most",
        )
        patience.sleep(patience.poll_s)
    context.ledger.record_sent()


def _is_there(context: Context, sending: Sending) -> bool:
    """Return whether Label Studio has any of it: it makes all of one request in one transaction."""
    label_studio = context.label_studio
    if sending.sample_ids:
        wanted = set(sending.sample_ids)
        return any(ref.sample_id in wanted for ref in label_studio.fetch_task_refs(after_id=sending.after_task_id))
    if sending.versions:
        tasks = label_studio.fetch_predictions(list(sending.versions))
        return any(sending.versions[task.task_id] in task.versions.values() for task in tasks)
    if sending.regions:
        # Not by the count: a person may answer meanwhile, or pass the task on.
        return any(
            not annotation.is_skip and _ids_in(annotation) == set(sending.regions[task.task_id])
            for task in label_studio.fetch_tasks(list(sending.regions))
            for annotation in task.annotations
        )
    return any(
        annotation.import_id == sending.marks[task.task_id]
        for task in label_studio.fetch_tasks(list(sending.marks))
        for annotation in task.annotations
    )


def _ids_in(annotation: Annotation) -> set[object]:
    return {region.get("id") for region in annotation.result if isinstance(region, Mapping)}


def _now(context: Context) -> str:
    return context.patience.now().isoformat()
