"""Every job by name: what the command line, the console and the plugin start, and what each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from sync.jobs.calibrate import calibrate
from sync.jobs.context import Context
from sync.jobs.export import IMAGES_MODES, export
from sync.jobs.ingest import ingest
from sync.jobs.prelabel import prelabel
from sync.jobs.pull import pull
from sync.jobs.push import push
from sync.jobs.queue import queue
from sync.jobs.relabel import relabel
from sync.jobs.resolve import resolve
from sync.jobs.sweep import sweep
from sync.jobs.verify import verify
from sync.report import OnProgress, Report, ignore_progress
from sync.runs.job_runner import JobFunction
from sync.runs.live_run import LiveRun

ALLOWED_IN_RENAMING: Final = ("relabel", "verify")
"""While a class is renamed, the two sides differ without anybody having changed anything."""

Params = Mapping[str, Any]
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
    _check(params, "folder")
    return ingest(context.home, context.dataset, Path(str(params["folder"])), on_progress)


def _prelabel(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "sample_ids", "everything")
    everything = params.get("everything") is True
    return prelabel(context, sample_ids=_read_ids(params), everything=everything, on_progress=on_progress)


def _push(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "sample_ids")
    return push(context, sample_ids=_read_ids(params), on_progress=on_progress)


def _pull(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "prefer", "everything", "annotators")
    annotators = params.get("annotators")
    return pull(
        context,
        prefer=params.get("prefer"),
        everything=params.get("everything") is True,
        annotators=None if annotators is None else _read_text(params, "annotators"),
        on_progress=on_progress,
    )


def _sweep(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params)
    return sweep(context, on_progress=on_progress)


def _resolve(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "decisions", "shown")
    decisions, shown = params.get("decisions"), params.get("shown") or {}
    for name, value in (("decisions", decisions), ("shown", shown)):
        if not isinstance(value, Mapping):
            raise LabelingError(f"parameter {name!r}: expected an object with sample ids")
    return resolve(context, decisions=dict(decisions or {}), shown=dict(shown), on_progress=on_progress)


def _verify(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params)
    return verify(context, on_progress=on_progress)


def _calibrate(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "method", "look_again")
    method = str(params.get("method", "platt"))
    return calibrate(context, method=method, look_again=params.get("look_again") is True, on_progress=on_progress)


def _export(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "format", "out", "images")
    mode = params.get("images", "copy")
    if mode not in IMAGES_MODES:
        raise LabelingError(f"images {mode!r} is not known (known: {', '.join(IMAGES_MODES)})")
    out = params.get("out")
    return export(
        context,
        export_format=str(params.get("format", "coco")),
        out_dir=Path(str(out)) if out is not None else None,
        images_mode=mode,
        on_progress=on_progress,
    )


def _queue(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "by", "count", "view", "dry_run", "seed")
    view = params.get("view")
    return queue(
        context,
        by=_read_text(params, "by"),
        count=_read_number(params, "count"),
        view=None if view is None else _read_text(params, "view"),
        seed=_read_number(params, "seed", default=0),
        dry_run=params.get("dry_run") is True,
        on_progress=on_progress,
    )


def _relabel(context: Context, params: Params, on_progress: OnProgress) -> Report:
    _check(params, "old", "new", "control", "dry_run")
    return relabel(
        context,
        old=_read_text(params, "old"),
        new=_read_text(params, "new"),
        control=None if params.get("control") is None else _read_text(params, "control"),
        dry_run=params.get("dry_run") is True,
        on_progress=on_progress,
    )


def _read_text(params: Params, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value.strip():
        raise LabelingError(f"parameter {name!r}: expected a text")
    return value


def _read_number(params: Params, name: str, *, default: int | None = None) -> int:
    value = params.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected a whole number")
    return value


def _check(params: Params, *known: str) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise LabelingError(f"parameter {unknown[0]!r} is not known (known: {', '.join(known) or 'none'})")


def _read_ids(params: Params) -> list[str] | None:
    ids = params.get("sample_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise LabelingError("parameter 'sample_ids': expected a list of sample ids")
    return ids


JOBS: Final[Mapping[str, Job]] = {
    "ingest": _ingest,
    "prelabel": _prelabel,
    "push": _push,
    "pull": _pull,
    "sweep": _sweep,
    "resolve": _resolve,
    "verify": _verify,
    "export": _export,
    "queue": _queue,
    "relabel": _relabel,
    "calibrate": _calibrate,
}
