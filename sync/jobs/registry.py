"""Every job by name: what the command line, the console and the plugin start. What each takes is in ``parameters``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from fiftyone_plugins.app.work import WORKS
from labels.errors import LabelingError
from labels.report import OnProgress, Report, ignore_progress
from sync.jobs.context import Context
from sync.jobs.curation.work import curate
from sync.jobs.datasets.export import export
from sync.jobs.datasets.import_labels import Wish, ingest_labels
from sync.jobs.datasets.ingest import ingest
from sync.jobs.exchange.prelabel import prelabel
from sync.jobs.exchange.pull import pull
from sync.jobs.exchange.push import push
from sync.jobs.exchange.queue import queue
from sync.jobs.exchange.relabel import relabel
from sync.jobs.exchange.resolve import resolve
from sync.jobs.exchange.sweep import sweep
from sync.jobs.exchange.verify import verify
from sync.jobs.models.calibrate import calibrate
from sync.jobs.models.evaluate import evaluate
from sync.jobs.models.promote import promote
from sync.jobs.models.rollback import rollback
from sync.jobs.models.train import to_options, train
from sync.jobs.naming import find_named
from sync.jobs.param_values import Params
from sync.jobs.parameters import READERS
from sync.jobs.reporting import report
from sync.runs.job_runner import JobFunction
from sync.runs.live_run import LiveRun

LONG_JOBS: Final = frozenset({"embed", "train", "evaluate", "promote", "rollback"})
"""Those that take long and write what no other job writes: the others need not wait for them."""

ALLOWED_IN_RENAMING: Final = ("relabel", "verify")
"""While a class is renamed, the two sides differ without anybody having changed anything."""

Job = Callable[[Context, Params, OnProgress], Report]


def call_job(context: Context, name: str, params: Params, on_progress: OnProgress = ignore_progress) -> Report:
    """Run a job; that it ran is recorded by the caller.

    Raises:
        LabelingError: the job, or a parameter, is not known; or what the job itself raises.
    """
    if name not in JOBS:
        raise LabelingError(f"job {name!r} is not known (known: {', '.join(JOBS)})")
    unfinished = context.ledger.unfinished_renaming()
    if unfinished is not None and name not in ALLOWED_IN_RENAMING:
        raise LabelingError(f"a renaming was begun and not ended; finish it first: {unfinished.command}")
    return JOBS[name](context, params, on_progress)


def run_job(context: Context, name: str, params: Params, on_progress: OnProgress = ignore_progress) -> Report:
    """Run a job and record in the ledger that it ran and how it ended; raises what ``call_job`` does."""
    run_id = context.ledger.record_run_start(name, params)
    live = LiveRun(context.ledger, run_id, watch=on_progress)
    return live.perform(lambda tell: call_job(context, name, params, tell))


def make_callables() -> dict[str, JobFunction]:
    """Return every job by name as a runner calls it."""

    def make(name: str) -> JobFunction:
        return lambda context, params, on_progress: call_job(context, name, params, on_progress)

    return {name: make(name) for name in JOBS}


def _ingest(context: Context, params: Params, on_progress: OnProgress) -> Report:
    wish: Wish = READERS["ingest"](params)["wish"]
    if wish.labels is not None:
        return ingest_labels(context, wish, on_progress)
    assert wish.folder is not None
    return ingest(context, wish.folder, on_progress, restore=wish.restores)


def _prelabel(context: Context, params: Params, on_progress: OnProgress) -> Report:
    return _run_for_named(context, prelabel, READERS["prelabel"](params), on_progress)


def _push(context: Context, params: Params, on_progress: OnProgress) -> Report:
    return _run_for_named(context, push, READERS["push"](params), on_progress)


def _run_for_named(
    context: Context, job: Callable[..., Report], arguments: dict[str, Any], on_progress: OnProgress
) -> Report:
    """Run a job for the samples that were named, if any were; a name that is nobody's is one of its failures."""
    names = arguments["sample_ids"]
    if names is None:
        return job(context, **arguments, on_progress=on_progress)
    named = find_named(context.dataset, names)
    report = job(context, **arguments | {"sample_ids": named.sample_ids}, on_progress=on_progress)
    return replace(report, failed=(*report.failed, *named.failed))


def _make(name: str, job: Callable[..., Report]) -> Job:
    """Return a job's function as all are called."""

    def run(context: Context, params: Params, on_progress: OnProgress) -> Report:
        return job(context, **READERS[name](params), on_progress=on_progress)

    return run


def _train(context: Context, params: Params, on_progress: OnProgress) -> Report:
    return train(context, to_options(context, READERS["train"](params)), on_progress=on_progress)


def _make_work(name: str) -> Job:
    """Return the job that does a plugin's work."""

    def run(context: Context, params: Params, on_progress: OnProgress) -> Report:
        return curate(context, name, params, on_progress)

    return run


JOBS: Final[Mapping[str, Job]] = {
    "ingest": _ingest,
    "prelabel": _prelabel,
    "push": _push,
    "pull": _make("pull", pull),
    "sweep": _make("sweep", sweep),
    "resolve": _make("resolve", resolve),
    "verify": _make("verify", verify),
    "export": _make("export", export),
    "report": _make("report", report),
    "queue": _make("queue", queue),
    "relabel": _make("relabel", relabel),
    "calibrate": _make("calibrate", calibrate),
    "train": _train,
    "evaluate": _make("evaluate", evaluate),
    "promote": _make("promote", promote),
    "rollback": _make("rollback", rollback),
    **{name: _make_work(name) for name in WORKS},
}
