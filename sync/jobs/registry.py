"""Every job by name: what the command line, the console and the plugin start, and how a run is remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from labels.errors import LabelingError
from sync.jobs.context import Context
from sync.jobs.export import IMAGES_MODES, export
from sync.jobs.ingest import ingest
from sync.jobs.prelabel import prelabel
from sync.jobs.pull import pull
from sync.jobs.push import push
from sync.jobs.runner import JobStoppedError
from sync.report import OnProgress, Report, ignore_progress

IDS_RECORDED: Final = 20

Params = Mapping[str, Any]
Job = Callable[[Context, Params, OnProgress], Report]


def run_job(context: Context, name: str, params: Params, on_progress: OnProgress = ignore_progress) -> Report:
    """Run a job and record in the ledger that it ran and how it ended.

    Raises:
        LabelingError: the job, or a parameter, is not known; or what the job itself raises.
    """
    if name not in JOBS:
        raise LabelingError(f"job {name!r} is not known (known: {', '.join(JOBS)})")
    run_id = context.ledger.record_run_start(name, {key: _in_brief(value) for key, value in params.items()})
    try:
        report = JOBS[name](context, params, on_progress)
    except BaseException as error:
        problem = _in_words(error)
        context.ledger.record_run_end(run_id, "failed", {"error": problem})
        raise
    context.ledger.record_run_end(run_id, "done", report.to_dict())
    return report


def _in_brief(value: Any) -> Any:
    """Return a parameter as the ledger keeps it: of a long list of ids only their number."""
    return f"{len(value)} ids" if isinstance(value, list) and len(value) > IDS_RECORDED else value


def _in_words(error: BaseException) -> str:
    if isinstance(error, LabelingError):
        return str(error)
    if isinstance(error, JobStoppedError | KeyboardInterrupt | SystemExit):
        return "stopped; start it again, it goes on from there"
    return f"internal error ({type(error).__name__})"


def to_recorded(name: str) -> Job:
    """Return the job of that name as ``run_job`` runs it."""
    return lambda context, params, on_progress: run_job(context, name, params, on_progress)


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
    _check(params, "prefer", "everything")
    prefer = params.get("prefer")
    if prefer not in (None, "reviewed", "curated"):
        raise LabelingError(f"prefer {prefer!r} is not known (known: reviewed, curated)")
    return pull(context, prefer=prefer, everything=params.get("everything") is True, on_progress=on_progress)


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


def _check(params: Params, *known: str) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise LabelingError(f"parameter {unknown[0]!r} is not known (known: {', '.join(known)})")


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
    "export": _export,
}
