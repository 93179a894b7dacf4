"""People's annotations rewritten by us, and tasks read as people left them.

Label Studio stamps every write, ours too, and takes us for the one who saved. Where the answer that was saved last
counts, a renaming would so put another person's word in its place. The ledger knows each annotation we wrote, since
when its person had left it, and who that was; whoever reads tasks for what people said reads them here.

Order of writes: the ledger says what is about to be written, then Label Studio, then the ledger has its stamp. Killed
in between, ``settle_begun`` finds out by the content whether it was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from more_itertools import chunked

from sync.jobs.context import Context
from sync.ledger import Rewritten
from sync.workbench.label_studio import GONE_STATUS, TASKS_PER_PAGE, Annotation, RefusedError, Task


def fetch_tasks(context: Context, task_ids: Sequence[int]) -> Iterator[Task]:
    """Yield the tasks of these ids as people left them; ids that are gone are left out."""
    for chunk in chunked(task_ids, TASKS_PER_PAGE):
        tasks = list(context.label_studio.fetch_tasks(chunk))
        ids = [annotation.annotation_id for task in tasks for annotation in task.annotations]
        rewritten = context.ledger.rewritten(ids)
        yield from (_as_left(task, rewritten) for task in tasks) if rewritten else tasks


def _as_left(task: Task, rewritten: Mapping[int, Rewritten]) -> Task:
    annotations = (as_saved(one, rewritten.get(one.annotation_id)) for one in task.annotations)
    return replace(task, annotations=tuple(annotations))


def as_saved(annotation: Annotation, rewritten: Rewritten | None) -> Annotation:
    """Return the annotation with the time and the person of its last save by people. Pure."""
    if rewritten is None or annotation.updated_at != rewritten.updated_at:
        return annotation
    return replace(annotation, updated_at=rewritten.saved_at, updated_by=rewritten.saved_by)


def rewrite(context: Context, annotation: Annotation, result: Sequence[Any]) -> None:
    """Replace the regions of an annotation that was read right before; it stays as old as it is.

    Raises:
        ServiceError: Label Studio refused it, or did not answer: settling it tells then whether it was written.
    """
    annotation_id = annotation.annotation_id
    left = as_saved(annotation, context.ledger.rewritten([annotation_id]).get(annotation_id))
    begun = Rewritten(annotation_id, annotation.updated_at, left.updated_at, left.updated_by, _name(result))
    context.ledger.record_rewritten(begun)
    try:
        stamp = context.label_studio.send_annotation_result(annotation_id, result)
    except RefusedError:
        _settle(context, begun)
        raise
    context.ledger.record_rewritten(replace(begun, updated_at=stamp, writes=None))


def settle_begun(context: Context) -> None:
    """Find out what became of writes whose job ended before it knew."""
    for begun in context.ledger.begun_rewritings():
        _settle(context, begun)


def _settle(context: Context, begun: Rewritten) -> None:
    try:
        annotation = context.label_studio.fetch_annotation(begun.annotation_id)
    except RefusedError as error:
        if error.status_code != GONE_STATUS:
            raise
        context.ledger.record_not_rewritten(begun.annotation_id)
        return
    if annotation.updated_at == begun.updated_at or _name(annotation.result) == begun.writes:
        context.ledger.record_rewritten(replace(begun, updated_at=annotation.updated_at, writes=None))
    else:
        # Somebody saved it since: what they said is as old as that.
        context.ledger.record_not_rewritten(begun.annotation_id)


def _name(result: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(list(result), sort_keys=True).encode()).hexdigest()[:16]
