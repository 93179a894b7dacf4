"""The ledger's runs: what a row tells, what is asked of a run, and runs of older versions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlite_utils import Database

from labels.errors import LabelingError
from sync.ledger import Ledger
from sync.ledger.migrations import apply_migrations

OLD = {"host": "elsewhere", "pid": 7, "process_started_at": 1.0, "started_at": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        yield ledger


def test_runs_of_an_older_version_are_kept_with_their_errors(tmp_path: Path) -> None:
    database = Database(tmp_path / "old.db")
    apply_migrations(database, stop_before="m005_run_progress")
    rows = (
        {"job": "push", "params": "{}", "state": "done", "report": '{"lines": ["push: 1 sent"], "failed": []}'},
        {"job": "pull", "params": "{}", "state": "failed", "report": '{"error": "Label Studio does not answer"}'},
        {"job": "push", "params": '{"sample_ids": "312 ids"}', "state": "failed", "report": '{"error": "no"}'},
    )
    database.table("runs").insert_all(OLD | row for row in rows)
    database.close()

    with Ledger.open(tmp_path / "old.db") as ledger:
        found = [(run.state, run.summary, run.error, run.started_by, run.created_at) for run in ledger.runs()]
        assert ledger.retry_params(2) == ("pull", {})
        with pytest.raises(LabelingError, match="run 3: an older version did not keep its samples"):
            ledger.retry_params(3)

    assert found == [
        ("failed", None, "no", None, OLD["started_at"]),
        ("failed", None, "Label Studio does not answer", None, OLD["started_at"]),
        ("done", "push: 1 sent", None, None, OLD["started_at"]),
    ]


def test_a_run_is_taken_once_and_never_after_it_was_cancelled(ledger: Ledger) -> None:
    first, second = (ledger.record_run_queued("pull", {}, started_by="api") for _ in range(2))
    assert first is not None
    assert second is not None
    ledger.record_cancel(second)

    assert [ledger.record_run_taken(run) for run in (first, first, second, 99)] == [True, False, False, False]


def test_the_wish_to_cancel_is_read_with_the_progress(ledger: Ledger) -> None:
    run_id = ledger.record_run_start("pull", {})
    assert ledger.record_run_progress(run_id, None, "reading") is False
    ledger.record_cancel(run_id)
    assert ledger.record_run_progress(run_id, 0.5, "reading") is True

    run = ledger.run(run_id)
    assert run is not None
    assert (run.state, run.cancel_requested, run.progress) == ("running", True, 0.5)


def test_a_run_that_is_cancelled_does_not_wait_for_another_attempt(ledger: Ledger) -> None:
    run_id = ledger.record_run_start("pull", {})
    ledger.record_cancel(run_id)
    ledger.record_run_again(run_id, "tries again")

    run = ledger.run(run_id)
    assert run is not None
    assert (run.state, run.attempt) == ("cancelled", 1)


def test_many_ids_are_shown_as_their_number_and_kept_whole(ledger: Ledger) -> None:
    ids = [f"s{number}" for number in range(21)]
    decisions = dict.fromkeys(ids, "reviewed")
    few, many = (
        ledger.record_run_start("push", {"sample_ids": ids[:20]}),
        ledger.record_run_start("resolve", {"decisions": decisions}),
    )

    shown = [run.params for run in ledger.runs()]
    assert shown == [{"decisions": "21 ids"}, {"sample_ids": ids[:20]}]
    assert ledger.run_params(few) == {"sample_ids": ids[:20]}
    assert ledger.run_params(many) == {"decisions": decisions}


def test_runs_are_read_in_pages_and_by_job(ledger: Ledger) -> None:
    for job in ("push", "pull") * 3:
        ledger.record_run_start(job, {})

    assert [run.id for run in ledger.runs(2)] == [6, 5]
    assert [run.id for run in ledger.runs(2, 4)] == [2, 1]
    assert [run.id for run in ledger.runs(job="push")] == [5, 3, 1]
    assert (ledger.count_runs(), ledger.count_runs(job="pull")) == (6, 3)


def test_what_is_taken_up_while_the_ledger_is_locked_is_not_taken_for_interrupted(tmp_path: Path) -> None:
    working = set[int]()
    asked = threading.Event()

    def tend() -> list[int]:
        with Ledger.open(tmp_path / "ledger.db") as ledger:
            asked.set()
            return ledger.restart_interrupted(but=working)

    with Ledger.open(tmp_path / "ledger.db") as ledger, ThreadPoolExecutor(1) as pool:
        run_id = ledger.record_run_queued("train", {}, started_by="api")
        assert run_id is not None
        with ledger._write():
            tending = pool.submit(tend)
            asked.wait()
            time.sleep(0.2)
            working.add(run_id)
            ledger._db.table("runs").update(run_id, {"state": "running"})

        assert tending.result() == []
