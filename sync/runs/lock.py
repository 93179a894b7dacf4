"""The project's lock: whoever writes, the command line or the console, holds it, and the other waits.

It is a lock of the operating system on a file of the home folder: it goes with the process that held it, however that
process ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from sync.settings import Home

LOCK_NAME = "writer.lock"
POLL_INTERVAL_S = 0.1

OnWait = Callable[[str], None]


@contextmanager
def hold_project_lock(home: Home, on_wait: OnWait) -> Iterator[None]:
    """Hold the project's lock for the block; wait for as long as another process or thread holds it.

    on_wait gets one line when the wait begins, and is asked again every tenth of a second with the same line: what it
    raises ends the wait. It is not called where nobody holds the lock.
    """
    home.run.mkdir(parents=True, exist_ok=True)
    # Not thread-local: two threads of one process must exclude each other like two processes do.
    lock = FileLock(home.run / LOCK_NAME, thread_local=False)
    while not lock.is_locked:
        try:
            lock.acquire(timeout=POLL_INTERVAL_S)
        except Timeout:
            on_wait("waiting for another labelloop job on this project to end")
    try:
        yield
    finally:
        lock.release()
