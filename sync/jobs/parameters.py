"""What every job may be given: read and checked in one place, before a job waits in the queue and again when it runs.

Nothing here asks a tool: whether a sample, a field or a folder is there, is for the job to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fiftyone_plugins.app.work import WORKS, find_work, without_samples
from labels.errors import LabelingError
from ml_backend.environment import DEVICE_PATTERN
from ml_backend.models.calibration_fit import METHODS
from sync.exports.formats import FORMATS, IMAGES_MODES
from sync.imports.formats import FORMAT_NAMES
from sync.jobs.datasets.import_labels import Wish
from sync.jobs.exchange.answers import to_policy
from sync.jobs.exchange.pull import to_decide
from sync.jobs.exchange.queue import RANDOM_PERCENT
from sync.jobs.exchange.resolve import to_sides
from sync.models.gate import FORCED_FOR_NOTHING, Rules
from sync.versions.splits import read_ratios
from sync.versions.version import SPLITS

Params = Mapping[str, Any]
Arguments = dict[str, Any]
ReadParams = Callable[[Params], Arguments]
"""Returns the arguments of a job's function; raises LabelingError for what it cannot be given."""

FROM_THE_COMMAND_LINE: Final[Mapping[str, str]] = {
    "export": "out",
    "report": "out",
    "quality_examples": "out",
    "clean_apply": "to",
}
"""Who asks from elsewhere does not choose where this machine writes."""

FOR_LABELS: Final = ("format", "classes", "control", "dry_run", "unpack")
"""What ``ingest`` is given only with labels."""

MODELS: Final[Mapping[str, str]] = {"evaluate": "model", "promote": "candidate", "train": "model"}
"""The parameter in which a job is given a model."""


def check_params(job: str, params: Params, *, is_again: bool = False) -> None:
    """Refuse what a job that waits for its turn would refuse later; ``is_again``: somebody could ask for it before.

    Raises:
        LabelingError: a parameter is not known, is missing, or cannot be used.
    """
    READERS[job](params)
    local = "folder" if job == "ingest" and params.get("unpack") else FROM_THE_COMMAND_LINE.get(job)
    if not is_again and local is not None and params.get(local) is not None:
        raise LabelingError(
            f"parameter {local!r}: only the command line may choose a folder; without, it goes into the state folder"
        )
    if not is_again:
        _refuse_paths(params, MODELS.get(job))


def _refuse_paths(params: Params, model: str | None) -> None:
    """Refuse what would let whoever reaches the console have any file of this machine read."""
    if model is None:
        return
    name = params.get(model)
    if name is not None and (Path(name).name != name or name.startswith("~")):
        raise LabelingError(f"model {name!r}: only the command line may name a path; here a candidate or a known name")
    if params.get("weights") is not None:
        raise LabelingError("parameter 'weights': only the command line may name a file")
    if params.get("trust"):
        raise LabelingError("parameter 'trust': only the command line may let weights in that can run code")


def _read_ingest(params: Params) -> Arguments:
    _refuse_others(params, "folder", "labels", "format", "classes", "control", "dry_run", "unpack", "restore")
    labels, name = _read_optional_text(params, "labels"), _read_optional_text(params, "format")
    classes = {} if params.get("classes") is None else params["classes"]
    if not isinstance(classes, Mapping) or not all(isinstance(one, str) for one in (*classes, *classes.values())):
        raise LabelingError("parameter 'classes': expected an object with a class of ours for each of theirs")
    if labels is None and any(params.get(key) is not None for key in FOR_LABELS):
        raise LabelingError(f"parameters {', '.join(FOR_LABELS)} are for labels (missing: labels)")
    if name is not None:
        _refuse_unknown("format", name, FORMAT_NAMES)
    unpacks = _read_flag(params, "unpack")
    # Images that are unpacked have a folder of their own in the home.
    folder = _read_optional_text(params, "folder") if unpacks else _read_text(params, "folder")
    return {
        "wish": Wish(
            None if folder is None else Path(folder),
            None if labels is None else Path(labels),
            name,
            dict(classes),
            _read_optional_text(params, "control"),
            is_dry_run=_read_flag(params, "dry_run"),
            unpacks=unpacks,
            restores=_read_flag(params, "restore"),
        )
    }


def _read_prelabel(params: Params) -> Arguments:
    _refuse_others(params, "sample_ids", "everything", "unreviewed")
    flags = {name: _read_flag(params, name) for name in ("everything", "unreviewed")}
    return {"sample_ids": _read_ids(params), **flags}


def _read_push(params: Params) -> Arguments:
    _refuse_others(params, "sample_ids", "mark_mistakes")
    return {"sample_ids": _read_ids(params), "mark_mistakes": _read_flag(params, "mark_mistakes")}


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
    decisions, shown = params.get("decisions"), params.get("shown")
    for name, value in (("decisions", decisions), ("shown", {} if shown is None else shown)):
        if not isinstance(value, Mapping):
            raise LabelingError(f"parameter {name!r}: expected an object with sample ids")
    if not all(isinstance(one, str) for one in (shown or {}).values()):
        raise LabelingError("parameter 'shown': expected the name of what was seen for each sample id")
    for sample_id, decision in dict(decisions or {}).items():
        to_sides(sample_id, decision)
    return {"decisions": dict(decisions or {}), "shown": dict(shown or {})}


def _read_calibrate(params: Params) -> Arguments:
    _refuse_others(params, "method", "look_again")
    method = _read_optional_text(params, "method") or METHODS[0]
    _refuse_unknown("method", method, METHODS)
    return {"method": method, "look_again": _read_flag(params, "look_again")}


def _read_report(params: Params) -> Arguments:
    _refuse_others(params, "out")
    out = _read_optional_text(params, "out")
    return {"out": None if out is None else Path(out)}


def _read_export(params: Params) -> Arguments:
    _refuse_others(params, "format", "out", "images", "version", "splits", "group_by", "control")
    export_format = _read_optional_text(params, "format") or "coco"
    images_mode = _read_optional_text(params, "images") or "copy"
    out = _read_optional_text(params, "out")
    splits = _read_optional_text(params, "splits")
    _refuse_unknown("format", export_format, FORMATS)
    _refuse_unknown("images", images_mode, IMAGES_MODES)
    return {
        "export_format": export_format,
        "out_dir": None if out is None else Path(out),
        "images_mode": images_mode,
        "version": _read_optional_text(params, "version"),
        "ratios": None if splits is None else read_ratios(splits),
        "group_by": _read_optional_text(params, "group_by"),
        "control": _read_optional_text(params, "control"),
    }


def _read_train(params: Params) -> Arguments:
    numbers = {"epochs": 1, "imgsz": 32, "batch": 1, "seed": 0, "freeze": 0, "workers": 0, "patience": 1, "replay": 0}
    texts = ("version", "model", "weights", "control", "device")
    parts = ("lr", "corrections_weight")
    _refuse_others(params, *texts, *numbers, *parts, "dry_run")
    read: Arguments = {name: _read_optional_text(params, name) for name in texts}
    if read["device"] is not None and not DEVICE_PATTERN.fullmatch(read["device"]):
        raise LabelingError(f"device {read['device']!r}: expected auto, cpu, cuda or cuda:N")
    for name, lowest in numbers.items():
        number = None if params.get(name) is None else _read_number(params, name)
        if number is not None and number < lowest:
            raise LabelingError(f"{name} {number}: expected a whole number from {lowest} on")
        read[name] = number
    for name in parts:
        read[name] = _read_positive(params, name)
    return read | {"dry_run": _read_flag(params, "dry_run")}


def _read_evaluate(params: Params) -> Arguments:
    _refuse_others(params, "model", "version", "split", "fields", "precision_floor")
    split = _read_optional_text(params, "split") or "test"
    _refuse_unknown("split", split, SPLITS)
    return {
        "model": _read_optional_text(params, "model"),
        "version": _read_optional_text(params, "version"),
        "split": split,
        "with_fields": _read_flag(params, "fields"),
        "precision_floor": _read_part(params, "precision_floor"),
    }


def _read_promote(params: Params) -> Arguments:
    rules = ("margin", "min_examples", "confidence")
    _refuse_others(params, "candidate", "version", "force", "reason", "by", "trust", "dry_run", *rules)
    usual = Rules()
    margin, confidence = _read_part(params, "margin"), _read_part(params, "confidence")
    asked = Rules(
        class_margin=usual.class_margin if margin is None else margin,
        fewest_examples=_read_number(params, "min_examples", default=usual.fewest_examples),
        confidence=usual.confidence if confidence is None else confidence,
    )
    if not 0.5 <= asked.confidence < 1 or asked.fewest_examples < 1:
        raise LabelingError("confidence is from 0.5 to below 1, min_examples a whole number above 0")
    person = _read_person(params)
    candidate = _read_text(params, "candidate")
    if _read_flag(params, "force") and person["reason"] is None:
        raise LabelingError(FORCED_FOR_NOTHING)
    return {
        "candidate": candidate,
        "version": _read_optional_text(params, "version"),
        **{name: _read_flag(params, name) for name in ("force", "trust", "dry_run")},
        **person,
        "rules": asked,
    }


def _read_rollback(params: Params) -> Arguments:
    _refuse_others(params, "to", "by", "reason", "dry_run")
    to = _read_optional_text(params, "to")
    return {"to": to, **_read_person(params), "dry_run": _read_flag(params, "dry_run")}


def _read_person(params: Params) -> Arguments:
    """Return who asks, and why."""
    return {"by": _read_optional_text(params, "by") or "somebody", "reason": _read_optional_text(params, "reason")}


def _read_part(params: Params, name: str) -> float | None:
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise LabelingError(f"parameter {name!r}: expected a number from 0 to 1")
    return float(value)


def _read_queue(params: Params) -> Arguments:
    _refuse_others(params, "by", "count", "view", "dry_run", "seed", "random_percent")
    count = _read_number(params, "count")
    random_percent = _read_number(params, "random_percent", default=RANDOM_PERCENT)
    if not 0 <= random_percent <= 100:
        raise LabelingError(f"random_percent {random_percent}: expected a whole number from 0 to 100")
    if count < 1:
        raise LabelingError(f"count {count}: expected a whole number above 0")
    return {
        "by": _read_text(params, "by"),
        "count": count,
        "view": _read_optional_text(params, "view"),
        "seed": _read_number(params, "seed", default=0),
        "random_percent": random_percent,
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
    "report": _read_report,
    "queue": _read_queue,
    "relabel": _read_relabel,
    "calibrate": _read_calibrate,
    "train": _read_train,
    "evaluate": _read_evaluate,
    "promote": _read_promote,
    "rollback": _read_rollback,
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
    # In JSON 3.0 is a whole number too.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise LabelingError(f"parameter {name!r}: expected a whole number")
    return value


def _read_positive(params: Params, name: str) -> float | None:
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise LabelingError(f"parameter {name!r}: expected a number above 0")
    return float(value)


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
