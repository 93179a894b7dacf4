"""The ledger's runs: every job from when it is asked for to its end, whoever asked and whichever process runs it.

A run is one row. It waits (``queued``), is ``running``, and ends as one of ``ENDS``. That a run which another process
works on is to be cancelled, is written here and read by that process.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

from labels.errors import LabelingError
from sync.ledger.file import LedgerFile
from sync.ledger.rows import to_json
from sync.ledger.run_rows import (
    CLI,
    COLUMNS,
    LISTED_REPORT_BYTES,
    WAITING,
    Run,
    RunEnd,
    is_gone,
    now,
    this_process,
    to_end,
    to_record,
    to_run,
)

__all__ = ["Run", "RunLedger"]

_DELETE_REPEATED: Final = """
    delete from runs where id in (
        select old.id from runs old join runs new on new.id = :id and new.job = old.job
        where old.id < :id and old.state = new.state
        and old.started_by in ('schedule', 'webhook') and new.started_by in ('schedule', 'webhook')
        and (old.state = 'failed' and old.error = new.error or old.state = 'done'
            and json_extract(old.report, '$.moved') = 0 and json_extract(new.report, '$.moved') = 0
            and json_array_length(old.report, '$.failed') = 0 and json_array_length(new.report, '$.failed') = 0
            and json_array_length(old.report, '$.conflicts') = 0 and json_array_length(new.report, '$.conflicts') = 0))
"""


class RunLedger(LedgerFile):
    """The part of the ledger that keeps runs."""

    def record_run_queued(
        self,
        job: str,
        params: Mapping[str, Any],
        *,
        started_by: str,
        retry_of: int | None = None,
        unless: Literal["waiting", "fresh"] | None = None,
    ) -> int | None:
        """Store that a job waits for its turn, and return its number.

        ``unless`` one of the same job is «waiting» already, or is «fresh», that is waits for its first attempt and not
        for a reason to pass: then None is returned, for that one will see what this would.
        """
        record = to_record(job, params, started_by, retry_of) | {
            "state": "queued",
            "message": WAITING,
        }
        with self._write() as db:
            sql = "select 1 from runs where job = ? and state = 'queued' and (attempt = 1 or ?)"
            if unless is not None and self._query(sql, (job, unless == "waiting")):
                return None
            return _number(db.table("runs").insert(record, pk="id").last_pk)

    def record_run_start(
        self, job: str, params: Mapping[str, Any], *, started_by: str = CLI, retry_of: int | None = None
    ) -> int:
        """Store that this process started a job, and return the run's number."""
        record = to_record(job, params, started_by, retry_of) | this_process() | {"message": "starting"}
        with self._write() as db:
            return _number(db.table("runs").insert(record, pk="id").last_pk)

    def record_run_taken(self, run_id: int) -> bool:
        """Store that this process works on a run that waited; False: it does not wait any more, leave it."""
        with self._write() as db:
            if not self._query("select 1 from runs where id = ? and state = 'queued'", (run_id,)):
                return False
            db.table("runs").update(run_id, this_process() | {"message": "starting", "progress": None})
            return True

    def record_run_progress(self, run_id: int, progress: float | None, message: str) -> bool:
        """Store how far a run is; return whether somebody asked to cancel it."""
        with self._write() as db:
            sql = "update runs set progress = ?, message = ? where id = ? returning cancel_requested"
            row = db.execute(sql, (progress, message, run_id)).fetchone()
        return row is not None and bool(row[0])

    def record_run_again(self, run_id: int, message: str) -> None:
        """Store that a run waits once more; the message says for what. One that is not wanted any more is cancelled."""
        with self._write() as db:
            row = self._row_of(run_id)
            if row["cancel_requested"]:
                db.table("runs").update(run_id, to_end("cancelled"))
            else:
                changes = {"state": "queued", "message": message, "attempt": row["attempt"] + 1, "progress": None}
                db.table("runs").update(run_id, changes)

    def record_run_end(
        self, run_id: int, state: RunEnd, report: Mapping[str, Any] | None = None, *, error: str | None = None
    ) -> None:
        """Store how a run ended, with its report or its error.

        Of the runs nobody waits for that found nothing to do, or failed in the same words, only the newest is kept.
        """
        changes = to_end(state) | {"error": error, "report": None if report is None else to_json(dict(report))}
        with self._write() as db:
            db.table("runs").update(run_id, changes | ({"progress": 1.0} if state == "done" else {}))
            db.execute(_DELETE_REPEATED, {"id": run_id})

    def record_cancel(self, run_id: int) -> None:
        """Store that a run is not wanted: one that waits is over at once, one that runs ends at its next step.

        One whose process is gone is over as well: it is not started again by itself. One that ended stays as it is.

        Raises:
            LabelingError: no such run.
        """
        with self._write() as db:
            row = self._row_of(run_id)
            if row["state"] == "queued" or (row["state"] == "running" and is_gone(row)):
                db.table("runs").update(run_id, to_end("cancelled") | {"cancel_requested": 1})
            elif row["state"] == "running":
                db.table("runs").update(run_id, {"cancel_requested": 1})

    def restart_interrupted(self, *, but: Collection[int] = ()) -> list[int]:
        """Store the end of the queue's runs whose process ended under them, and start each again, once.

        One that was cancelled, or was such a second start already, is not. For the one process that works on the queue:
        any of them that runs is left over, but those it works on; asked only when the ledger is free to be written.
        Returns the numbers of the new runs.
        """
        again = list[int]()
        with self._write() as db:
            for row in self._query("select * from runs where state = 'running' and started_by <> ?", (CLI,)):
                if row["id"] in but:
                    continue
                is_unwanted = bool(row["cancel_requested"])
                error = None if is_unwanted else "its process ended before it did"
                db.table("runs").update(
                    row["id"], to_end("cancelled" if is_unwanted else "interrupted") | {"error": error}
                )
                before = self._query("select state from runs where id = ?", (row["retry_of"],))
                if is_unwanted or (before and before[0]["state"] == "interrupted"):
                    continue
                kept = {name: row[name] for name in ("job", "params", "full_params", "started_by")}
                record = kept | {"state": "queued", "created_at": now(), "retry_of": row["id"], "message": WAITING}
                again.append(_number(db.table("runs").insert(record, pk="id").last_pk))
        return again

    def runs(self, limit: int = 20, offset: int = 0, *, job: str | None = None) -> list[Run]:
        """Return the last runs, newest first, of all jobs or of one.

        A run whose process is gone without having ended it is ``interrupted``. Of a run on another host (a container
        has its own processes) this cannot be known: it stays ``running``.
        """
        where, args = ("", ()) if job is None else ("where job = ?", (job,))
        return self._read_runs(f"{where} order by id desc limit ? offset ?", (*args, limit, offset))

    def count_runs(self, *, job: str | None = None) -> int:
        """Return how many runs are kept, of all jobs or of one."""
        where, args = ("", ()) if job is None else ("where job = ?", (job,))
        (row,) = self._query(f"select count(*) n from runs {where}", args)  # noqa: S608  words are ours
        return int(row["n"])

    def active_runs(self) -> list[Run]:
        """Return what runs, then what waits, each in their order."""
        found = self._read_runs("where state in ('running', 'queued') order by state = 'queued', id", ())
        return [run for run in found if not run.is_over]

    def run(self, run_id: int) -> Run | None:
        """Return one run with all of its report, None where there is none of that number."""
        found = self._read_runs("where id = ?", (run_id,), longest_report=None)
        return found[0] if found else None

    def run_params(self, run_id: int) -> dict[str, Any]:
        """Return what a run was asked to do, every id of it.

        Raises:
            LabelingError: no such run, or one of an older version that kept only a part.
        """
        row = self._row_of(run_id)
        params: dict[str, Any] = json.loads(row["full_params"] or row["params"])
        if row["started_by"] is None and isinstance(params.get("sample_ids"), str):
            raise LabelingError(f"run {run_id}: an older version did not keep its samples; start the job anew")
        return params

    def retry_params(self, run_id: int, *, only_failed: bool = False) -> tuple[str, dict[str, Any]]:
        """Return the job of a run and what to start it with again: as before, or for the samples that failed.

        Raises:
            LabelingError: no such run, it is not over, or no sample that the job could be run for failed.
        """
        run = self.run(run_id)
        if run is None or not run.is_over:
            problem = "is not known; see: labelloop runs" if run is None else "is not over yet"
            raise LabelingError(f"run {run_id} {problem}")
        params = self.run_params(run_id)
        if not only_failed:
            return run.job, params
        if not run.can_retry_failed or run.report is None:
            raise LabelingError(f"run {run_id}: no sample failed that {run.job} could be run for alone")
        failed = [failure["sample_id"] for failure in run.report["failed"] if failure.get("sample_id") is not None]
        return run.job, params | {"sample_ids": list(dict.fromkeys(failed))}

    def _row_of(self, run_id: int) -> dict[str, Any]:
        found = self._query("select * from runs where id = ?", (run_id,))
        if not found:
            raise LabelingError(f"run {run_id} is not known")
        return found[0]

    def _read_runs(
        self, rest: str, args: Iterable[object], *, longest_report: int | None = LISTED_REPORT_BYTES
    ) -> list[Run]:
        report = "report" if longest_report is None else f"case when length(report) <= {longest_report} then report end"
        found = self._query(f"select {COLUMNS}, {report} report from runs {rest}", tuple(args))  # noqa: S608  words are ours
        return [to_run(row) for row in found]


def _number(value: Any) -> int:
    assert isinstance(value, int)
    return value
