"""Runs jobs in processes that can be killed: one warm parent imports everything once, each job is a fork of it.

The parent holds no connection when it forks; a child opens its own, as any process of labelloop does.

    python -m tests.e2e.nursery        # reads one JSON object a line, answers with one
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labels.config import LabelConfig
from labels.errors import LabelingError
from labels.report import ignore_progress
from sync.jobs.context import Context, Patience
from sync.jobs.registry import JOBS
from sync.ledger import Ledger
from sync.settings import Home, Project
from sync.workbench.label_studio import LabelStudio
from tests.fakes.backend import FakeBackend
from tests.fakes.project import SIZE
from tests.fakes.siege import Ending

STARTED = b"s"
ENDED = b"e"
# As long as a busy Label Studio takes for a few tasks: where the dead had not asked yet, it is in vain.
PATIENCE = Patience(lasts_s=20.0)


@dataclass(frozen=True)
class Order:
    """What a child is to do; ``kill_after_s`` counts from when its tools are open, None lets it end."""

    home: str
    url: str
    token: str
    project_id: int
    dataset: str
    ledger: str
    config_xml: str
    job: str
    params: Mapping[str, Any]
    model_version: str
    kill_after_s: float | None = None


class Nursery:
    """The warm parent, seen from a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, order: Order) -> Ending:
        """Run one child to its end, whichever it is."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the nursery ended"
        return Ending(**json.loads(answer))


@contextmanager
def open_nursery(**environment: str) -> Iterator[Nursery]:
    """Start the warm parent with these variables set, and end it with all its children."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.nursery"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_root(),
        env=os.environ | environment,
    ) as process:
        yield Nursery(process)
        assert process.stdin is not None
        process.stdin.close()
        process.wait(30)


def _root() -> Path:
    return Path(__file__).parents[2]


def main() -> None:
    """Serve until the input ends."""
    import fiftyone.core.odm.database as database

    import sync.catalogue.dataset  # noqa: F401  so that the children need not

    database._disconnect()
    for line in sys.stdin:
        answer = _raise(Order(**json.loads(line)))
        sys.stdout.write(json.dumps(asdict(answer)) + "\n")
        sys.stdout.flush()


def _raise(order: Order) -> Ending:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _live(order, writer)
    os.close(writer)
    with closing(os.fdopen(reader, "rb", buffering=0)) as pipe:
        first = pipe.read(1)
        begun_s = time.monotonic()
        was_killed = False
        if first == STARTED and order.kill_after_s is not None:
            done, _, _ = select.select([pipe], [], [], order.kill_after_s)
            if not done:
                os.kill(child, signal.SIGKILL)
                was_killed = True
        rest = b"" if was_killed else (first if first != STARTED else b"") + _read_all(pipe)
        took_s = time.monotonic() - begun_s
        os.waitpid(child, 0)
    if was_killed:
        return Ending(True, took_s)
    return Ending(False, took_s, **json.loads(rest or b'{"error": "ended without a word"}'))


def _read_all(pipe: Any) -> bytes:
    parts = []
    while part := pipe.read(65536):
        parts.append(part)
    return b"".join(parts)


def _live(order: Order, writer: int) -> None:
    """Be the child: do the job, say how it went, and leave without any clean-up of the parent's."""
    try:
        with _open(order) as context:
            os.write(writer, STARTED)
            report = JOBS[order.job](context, order.params, ignore_progress)
        told: dict[str, Any] = {"report": report.to_dict()}
    except LabelingError as error:
        told = {"error": str(error)}
    except BaseException as error:  # noqa: BLE001  the boundary of this process: whatever it was, the test has to see it
        told = {"error": f"internal: {type(error).__name__}: {error}"}
    os.write(writer, json.dumps(told).encode())
    os._exit(0)


@contextmanager
def _open(order: Order) -> Iterator[Context]:
    from sync.catalogue.dataset import Dataset

    config = LabelConfig.from_xml(order.config_xml)
    with (
        Ledger.open(Path(order.ledger)) as ledger,
        closing(LabelStudio(order.url, order.token, order.project_id)) as label_studio,
    ):
        yield Context(
            home=Home(Path(order.home)),
            project=Project(name=order.dataset, label_studio_id=order.project_id),
            config=config,
            ledger=ledger,
            dataset=Dataset.open(order.dataset, config),
            label_studio=label_studio,
            backend=FakeBackend(config, SIZE, order.model_version),
            patience=PATIENCE,
        )


if __name__ == "__main__":
    main()
