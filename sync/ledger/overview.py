"""What the admin's page asks of the ledger besides its records: numbers by day, when things were recorded, and what the
admin has seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sync.ledger.file import LedgerFile

DISMISSED: Final = "dismissed"


@dataclass(frozen=True, slots=True)
class Day:
    """What happened on one day (UTC), in samples: how many were sent, reviewed and skipped."""

    date: str
    sent: int = 0
    reviewed: int = 0
    skipped: int = 0


class OverviewLedger(LedgerFile):
    """The part of the ledger that counts."""

    def days(self, since: str) -> list[Day]:
        """Return the days from a date (``2026-01-31``) on, in their order; a day on which nothing happened is left out.

        Of all that people said of a sample, also where several did, the last word counts, on its day. A review that
        is changed later counts on the day of that change, and one that was deleted in Label Studio still counts.
        """
        reviewed = self._query(
            # Of the row with the greatest time: what SQLite promises for bare columns beside one max().
            "select substr(at, 1, 10) as date, sum(state <> 'skipped') as reviewed, sum(state = 'skipped') as skipped "
            "from (select max(annotation_updated_at) as at, state from reviews group by sample_id) "
            "where at >= ? group by 1",
            (since,),
        )
        sent = self._query(
            "select substr(ended_at, 1, 10) as date, sum(json_extract(report, '$.details.\"tasks created\"')) as sent "
            "from runs where state = 'done' and report is not null and ended_at >= ? group by 1",
            (since,),
        )
        answers = {row["date"]: (int(row["reviewed"]), int(row["skipped"])) for row in reviewed}
        tasks = {row["date"]: int(row["sent"]) for row in sent if row["sent"]}
        return [Day(date, tasks.get(date, 0), *answers.get(date, (0, 0))) for date in sorted({*answers, *tasks})]

    def count_conflicts(self) -> int:
        """Return how many samples have an open conflict."""
        (row,) = self._query("select count(distinct sample_id) as samples from conflicts")
        return int(row["samples"])

    def feedback_version(self) -> str:
        """Return a word that changes when the feedback does: with each review, and with each renamed class."""
        (reviews,) = self._query(
            "select count(*) as count, max(annotation_id) as newest, max(annotation_updated_at) as changed from reviews"
        )
        (renamed,) = self._query("select max(id) as id from runs where job = 'relabel' and ended_at is not null")
        return f"{reviews['count']} {reviews['newest']} {reviews['changed']} {renamed['id']}"

    def recorded_at(self, table: str) -> dict[str, str]:
        """Return when each export (by path) or model (by version) was recorded, ISO 8601 in UTC."""
        key = {"exports": "path", "models": "model_version"}[table]
        found = self._query(f"select {key} as name, recorded_at from {table}")  # noqa: S608  names are ours
        return {row["name"]: row["recorded_at"] for row in found}

    def record_dismissed(self, job: str, run_id: int) -> None:
        """Store that somebody has seen how the runs of a job ended, up to this one."""
        sql = (
            "insert into cursors (name, value) values (?, ?) on conflict (name) "
            "do update set value = excluded.value where cast(value as integer) < cast(excluded.value as integer)"
        )
        with self._write() as db:
            db.execute(sql, (f"{DISMISSED} {job}", str(run_id)))

    def dismissed(self) -> dict[str, int]:
        """Return by job up to which run somebody has seen how it ended; a job that has none is left out."""
        found = self._query("select name, value from cursors where name like ?", (f"{DISMISSED} %",))
        return {row["name"].removeprefix(f"{DISMISSED} "): int(row["value"]) for row in found}
