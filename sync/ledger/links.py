"""The ledger's links: which task stands for which sample, and what is left to do for it.

No question here grows with the links that are done: each is answered for some ids, or from an index that holds only
the links it asks for.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import NotFoundError

from labels.errors import LabelingError
from labels.fields import CONFLICT, QUEUED, REVIEWED, SKIPPED
from sync.ledger import rows
from sync.ledger.file import LedgerFile
from sync.ledger.rows import Link


class LinkLedger(LedgerFile):
    """The part of the ledger that knows tasks."""

    def record_links(self, links: Iterable[Link]) -> None:
        """Store the links, each in place of the sample's old one (all of it: None replaces too).

        A task stands for one sample: another sample's link to the same task is out of date and goes. A link in any
        other state than that of a conflict ends the sample's conflicts.
        """
        records = [rows.to_row(link) | {"is_gone": int(link.is_gone), "is_mirrored": 0} for link in links]
        with self._write() as db:
            for record in records:
                db.table("links").delete_where("task_id = :task_id and sample_id <> :sample_id", record)
            db.table("links").upsert_all(records, pk="sample_id")
            over = [(link["sample_id"],) for link in records if link["state"] != CONFLICT]
            db.conn.executemany("delete from conflicts where sample_id = ?", over)

    def links(self, sample_ids: Collection[str] | None = None) -> dict[str, Link]:
        """Return the links by sample id: of these samples, or of all."""
        found = self._rows_of("links", "sample_id", sample_ids)
        return {row["sample_id"]: rows.link_from_row(row) for row in found}

    def links_by_task(self, task_ids: Collection[int] | None = None) -> dict[int, Link]:
        """Return the links by task id: of these tasks, or of all."""
        return {row["task_id"]: rows.link_from_row(row) for row in self._rows_of("links", "task_id", task_ids)}

    def links_between(self, after_task_id: int, last_task_id: int | None, *, limit: int = -1) -> dict[int, Link]:
        """Return the links of the tasks after one and up to another (None: the end) by task id, in that order."""
        found = self._query(
            "select * from links where task_id > ? and task_id <= ? order by task_id limit ?",
            (after_task_id, 2**63 - 1 if last_task_id is None else last_task_id, limit),
        )
        return {row["task_id"]: rows.link_from_row(row) for row in found}

    def link_count(self) -> int:
        """Return how many samples have a task that is there."""
        (found,) = self._query("select (select count(*) from links) - (select count(*) from links where is_gone = 1) n")
        return int(found["n"])

    def max_task_id(self) -> int:
        """Return the highest task id that was ever recorded and is still linked; 0: none."""
        (found,) = self._query("select coalesce(max(task_id), 0) n from links")
        return int(found["n"])

    def unfinished_task_ids(self) -> list[int]:
        """Return the tasks that every pull reads again: those of which something cannot be read, and open conflicts."""
        sql = "select task_id from links where (problem is not null or state = 'conflict') and is_gone = 0"
        return [row["task_id"] for row in self._query(f"{sql} order by task_id")]

    def record_gone(self, task_ids: Iterable[int], *, is_gone: bool = True) -> None:
        """Store that tasks were deleted in Label Studio, or that they are there after all; nothing else changes."""
        sql = "update links set is_gone = ? where task_id in (select value from json_each(?))"
        with self._write() as db:
            db.execute(sql, (int(is_gone), json.dumps(list(task_ids))))

    def record_states(self, states: Mapping[str, str]) -> None:
        """Store the review state of samples.

        Raises:
            LabelingError: a sample has no link; nothing was stored then.
        """
        with self._write() as db:
            for sample_id, state in states.items():
                update_link(db, sample_id, {"state": state, "is_mirrored": 0})

    def record_model_versions(self, versions: Mapping[str, str]) -> None:
        """Store whose prediction the samples' tasks were sent last; a sample without a link is left out."""
        with self._write() as db:
            sql = "update links set model_version = ? where sample_id = ?"
            db.conn.executemany(sql, [(version, sample_id) for sample_id, version in versions.items()])

    def record_problem(self, sample_id: str, problem: str | None) -> None:
        """Store what of a sample's task cannot be read; None: nothing.

        Raises:
            LabelingError: the sample has no link.
        """
        with self._write() as db:
            update_link(db, sample_id, {"problem": problem})

    def record_task_times(self, times: Mapping[str, str]) -> None:
        """Store as of when the tasks of samples were read; a sample without a link is left out."""
        with self._write() as db:
            sql = "update links set task_updated_at = ? where sample_id = ?"
            db.conn.executemany(sql, [(time, sample_id) for sample_id, time in times.items()])

    def unmirrored(self, limit: int) -> dict[str, Link]:
        """Return some links whose state may not be on their sample yet, by sample id."""
        found = self._query("select * from links where is_mirrored = 0 order by sample_id limit ?", (limit,))
        return {row["sample_id"]: rows.link_from_row(row) for row in found}

    def record_mirrored(self, links: Iterable[Link]) -> None:
        """Store that the samples say what these links say; a link that changed meanwhile stays to be done."""
        sql = "update links set is_mirrored = 1 where sample_id = ? and state = ? and task_id = ?"
        with self._write() as db:
            db.conn.executemany(sql, [(link.sample_id, link.state, link.task_id) for link in links])

    def record_unmirrored(self, sample_ids: Iterable[str]) -> None:
        """Store that samples say something else than their links: the next job writes them anew."""
        with self._write() as db:
            sql = "update links set is_mirrored = 0 where sample_id = ?"
            db.conn.executemany(sql, [(sample_id,) for sample_id in sample_ids])

    def due_sample_ids(self, after: str = "", *, limit: int = 500) -> list[str]:
        """Return samples, from after one on, with a curator's change that Label Studio does not show yet."""
        sql = "select sample_id from links where correction_due = 1 and sample_id > ? order by sample_id limit ?"
        return [row["sample_id"] for row in self._query(sql, (after, limit))]

    def record_due(self, due: Mapping[str, bool]) -> None:
        """Store whether samples have a curator's change to be sent; a sample without a link is left out."""
        with self._write() as db:
            sql = "update links set correction_due = ? where sample_id = ?"
            db.conn.executemany(sql, [(int(is_due), sample_id) for sample_id, is_due in due.items()])

    def counts(self) -> dict[str, int]:
        """Return the number of linked samples by review state, and besides those that ``failed`` or are ``gone``.

        Failed: something of its task cannot be read; gone: its task was deleted in Label Studio; ``gone_queued``: that,
        and nobody had answered it. All of them also count in a state.
        """
        counts = {QUEUED: 0, REVIEWED: 0, SKIPPED: 0, CONFLICT: 0}
        counts |= {row["state"]: row["n"] for row in self._query("select state, count(*) n from links group by state")}
        (others,) = self._query(
            "select (select count(*) from links where is_gone = 1) gone, "
            "(select count(*) from links where is_gone = 1 and state = 'queued') gone_queued, "
            "(select count(*) from links where (problem is not null or state = 'conflict') "
            "and problem is not null) failed"
        )
        return counts | others

    def model_versions(self) -> dict[str, int]:
        """Return for how many tasks each model version is the one that was sent last, the most frequent first."""
        found = self._query(
            "select model_version, count(*) n from links where model_version is not null "
            "group by model_version order by n desc, model_version"
        )
        return {row["model_version"]: row["n"] for row in found}

    def ids_behind(self, model_version: str) -> list[str]:
        """Return the samples whose task waits for people and was sent no prediction of this version."""
        sql = (
            "select sample_id from links where state = ? and is_gone = 0 "
            "and (model_version is null or model_version <> ?) order by sample_id"
        )
        return [row["sample_id"] for row in self._query(sql, (QUEUED, model_version))]


def update_link(db: Database, sample_id: str, changes: Mapping[str, Any]) -> None:
    """Change columns of one link, inside a transaction.

    Raises:
        LabelingError: the sample has no link.
    """
    try:
        db.table("links").update(sample_id, dict(changes))
    except NotFoundError:
        raise LabelingError(f"sample {sample_id}: no task is known for it (push it first)") from None
