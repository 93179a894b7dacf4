"""What tests of the runner share: a queue of either kind, and waiting for what happens in another thread."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sync.ledger import Run
from sync.runs.runner import Runner
from sync.services.ports import find_free_port, is_free

TIMEOUT_S = 20.0


def wait_for(condition: Callable[[], object], *, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something holds; much longer than it takes, since a busy machine is no error."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def wait_until_over(runner: Runner, run_id: int) -> Run:
    """Wait for the end of a run and return it."""
    wait_for(lambda: (run := runner.read_run(run_id)) is not None and run.is_over)
    return read(runner, run_id)


def read(runner: Runner, run_id: int) -> Run:
    """Return a run that is there."""
    run = runner.read_run(run_id)
    assert run is not None
    return run


@contextmanager
def run_redis(folder: Path) -> Iterator[str]:
    """Run a Redis of its own, without memory beyond its process; give its URL."""
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed (on Debian: apt-get install redis-server)")
    port = find_free_port()
    argv = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: not is_free(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
