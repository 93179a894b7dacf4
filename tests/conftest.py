"""What the tests of several packages need: a MongoDB of their own, or that of a stack which runs already.

Starting a stack takes longer than most tests. While you work on one, start it once (``labelloop --home DIR demo
--detach``) and name its folder in ``LABELLOOP_TEST_HOME``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from labels.errors import ServiceError
from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
from sync.services.ports import find_free_port, is_free
from sync.services.stack_record import StackRecord
from sync.settings import Home

START_TIMEOUT_S = 30.0


MONGOD_PORT = find_free_port()
E2E = "tests/e2e/"
RUNNING_HOME = os.environ.get("LABELLOOP_TEST_HOME")


def pytest_configure() -> None:
    """Tell FiftyOne where its database will be: it reads that once, when some test first imports it."""
    os.environ["FIFTYONE_DATABASE_URI"] = read_running_uri() or to_database_uri(MONGOD_PORT)
    os.environ["FIFTYONE_DATABASE_VALIDATION"] = "false"
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "1"


class StackScheduling(LoadFileScheduling):
    """Keeps all tests of the running stack on one worker, which starts it once; the others go by file."""

    def _split_scope(self, nodeid: str) -> str:
        return E2E if nodeid.startswith(E2E) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> StackScheduling:
    """Tell pytest-xdist which tests belong together."""
    return StackScheduling(config, log)


def read_running_uri() -> str | None:
    """Return the database of the stack in LABELLOOP_TEST_HOME; None where none is named."""
    if not RUNNING_HOME:
        return None
    addresses = StackRecord.read(Home(Path(RUNNING_HOME))).addresses
    assert addresses is not None, f"LABELLOOP_TEST_HOME: no stack runs in {RUNNING_HOME}"
    return addresses.database_uri


@pytest.fixture(scope="session")
def mongod_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a MongoDB server with empty data for the whole session; its address is in FIFTYONE_DATABASE_URI too."""
    if RUNNING_HOME:
        yield os.environ["FIFTYONE_DATABASE_URI"]
        return
    try:
        mongod = find_mongod()
    except ServiceError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("mongodb")
    with (folder / "mongod.log").open("wb") as log:
        server = subprocess.Popen(to_mongod_argv(mongod, data=folder, port=MONGOD_PORT, cache_gb=0.25), stdout=log)
    try:
        wait_until_it_listens(server, MONGOD_PORT, folder)
        yield to_database_uri(MONGOD_PORT)
    finally:
        # While the process ends, FiftyOne would look for seconds for a server that is gone.
        if "fiftyone" in sys.modules:
            sys.modules["fiftyone.core.odm.database"]._disconnect()
        server.terminate()
        server.wait(START_TIMEOUT_S)


def wait_until_it_listens(server: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while is_free(port):
        ended = server.poll() is not None
        assert not ended, (folder / "mongod.log").read_text(encoding="utf-8")[-2000:]
        assert time.monotonic() < deadline_s, "mongod did not listen in time"
        time.sleep(0.05)
