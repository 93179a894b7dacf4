"""What the console shows, as values; where it comes from is the caller's business."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from labels.errors import LabelingError
from sync.ledger import Run


@dataclass(frozen=True)
class Counts:
    """Samples by state of review; None where the number is not known.

    ``task_deleted``: nobody answered, and nobody can: the task was deleted in Label Studio.
    """

    not_sent: int | None = None
    queued: int | None = None
    reviewed: int | None = None
    skipped: int | None = None
    conflicts: int | None = None
    failed: int | None = None
    task_deleted: int | None = None

    @property
    def total(self) -> int | None:
        """All samples, or None where one of the numbers is not known; failed ones are also counted in a state."""
        states = (self.not_sent, self.queued, self.reviewed, self.skipped, self.conflicts, self.task_deleted)
        known = [count for count in states if count is not None]
        return sum(known) if len(known) == len(states) else None


@dataclass(frozen=True)
class Tool:
    """One of the tools: url is what a person opens, health_url (http, https or tcp) what tells whether it answers."""

    key: str
    name: str
    url: str | None = None
    hint: str = ""
    health_url: str | None = None


@dataclass(frozen=True)
class Status:
    """The state of the project; runs and tools are None where they could not be read, runs are newest first.

    model_version is what drew the pre-labels that annotators see, served_version what the ML backend draws with now,
    None where it does not say. problem is one line that says what could not be read, or None.
    """

    counts: Counts = field(default_factory=Counts)
    dataset: str | None = None
    model_version: str | None = None
    served_version: str | None = None
    runs: tuple[Run, ...] | None = ()
    tools: tuple[Tool, ...] | None = ()
    problem: str | None = None

    @property
    def links(self) -> Mapping[str, str]:
        """The address of each tool that has one, by key."""
        return {tool.key: tool.url for tool in self.tools or () if tool.url is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON types."""
        return {
            "counts": asdict(self.counts),
            "dataset": self.dataset,
            "model_version": self.model_version,
            "served_version": self.served_version,
            "links": dict(self.links),
            "runs": None if self.runs is None else [asdict(run) for run in self.runs],
            "problem": self.problem,
        }


ReadStatus = Callable[[], Status]
"""Reads the state of the project; raises LabelingError where it cannot."""


class CachedStatus:
    """Reads at most once per max_age_s, however many pages ask at once; a failure is not kept.

    Where a read takes long, as with very many images, it is kept for ten times as long: open pages ask every second.
    """

    def __init__(self, read_status: ReadStatus, max_age_s: float = 1.0) -> None:
        self._read_status = read_status
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._status: Status | None = None
        self._good_until_s = 0.0

    def read(self) -> Status:
        """Return the status, at most max_age_s old, or older where it takes long to read.

        Raises:
            LabelingError: it cannot be read.
        """
        with self._lock:
            if self._status is None or time.monotonic() > self._good_until_s:
                self._status = None
                begin_s = time.monotonic()
                self._status = self._read_status()
                took_s = time.monotonic() - begin_s
                self._good_until_s = time.monotonic() + max(self._max_age_s, 10 * took_s)
            return self._status

    def read_or_problem(self) -> Status:
        """Return the status; where it cannot be read, one that knows nothing but why."""
        try:
            return self.read()
        except LabelingError as error:
            return Status(runs=None, tools=None, problem=str(error))
