"""What a job is to those who run it, and a runner to those who ask it. Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from labels.report import OnProgress, Report
from sync.ledger import Run

JobFunction = Callable[[Any, Mapping[str, Any], OnProgress], Report]
"""A job: (context, params, on_progress) -> report. Raises LabelingError for what a person can fix.

What on_progress raises must pass through it: that is how a job is stopped."""


class JobRunner(Protocol):
    """What the console needs of a runner. Every method may be called from any thread."""

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs that can be submitted, sorted."""

    def submit(self, job: str, params: Mapping[str, Any] | None = None, *, started_by: str = "api") -> Run:
        """Queue a job."""

    def wake(self) -> None:
        """Ask for a pull soon; return at once."""

    def read_runs(self, limit: int = 25, offset: int = 0, *, job: str | None = None) -> list[Run]:
        """Return runs, newest first."""

    def count_runs(self, *, job: str | None = None) -> int:
        """Return how many runs there are."""

    def read_run(self, run_id: int) -> Run | None:
        """Return one run with its whole report."""

    def read_active(self) -> list[Run]:
        """Return what runs, then what waits."""

    def cancel(self, run_id: int) -> Run:
        """End a run that waits or runs."""

    def dismiss(self, run_id: int) -> None:
        """Note that somebody has seen how a run ended, and those of its job before it."""

    def read_dismissed(self) -> Mapping[str, int]:
        """Return by job up to which run somebody has seen how it ended."""

    def retry(self, run_id: int, *, only_failed: bool = False, started_by: str = "console") -> Run:
        """Start a job that is over again."""
