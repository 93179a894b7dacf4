"""Runs jobs one after the other in a thread of this process, from a huey queue that outlives it; holds no job.

Long jobs, which write nothing that others write, have a queue and a thread of their own: nobody waits for them.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, Final, Literal

from filelock import FileLock, Timeout
from huey.exceptions import RetryTask
from redis.exceptions import RedisError

from labels.errors import LabelingError, ServiceError
from labels.report import OnProgress, Report
from sync.ledger import Ledger, Run
from sync.runs.debounce import Debounce
from sync.runs.job_queue import LONG_QUEUE_NAME, make_consumer, open_queue, threads_of
from sync.runs.job_runner import JobFunction
from sync.runs.live_run import JobCancelledError, JobStoppedError, LiveRun
from sync.runs.lock import hold_project_lock
from sync.runs.schedule import NEVER, Schedule
from sync.settings import Home

logger = logging.getLogger(__name__)

RUNNER_LOCK_NAME: Final = "runner.lock"
WAKE_DELAY_S: Final = 2.0
STOP_TIMEOUT_S: Final = 10.0
TICK_S: Final = 60.0
RETRY_DELAYS_S: Final = (10.0, 60.0, 300.0)
"""How long a job that failed for a reason that passes waits before each further attempt."""


CheckParams = Callable[..., None]
"""Called with a job, its parameters and ``is_again``; raises LabelingError for what the job cannot be given."""


def _take_all(_job: str, _params: Mapping[str, Any], *, is_again: bool) -> None:
    """Check nothing."""


OpenContext = Callable[[], AbstractContextManager[Any]]
"""Opens what the jobs work on (ledger, clients), once per job and in the thread that runs it; closed when it ends."""


class Runner:
    """The jobs of one home folder.

    Any number of processes may submit, read and cancel; the one that called start() runs.
    """

    def __init__(
        self,
        home: Home,
        jobs: Mapping[str, JobFunction],
        *,
        open_context: OpenContext = nullcontext,
        redis_url: str | None = None,
        schedule: Schedule = NEVER,
        is_ready: Callable[[], bool] = lambda: True,
        check_params: CheckParams = _take_all,
        long_jobs: Collection[str] = (),
        wake_job: str = "pull",
        wake_delay_s: float = WAKE_DELAY_S,
        tick_s: float = TICK_S,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    ) -> None:
        self._home = home
        self._jobs = dict(jobs)
        self._open_context = open_context
        self._check_params = check_params
        self._is_ready = is_ready
        self._tick_s = tick_s
        self._retry_delays_s = tuple(retry_delays_s)
        self._long_jobs = frozenset(long_jobs)
        self._queue = open_queue(home, redis_url)
        self._run_task = self._queue.task(name="run_job")(self._run)
        self._long_queue = open_queue(home, redis_url, name=LONG_QUEUE_NAME)
        self._run_long_task = self._long_queue.task(name="run_job")(self._run)
        self._working_on: set[int] = set()
        self._start_by_clock("pull", schedule.is_pull_due)
        self._start_by_clock("sweep", schedule.is_sweep_due)
        self._by_clock("tend_queue", lambda _: True, self._tend)
        self._wake = Debounce(wake_delay_s, lambda: self._submit_once(wake_job, "webhook", unless="fresh"))
        self._runner_lock = FileLock(home.run / RUNNER_LOCK_NAME, thread_local=False)
        self._stopping = threading.Event()
        # Held between the two writes of a submission: what is only half there must not be taken for lost.
        self._putting = threading.Lock()
        self._consumers: list[Any] = []

    @property
    def job_names(self) -> tuple[str, ...]:
        """The jobs that can be submitted, sorted."""
        return tuple(sorted(self._jobs))

    def submit(self, job: str, params: Mapping[str, Any] | None = None, *, started_by: str = "api") -> Run:
        """Queue a job and return its run.

        Raises:
            LabelingError: no such job, or it cannot be given these parameters.
            ServiceError: the queue cannot be written to.
        """
        return self._submit(job, params or {}, started_by=started_by)

    def wake(self) -> None:
        """Ask for a pull; many calls within two seconds make one. Returns at once and touches no disk."""
        self._wake.call()

    def read_runs(self, limit: int = 25, offset: int = 0, *, job: str | None = None) -> list[Run]:
        """Return runs, newest first; a long report is left out."""
        with self._open_ledger() as ledger:
            return ledger.runs(limit, offset, job=job)

    def count_runs(self, *, job: str | None = None) -> int:
        """Return how many runs are kept."""
        with self._open_ledger() as ledger:
            return ledger.count_runs(job=job)

    def read_run(self, run_id: int) -> Run | None:
        """Return a run with its whole report, or None where no such run is known."""
        with self._open_ledger() as ledger:
            return ledger.run(run_id)

    def read_active(self) -> list[Run]:
        """Return what runs, also in a command of a terminal, then what waits, each in their order."""
        with self._open_ledger() as ledger:
            return ledger.active_runs()

    def cancel(self, run_id: int) -> Run:
        """End a run: at once where it waits, at its next step where it runs; one that is over stays as it is.

        Raises:
            LabelingError: no such run.
        """
        with self._open_ledger() as ledger:
            ledger.record_cancel(run_id)
            return _found(ledger, run_id)

    def dismiss(self, run_id: int) -> None:
        """Note that somebody has seen how a run ended, and those of its job before it: they wait for nobody.

        Raises:
            LabelingError: no such run, or it is not over.
        """
        with self._open_ledger() as ledger:
            run = ledger.run(run_id)
            if run is None or not run.is_over:
                raise LabelingError(f"run {run_id} is not {'known' if run is None else 'over'}; nothing was dismissed")
            ledger.record_dismissed(run.job, run_id)

    def read_dismissed(self) -> Mapping[str, int]:
        """Return by job up to which run somebody has seen how it ended."""
        with self._open_ledger() as ledger:
            return ledger.dismissed()

    def retry(self, run_id: int, *, only_failed: bool = False, started_by: str = "console") -> Run:
        """Start the job of a run again, for what it was started for or for the samples that failed; return the new run.

        Raises:
            LabelingError: no such run, it is not over, or no sample failed that the job could be run for.
        """
        with self._open_ledger() as ledger:
            job, params = ledger.retry_params(run_id, only_failed=only_failed)
        return self._submit(job, params, started_by=started_by, retry_of=run_id)

    def start(self) -> None:
        """Take up the queue, and what starts by the clock, in threads of this process.

        A job that was running when its process was killed is marked interrupted and started again, once; one that still
        waited is run. The second call changes nothing.

        Raises:
            LabelingError: another process runs the jobs of this home folder.
        """
        if self._consumers:
            return
        try:
            self._runner_lock.acquire(timeout=0)
        except Timeout:
            raise LabelingError(f"{self._home.path}: another console runs this folder's jobs; stop it first") from None
        self._tend()
        # Not consumer.start(): it would take the process's signal handlers, which only the main thread may set.
        self._consumers = [make_consumer(queue, self._tick_s) for queue in self._queues]
        for thread in threads_of(self._consumers):
            thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop after the running job's next step; it and what waits are run at the next start. Twice is once."""
        if not self._consumers:
            return
        self._stopping.set()
        self._wake.flush()
        for consumer in self._consumers:
            consumer.stop(graceful=False)
        # A process that is asked to end while it starts has not begun them all.
        for thread in (thread for thread in threads_of(self._consumers) if thread.ident is not None):
            thread.join(timeout_s)
            if thread.is_alive():
                # The lock stays ours until this process ends: while the job runs, nobody may call it interrupted.
                logger.warning("the running job did not stop within %.0f s", timeout_s)
                return
        self._consumers = []
        self._stopping.clear()
        for queue in self._queues:
            queue.storage.close()
        self._runner_lock.release()

    @property
    def _queues(self) -> tuple[Any, Any]:
        return self._queue, self._long_queue

    def _open_ledger(self) -> Ledger:
        return Ledger.open(self._home.ledger)

    def _submit(self, job: str, params: Mapping[str, Any], *, started_by: str, retry_of: int | None = None) -> Run:
        if job not in self._jobs:
            raise LabelingError(f"job '{job}' is not known (known: {', '.join(self.job_names)})")
        self._check_params(job, params, is_again=retry_of is not None)
        with self._putting, self._open_ledger() as ledger:
            run_id = ledger.record_run_queued(job, params, started_by=started_by, retry_of=retry_of)
            assert run_id is not None
            try:
                self._put(run_id, job)
            except ServiceError as error:
                ledger.record_run_end(run_id, "failed", error=str(error))
                raise
            return _found(ledger, run_id)

    def _submit_once(self, job: str, started_by: str, *, unless: Literal["waiting", "fresh"]) -> None:
        """Queue a job unless one already waits; what goes wrong is for the log, since nobody called.

        An event tells that Label Studio answers again: it does not wait for the next attempt of one that failed.
        """
        try:
            with self._putting, self._open_ledger() as ledger:
                run_id = ledger.record_run_queued(job, {}, started_by=started_by, unless=unless)
                if run_id is not None:
                    self._put(run_id, job)
        except LabelingError as error:
            logger.warning("no %s was queued (%s): %s", job, started_by, error)

    def _put(self, run_id: int, job: str) -> None:
        try:
            (self._run_long_task if job in self._long_jobs else self._run_task)(run_id)
        except (RedisError, sqlite3.Error) as error:
            raise ServiceError(f"the job queue cannot be written to ({type(error).__name__})") from error

    def _tend(self) -> None:
        """Settle what was left behind; called before the workers start, or by the one of the short jobs.

        A run that is not over and not worked on was interrupted, or its end could not be written. One that waits and is
        not in the queue was lost where a process, or Redis, ended between the two writes.
        """
        with self._putting, self._open_ledger() as ledger:
            # The set itself: while the ledger is locked by somebody, the worker of the long jobs may take one up.
            for run_id in ledger.restart_interrupted(but=self._working_on):
                logger.warning("run %d goes on with what was interrupted", run_id)
            waiting = [run for run in ledger.active_runs() if run.state == "queued"]
            tasks = [task for queue in self._queues for task in (*queue.pending(), *queue.scheduled())]
            present = {task.args[0] for task in tasks if task.args} | self._working_on
            for run in waiting:
                if run.id not in present:
                    self._put(run.id, run.job)

    def _start_by_clock(self, job: str, is_due: Callable[[datetime], bool]) -> None:
        if job in self._jobs:
            self._by_clock(f"start_{job}", is_due, lambda: self._submit_once(job, "schedule", unless="waiting"))

    def _by_clock(self, name: str, is_due: Callable[[datetime], bool], action: Callable[[], None]) -> None:
        def tick() -> None:
            try:
                action()
            except (LabelingError, RedisError, sqlite3.Error) as error:
                logger.warning("%s: %s", name, error)

        def is_wanted(utc: datetime) -> bool:
            # Asked in huey's scheduler, which an exception would end.
            try:
                return is_due(utc.replace(tzinfo=UTC).astimezone()) and self._is_ready() and not self._waits(tick_task)
            except (LabelingError, RedisError, sqlite3.Error) as error:
                logger.warning("%s: %s", name, error)
                return False

        tick_task = self._queue.periodic_task(is_wanted, name=name)(tick)

    def _waits(self, task: Any) -> bool:
        """Return whether one is in the queue: while a long job runs, no more than one piles up."""
        return any(isinstance(waiting, task.task_class) for waiting in self._queue.pending())

    def _run(self, run_id: int) -> None:
        """Run one job and record how it ended.

        Raises:
            RetryTask: huey is to run it again later.
        """
        # Known before the ledger says that it runs, and until it says how it ended: nobody may call it interrupted.
        self._working_on.add(run_id)
        try:
            with self._open_ledger() as ledger:
                if ledger.record_run_taken(run_id):
                    self._perform(ledger, _found(ledger, run_id))
        except RetryTask:
            raise
        except JobStoppedError:
            logger.info("run %d was stopped", run_id)
        except LabelingError as error:
            logger.warning("run %d failed: %s", run_id, error)
        except Exception:
            # The boundary that reports: one bad job must not end the worker, nor its traceback reach a person.
            logger.exception("run %d failed", run_id)
        finally:
            self._working_on.discard(run_id)

    def _perform(self, ledger: Ledger, run: Run) -> None:
        delay_s = self._retry_delays_s[run.attempt - 1] if run.attempt <= len(self._retry_delays_s) else None

        def postpone(error: BaseException) -> str | None:
            if isinstance(error, JobStoppedError) and not isinstance(error, JobCancelledError):
                return "goes on at the next start of the console"
            if isinstance(error, ServiceError) and delay_s is not None:
                return f"tries again {delay_s:.0f} s after: {error}"
            return None

        params = ledger.run_params(run.id)
        live = LiveRun(ledger, run.id, is_stopping=self._stopping.is_set)
        try:
            report = live.perform(lambda on_progress: self._call(run.job, params, on_progress), postpone=postpone)
            logger.info("run %d (%s): %s", run.id, run.started_by, next(report.lines()))
        except ServiceError as error:
            if delay_s is not None:
                logger.warning("run %d (%s) tries again in %.0f s: %s", run.id, run.job, delay_s, error)
                raise RetryTask(delay=delay_s) from None
            raise

    def _call(self, job: str, params: Mapping[str, Any], on_progress: OnProgress) -> Report:
        if job not in self._jobs:
            raise LabelingError(f"job '{job}' is not known to this version")
        is_long = job in self._long_jobs
        lock = nullcontext() if is_long else hold_project_lock(self._home, lambda line: on_progress(None, line))
        with lock, self._open_context() as context:
            return self._jobs[job](context, params, on_progress)


def _found(ledger: Ledger, run_id: int) -> Run:
    run = ledger.run(run_id)
    assert run is not None
    return run
