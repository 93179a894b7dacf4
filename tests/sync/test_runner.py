"""Jobs run one after the other, what is known of them can be read from anywhere, and none stays «running» for ever."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fiftyone_plugins.app.work import WORKS
from labels.errors import LabelingError, ServiceError
from labels.report import Failure, OnProgress, Report, ignore_progress
from sync.jobs.parameters import check_params
from sync.jobs.registry import JOBS
from sync.ledger import Ledger
from sync.ledger.run_rows import JOBS_FOR_SAMPLES
from sync.runs.debounce import Debounce
from sync.runs.job_queue import JsonSerializer, open_queue
from sync.runs.job_runner import JobFunction
from sync.runs.live_run import current_run_id
from sync.runs.lock import hold_project_lock
from sync.runs.runner import Runner
from sync.runs.schedule import Schedule
from sync.settings import Home
from tests.sync.job_queues import TIMEOUT_S, read, run_redis, wait_for, wait_until_over

MakeRunner = Callable[..., Runner]


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def queue_url(request: pytest.FixtureRequest) -> str | None:
    """Where the queue is: None for SQLite."""
    return None if request.param == "sqlite" else request.getfixturevalue("redis_url")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.path.mkdir()
    return home


@pytest.fixture
def make_runner(home: Home) -> Iterator[MakeRunner]:
    """Makes runners on one home, and stops them."""
    runners: list[Runner] = []

    def make(jobs: Mapping[str, JobFunction], **options: Any) -> Runner:
        runners.append(Runner(home, jobs, **options))
        return runners[-1]

    yield make
    for runner in runners:
        runner.stop()


def push(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
    ids = params.get("sample_ids", [])
    return Report("push", moved=len(ids), failed=(Failure("b.jpg", "is empty", "s2"),))


class Gate:
    """A job that runs until it is let go, telling its progress all the while."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def __call__(self, _context: object, _params: Mapping[str, Any], on_progress: OnProgress) -> Report:
        while not self.go_on.wait(0.01):
            on_progress(0.25, "read 1 of 4")
        return Report("pull")


def is_running(runner: Runner, run_id: int) -> bool:
    run = read(runner, run_id)
    return run.state == "running" and run.progress is not None


def test_a_job_is_queued_runs_and_leaves_its_report(make_runner: MakeRunner, queue_url: str | None) -> None:
    runner = make_runner({"push": push}, redis_url=queue_url)

    queued = runner.submit("push", {"sample_ids": ["a", "b"]}, started_by="app")
    assert (queued.job, queued.state, queued.progress, queued.report) == ("push", "queued", None, None)

    runner.start()
    run = wait_until_over(runner, queued.id)

    assert (run.state, run.progress, run.error, run.started_by) == ("done", 1.0, None, "app")
    assert run.report == Report("push", moved=2, failed=(Failure("b.jpg", "is empty", "s2"),)).to_dict()
    assert (run.summary, run.failed, run.conflicts) == ("push: 2 sent, 0 unchanged, 1 failed", 1, 0)


def test_a_job_that_is_not_known_is_refused_by_name(make_runner: MakeRunner) -> None:
    with pytest.raises(LabelingError, match=r"job 'drop' is not known \(known: pull, push\)"):
        make_runner({"push": push, "pull": push}).submit("drop")


def test_what_a_job_cannot_be_given_is_refused_before_it_waits(make_runner: MakeRunner) -> None:
    runner = make_runner({"push": push, "export": push}, check_params=check_params)
    with pytest.raises(LabelingError, match="parameter 'sample_ids': expected a list of sample ids"):
        runner.submit("push", {"sample_ids": "abc"})
    with pytest.raises(LabelingError, match="parameter 'out': only the command line may choose a folder"):
        runner.submit("export", {"out": "/somewhere"}, started_by="console")
    assert runner.read_runs() == []


def test_an_export_of_the_command_line_is_repeated_to_its_folder(make_runner: MakeRunner, home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        first = ledger.record_run_start("export", {"out": "/somewhere"})
        ledger.record_run_end(first, "failed", error="the disk is full")
    runner = make_runner({"export": push}, check_params=check_params)

    assert runner.retry(first).params == {"out": "/somewhere"}


def test_an_error_a_person_can_fix_is_the_jobs_one_line(make_runner: MakeRunner) -> None:
    def pull(*_: object) -> Report:
        raise LabelingError("label_config.xml: class 'car' is gone")

    runner = make_runner({"pull": pull})
    runner.start()
    run = wait_until_over(runner, runner.submit("pull").id)

    assert (run.state, run.report, run.error) == ("failed", None, "label_config.xml: class 'car' is gone")


def test_what_fails_for_a_reason_that_passes_is_tried_again_with_growing_delays(
    make_runner: MakeRunner, queue_url: str | None
) -> None:
    attempts: list[float] = []
    was_seen = threading.Event()

    def pull(*_: object) -> Report:
        attempts.append(time.monotonic())
        assert len(attempts) != 2 or was_seen.wait(TIMEOUT_S)
        if len(attempts) < 3:
            raise ServiceError("Label Studio does not answer")
        return Report("pull", moved=1)

    runner = make_runner({"pull": pull, "push": push}, redis_url=queue_url, retry_delays_s=(1.0, 2.0))
    runner.start()
    run_id = runner.submit("pull").id
    wait_for(lambda: read(runner, run_id).attempt == 2)
    waiting = read(runner, run_id)
    was_seen.set()
    assert (waiting.state, waiting.message) == ("queued", "tries again 1 s after: Label Studio does not answer")
    assert wait_until_over(runner, runner.submit("push").id).state == "done"
    run = wait_until_over(runner, run_id)

    assert (run.state, run.attempt, run.error) == ("done", 3, None)
    assert attempts[1] - attempts[0] >= 1.0
    assert attempts[2] - attempts[1] >= 2.0


def test_an_attempt_that_waits_survives_a_restart(make_runner: MakeRunner, queue_url: str | None) -> None:
    attempts: list[int] = []

    def pull(*_: object) -> Report:
        attempts.append(1)
        if len(attempts) == 1:
            raise ServiceError("Label Studio does not answer")
        return Report("pull")

    first = make_runner({"pull": pull}, redis_url=queue_url, retry_delays_s=(1.0,))
    first.start()
    run_id = first.submit("pull").id
    wait_for(lambda: read(first, run_id).attempt == 2)
    first.stop()
    second = make_runner({"pull": pull}, redis_url=queue_url, retry_delays_s=(1.0,))
    second.start()

    assert wait_until_over(second, run_id).state == "done"
    assert len(attempts) == 2


def test_after_the_last_attempt_the_run_has_failed(make_runner: MakeRunner) -> None:
    def pull(*_: object) -> Report:
        raise ServiceError("GET /api/projects/3: 401, check LABEL_STUDIO_API_KEY")

    runner = make_runner({"pull": pull}, retry_delays_s=(0.1,))
    runner.start()
    run = wait_until_over(runner, runner.submit("pull").id)

    assert (run.state, run.attempt) == ("failed", 2)
    assert run.error == "GET /api/projects/3: 401, check LABEL_STUDIO_API_KEY"


def test_any_other_error_stays_in_the_log_and_the_next_job_runs(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def pull(*_: object) -> Report:
        raise KeyError("secret detail")

    runner = make_runner({"pull": pull, "push": push})
    runner.start()
    with caplog.at_level(logging.ERROR):
        failed = wait_until_over(runner, runner.submit("pull").id)
        assert wait_until_over(runner, runner.submit("push").id).state == "done"

    assert failed.error == "internal error (KeyError); the log has the details"
    assert "secret detail" in caplog.text


def test_a_report_that_cannot_be_written_fails_the_job_instead_of_leaving_it_running(make_runner: MakeRunner) -> None:
    def pull(*_: object) -> Report:
        return Report("pull", details={"odd": object()})  # type: ignore[dict-item]  # what must not happen

    runner = make_runner({"pull": pull})
    runner.start()

    assert wait_until_over(runner, runner.submit("pull").id).state == "failed"


def test_progress_is_read_while_the_job_runs_and_by_another_process(home: Home, make_runner: MakeRunner) -> None:
    gate = Gate()
    runner = make_runner({"pull": gate})
    runner.start()
    run_id = runner.submit("pull").id
    wait_for(lambda: is_running(runner, run_id))

    code = f"""
        from pathlib import Path
        from sync.ledger import Ledger
        run = Ledger.open(Path({str(home.ledger)!r})).run({run_id})
        print(run.state, run.progress, run.message)
    """
    seen = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    gate.go_on.set()

    assert seen.stdout == "running 0.25 read 1 of 4\n"
    assert wait_until_over(runner, run_id).state == "done"


def test_each_job_gets_a_context_of_its_own_that_is_closed_after_it(make_runner: MakeRunner) -> None:
    events: list[str] = []

    @contextmanager
    def open_context() -> Iterator[str]:
        events.append("open")
        yield "the project"
        events.append("close")

    def pull(context: str, *_: object) -> Report:
        events.append(context)
        return Report("pull")

    runner = make_runner({"pull": pull}, open_context=open_context)
    runner.start()
    for run_id in [runner.submit("pull").id for _ in range(2)]:
        wait_until_over(runner, run_id)

    assert events == ["open", "the project", "close"] * 2


def test_jobs_never_run_at_the_same_time_and_keep_their_order(make_runner: MakeRunner, queue_url: str | None) -> None:
    events: list[tuple[str, int]] = []

    def pull(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
        events.append(("begin", params["number"]))
        time.sleep(0.02)
        events.append(("end", params["number"]))
        return Report("pull")

    runner = make_runner({"pull": pull}, redis_url=queue_url)
    ids = [runner.submit("pull", {"number": number}).id for number in range(5)]
    runner.start()
    for run_id in ids:
        wait_until_over(runner, run_id)

    assert events == [(event, number) for number in range(5) for event in ("begin", "end")]


def test_a_job_waits_for_a_command_that_holds_the_projects_lock(home: Home, make_runner: MakeRunner) -> None:
    runner = make_runner({"push": push})
    runner.start()
    with hold_project_lock(home, pytest.fail):
        run_id = runner.submit("push").id
        wait_for(lambda: "waiting for another" in read(runner, run_id).message)
        assert read(runner, run_id).state == "running"

    assert wait_until_over(runner, run_id).state == "done"


def test_the_lock_goes_with_a_killed_process(home: Home) -> None:
    code = f"""
        import time
        from pathlib import Path
        from sync.runs.lock import hold_project_lock
        from sync.settings import Home
        with hold_project_lock(Home(Path({str(home.path)!r})), print):
            print("held", flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        waits: list[str] = []

        def kill_then_note(line: str) -> None:
            if not waits:
                holder.kill()
            waits.append(line)

        with hold_project_lock(home, kill_then_note):
            pass

    assert waits


def start_console(home: Home, queue_url: str | None, before: str = "") -> subprocess.Popen[str]:
    """Start a process that runs jobs: pull stays in its first step for ever, push ends at once."""
    code = f"""
        import time
        from pathlib import Path
        from sync.runs.runner import Runner
        from labels.report import Report
        from sync.settings import Home
        def pull(context, params, on_progress):
            print("running", flush=True)
            while True:
                on_progress(0.5, "half of it")
                time.sleep(0.05)
        runner = Runner(Home(Path({str(home.path)!r})), {{"pull": pull}}, redis_url={queue_url!r})
        {before}
        runner.start()
        time.sleep(60)
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_job_whose_console_was_killed_is_started_again_and_the_waiting_one_runs_after_it(
    home: Home, make_runner: MakeRunner, queue_url: str | None
) -> None:
    ids = "print(runner.submit('pull', {'everything': True}).id, runner.submit('pull').id, flush=True)"
    console = start_console(home, queue_url, ids)
    assert console.stdout is not None
    killed, waiting = map(int, console.stdout.readline().split())
    assert console.stdout.readline() == "running\n"
    kill(console)
    seen: list[Mapping[str, Any]] = []

    def pull(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
        seen.append(params)
        return Report("pull", moved=len(seen))

    runner = make_runner({"pull": pull}, redis_url=queue_url)
    assert read(runner, killed).state == "interrupted"
    assert read(runner, waiting).state == "queued"
    runner.start()
    wait_for(lambda: not runner.read_active())

    again, *_ = runner.read_runs()
    assert (read(runner, killed).state, read(runner, killed).error) == (
        "interrupted",
        "its process ended before it did",
    )
    assert (again.state, again.retry_of, again.started_by) == ("done", killed, "api")
    assert read(runner, waiting).state == "done"
    assert sorted(seen, key=str) == [{"everything": True}, {}]


def test_a_job_that_kills_its_console_twice_is_not_started_a_third_time(home: Home, make_runner: MakeRunner) -> None:
    console = start_console(home, None, "print(runner.submit('pull').id, flush=True)")
    for _ in range(2):
        assert console.stdout is not None
        while console.stdout.readline() != "running\n":
            pass
        kill(console)
        console = start_console(home, None)
    wait_for(lambda: not make_runner({}).read_active())
    kill(console)

    states = [run.state for run in make_runner({}).read_runs()]
    assert states == ["interrupted", "interrupted"]


def test_a_job_that_was_cancelled_before_its_console_was_killed_is_not_started_again(
    home: Home, make_runner: MakeRunner
) -> None:
    code = f"""
        import os, signal, time
        from pathlib import Path
        from sync.runs.runner import Runner
        from sync.settings import Home
        def pull(context, params, on_progress):
            runner.cancel(params["run"])
            os.kill(os.getpid(), signal.SIGKILL)
        runner = Runner(Home(Path({str(home.path)!r})), {{"pull": pull}})
        runner.submit("pull", {{"run": 1}})
        runner.start()
        time.sleep(60)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    runner = make_runner({"pull": push})
    runner.start()

    assert [(run.id, run.state) for run in runner.read_runs()] == [(1, "cancelled")]


def test_a_run_that_was_taken_from_the_queue_but_never_begun_is_run_at_the_next_start(
    home: Home, make_runner: MakeRunner, queue_url: str | None
) -> None:
    run_id = make_runner({"push": push}, redis_url=queue_url).submit("push").id
    assert open_queue(home, queue_url).storage.dequeue() is not None

    runner = make_runner({"push": push}, redis_url=queue_url)
    runner.start()

    assert wait_until_over(runner, run_id).state == "done"


def test_a_run_the_queue_forgot_while_the_console_ran_is_run_too(
    home: Home, make_runner: MakeRunner, queue_url: str | None
) -> None:
    gate = Gate()
    runner = make_runner({"pull": gate, "push": push}, redis_url=queue_url, tick_s=0.2)
    runner.start()
    runner.submit("pull")
    lost = runner.submit("push")
    wait_for(lambda: is_running(runner, 1))
    open_queue(home, queue_url).storage.flush_queue()
    gate.go_on.set()

    assert wait_until_over(runner, lost.id).state == "done"


def test_a_run_whose_end_could_not_be_written_does_not_stay_running(
    make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, failures = Ledger.record_run_end, iter([LabelingError("disk full")] * 2)

    def fail_first(self: Ledger, *arguments: Any, **options: Any) -> None:
        for error in failures:
            raise error
        record(self, *arguments, **options)

    monkeypatch.setattr(Ledger, "record_run_end", fail_first)
    runner = make_runner({"push": push}, tick_s=0.2)
    runner.start()
    run_id = runner.submit("push").id
    wait_for(lambda: runner.count_runs() == 2 and not runner.read_active())

    assert [(run.state, run.retry_of) for run in runner.read_runs()] == [("done", run_id), ("interrupted", None)]


def test_only_one_console_runs_the_jobs_of_a_home(make_runner: MakeRunner) -> None:
    make_runner({}).start()
    with pytest.raises(LabelingError, match="another console runs"):
        make_runner({}).start()


def test_stop_ends_a_job_at_its_next_step_and_it_goes_on_at_the_next_start(make_runner: MakeRunner) -> None:
    gate = Gate()
    runner = make_runner({"pull": gate})
    runner.start()
    running, waiting = runner.submit("pull"), runner.submit("pull")
    wait_for(lambda: is_running(runner, running.id))
    runner.stop()

    stopped = read(runner, running.id)
    assert (stopped.state, stopped.message) == ("queued", "goes on at the next start of the console")
    assert read(runner, waiting.id).state == "queued"

    gate.go_on.set()
    again = make_runner({"pull": gate})
    again.start()
    assert wait_until_over(again, running.id).state == "done"
    assert wait_until_over(again, waiting.id).state == "done"


def test_a_waiting_job_is_cancelled_at_once_and_never_runs(make_runner: MakeRunner, queue_url: str | None) -> None:
    runner = make_runner({"push": push, "pull": push}, redis_url=queue_url)
    unwanted, wanted = runner.submit("push"), runner.submit("pull")
    assert runner.cancel(unwanted.id).state == "cancelled"
    runner.start()

    assert wait_until_over(runner, wanted.id).state == "done"
    assert (read(runner, unwanted.id).state, read(runner, unwanted.id).started_at) == ("cancelled", None)


def test_a_running_job_is_cancelled_at_its_next_step_and_the_next_one_runs(make_runner: MakeRunner) -> None:
    runner = make_runner({"pull": Gate(), "push": push})
    runner.start()
    run_id = runner.submit("pull").id
    wait_for(lambda: is_running(runner, run_id))
    asked = runner.cancel(run_id)

    assert asked.cancel_requested
    cancelled = wait_until_over(runner, run_id)
    assert (cancelled.state, cancelled.error) == ("cancelled", None)
    assert runner.cancel(run_id) == cancelled
    assert wait_until_over(runner, runner.submit("push").id).state == "done"


def test_what_is_not_known_cannot_be_cancelled(make_runner: MakeRunner) -> None:
    with pytest.raises(LabelingError, match="run 7 is not known"):
        make_runner({}).cancel(7)


def test_a_run_is_started_again_with_all_it_was_started_with(make_runner: MakeRunner) -> None:
    seen: list[Mapping[str, Any]] = []

    def prelabel(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
        seen.append(params)
        failed = tuple(Failure(f"{one}.jpg", "is empty", one) for one in params["sample_ids"][:2])
        return Report("prelabel", failed=(*failed, Failure("a folder", "cannot be read")))

    runner = make_runner({"prelabel": prelabel})
    runner.start()
    ids = [f"s{number}" for number in range(30)]
    first = wait_until_over(runner, runner.submit("prelabel", {"sample_ids": ids, "everything": True}).id)
    again = wait_until_over(runner, runner.retry(first.id).id)
    only_failed = wait_until_over(runner, runner.retry(first.id, only_failed=True).id)

    assert (first.params["sample_ids"], first.failed, first.failed_samples) == ("30 ids", 3, 2)
    assert (again.retry_of, only_failed.retry_of, again.started_by) == (first.id, first.id, "console")
    assert seen == [
        {"sample_ids": ids, "everything": True},
        {"sample_ids": ids, "everything": True},
        {"sample_ids": ["s0", "s1"], "everything": True},
    ]


@pytest.mark.parametrize("name", sorted(JOBS_FOR_SAMPLES & WORKS.keys()))
def test_a_plugins_work_that_is_offered_for_the_failed_samples_alone_takes_samples(name: str) -> None:
    check_params(name, {"sample_ids": ["a"]})
    with pytest.raises(LabelingError, match="parameter 'samples' is not known"):
        check_params(name, {"samples": ["a"]})


@pytest.mark.parametrize("name", sorted(JOBS_FOR_SAMPLES - WORKS.keys()))
def test_a_job_that_is_offered_for_the_failed_samples_alone_takes_samples(name: str) -> None:
    nothing: Any = None
    with pytest.raises(LabelingError, match=r"parameter 'colour' is not known \(known: .*sample_ids"):
        JOBS[name](nothing, {"colour": "red"}, ignore_progress)


def test_a_run_that_goes_on_or_had_no_failed_sample_is_not_started_again_for_them(make_runner: MakeRunner) -> None:
    runner = make_runner({"pull": push})
    run_id = runner.submit("pull").id
    with pytest.raises(LabelingError, match="run 1 is not over yet"):
        runner.retry(run_id)
    runner.start()
    assert not wait_until_over(runner, run_id).can_retry_failed
    with pytest.raises(LabelingError, match="no sample failed that pull could be run for"):
        runner.retry(run_id, only_failed=True)


def test_many_wake_ups_make_one_pull(make_runner: MakeRunner) -> None:
    runner = make_runner({"pull": lambda *_: Report("pull")}, wake_delay_s=0.1)
    for _ in range(50):
        runner.wake()
    wait_for(runner.read_runs)
    time.sleep(0.3)

    assert [(run.job, run.started_by) for run in runner.read_runs()] == [("pull", "webhook")]


def test_a_wake_up_adds_nothing_while_a_pull_waits_but_does_while_one_runs(make_runner: MakeRunner) -> None:
    gate = Gate()
    runner = make_runner({"pull": gate}, wake_delay_s=0.01)
    running = runner.submit("pull")
    runner.start()
    wait_for(lambda: is_running(runner, running.id))
    for _ in range(3):
        runner.wake()
        time.sleep(0.1)
    active = [run.state for run in runner.read_active()]
    gate.go_on.set()
    wait_for(lambda: not runner.read_active())

    assert active == ["running", "queued"]


def test_a_wake_up_does_not_wait_for_the_next_attempt_of_a_pull_that_failed(make_runner: MakeRunner) -> None:
    answers = threading.Event()

    def pull(*_: object) -> Report:
        if not answers.is_set():
            raise ServiceError("Label Studio does not answer")
        return Report("pull", moved=1)

    runner = make_runner({"pull": pull}, wake_delay_s=0.01, retry_delays_s=(600.0,))
    runner.start()
    failed = runner.submit("pull").id
    wait_for(lambda: read(runner, failed).attempt == 2)
    answers.set()
    runner.wake()
    wait_for(lambda: runner.count_runs() == 2 and read(runner, failed + 1).is_over)

    assert read(runner, failed).state == "queued"
    assert read(runner, failed + 1).summary == "pull: 1 merged, 0 unchanged"
    assert runner.cancel(failed).state == "cancelled"


def test_a_pull_starts_by_the_clock_and_none_piles_up_while_it_runs(
    make_runner: MakeRunner, queue_url: str | None
) -> None:
    gate = Gate()
    runner = make_runner({"pull": gate}, redis_url=queue_url, schedule=Schedule(1, None), tick_s=0.1)
    runner.start()
    wait_for(lambda: any(run.state == "running" for run in runner.read_active()))
    time.sleep(2.5)
    waiting = open_queue(runner._home, queue_url).storage.queue_size()
    gate.go_on.set()
    wait_for(lambda: runner.count_runs() >= 1 and not runner.read_active())
    runner.stop()

    # The clock's own two tasks at most, however often it struck meanwhile.
    assert waiting <= 2
    assert {run.started_by for run in runner.read_runs()} == {"schedule"}
    assert len(runner.read_runs()) <= 2


def test_nothing_starts_by_the_clock_before_there_is_a_project(make_runner: MakeRunner) -> None:
    runner = make_runner({"pull": push}, schedule=Schedule(1, None), tick_s=0.1, is_ready=lambda: False)
    runner.start()
    time.sleep(1.5)

    assert runner.read_runs() == []


def test_the_schedule_is_read_from_the_environment_and_each_bad_value_is_named() -> None:
    schedule = Schedule.from_environ({})
    assert schedule.describe() == {"pull": "every 5 minutes", "sweep": "every day at 03:00"}
    assert Schedule.from_environ({"LABELLOOP_PULL_EVERY_MIN": "0"}).describe()["pull"] == "off"
    assert [hour for hour in range(24) if schedule.is_sweep_due(datetime(2026, 5, 4, hour, 0))] == [3]  # noqa: DTZ001
    with pytest.raises(LabelingError, match="LABELLOOP_PULL_EVERY_MIN: '-1'"):
        Schedule.from_environ({"LABELLOOP_PULL_EVERY_MIN": "-1"})
    with pytest.raises(LabelingError, match="LABELLOOP_SWEEP_AT: '25:00'"):
        Schedule.from_environ({"LABELLOOP_SWEEP_AT": "25:00"})


def test_of_the_runs_nobody_waits_for_that_found_nothing_only_the_newest_is_kept(home: Home) -> None:
    nothing, something = Report("pull").to_dict(), Report("pull", moved=1).to_dict()
    with Ledger.open(home.ledger) as ledger:
        for started_by, report in (
            ("schedule", nothing),
            ("schedule", something),
            ("app", nothing),
            ("webhook", nothing),
            ("schedule", nothing),
        ):
            run_id = ledger.record_run_queued("pull", {}, started_by=started_by)
            assert run_id is not None
            ledger.record_run_end(run_id, "done", report)
        for _ in range(2):
            run_id = ledger.record_run_queued("pull", {}, started_by="schedule")
            assert run_id is not None
            ledger.record_run_end(run_id, "failed", error="Label Studio does not answer")
        kept = [(run.started_by, run.summary or run.error) for run in ledger.runs()]

    assert kept == [
        ("schedule", "Label Studio does not answer"),
        ("schedule", "pull: 0 merged, 0 unchanged"),
        ("app", "pull: 0 merged, 0 unchanged"),
        ("schedule", "pull: 1 merged, 0 unchanged"),
    ]


def test_a_long_report_is_left_out_of_lists_and_there_in_full_for_its_run(home: Home) -> None:
    report = Report("push", failed=tuple(Failure(f"{number}.jpg", "is empty", "s") for number in range(5000)))
    with Ledger.open(home.ledger) as ledger:
        run_id = ledger.record_run_start("push", {})
        ledger.record_run_end(run_id, "done", report.to_dict())
        (listed,) = ledger.runs()
        run = ledger.run(run_id)

    assert (listed.report, listed.failed, listed.summary) == (None, 5000, "push: 0 sent, 0 unchanged, 5000 failed")
    assert run is not None
    assert run.report == report.to_dict()


def test_a_stream_of_calls_that_never_pauses_does_not_put_the_action_off() -> None:
    acts: list[float] = []
    debounce = Debounce(0.05, lambda: acts.append(time.monotonic()))
    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        debounce.call()
        time.sleep(0.005)
    debounce.flush()

    assert 2 <= len(acts) <= 11


def test_what_is_queued_is_plain_json(home: Home, make_runner: MakeRunner) -> None:
    run_id = make_runner({"push": push}).submit("push").id
    (stored,) = open_queue(home).storage.enqueued_items()

    assert JsonSerializer().deserialize(stored).args == [run_id]
    assert json.loads(bytes(stored)).keys() == {"message"}


def test_two_homes_on_one_redis_keep_apart(tmp_path: Path, redis_url: str) -> None:
    homes = [Home(tmp_path / name) for name in ("one", "two")]
    for home in homes:
        home.path.mkdir()
    runners = [Runner(home, {"push": push}, redis_url=redis_url) for home in homes]
    runs = [runner.submit("push") for runner in runners]
    runners[1].start()
    assert wait_until_over(runners[1], runs[1].id).state == "done"
    runners[1].stop()

    assert [run.state for run in runners[0].read_active()] == ["queued"]


def test_a_redis_that_does_not_answer_is_said_and_the_job_is_not_left_waiting(tmp_path: Path, home: Home) -> None:
    with pytest.raises(ServiceError, match="LABELLOOP_REDIS_URL: Redis did not answer"):
        Runner(home, {}, redis_url="redis://127.0.0.1:1/0")
    with run_redis(tmp_path) as url:
        runner = Runner(home, {"push": push}, redis_url=url)
    with pytest.raises(ServiceError, match="the job queue cannot be written to"):
        runner.submit("push")

    assert [run.state for run in runner.read_runs()] == ["failed"]


def test_a_long_job_holds_up_no_other_and_can_be_cancelled(
    home: Home, make_runner: MakeRunner, queue_url: str | None
) -> None:
    gate = Gate()
    runner = make_runner({"train": gate, "push": push}, long_jobs={"train"}, redis_url=queue_url)
    runner.start()
    long = runner.submit("train")
    wait_for(lambda: is_running(runner, long.id))

    short = runner.submit("push", {"sample_ids": ["a"]})

    assert wait_until_over(runner, short.id).state == "done"
    assert read(runner, long.id).state == "running"
    # Who writes to the project does not wait for it, in whatever process.
    with hold_project_lock(home, lambda _: pytest.fail("somebody holds the project's lock")):
        pass
    runner.cancel(long.id)
    assert wait_until_over(runner, long.id).state == "cancelled"


def test_long_jobs_wait_for_one_another(make_runner: MakeRunner) -> None:
    gate = Gate()
    runner = make_runner({"train": gate}, long_jobs={"train"})
    runner.start()
    first, second = runner.submit("train"), runner.submit("train")
    wait_for(lambda: is_running(runner, first.id))

    assert read(runner, second.id).state == "queued"
    gate.go_on.set()

    assert wait_until_over(runner, second.id).state == "done"


def test_a_long_job_that_runs_is_not_taken_for_one_that_was_left_behind(make_runner: MakeRunner) -> None:
    gate = Gate()
    # The queue is tended at every tick of the clock, by the worker that is free.
    runner = make_runner({"train": gate, "push": push}, long_jobs={"train"}, tick_s=0.05)
    runner.start()
    long = runner.submit("train")
    wait_for(lambda: is_running(runner, long.id))

    for _ in range(3):
        wait_until_over(runner, runner.submit("push").id)
        runner._tend()

    assert read(runner, long.id).state == "running"
    assert runner.count_runs(job="train") == 1
    gate.go_on.set()
    assert wait_until_over(runner, long.id).state == "done"


def test_a_long_job_goes_on_when_the_runner_starts_again(home: Home, make_runner: MakeRunner) -> None:
    gate = Gate()
    first = make_runner({"train": gate}, long_jobs={"train"})
    first.start()
    run = first.submit("train")
    wait_for(lambda: is_running(first, run.id))
    first.stop()
    assert read(first, run.id).state == "queued"
    gate.go_on.set()

    second = make_runner({"train": gate}, long_jobs={"train"})
    second.start()

    assert wait_until_over(second, run.id).state == "done"


def test_a_job_knows_its_run_and_other_threads_know_none(make_runner: MakeRunner) -> None:
    seen: list[int | None] = []

    def look(_context: object, _params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
        seen.append(current_run_id())
        return Report("push")

    runner = make_runner({"push": look})
    runner.start()
    run = runner.submit("push")
    wait_until_over(runner, run.id)

    assert seen == [run.id]
    assert current_run_id() is None
