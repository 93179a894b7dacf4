"""The huey queue of a home folder, in SQLite or Redis: numbers of runs that wait. What a run is, the ledger knows."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from huey import RedisHuey, SqliteHuey
from huey.consumer import Consumer, Scheduler
from huey.registry import Message
from redis.exceptions import RedisError

from labels.errors import ServiceError
from sync.settings import Home

QUEUE_NAME: Final = "labelloop"
LONG_QUEUE_NAME: Final = "labelloop_long"
LONGEST_IDLE_S: Final = 0.3
TIMES: Final = ("eta", "expires_resolved")


class JsonSerializer:
    """Writes the queue's messages as JSON; huey's own writes pickles, which run code when they are read back.

    >>> JsonSerializer().deserialize(JsonSerializer().serialize({"a": [1, None]}))
    {'a': [1, None]}
    """

    def serialize(self, data: object) -> bytes:
        """Return the bytes of plain data, or of a huey message."""
        if isinstance(data, Message):
            data = {"message": {name: _to_plain(value) for name, value in data._asdict().items()}}
        return json.dumps(data).encode()

    def deserialize(self, data: bytes) -> Any:
        """Return what serialize was given."""
        plain = json.loads(bytes(data))
        if isinstance(plain, dict) and plain.keys() == {"message"}:
            fields = plain["message"]
            times = {name: datetime.fromisoformat(fields[name]) for name in TIMES if fields.get(name) is not None}
            return Message(**fields | times)
        return plain


def _to_plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def open_queue(home: Home, redis_url: str | None = None, *, name: str = QUEUE_NAME) -> Any:
    """Return a huey queue of a home folder: in its jobs.db, or in the Redis of a URL.

    Raises:
        ServiceError: the Redis does not answer.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    if redis_url:
        return _open_redis_queue(home, redis_url, name)
    return SqliteHuey(
        name,
        filename=str(home.jobs_db),
        results=False,
        strict_fifo=True,
        timeout=30,
        serializer=JsonSerializer(),
    )


def _open_redis_queue(home: Home, redis_url: str, name: str) -> Any:
    # Two homes may share a Redis: neither may take the other's numbers for its own.
    own_name = f"{name}_{hashlib.sha256(str(home.path).encode()).hexdigest()[:12]}"
    queue = RedisHuey(own_name, url=redis_url, results=False, serializer=JsonSerializer())
    try:
        queue.storage.conn.ping()
    except RedisError as error:
        # The URL is left out of the message: it may carry a password.
        raise ServiceError(f"LABELLOOP_REDIS_URL: Redis did not answer ({type(error).__name__})") from error
    return queue


def make_consumer(queue: Any, tick_s: float) -> Any:
    """Return what works on a queue, one task after the other, and looks at the clock every so many seconds."""

    class Clock(Scheduler):  # type: ignore[misc]  # huey has no types
        periodic_task_seconds = tick_s

    class OneWorker(Consumer):  # type: ignore[misc]  # as above
        scheduler_class = Clock

    return OneWorker(queue, workers=1, periodic=True, max_delay=LONGEST_IDLE_S)


def threads_of(consumers: Sequence[Any]) -> list[threading.Thread]:
    """Return the threads that consumers work in."""
    return [
        thread
        for consumer in consumers
        for thread in (consumer.scheduler, *(thread for _, thread in consumer.worker_threads))
    ]
