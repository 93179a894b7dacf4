"""Jobs run one after the other, their state can be read from anywhere, and none stays «running» for ever."""

from __future__ import annotations

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
from pathlib import Path
from typing import Any

import pytest

from labels.errors import LabelingError, ServiceError
from sync.jobs.debounce import Debounce
from sync.jobs.lock import hold_project_lock
from sync.jobs.runner import JobFunction, Runner
from sync.jobs.state import KEPT_JOBS, JobState, JobStore, JsonSerializer, open_queue
from sync.report import Failure, OnProgress, Report
from sync.settings import Home

TIMEOUT_S = 10.0
MakeRunner = Callable[..., Runner]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


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


def wait_for(condition: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.01)


def wait_until_over(runner: Runner, job_id: str) -> JobState:
    wait_for(lambda: (state := runner.read_job(job_id)) is not None and state.is_over)
    state = runner.read_job(job_id)
    assert state is not None
    return state


def push(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
    ids = params.get("sample_ids", [])
    return Report("push", moved=len(ids), failed=(Failure("b.jpg", "is empty"),))


def test_a_job_is_queued_runs_and_leaves_its_report(make_runner: MakeRunner) -> None:
    runner = make_runner({"push": push})

    queued = runner.submit("push", {"sample_ids": ["a", "b"]})
    assert (queued.job, queued.state, queued.progress, queued.report) == ("push", "queued", None, None)

    runner.start()
    state = wait_until_over(runner, queued.id)

    assert (state.state, state.progress, state.error) == ("done", 1.0, None)
    assert state.report == Report("push", moved=2, failed=(Failure("b.jpg", "is empty"),)).to_dict()


def test_a_job_that_is_not_known_is_refused_by_name(make_runner: MakeRunner) -> None:
    with pytest.raises(LabelingError, match=r"job 'drop' is not known \(known: pull, push\)"):
        make_runner({"push": push, "pull": push}).submit("drop")


def test_an_error_a_person_can_fix_is_the_jobs_one_line(make_runner: MakeRunner) -> None:
    def pull(*_: object) -> Report:
        raise ServiceError("GET /api/projects/3: 401, check LABEL_STUDIO_API_KEY")

    runner = make_runner({"pull": pull})
    runner.start()
    state = wait_until_over(runner, runner.submit("pull").id)

    assert (state.state, state.report) == ("failed", None)
    assert state.error == "GET /api/projects/3: 401, check LABEL_STUDIO_API_KEY"


def test_any_other_error_stays_in_the_log_and_the_next_job_runs(
    make_runner: MakeRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def pull(*_: object) -> Report:
        raise KeyError("secret detail")

    runner = make_runner({"pull": pull, "push": push})
    runner.start()
    with caplog.at_level(logging.ERROR):
        failed = wait_until_over(runner, runner.submit("pull").id)

    assert failed.error == "internal error; the console's log has the details"
    assert "secret detail" in caplog.text
    assert wait_until_over(runner, runner.submit("push").id).state == "done"


def test_a_report_that_cannot_be_written_fails_the_job_instead_of_leaving_it_running(make_runner: MakeRunner) -> None:
    def pull(*_: object) -> Report:
        return Report("pull", details={"odd": object()})  # type: ignore[dict-item]  # what must not happen

    runner = make_runner({"pull": pull})
    runner.start()

    assert wait_until_over(runner, runner.submit("pull").id).state == "failed"


def test_progress_is_read_while_the_job_runs_and_by_another_process(home: Home, make_runner: MakeRunner) -> None:
    go_on = threading.Event()

    def pull(_context: object, _params: Mapping[str, Any], on_progress: OnProgress) -> Report:
        on_progress(0.25, "read 1 of 4")
        assert go_on.wait(TIMEOUT_S)
        return Report("pull")

    runner = make_runner({"pull": pull})
    runner.start()
    job_id = runner.submit("pull").id
    wait_for(lambda: (state := runner.read_job(job_id)) is not None and state.progress is not None)

    code = f"""
        from pathlib import Path
        from sync.jobs.runner import Runner
        from sync.settings import Home
        state = Runner(Home(Path({str(home.path)!r})), {{}}).read_job({job_id!r})
        print(state.state, state.progress, state.message)
    """
    seen = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=60
    )
    go_on.set()

    assert seen.stdout == "running 0.25 read 1 of 4\n"
    assert wait_until_over(runner, job_id).state == "done"


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
    for job_id in [runner.submit("pull").id for _ in range(2)]:
        wait_until_over(runner, job_id)

    assert events == ["open", "the project", "close"] * 2


def test_jobs_never_run_at_the_same_time_and_keep_their_order(make_runner: MakeRunner) -> None:
    events: list[tuple[str, int]] = []

    def pull(_context: object, params: Mapping[str, Any], _on_progress: OnProgress) -> Report:
        events.append(("begin", params["number"]))
        time.sleep(0.02)
        events.append(("end", params["number"]))
        return Report("pull")

    runner = make_runner({"pull": pull})
    ids = [runner.submit("pull", {"number": number}).id for number in range(5)]
    runner.start()
    for job_id in ids:
        wait_until_over(runner, job_id)

    assert events == [(event, number) for number in range(5) for event in ("begin", "end")]


def test_a_job_waits_for_a_command_that_holds_the_projects_lock(home: Home, make_runner: MakeRunner) -> None:
    runner = make_runner({"push": push})
    runner.start()
    with hold_project_lock(home, pytest.fail):
        job_id = runner.submit("push").id
        wait_for(lambda: (state := runner.read_job(job_id)) is not None and state.state == "running")
        wait_for(lambda: "waiting for another" in getattr(runner.read_job(job_id), "message", ""))

    assert wait_until_over(runner, job_id).state == "done"


def test_the_lock_goes_with_a_killed_process(home: Home) -> None:
    code = f"""
        import time
        from pathlib import Path
        from sync.jobs.lock import hold_project_lock
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


def test_a_job_whose_process_was_killed_is_failed_and_the_waiting_one_runs_at_the_next_start(
    home: Home, make_runner: MakeRunner
) -> None:
    code = f"""
        import time
        from pathlib import Path
        from sync.jobs.runner import Runner
        from sync.settings import Home
        def pull(context, params, on_progress):
            print("running", flush=True)
            time.sleep(60)
        runner = Runner(Home(Path({str(home.path)!r})), {{"pull": pull}})
        print(runner.submit("pull").id, runner.submit("pull").id, flush=True)
        runner.start()
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True) as console:
        assert console.stdout is not None
        running_id, waiting_id = console.stdout.readline().split()
        assert console.stdout.readline() == "running\n"
        os.kill(console.pid, signal.SIGKILL)

    runner = make_runner({"pull": lambda *_: Report("pull")})
    interrupted = runner.read_job(running_id)
    assert interrupted is not None
    assert interrupted.state == "running"
    runner.start()

    ended = runner.read_job(running_id)
    assert ended is not None
    assert (ended.state, ended.error) == ("failed", "interrupted: its process ended; start it again")
    assert wait_until_over(runner, waiting_id).state == "done"


def test_a_job_that_was_taken_from_the_queue_but_never_begun_is_run_at_the_next_start(
    home: Home, make_runner: MakeRunner
) -> None:
    make_runner({"push": push}).submit("push")
    assert open_queue(home).storage.dequeue() is not None

    runner = make_runner({"push": push})
    runner.start()

    assert wait_until_over(runner, runner.read_jobs()[0].id).state == "done"


def test_only_one_console_runs_the_jobs_of_a_home(make_runner: MakeRunner) -> None:
    make_runner({}).start()
    with pytest.raises(LabelingError, match="another console runs"):
        make_runner({}).start()


def test_stop_ends_a_job_at_its_next_step_and_leaves_the_rest_queued(make_runner: MakeRunner) -> None:
    def pull(_context: object, _params: Mapping[str, Any], on_progress: OnProgress) -> Report:
        while True:
            on_progress(None, "reading")
            time.sleep(0.01)

    runner = make_runner({"pull": pull})
    runner.start()
    running, waiting = runner.submit("pull"), runner.submit("pull")
    wait_for(lambda: (state := runner.read_job(running.id)) is not None and state.message == "reading")
    runner.stop()

    stopped, queued = runner.read_job(running.id), runner.read_job(waiting.id)
    assert stopped is not None
    assert queued is not None
    assert (stopped.state, stopped.error) == ("failed", "stopped with the console; start it again")
    assert queued.state == "queued"


def test_many_wake_ups_make_one_pull(make_runner: MakeRunner) -> None:
    runner = make_runner({"pull": lambda *_: Report("pull")}, wake_delay_s=0.1)
    for _ in range(50):
        runner.wake()
    wait_for(runner.read_jobs)
    time.sleep(0.3)

    assert [state.job for state in runner.read_jobs()] == ["pull"]


def test_a_wake_up_adds_nothing_while_a_pull_waits_but_does_while_one_runs(make_runner: MakeRunner) -> None:
    go_on = threading.Event()

    def pull(*_: object) -> Report:
        assert go_on.wait(TIMEOUT_S)
        return Report("pull")

    runner = make_runner({"pull": pull}, wake_delay_s=0.01)
    running = runner.submit("pull")
    runner.start()
    wait_for(lambda: (state := runner.read_job(running.id)) is not None and state.state == "running")
    for _ in range(3):
        runner.wake()
        time.sleep(0.1)
    states = [state.state for state in runner.read_jobs()]
    go_on.set()
    wait_until_over(runner, runner.read_jobs()[-1].id)

    assert states == ["running", "queued"]


def test_a_stream_of_calls_that_never_pauses_does_not_put_the_action_off() -> None:
    acts: list[float] = []
    debounce = Debounce(0.05, lambda: acts.append(time.monotonic()))
    end_s = time.monotonic() + 0.5
    while time.monotonic() < end_s:
        debounce.call()
        time.sleep(0.005)
    debounce.flush()

    assert 2 <= len(acts) <= 11


def test_old_jobs_are_forgotten_but_never_one_that_waits(home: Home) -> None:
    store = JobStore(open_queue(home), home)
    waiting = store.create("push", {})
    over = [store.create("pull", {}) for _ in range(2)]
    for state in over:
        store.write(JobState(state.id, "pull", "done", state.created_at))
    newest = [store.create("pull", {}).id for _ in range(KEPT_JOBS)]

    assert [state.id for state in store.read_all()] == [waiting.id, *newest]
    assert store.read(over[0].id) is None
    assert store.read_submission(over[0].id) is None


def test_what_is_queued_is_plain_json(home: Home, make_runner: MakeRunner) -> None:
    job_id = make_runner({"push": push}).submit("push").id
    (stored,) = open_queue(home).storage.enqueued_items()

    assert JsonSerializer().deserialize(stored).args == [job_id]
    assert stored.startswith(b'{"message"')
