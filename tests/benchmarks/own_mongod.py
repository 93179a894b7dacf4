"""A MongoDB server for a benchmark that needs FiftyOne, on a free port, gone when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fiftyone_plugins.app.brain import to_backend_environment
from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
from sync.services.ports import find_free_port, is_free


@contextmanager
def run_mongod() -> Iterator[None]:
    """Run it; FiftyOne may be imported inside, and not before."""
    port = find_free_port()
    with tempfile.TemporaryDirectory() as folder:
        argv = to_mongod_argv(find_mongod(), data=Path(folder), port=port, cache_gb=0.5)
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        while is_free(port):
            assert server.poll() is None
            time.sleep(0.05)
        os.environ.update(to_backend_environment())
        os.environ.update(FIFTYONE_DATABASE_URI=to_database_uri(port), FIFTYONE_DATABASE_VALIDATION="false")
        os.environ.update(FIFTYONE_DO_NOT_TRACK="1", FIFTYONE_SHOW_PROGRESS_BARS="false")
        try:
            yield
        finally:
            if "fiftyone" in sys.modules:
                sys.modules["fiftyone.core.odm.database"]._disconnect()
            server.terminate()
            server.wait(30)
