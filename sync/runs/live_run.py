"""What happens round a job: its run in the ledger from start to end, its progress, and how it is stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, Literal

from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.ledger import Ledger

logger = logging.getLogger(__name__)

PROGRESS_INTERVAL_S: Final = 1.0

_RUN_ID: Final[ContextVar[int | None]] = ContextVar("run_id", default=None)


def current_run_id() -> int | None:
    """Return the number of the run that this thread works on; None: it works on none."""
    return _RUN_ID.get()


Postpone = Callable[[BaseException], str | None]
"""Says why a run that ended with this error waits to be run again, or None: it does not."""


class JobStoppedError(Exception):
    """Somebody wants the job to end: raised out of on_progress, so that it does at its next step.

    No LabelingError, so that a job which reports bad items and goes on does not go on from this.
    """


class JobCancelledError(JobStoppedError):
    """The run is not wanted any more; it is not started again by itself."""


class LiveRun:
    """The listener of one running job; it belongs to the job's thread, as its ledger does.

    Progress is written at most once a second, since a job may tell it for every item; so the wish to cancel is read as
    often. A ledger that cannot be written to for a moment stops no job: progress is only told.
    """

    def __init__(
        self,
        ledger: Ledger,
        run_id: int,
        *,
        watch: OnProgress = ignore_progress,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._watch = watch
        self._is_stopping = is_stopping
        self._next_write_s = 0.0

    def on_progress(self, done: float | None, message: str) -> None:
        """Tell how far the job is.

        Raises:
            JobStoppedError: this process ends.
            JobCancelledError: somebody cancelled the run.
        """
        if self._is_stopping():
            raise JobStoppedError("its process is ending")
        self._watch(done, message)
        if time.monotonic() < self._next_write_s:
            return
        try:
            is_unwanted = self._ledger.record_run_progress(self._run_id, done, message)
        except LabelingError as error:
            logger.warning("run %d: its progress was not written (%s)", self._run_id, error)
            is_unwanted = False
        self._next_write_s = time.monotonic() + PROGRESS_INTERVAL_S
        if is_unwanted:
            raise JobCancelledError("it was cancelled")

    def perform(self, job: Callable[[OnProgress], Report], *, postpone: Postpone = lambda _: None) -> Report:
        """Do the job and record how it ended; what it raises is recorded and raised again.

        Where ``postpone`` has a word for what was raised, the run waits with that message in place of ending.
        """
        token = _RUN_ID.set(self._run_id)
        try:
            report = job(self.on_progress)
            self._ledger.record_run_end(self._run_id, "done", report.to_dict())
        except BaseException as error:
            message = postpone(error)
            if message is not None:
                self._ledger.record_run_again(self._run_id, message)
            else:
                state, problem = describe_end(error)
                self._ledger.record_run_end(self._run_id, state, error=problem)
            raise
        finally:
            _RUN_ID.reset(token)
        return report


def describe_end(
    error: BaseException,
) -> tuple[Literal["failed", "cancelled", "stopped", "interrupted"], str | None]:
    """Return how a run ended that raised this, and the one line a person reads of it.

    >>> describe_end(KeyboardInterrupt())
    ('stopped', 'stopped; start it again, it goes on from there')
    """
    match error:
        case JobCancelledError():
            return "cancelled", None
        case JobStoppedError():
            return "interrupted", "its process ended before it did"
        case KeyboardInterrupt() | SystemExit():
            return "stopped", "stopped; start it again, it goes on from there"
        case LabelingError():
            return "failed", str(error).partition("\n")[0] or type(error).__name__
        case _:
            return "failed", f"internal error ({type(error).__name__}); the log has the details"
