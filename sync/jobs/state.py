"""What is known of each job, in the job queue's own store, so that any process can read it; nothing is run here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple
from uuid import uuid4

from filelock import FileLock
from huey import RedisHuey, SqliteHuey
from huey.registry import Message
from redis.exceptions import RedisError

from labels.errors import ServiceError
from sync.settings import Home

JobStateName = Literal["queued", "running", "done", "failed"]

KEPT_JOBS = 100
QUEUE_NAME = "labelloop"
INDEX_LOCK_NAME = "jobs.lock"
INDEX_KEY: Final = "jobs"


@dataclass(frozen=True)
class JobState:
    """One job as the console, the plugin and a person see it.

    progress is 0..1, or None where it is not known; report is what Report.to_dict gives, None until the job is done;
    error is one line, or None where nothing went wrong. Times are ISO 8601, UTC.
    """

    id: str
    job: str
    state: JobStateName
    created_at: str
    progress: float | None = None
    message: str = ""
    report: Mapping[str, Any] | None = None
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None

    @property
    def is_over(self) -> bool:
        """True once nothing about this job will change."""
        return self.state in ("done", "failed")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> JobState:
        """Return the state that to_dict wrote."""
        return cls(**record)


class JsonSerializer:
    """Writes the queue's messages as JSON; huey's own writes pickles, which run code when they are read back.

    >>> JsonSerializer().deserialize(JsonSerializer().serialize({"a": [1, None]}))
    {'a': [1, None]}
    """

    def serialize(self, data: object) -> bytes:
        """Return the bytes of plain data, or of a huey message."""
        if isinstance(data, Message):
            data = {"message": data._asdict()}
        return json.dumps(data).encode()

    def deserialize(self, data: bytes) -> Any:
        """Return what serialize was given."""
        plain = json.loads(bytes(data))
        if isinstance(plain, dict) and plain.keys() == {"message"}:
            return Message(**plain["message"])
        return plain


class Submission(NamedTuple):
    """What a job was asked to do."""

    job: str
    params: Mapping[str, Any]


def open_queue(home: Home, redis_url: str | None = None) -> Any:
    """Return the huey queue of a home folder: jobs.db in it, or the Redis of a URL.

    Raises:
        ServiceError: the Redis does not answer.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    if redis_url:
        return _open_redis_queue(redis_url)
    return SqliteHuey(
        QUEUE_NAME,
        filename=str(home.jobs_db),
        results=False,
        strict_fifo=True,
        timeout=30,
        serializer=JsonSerializer(),
    )


def _open_redis_queue(redis_url: str) -> Any:
    queue = RedisHuey(QUEUE_NAME, url=redis_url, results=False, serializer=JsonSerializer())
    try:
        queue.storage.conn.ping()
    except RedisError as error:
        # The URL is left out of the message: it may carry a password.
        raise ServiceError(f"LABELLOOP_REDIS_URL: Redis did not answer ({type(error).__name__})") from error
    return queue


class JobStore:
    """Reads and writes the jobs of one queue; keeps the newest 100."""

    def __init__(self, queue: Any, home: Home) -> None:
        self._queue = queue
        self._index_lock_path = home.run / INDEX_LOCK_NAME

    def create(self, job: str, params: Mapping[str, Any]) -> JobState:
        """Write a new queued job and what it was asked to do; return its state."""
        state = JobState(id=uuid4().hex, job=job, state="queued", created_at=now(), message="waiting for its turn")
        self._queue.put(f"params:{state.id}", {"job": job, "params": dict(params)})
        self.write(state)
        # A lock of its own each time: one that threads share counts their entries and lets all of them in.
        with FileLock(self._index_lock_path):
            index = [*self._read_index(), state.id]
            kept = [job_id for job_id in index[:-KEPT_JOBS] if not self._is_forgotten(job_id)]
            self._queue.put(INDEX_KEY, kept + index[-KEPT_JOBS:])
        return state

    def write(self, state: JobState) -> None:
        """Write a job's state over the last one."""
        self._queue.put(f"job:{state.id}", state.to_dict())

    def read(self, job_id: str) -> JobState | None:
        """Return a job's state, or None where no such job is known."""
        record = self._queue.get(f"job:{job_id}", peek=True)
        return None if record is None else JobState.from_dict(record)

    def read_submission(self, job_id: str) -> Submission | None:
        """Return what a job was asked to do, or None where no such job is known."""
        record = self._queue.get(f"params:{job_id}", peek=True)
        return None if record is None else Submission(record["job"], record["params"])

    def read_all(self) -> list[JobState]:
        """Return every job that is kept, oldest first."""
        states = [self.read(job_id) for job_id in self._read_index()]
        return [state for state in states if state is not None]

    def _read_index(self) -> list[str]:
        index: list[str] | None = self._queue.get(INDEX_KEY, peek=True)
        return [] if index is None else index

    def _is_forgotten(self, job_id: str) -> bool:
        """Delete an old job that is over; one that still waits is kept, or it would be lost."""
        state = self.read(job_id)
        if state is not None and not state.is_over:
            return False
        self._queue.delete(f"job:{job_id}")
        self._queue.delete(f"params:{job_id}")
        return True


def end(state: JobState, outcome: Literal["done", "failed"], **changes: Any) -> JobState:
    """Return the state of a job that has just ended."""
    return replace(state, state=outcome, ended_at=now(), message="", **changes)


def now() -> str:
    """Return the time in UTC as ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
