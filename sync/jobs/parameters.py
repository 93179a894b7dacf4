"""What every job may be given: read and checked in one place, before a job waits in the queue and again when it runs.

Nothing here asks a tool: whether a sample, a field or a folder is there, is for the job to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.work import WORKS, find_work, without_samples
from labels.errors import LabelingError
from ml_backend.models.calibration_fit import METHODS
from sync.jobs.answers import to_policy
from sync.jobs.export import IMAGES_MODES, WRITERS
from sync.jobs.pull import to_decide
from sync.jobs.resolve import to_sides

Params = Mapping[str, Any]
Arguments = dict[str, Any]
ReadParams = Callable[[Params], Arguments]
"""Returns the arguments of a job's function; raises LabelingError for what it cannot be given."""

FROM_THE_COMMAND_LINE: Final[Mapping[str, str]] = {"export": "out"}
"""Who asks from elsewhere does not choose where this machine writes."""


def check_params(job: str, params: Params, *, is_again: bool = False) -> None:
    """Refuse what a job that waits for its turn would refuse later; ``is_again``: somebody could ask for it before.

    Raises:
        LabelingError: a parameter is not known, is missing, or cannot be used.
    """
    READERS[job](params)
    local = FROM_THE_COMMAND_LINE.get(job)
    if not is_again and local is not None and params.get(local) is not None:
        raise LabelingError(
            f"parameter {local!r}: only the command line may choose a folder; without, it goes into the state folder"
        )


def _read_ingest(params: Params) -> Arguments:
    _refuse_others(params, "folder")
    return {"folder": Path(_read_text(params, "folder"))}


def _read_prelabel(params: Params) -> Arguments:
    _refuse_others(params, "sample_ids", "everything")
    return {"sample_ids": _read_ids(params), "everything": _read_flag(params, "everything")}


def _read_push(params: Params) -> Arguments:
    _refuse_others(params, "sample_ids")
    return {"sample_ids": _read_ids(params)}


def _read_pull(params: Params) -> Arguments:
    _refuse_others(params, "prefer", "everything", "annotators")
    prefer = _read_optional_text(params, "prefer")
    annotators = _read_optional_text(params, "annotators")
    to_decide(prefer)  # type: ignore[arg-type]  # it refuses every other word
    if annotators is not None:
        to_policy(annotators)
    return {"prefer": prefer, "everything": _read_flag(params, "everything"), "annotators": annotators}


def _read_nothing(params: Params) -> Arguments:
    _refuse_others(params)
    return {}


def _read_resolve(params: Params) -> Arguments:
    _refuse_others(params, "decisions", "shown")
    decisions, shown = params.get("decisions"), params.get("shown") or {}
    for name, value in (("decisions", decisions), ("shown", shown)):
        if not isinstance(value, Mapping):
            raise LabelingError(f"parameter {name!r}: expected an object with sample ids")
    for sample_id, decision in dict(decisions or {}).items():
        to_sides(sample_id, decision)
    return {"decisions": dict(decisions or {}), "shown": dict(shown)}


def _read_calibrate(params: Params) -> Arguments:
    _refuse_others(params, "method", "look_again")
    method = _read_optional_text(params, "method") or METHODS[0]
    _refuse_unknown("method", method, METHODS)
    return {"method": method, "look_again": _read_flag(params, "look_again")}


def _read_export(params: Params) -> Arguments:
    _refuse_others(params, "format", "out", "images")
    export_format = _read_optional_text(params, "format") or "coco"
    images_mode = _read_optional_text(params, "images") or "copy"
    out = _read_optional_text(params, "out")
    _refuse_unknown("format", export_format, WRITERS)
    _refuse_unknown("images", images_mode, IMAGES_MODES)
    return {
        "export_format": export_format,
        "out_dir": None if out is None else Path(out),
        "images_mode": images_mode,
    }


def _read_queue(params: Params) -> Arguments:
    _refuse_others(params, "by", "count", "view", "dry_run", "seed")
    count = _read_number(params, "count")
    if count < 1:
        raise LabelingError(f"count {count}: expected a whole number above 0")
    return {
        "by": _read_text(params, "by"),
        "count": count,
        "view": _read_optional_text(params, "view"),
        "seed": _read_number(params, "seed", default=0),
        "dry_run": _read_flag(params, "dry_run"),
    }


def _read_relabel(params: Params) -> Arguments:
    _refuse_others(params, "old", "new", "control", "dry_run")
    return {
        "old": _read_text(params, "old"),
        "new": _read_text(params, "new"),
        "control": _read_optional_text(params, "control"),
        "dry_run": _read_flag(params, "dry_run"),
    }


def _make_work_reader(name: str) -> ReadParams:
    """Return the reader of a plugin's work, which is imported when it is asked for."""
    return lambda params: dict(find_work(name).read_params(without_samples(params)))


READERS: Final[Mapping[str, ReadParams]] = {
    "ingest": _read_ingest,
    "prelabel": _read_prelabel,
    "push": _read_push,
    "pull": _read_pull,
    "sweep": _read_nothing,
    "resolve": _read_resolve,
    "verify": _read_nothing,
    "export": _read_export,
    "queue": _read_queue,
    "relabel": _read_relabel,
    "calibrate": _read_calibrate,
    **{name: _make_work_reader(name) for name in WORKS},
}


def _refuse_others(params: Params, *known: str) -> None:
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise LabelingError(f"parameter {unknown[0]!r} is not known (known: {', '.join(known) or 'none'})")


def _refuse_unknown(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise LabelingError(f"{name} {value!r} is not known (known: {', '.join(known)})")


def _read_text(params: Params, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str) or not value.strip():
        raise LabelingError(f"parameter {name!r}: expected a text")
    return value


def _read_optional_text(params: Params, name: str) -> str | None:
    return None if params.get(name) is None else _read_text(params, name)


def _read_number(params: Params, name: str, *, default: int | None = None) -> int:
    value = params.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected a whole number")
    return value


def _read_flag(params: Params, name: str) -> bool:
    value = params.get(name)
    if value is not None and not isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected true or false")
    return value is True


def _read_ids(params: Params) -> list[str] | None:
    ids = params.get("sample_ids")
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise LabelingError("parameter 'sample_ids': expected a list of sample ids")
    return ids
