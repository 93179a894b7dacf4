"""One reviewed sample copied a hundred thousand times: in Label Studio's database, FiftyOne's and the ledger.

By the tools' own calls that takes hours. A copy is what the calls would have left: the rows of a sample that went the
usual way, with ids of its own.
"""

from __future__ import annotations

import copy
import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bson import ObjectId
from more_itertools import chunked

from labels.results import Label
from sync.jobs.context import Context
from sync.jobs.exchange.answers import name_answers, to_policy
from sync.ledger import Link
from sync.workbench.label_studio import Task, to_timestamp

ROWS_PER_WRITE: Final = 2000


@dataclass(frozen=True)
class Copy:
    """One copy: its sample, its task and annotation, and the ids of its labels by those of the original."""

    sample_id: ObjectId
    task_id: int
    annotation_id: int
    label_ids: Mapping[str, str]


def copy_sample(context: Context, database: Path, count: int) -> None:
    """Copy the only sample of a project, which was sent with its labels, as often; ``database`` is Label Studio's."""
    (link,) = context.ledger.links().values()
    base = context.ledger.bases([link.sample_id])[link.sample_id]
    (task,) = context.label_studio.fetch_tasks([link.task_id])
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        copies = list(_make_copies(db, base, count))
        db.execute("begin immediate")
        moments = _copy_rows(db, task, copies)
        db.execute("commit")
    _copy_documents(context, link, copies)
    for chunk in chunked(copies, ROWS_PER_WRITE):
        context.ledger.record_links(_to_link(context, link, task, one, moments) for one in chunk)
        context.ledger.record_bases({str(one.sample_id): _renamed(base, one) for one in chunk})


def _make_copies(db: sqlite3.Connection, base: tuple[Label, ...], count: int) -> Iterator[Copy]:
    task_id, annotation_id = (
        int(db.execute(f"select max(id) from {table}").fetchone()[0]) for table in ("task", "task_completion")
    )
    for number in range(1, count + 1):
        label_ids = {label.id: f"{number * len(base) + place:024x}" for place, label in enumerate(base, 1)}
        yield Copy(ObjectId(), task_id + number, annotation_id + number, label_ids)


def _copy_rows(db: sqlite3.Connection, task: Task, copies: list[Copy]) -> tuple[str, str]:
    """Write the rows of Label Studio, and return when its task and its annotation were changed last."""
    (annotation,) = task.annotations
    task_row = dict(db.execute("select * from task where id = ?", (task.task_id,)).fetchone())
    said_row = dict(db.execute("select * from task_completion where id = ?", (annotation.annotation_id,)).fetchone())

    def tasks() -> Iterator[dict[str, Any]]:
        for place, one in enumerate(copies, 1):
            data = json.loads(task_row["data"]) | {"sample_id": str(one.sample_id)}
            yield task_row | {"id": one.task_id, "inner_id": task_row["inner_id"] + place, "data": json.dumps(data)}

    def answers() -> Iterator[dict[str, Any]]:
        for one in copies:
            result = said_row["result"]
            for old, new in one.label_ids.items():
                result = result.replace(old, new)
            given = {"id": one.annotation_id, "task_id": one.task_id, "result": result, "unique_id": uuid.uuid4().hex}
            yield said_row | given

    for table, rows, columns in (("task", tasks(), task_row), ("task_completion", answers(), said_row)):
        places = ", ".join(f":{name}" for name in columns)
        db.executemany(f"insert into {table} ({', '.join(columns)}) values ({places})", rows)
    at = (datetime.fromisoformat(row["updated_at"]).replace(tzinfo=UTC) for row in (task_row, said_row))
    first, second = map(to_timestamp, at)
    return first, second


def _copy_documents(context: Context, link: Link, copies: list[Copy]) -> None:
    collection = context.dataset._dataset._sample_collection
    template = collection.find_one({"_id": ObjectId(link.sample_id)})
    for chunk in chunked(copies, ROWS_PER_WRITE):
        collection.insert_many([_to_document(template, one) for one in chunk])


def _to_document(template: Mapping[str, Any], one: Copy) -> dict[str, Any]:
    document = copy.deepcopy(dict(template)) | {"_id": one.sample_id, "task_id": one.task_id}
    for detection in document["ground_truth"]["detections"]:
        detection["_id"] = ObjectId(one.label_ids[str(detection["_id"])])
    return document


def _to_link(context: Context, link: Link, task: Task, one: Copy, moments: tuple[str, str]) -> Link:
    task_at, said_at = moments
    annotation = replace(task.annotations[0], annotation_id=one.annotation_id, updated_at=said_at)
    return replace(
        link,
        sample_id=str(one.sample_id),
        task_id=one.task_id,
        annotation_id=one.annotation_id,
        annotation_updated_at=said_at,
        task_updated_at=task_at,
        answers=name_answers(replace(task, annotations=(annotation,)), to_policy(context.project.annotators)),
    )


def _renamed(base: tuple[Label, ...], one: Copy) -> tuple[Label, ...]:
    return tuple(replace(label, id=one.label_ids[label.id]) for label in base)
