"""The ledger: which label version went where, what came back, and what each person did to it.

Several processes may use one ledger at once: readers never wait (write-ahead log), a writer waits for another one up to
``BUSY_TIMEOUT_S``. Every ``record_`` method is one transaction, so a process killed at any moment leaves all of it or
none; recording the same thing twice leaves it once. An open ledger belongs to the thread that opened it: other threads
open their own, which takes milliseconds.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psutil
from sqlite_utils import Database
from sqlite_utils.db import NotFoundError

from labels.errors import LabelingError
from labels.fields import CONFLICT, QUEUED, REVIEWED, SKIPPED
from labels.results import Label
from sync import ledger_rows as rows
from sync.ledger_file import LedgerFile
from sync.ledger_rows import Export, FeedbackRow, Link, Model, Pushed, Review, Run
from sync.merge import Conflict

__all__ = ["Export", "FeedbackRow", "Ledger", "Link", "Model", "Pushed", "Review", "Run"]

SAME_PROCESS_S: Final = 2.0
"""Start times of one process read at different moments differ by less than this: the clock is set now and then."""
SNAPSHOT_ORDER: Final = {
    "links": "sample_id",
    "pushed_predictions": "sample_id, model_version",
    "bases": "sample_id",
    "conflicts": "sample_id, position",
    "reviews": "annotation_id",
    "feedback": "annotation_id, position",
    "cursors": "name",
    "models": "model_version",
    "exports": "path",
}


class Ledger(LedgerFile):
    """An open ledger: ``with Ledger.open(path) as ledger``."""

    def record_links(self, links: Iterable[Link]) -> None:
        """Store the links, each in place of the sample's old one (all of it: None replaces too).

        A task stands for one sample: another sample's link to the same task is out of date and goes.
        """
        records = [rows.to_row(link) for link in links]
        with self._write() as db:
            for record in records:
                db.table("links").delete_where("task_id = :task_id and sample_id <> :sample_id", record)
            db.table("links").upsert_all(records, pk="sample_id")

    def links(self, sample_ids: Collection[str] | None = None) -> dict[str, Link]:
        """Return the links by sample id: of these samples, or of all."""
        return {row["sample_id"]: Link(**row) for row in self._rows_of("links", "sample_id", sample_ids)}

    def links_by_task(self, task_ids: Collection[int] | None = None) -> dict[int, Link]:
        """Return the links by task id: of these tasks, or of all."""
        return {row["task_id"]: Link(**row) for row in self._rows_of("links", "task_id", task_ids)}

    def record_states(self, states: Mapping[str, str]) -> None:
        """Store the review state of samples.

        Raises:
            LabelingError: a sample has no link; nothing was stored then.
        """
        with self._write() as db:
            for sample_id, state in states.items():
                _update_link(db, sample_id, {"state": state})

    def record_problem(self, sample_id: str, problem: str | None) -> None:
        """Store why a sample's task could not be pulled; None: it could.

        Raises:
            LabelingError: the sample has no link.
        """
        with self._write() as db:
            _update_link(db, sample_id, {"problem": problem})

    def counts(self) -> dict[str, int]:
        """Return the number of linked samples by review state, and as ``failed`` those with a problem.

        A failed sample also counts in its state.
        """
        counts = {QUEUED: 0, REVIEWED: 0, SKIPPED: 0, CONFLICT: 0}
        counts |= {row["state"]: row["n"] for row in self._query("select state, count(*) n from links group by state")}
        (failed,) = self._query("select count(*) n from links where problem is not null")
        return counts | {"failed": failed["n"]}

    def record_pushed(self, pushed: Iterable[Pushed]) -> None:
        """Store predictions as they were sent."""
        records = [rows.to_row(one) | {"labels": rows.labels_to_json(one.labels)} for one in pushed]
        with self._write() as db:
            db.table("pushed_predictions").upsert_all(records, pk=("sample_id", "model_version"))

    def pushed(self, sample_id: str, model_version: str) -> tuple[Label, ...] | None:
        """Return the prediction sent for a sample; None: none was sent, empty: it found nothing."""
        found = self._query(
            "select labels from pushed_predictions where sample_id = ? and model_version = ?",
            (sample_id, model_version),
        )
        return rows.labels_from_json(found[0]["labels"]) if found else None

    def record_review(self, review: Review) -> None:
        """Store one review: see ``record_reviews``."""
        self.record_reviews([review])

    def record_reviews(self, reviews: Iterable[Review]) -> None:
        """Store reviews: base, open conflicts, feedback and link state of each, all of them in one transaction.

        The link's problem is over with it. Feedback is replaced per annotation, conflicts per sample.

        Raises:
            LabelingError: a sample has no link; nothing was stored then.
        """
        with self._write() as db:
            _record_reviews(db, list(reviews))

    def record_task_times(self, times: Mapping[str, str]) -> None:
        """Store as of when the tasks of samples were read; a sample without a link is left out."""
        with self._write() as db:
            sql = "update links set task_updated_at = ? where sample_id = ?"
            db.conn.executemany(sql, [(time, sample_id) for sample_id, time in times.items()])

    def record_bases(self, bases: Mapping[str, Iterable[Label]]) -> None:
        """Store label sets both sides agree on by sample id, in place of older ones: those a task was sent with."""
        records = [{"sample_id": key, "labels": rows.labels_to_json(labels)} for key, labels in bases.items()]
        with self._write() as db:
            db.table("bases").upsert_all(records, pk="sample_id")

    def bases(self, sample_ids: Collection[str]) -> dict[str, tuple[Label, ...]]:
        """Return the label sets last agreed; no key: never agreed, an empty set: agreed that nothing is there."""
        found = self._rows_of("bases", "sample_id", sample_ids)
        return {row["sample_id"]: rows.labels_from_json(row["labels"]) for row in found}

    def conflicts(self) -> dict[str, tuple[Conflict, ...]]:
        """Return the open conflicts by sample id."""
        conflicts: dict[str, tuple[Conflict, ...]] = {}
        for row in self._query("select * from conflicts order by sample_id, position"):
            sample_id = row["sample_id"]
            conflicts[sample_id] = (*conflicts.get(sample_id, ()), rows.conflict_from_row(row))
        return conflicts

    def reviews(self, sample_id: str | None = None) -> list[dict[str, Any]]:
        """Return what is kept of the reviews of a sample, or of all: plain columns, one per annotation."""
        ids = None if sample_id is None else [sample_id]
        return self._rows_of("reviews", "sample_id", ids, order_by="annotation_id")

    def feedback(self, sample_id: str | None = None) -> list[FeedbackRow]:
        """Return the verdicts of a sample, or of all, by annotation and in their order."""
        where, args = ("", ()) if sample_id is None else ("where sample_id = ?", (sample_id,))
        found = self._query(
            f"select * from feedback join reviews using (annotation_id) {where} "  # noqa: S608  values are bound
            "order by annotation_id, position",
            args,
        )
        return [rows.feedback_from_row(row) for row in found]

    def record_cursor(self, name: str, value: str) -> None:
        """Store how far something was read."""
        with self._write() as db:
            db.table("cursors").upsert({"name": name, "value": value}, pk="name")

    def cursor(self, name: str) -> str | None:
        """Return how far something was read; None: it never was."""
        found = self._query("select value from cursors where name = ?", (name,))
        return str(found[0]["value"]) if found else None

    def record_run_start(self, job: str, params: Mapping[str, Any]) -> int:
        """Store that this process started a job, and return the run's id."""
        record = {
            "job": job,
            "params": rows.to_json(dict(params)),
            "state": "running",
            "started_at": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_started_at": psutil.Process().create_time(),
        }
        with self._write() as db:
            run_id = db.table("runs").insert(record, pk="id").last_pk
        assert isinstance(run_id, int)
        return run_id

    def record_run_end(self, run_id: int, state: str, report: Mapping[str, Any]) -> None:
        """Store how a run ended, with its report."""
        with self._write() as db:
            changes = {"state": state, "ended_at": _now(), "report": rows.to_json(dict(report))}
            db.table("runs").update(run_id, changes)

    def runs(self, limit: int = 20) -> list[Run]:
        """Return the last runs, newest first.

        A run whose process is gone without having ended it is ``interrupted``. Of a run on another host (a container
        has its own processes) this cannot be known: it stays ``running``.
        """
        return [_to_run(row) for row in self._query("select * from runs order by id desc limit ?", (limit,))]

    def record_model(self, model: Model) -> None:
        """Store weights that were used, in place of what was known of the same version."""
        record = rows.to_row(model) | {"details": rows.to_json(dict(model.details)), "recorded_at": _now()}
        with self._write() as db:
            db.table("models").upsert(record, pk="model_version")

    def models(self) -> list[Model]:
        """Return the known weights, by name."""
        return [rows.model_from_row(row) for row in self._query("select * from models order by model_version")]

    def record_export(self, export: Export) -> None:
        """Store an export, in place of an earlier one to the same path."""
        record = rows.to_row(export) | {"details": rows.to_json(dict(export.details)), "recorded_at": _now()}
        with self._write() as db:
            db.table("exports").upsert(record, pk="path")

    def exports(self) -> list[Export]:
        """Return the exports, by path."""
        return [rows.export_from_row(row) for row in self._query("select * from exports order by path")]

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Return all that matters, to compare two moments: every table but the runs, sorted, without times of day."""
        with self._transaction("BEGIN"):
            return {
                table: [
                    {name: value for name, value in row.items() if name != "recorded_at"}
                    for row in self._query(f"select * from {table} order by {order}")  # noqa: S608  names are ours
                ]
                for table, order in SNAPSHOT_ORDER.items()
            }


def _record_reviews(db: Database, reviews: Sequence[Review]) -> None:
    for review in reviews:
        changes = {
            "state": review.state,
            "annotation_id": review.annotation_id,
            "annotation_updated_at": review.annotation_updated_at,
            "task_updated_at": review.task_updated_at,
            "problem": None,
        }
        _update_link(db, review.sample_id, changes)
    bases = [
        {"sample_id": review.sample_id, "labels": rows.labels_to_json(review.base)}
        for review in reviews
        if review.base is not None
    ]
    db.table("bases").upsert_all(bases, pk="sample_id")
    # Of several reviews of one sample, or readings of one annotation, the last one counts.
    compared = {review.sample_id: review for review in reviews if review.conflicts is not None}.values()
    last = {review.annotation_id: review for review in reviews}.values()
    db.conn.executemany("delete from conflicts where sample_id = ?", [(review.sample_id,) for review in compared])
    db.table("conflicts").insert_all(
        row for review in compared for row in rows.conflicts_to_rows(review.sample_id, review.conflicts or ())
    )
    db.table("reviews").upsert_all(map(rows.review_to_row, last), pk="annotation_id")
    db.conn.executemany("delete from feedback where annotation_id = ?", [(one.annotation_id,) for one in last])
    db.table("feedback").insert_all(row for review in last for row in rows.verdicts_to_rows(review))


def _update_link(db: Database, sample_id: str, changes: Mapping[str, Any]) -> None:
    try:
        db.table("links").update(sample_id, dict(changes))
    except NotFoundError:
        raise LabelingError(f"sample {sample_id}: no task is known for it (push it first)") from None


def _to_run(row: Mapping[str, Any]) -> Run:
    state = "interrupted" if row["state"] == "running" and _is_gone(row) else row["state"]
    report = None if row["report"] is None else json.loads(row["report"])
    return Run(row["id"], row["job"], json.loads(row["params"]), state, row["started_at"], row["ended_at"], report)


def _is_gone(row: Mapping[str, Any]) -> bool:
    if row["host"] != socket.gethostname():
        return False
    try:
        started_at = psutil.Process(row["pid"]).create_time()
    except psutil.NoSuchProcess:
        return True
    # The number may have been given to another process since.
    return bool(abs(started_at - row["process_started_at"]) > SAME_PROCESS_S)


def _now() -> str:
    return datetime.now(UTC).isoformat()
