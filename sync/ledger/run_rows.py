"""What a run of a job is, as a value and as a row of the ledger. Holds no connection: ``sync/ledger/runs.py`` does."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import psutil

from sync.ledger.rows import to_json

RunState = Literal["queued", "running", "done", "failed", "cancelled", "stopped", "interrupted"]
RunEnd = Literal["done", "failed", "cancelled", "stopped", "interrupted"]
ENDS: Final = frozenset({"done", "failed", "cancelled", "stopped", "interrupted"})

STARTERS: Final = ("cli", "console", "app", "api", "schedule", "webhook")
CLI: Final = "cli"
"""Who started a run that works in a process of its own; all others wait in the queue of the console."""

JOBS_FOR_SAMPLES: Final = frozenset({"prelabel", "push", "embed", "quality", "zeroshot", "mistakes"})
"""The jobs that can be run for a few samples alone."""

WAITING: Final = "waiting for its turn"
IDS_SHOWN: Final = 20
LISTED_REPORT_BYTES: Final = 64 * 1024
SAME_PROCESS_S: Final = 2.0
"""Start times of one process read at different moments differ by less than this: the clock is set now and then."""

# The full parameters are read by those who run them: a job for 100,000 samples must not weigh on every list.
COLUMNS: Final = """
    id, job, params, state, started_by, created_at, started_at, ended_at, progress, message, cancel_requested, attempt,
    retry_of, error, host, pid, process_started_at,
    json_extract(report, '$.lines[0]') summary,
    json_array_length(report, '$.failed') failed,
    json_array_length(report, '$.conflicts') conflicts,
    case when report is not null then (
        select count(*) from json_each(report, '$.failed') where json_extract(value, '$.sample_id') is not null
    ) end failed_samples
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job.

    Times are ISO 8601 in UTC; ``progress`` is 0..1, None where it is not known. ``started_by`` is None for runs of
    older versions. ``attempt`` counts from 1. ``error`` is one line. ``summary`` is the report's first line, ``failed``
    and ``conflicts`` count its items, ``failed_samples`` those that name a sample; None: there is no report. ``report``
    is what ``Report.to_dict`` gives; a list of runs leaves long ones out.
    """

    id: int
    job: str
    params: Mapping[str, Any]
    state: RunState
    started_by: str | None
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    progress: float | None = None
    message: str = ""
    cancel_requested: bool = False
    attempt: int = 1
    retry_of: int | None = None
    error: str | None = None
    summary: str | None = None
    failed: int | None = None
    conflicts: int | None = None
    failed_samples: int | None = None
    report: Mapping[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing about this run will change."""
        return self.state in ENDS

    @property
    def can_retry_failed(self) -> bool:
        """Whether the job can be run again for nothing but the samples that failed."""
        return self.is_over and self.job in JOBS_FOR_SAMPLES and bool(self.failed_samples)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self) | {"can_retry_failed": self.can_retry_failed}


def to_record(job: str, params: Mapping[str, Any], started_by: str, retry_of: int | None) -> dict[str, Any]:
    """Return the row of a run that was just asked for."""
    full, brief = to_json(dict(params)), to_json(_in_brief(params))
    return {
        "job": job,
        "params": brief,
        "full_params": None if full == brief else full,
        "started_by": started_by,
        "retry_of": retry_of,
        "created_at": now(),
    }


def _in_brief(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as people see them: of many ids or decisions only their number."""
    return {key: _one_in_brief(value) for key, value in params.items()}


def _one_in_brief(value: Any) -> Any:
    return f"{len(value)} ids" if isinstance(value, list | dict) and len(value) > IDS_SHOWN else value


def this_process() -> dict[str, Any]:
    """Return the columns of a run that this process begins to work on."""
    return {
        "state": "running",
        "started_at": now(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started_at": psutil.Process().create_time(),
    }


def to_end(state: RunEnd) -> dict[str, Any]:
    """Return the columns of a run that ends now."""
    return {"state": state, "ended_at": now(), "message": ""}


def to_run(row: Mapping[str, Any]) -> Run:
    """Return the run of a row of ``COLUMNS`` with its report."""
    named = {name: row[name] for name in Run.__dataclass_fields__}
    return Run(
        **named
        | {
            "params": json.loads(row["params"]),
            "state": _to_state(row),
            "cancel_requested": bool(row["cancel_requested"]),
            "report": None if row["report"] is None else json.loads(row["report"]),
        }
    )


def _to_state(row: Mapping[str, Any]) -> Any:
    return "interrupted" if row["state"] == "running" and is_gone(row) else row["state"]


def is_gone(row: Mapping[str, Any]) -> bool:
    """Return whether the process that works on a run has ended; of another host this is not known: False."""
    if row["host"] != socket.gethostname():
        return False
    try:
        started_at = psutil.Process(row["pid"]).create_time()
    except psutil.NoSuchProcess:
        return True
    # The number may have been given to another process since.
    return bool(abs(started_at - row["process_started_at"]) > SAME_PROCESS_S)


def now() -> str:
    """Return the time in UTC, as it is kept."""
    return datetime.now(UTC).isoformat()
