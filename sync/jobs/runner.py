"""Runs jobs one after the other in a thread of this process, from a huey queue that outlives it; holds no job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

from filelock import FileLock, Timeout

from labels.errors import LabelingError
from sync.jobs.debounce import Debounce
from sync.jobs.lock import hold_project_lock
from sync.jobs.state import JobState, JobStore, end, now, open_queue
from sync.report import OnProgress, Report
from sync.settings import Home

logger = logging.getLogger(__name__)

RUNNER_LOCK_NAME = "runner.lock"
WAKE_DELAY_S = 2.0
PROGRESS_INTERVAL_S = 0.2
STOP_TIMEOUT_S = 10.0
LONGEST_IDLE_S = 0.3


JobFunction = Callable[[Any, Mapping[str, Any], OnProgress], Report]
"""A job: (context, params, on_progress) -> report. Raises LabelingError for what a person can fix.

What on_progress raises must pass through it: that is how a job is stopped."""

OpenContext = Callable[[], AbstractContextManager[Any]]
"""Opens what the jobs work on (ledger, clients), once per job and in the thread that runs it; closed when it ends."""


class JobStoppedError(Exception):
    """The runner is stopping: raised out of on_progress, so that a job ends at its next step.

    No LabelingError, so that a job which reports bad items and goes on does not go on from this.
    """


class JobRunner(Protocol):
    """What the console needs of a runner."""

    def submit(self, job: str, params: Mapping[str, Any] | None = None) -> JobState:
        """Queue a job."""

    def wake(self) -> None:
        """Ask for a pull soon; return at once."""

    def read_job(self, job_id: str) -> JobState | None:
        """Return a job's state."""

    def read_jobs(self) -> list[JobState]:
        """Return the newest jobs, oldest first."""


class Runner:
    """The jobs of one home folder.

    Any number of processes may submit and read; the one that called start() runs.
    """

    def __init__(
        self,
        home: Home,
        jobs: Mapping[str, JobFunction],
        *,
        open_context: OpenContext = nullcontext,
        redis_url: str | None = None,
        wake_job: str = "pull",
        wake_delay_s: float = WAKE_DELAY_S,
    ) -> None:
        self._home = home
        self._jobs = dict(jobs)
        self._open_context = open_context
        self._queue = open_queue(home, redis_url)
        self._store = JobStore(self._queue, home)
        self._run_task = self._queue.task(name="run_job")(self._run)
        self._wake = Debounce(wake_delay_s, lambda: self._submit_once(wake_job))
        self._runner_lock = FileLock(home.run / RUNNER_LOCK_NAME, thread_local=False)
        self._stopping = threading.Event()
        self._consumer: Any = None

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs that can be submitted, sorted."""
        return tuple(sorted(self._jobs))

    def submit(self, job: str, params: Mapping[str, Any] | None = None) -> JobState:
        """Queue a job and return its state.

        Raises:
            LabelingError: no such job.
        """
        if job not in self._jobs:
            raise LabelingError(f"job '{job}' is not known (known: {', '.join(self.job_names)})")
        state = self._store.create(job, params or {})
        self._run_task(state.id)
        return state

    def wake(self) -> None:
        """Ask for a pull; many calls within two seconds make one. Returns at once and touches no disk."""
        self._wake.call()

    def read_job(self, job_id: str) -> JobState | None:
        """Return a job's state, or None where no such job is known."""
        return self._store.read(job_id)

    def read_jobs(self) -> list[JobState]:
        """Return the newest jobs, oldest first."""
        return self._store.read_all()

    def start(self) -> None:
        """Take up the queue in a thread of this process.

        A job that was running when its process was killed is marked failed; one that still waited is run. The second
        call changes nothing.

        Raises:
            LabelingError: another process runs the jobs of this home folder.
        """
        if self._consumer is not None:
            return
        try:
            self._runner_lock.acquire(timeout=0)
        except Timeout:
            raise LabelingError(f"{self._home.path}: another console runs this folder's jobs; stop it first") from None
        self._recover()
        # Not consumer.start(): it would take the process's signal handlers, which only the main thread may set.
        self._consumer = self._queue.create_consumer(workers=1, periodic=False, max_delay=LONGEST_IDLE_S)
        for _, thread in self._consumer.worker_threads:
            thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop after the running job's next step; what waits stays queued for the next start. Twice is once."""
        if self._consumer is None:
            return
        self._stopping.set()
        self._wake.flush()
        self._consumer.stop(graceful=False)
        for _, thread in self._consumer.worker_threads:
            thread.join(timeout_s)
            if thread.is_alive():
                # The lock stays ours until this process ends: while the job runs, nobody may call it interrupted.
                logger.warning("the running job did not stop within %.0f s", timeout_s)
                return
        self._consumer = None
        self._stopping.clear()
        self._queue.storage.close()
        self._runner_lock.release()

    def _submit_once(self, job: str) -> None:
        """Queue a job unless one already waits: the one that waits will see what this one would."""
        if not any(state.job == job and state.state == "queued" for state in self._store.read_all()):
            self.submit(job)

    def _recover(self) -> None:
        """Settle what a killed process left behind; nobody else runs, since the runner's lock is ours."""
        waiting = {task.args[0] for task in self._queue.pending()}
        for state in self._store.read_all():
            if state.state == "running":
                logger.warning("job %s (%s) was interrupted", state.job, state.id)
                self._store.write(end(state, "failed", error="interrupted: its process ended; start it again"))
            elif state.state == "queued" and state.id not in waiting:
                self._run_task(state.id)

    def _run(self, job_id: str) -> None:
        """Run one job and write how it ended; never raises, since it is the boundary between jobs and the process."""
        state = self._store.read(job_id)
        submission = self._store.read_submission(job_id)
        if state is None or submission is None or state.is_over:
            return
        state = replace(state, state="running", started_at=now(), message="starting")
        self._store.write(state)
        report_progress = _ProgressWriter(self._store, state, self._stopping)
        try:
            with hold_project_lock(self._home, lambda line: report_progress(None, line)):
                report = self._call(submission.job, submission.params, report_progress)
            self._store.write(end(state, "done", progress=1.0, report=report.to_dict()))
        except JobStoppedError:
            self._store.write(end(state, "failed", error="stopped with the console; start it again"))
        except LabelingError as error:
            logger.warning("job %s failed: %s", state.job, error)
            self._store.write(end(state, "failed", error=_first_line(error)))
        except Exception:
            # The boundary that reports: one bad job must not end the worker, nor its traceback reach a person.
            logger.exception("job %s (%s) failed", state.job, state.id)
            self._store.write(end(state, "failed", error="internal error; the console's log has the details"))

    def _call(self, job: str, params: Mapping[str, Any], on_progress: OnProgress) -> Report:
        if job not in self._jobs:
            raise LabelingError(f"job '{job}' is not known to this version")
        with self._open_context() as context:
            return self._jobs[job](context, params, on_progress)


class _ProgressWriter:
    """Writes a running job's progress, at most five times a second: a job may call it for every item."""

    def __init__(self, store: JobStore, state: JobState, stopping: threading.Event) -> None:
        self._store = store
        self._state = state
        self._stopping = stopping
        self._next_write_s = 0.0

    def __call__(self, progress: float | None, message: str) -> None:
        if self._stopping.is_set():
            raise JobStoppedError
        self._state = replace(self._state, progress=progress, message=message)
        if time.monotonic() >= self._next_write_s:
            self._store.write(self._state)
            self._next_write_s = time.monotonic() + PROGRESS_INTERVAL_S


def _first_line(error: Exception) -> str:
    """Return the error's text as one line; an error without text gives its name."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
