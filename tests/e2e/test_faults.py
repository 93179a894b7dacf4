"""What networks, servers and disks do: each job ends with an error in one line or finishes, and the next run mends all.

Every day each fault meets two of the jobs, others for the next fault; ``LABELLOOP_FAULTS=20`` has each meet all of them
twenty times, at other requests.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from label_studio_sdk.core import http_client
from label_studio_sdk.core.request_options import RequestOptions

from labels.errors import LabelingError
from labels.report import Report
from sync.catalogue.samples import SamplePrediction
from sync.jobs.context import Context, Patience
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.ledger import Ledger
from sync.services.mongod import find_mongod, to_database_uri, to_mongod_argv
from sync.services.ports import find_free_port
from sync.settings import Home, read_secret
from sync.workbench import label_studio as label_studio_api
from sync.workbench import project_api
from sync.workbench.label_studio import LabelStudio
from tests.conftest import wait_until_it_listens
from tests.e2e.conftest import RunningStack
from tests.e2e.fault_proxy import Fault, FaultProxy, Plan, open_proxy
from tests.e2e.fresh_project import SIZE, FreshProject, open_fresh_project, write_images
from tests.e2e.nursery import Order, open_nursery
from tests.fakes.backend import FakeBackend
from tests.fakes.crowd import Crowd
from tests.fakes.model import SampleModel
from tests.fakes.oracle import Oracle, to_key
from tests.fakes.project import CONFIG

ROUNDS = int(os.environ.get("LABELLOOP_FAULTS", "0"))
JOBS = ("push", "pull", "prelabel", "resolve", "sweep")
SEED = random.SystemRandom().getrandbits(32) if "LABELLOOP_FAULTS" in os.environ else 7
TIME_OUT_S = 30
# For the fault of being late alone: short, so that it need not be waited for.
SHORT_TIME_OUT_S = 2
LATE_S = 3.0
# Longer than a busy Label Studio goes on with a request after the client gave it up.
PATIENCE_S = 15.0
MOST_REQUESTS = 6
FOREVER = 1000
LONGEST_ERROR = 600
MOST_RUNS = 4


@dataclass
class Outage:
    """A project whose way to Label Studio leads through the proxy."""

    project: FreshProject
    context: Context
    proxy: FaultProxy
    crowd: Crowd
    oracle: Oracle
    rng: random.Random
    time_out_s: float
    finished: int = 0
    errors: int = 0

    def run(self, job: Callable[[Context], Report], plan: Plan, *, may_fail: bool = False) -> Report | None:
        """Run a job under a plan; None where it ended with an error that a person can read."""
        self.proxy.plan = plan
        try:
            # Of the job alone: people are not to give up on a Label Studio that is merely busy.
            with short_time_outs(self.time_out_s):
                report = job(self.context)
        except LabelingError as error:
            problem = str(error)
            self.errors += 1
        else:
            self.finished += 1
            return report
        finally:
            self.proxy.plan = Plan()
        assert "\n" not in problem, problem
        assert len(problem) < LONGEST_ERROR, problem
        # With so short a time-out it may be late by itself.
        may_fail = may_fail or self.time_out_s == SHORT_TIME_OUT_S
        assert plan.hit or may_fail, f"failed without a fault: {problem}"
        return None

    def check(self, name: str, conflicts: Any, *, is_done: bool) -> None:
        """Let the oracle look at what a job left."""
        view = self.project.view()
        if name in ("push", "prelabel", "sweep"):
            self.oracle.note_sent(view, surely=is_done)
        if name in ("pull", "sweep"):
            self.oracle.check_pulled(view, None, is_done=is_done and name == "pull")
        if name == "resolve":
            decided = {key: {to_key(one): "reviewed" for one in found} for key, found in conflicts.items()}
            self.oracle.check_resolved(view, decided, conflicts, is_current=False, is_done=is_done)
        self.oracle.expect_nothing_touched(view)
        self.oracle.expect_nothing_doubled(view)
        self.oracle.expect_held(view)

    def strike(self, name: str, fault: Fault, times: int) -> None:
        """Make work for a job, run it while requests meet with a fault, then run it again undisturbed."""
        self.crowd.act(2)
        if name == "push":
            self.oracle.models |= {one: SampleModel() for one in self.project.add_images(2)}
        job = self._job(name)
        conflicts = self.project.context.ledger.conflicts()
        report = self.run(job, Plan(fault, self.rng.randrange(MOST_REQUESTS), times))
        if fault is Fault.TWICE and name in ("push", "prelabel"):
            # Two deliveries of one request may leave two of what it made: the nightly sweep is for that.
            assert self.run(partial(sweep, grace=timedelta(0)), Plan(), may_fail=True) is not None
            self.oracle.note_sent(self.project.view(), surely=report is not None)
            self.oracle.check_pulled(self.project.view(), None, is_done=False)
        self.check(name, conflicts, is_done=report is not None)
        self.finish(name, job, conflicts)

    def finish(self, name: str, job: Callable[[Context], Report], conflicts: Any) -> None:
        """Run a job until it comes to its end: a busy Label Studio on SQLite drops things by itself now and then."""
        for _ in range(MOST_RUNS):
            report = self.run(job, Plan(), may_fail=True)
            self.check(name, conflicts, is_done=report is not None)
            if report is not None:
                return
        raise AssertionError(f"{name} failed {MOST_RUNS} times in a row")

    def settle(self) -> None:
        """Sync until nothing moves; verify finds nothing then."""
        for name in ("push", "pull", "push", "pull"):
            self.finish(name, self._job(name), {})
        view = self.project.view()
        self.oracle.expect_agreement(view)
        drawn = self.project.context.dataset.predictions().items()
        sent = {(view.task_of[key], one.model_version) for key, one in drawn if isinstance(one, SamplePrediction)}
        assert sent <= set(view.predictions)
        assert verify(self.project.context).failed == ()

    def _job(self, name: str) -> Callable[[Context], Report]:
        if name == "resolve":
            return partial(resolve, decisions=dict.fromkeys(self.project.context.ledger.conflicts(), "reviewed"))
        if name == "prelabel":
            backend = self.context.backend
            assert isinstance(backend, FakeBackend)
            backend.model_version = f"fake-{self.rng.getrandbits(32):08x}"
        jobs: dict[str, Callable[[Context], Report]] = {
            "push": push,
            "pull": pull,
            "prelabel": prelabel,
            "sweep": partial(sweep, grace=timedelta(0)),
        }
        return jobs[name]


@contextmanager
def short_time_outs(time_out_s: float) -> Iterator[None]:
    """Wait no longer than this for Label Studio, and ask again at most once."""
    limits = ((label_studio_api, "READ", 1), (project_api, "READ", 1), (label_studio_api, "SEND_ONCE", 0))
    with pytest.MonkeyPatch.context() as patch:
        for module, name, retries in limits:
            patch.setattr(module, name, RequestOptions(max_retries=retries, timeout_in_seconds=time_out_s))
        patch.setattr(project_api, "READ_TIMEOUT_S", time_out_s)
        yield


@pytest.fixture
def outage(
    stack: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Outage]:
    """A project of four images behind a proxy, with short time-outs and retries without a wait."""
    monkeypatch.setattr(http_client, "INITIAL_RETRY_DELAY_SECONDS", 0.01)
    is_late = request.node.callspec.params["fault"] is Fault.LATE
    time_out_s = SHORT_TIME_OUT_S if is_late else TIME_OUT_S
    token = read_secret(stack.home, "label_studio_token") or ""
    with (
        open_fresh_project(stack, tmp_path, images=4, config=CONFIG) as project,
        open_proxy(stack.addresses.label_studio, late_s=LATE_S) as proxy,
        closing(open_hasty(proxy.url, token, project.project_id, time_out_s)) as label_studio,
    ):
        context = replace(
            project.context,
            label_studio=label_studio,
            backend=FakeBackend(CONFIG, SIZE),
            patience=Patience(lasts_s=PATIENCE_S),
        )
        oracle = Oracle({sample_id: SampleModel() for sample_id in project.context.dataset.sample_ids()})
        rng = random.Random(SEED)
        yield Outage(project, context, proxy, Crowd(project, oracle, rng), oracle, rng, time_out_s)


def open_hasty(url: str, token: str, project_id: int, time_out_s: float) -> LabelStudio:
    """Return a client that waits no longer than this."""
    with short_time_outs(time_out_s):
        return LabelStudio(url, token, project_id)


@pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())
def test_a_job_that_meets_with_a_fault_ends_in_words_or_finishes_and_the_next_run_mends_all(
    outage: Outage, fault: Fault
):
    outage.settle()
    first = list(Fault).index(fault)
    met = JOBS if ROUNDS else [JOBS[(2 * first + number) % len(JOBS)] for number in range(2)]
    for _ in range(ROUNDS or 1):
        for name in met:
            outage.strike(name, fault, times=outage.rng.choice((1, 2, FOREVER)))
    outage.settle()

    struck = len(met) * (ROUNDS or 1)
    assert outage.finished + outage.errors >= struck
    print(f"\n{fault.name}: {outage.finished} finished, {outage.errors} ended with an error")  # noqa: T201


def test_a_locked_ledger_is_an_error_in_words_and_nothing_is_lost(stack: RunningStack, tmp_path: Path):
    with open_fresh_project(stack, tmp_path, images=3, config=CONFIG) as project:
        push(project.context)
        task_id = min(project.task_ids().values())
        project.submit(task_id, lambda regions: regions)
        project.add_images(1)
        path = project.context.ledger.path
        with (
            Ledger.open(path, busy_timeout_s=0.2) as impatient,
            closing(sqlite3.connect(path, isolation_level=None)) as other,
        ):
            context = replace(project.context, ledger=impatient)
            other.execute("BEGIN IMMEDIATE")
            for job in (push, pull):
                with pytest.raises(LabelingError, match="another process is writing to it for long, try again"):
                    job(context)
            other.execute("ROLLBACK")
        expect_mended(project, reviewed=1, tasks=4)


def test_a_full_disk_is_an_error_in_words_and_nothing_is_lost(stack: RunningStack, tmp_path: Path):
    with (
        open_small_disk(tmp_path / "disk") as disk,
        open_fresh_project(stack, tmp_path, images=3, config=CONFIG, ledger_folder=disk) as project,
    ):
        push(project.context)
        project.submit(min(project.task_ids().values()), lambda regions: regions)
        project.add_images(1)
        fill(disk / "filler")
        for job in (push, pull):
            with pytest.raises(LabelingError, match=r"ledger .*: (database or disk is full|disk I/O error)"):
                job(project.context)
        (disk / "filler").unlink()
        expect_mended(project, reviewed=1, tasks=4)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(bytes(512)):
            pass


@contextmanager
def open_small_disk(folder: Path) -> Iterator[Path]:
    """A file system of a megabyte in memory, where this process may mount one."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this process may not mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def expect_mended(project: FreshProject, *, reviewed: int, tasks: int) -> None:
    """Run all again: it comes to the end it would have come to, and verify finds nothing."""
    for job in (push, pull, push, pull):
        job(project.context)
    assert len(project.task_ids()) == tasks
    states = [state.review_state for state in project.context.dataset.states().values()]
    assert (states.count("reviewed"), states.count("queued")) == (reviewed, tasks - reviewed)
    view = project.view()
    assert len(view.tasks) == len(set(view.predictions)) == len(view.predictions) == tasks
    assert verify(project.context).failed == ()


def test_a_database_that_goes_away_is_an_error_in_words_and_nothing_is_lost(stack: RunningStack, tmp_path: Path):
    port = find_free_port()
    # A second's patience, so that a database that is gone need not be waited for.
    uri = to_database_uri(port).partition("?")[0] + "?serverSelectionTimeoutMS=1000"
    images = tmp_path / "images"
    write_images(images, 3)
    with (
        run_database(tmp_path / "mongodb", port) as database,
        open_fresh_project(stack, tmp_path / "label-studio", images=0, config=CONFIG, draw=False) as project,
    ):
        order = {
            "home": str(Home(tmp_path / "home").path),
            "url": stack.addresses.label_studio,
            "token": read_secret(stack.home, "label_studio_token") or "",
            "project_id": project.project_id,
            "dataset": "away",
            "ledger": str(project.context.ledger.path),
            "config_xml": CONFIG.xml,
            "model_version": "fake-1",
        }
        with open_nursery(FIFTYONE_DATABASE_URI=uri) as nursery:

            def run(job: str, **params: Any) -> Any:
                return nursery.run(Order(**order, job=job, params=params))

            assert run("ingest", folder=str(images)).report["moved"] == 3
            assert run("prelabel").report["moved"] == 3
            assert run("push").report["moved"] == 3
            project.submit(min(project.task_ids().values()), lambda regions: regions)
            database.stop()
            for job in ("pull", "push", "prelabel", "verify"):
                ending = run(job)
                assert ending.error is not None, ending.report
                assert ending.error.startswith("MongoDB: "), ending.error
                assert "\n" not in ending.error
            database.start()
            assert run("pull").report["moved"] == 1
            assert run("push").report["moved"] == 0
            assert run("verify").report["failed"] == []


@dataclass
class Database:
    """A MongoDB of the test's own that can be stopped and started."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        argv = to_mongod_argv(find_mongod(), data=self.folder, port=self.port, cache_gb=0.25)
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        wait_until_it_listens(self.process, self.port, self.folder)

    def stop(self) -> None:
        """End it as an operating system that shuts down does."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)


@contextmanager
def run_database(folder: Path, port: int) -> Iterator[Database]:
    folder.mkdir()
    database = Database(folder, port)
    database.start()
    try:
        yield database
    finally:
        database.stop()
