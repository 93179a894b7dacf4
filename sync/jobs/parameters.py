"""What every job may be given: read and checked in one place, before a job waits in the queue and again when it runs.

Nothing here asks a tool: whether a sample, a field or a folder is there, is for the job to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fiftyone_plugins.app.work import WORKS, find_work, without_samples
from labels.errors import LabelingError
from sync.exports.formats import FORMATS, IMAGES_MODES
from sync.imports.formats import FORMAT_NAMES
from sync.jobs.datasets.import_labels import Wish
from sync.jobs.exchange.answers import to_policy
from sync.jobs.exchange.pull import to_decide
from sync.jobs.exchange.queue import RANDOM_PERCENT
from sync.jobs.exchange.resolve import to_sides
from sync.jobs.model_parameters import read_calibrate, read_evaluate, read_promote, read_rollback, read_train
from sync.jobs.param_values import (
    Arguments,
    Params,
    read_flag,
    read_ids,
    read_number,
    read_optional_text,
    read_text,
    refuse_others,
    refuse_unknown,
)
from sync.versions.splits import read_ratios

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
    refuse_others(params, "folder", "labels", "format", "classes", "control", "dry_run", "unpack", "restore")
    labels, name = read_optional_text(params, "labels"), read_optional_text(params, "format")
    classes = {} if params.get("classes") is None else params["classes"]
    if not isinstance(classes, Mapping) or not all(isinstance(one, str) for one in (*classes, *classes.values())):
        raise LabelingError("parameter 'classes': expected an object with a class of ours for each of theirs")
    if labels is None and any(params.get(key) is not None for key in FOR_LABELS):
        raise LabelingError(f"parameters {', '.join(FOR_LABELS)} are for labels (missing: labels)")
    if name is not None:
        refuse_unknown("format", name, FORMAT_NAMES)
    unpacks = read_flag(params, "unpack")
    # Images that are unpacked have a folder of their own in the home.
    folder = read_optional_text(params, "folder") if unpacks else read_text(params, "folder")
    return {
        "wish": Wish(
            None if folder is None else Path(folder),
            None if labels is None else Path(labels),
            name,
            dict(classes),
            read_optional_text(params, "control"),
            is_dry_run=read_flag(params, "dry_run"),
            unpacks=unpacks,
            restores=read_flag(params, "restore"),
        )
    }


def _read_prelabel(params: Params) -> Arguments:
    refuse_others(params, "sample_ids", "everything", "unreviewed")
    flags = {name: read_flag(params, name) for name in ("everything", "unreviewed")}
    return {"sample_ids": read_ids(params), **flags}


def _read_push(params: Params) -> Arguments:
    refuse_others(params, "sample_ids", "mark_mistakes")
    return {"sample_ids": read_ids(params), "mark_mistakes": read_flag(params, "mark_mistakes")}


def _read_pull(params: Params) -> Arguments:
    refuse_others(params, "prefer", "everything", "annotators")
    prefer = read_optional_text(params, "prefer")
    annotators = read_optional_text(params, "annotators")
    to_decide(prefer)  # type: ignore[arg-type]  # it refuses every other word
    if annotators is not None:
        to_policy(annotators)
    return {"prefer": prefer, "everything": read_flag(params, "everything"), "annotators": annotators}


def _read_nothing(params: Params) -> Arguments:
    refuse_others(params)
    return {}


def _read_resolve(params: Params) -> Arguments:
    refuse_others(params, "decisions", "shown")
    decisions, shown = params.get("decisions"), params.get("shown")
    for name, value in (("decisions", decisions), ("shown", {} if shown is None else shown)):
        if not isinstance(value, Mapping):
            raise LabelingError(f"parameter {name!r}: expected an object with sample ids")
    if not all(isinstance(one, str) for one in (shown or {}).values()):
        raise LabelingError("parameter 'shown': expected the name of what was seen for each sample id")
    for sample_id, decision in dict(decisions or {}).items():
        to_sides(sample_id, decision)
    return {"decisions": dict(decisions or {}), "shown": dict(shown or {})}


def _read_report(params: Params) -> Arguments:
    refuse_others(params, "out")
    out = read_optional_text(params, "out")
    return {"out": None if out is None else Path(out)}


def _read_export(params: Params) -> Arguments:
    refuse_others(params, "format", "out", "images", "version", "splits", "group_by", "control")
    export_format = read_optional_text(params, "format") or "coco"
    images_mode = read_optional_text(params, "images") or "copy"
    out = read_optional_text(params, "out")
    splits = read_optional_text(params, "splits")
    refuse_unknown("format", export_format, FORMATS)
    refuse_unknown("images", images_mode, IMAGES_MODES)
    return {
        "export_format": export_format,
        "out_dir": None if out is None else Path(out),
        "images_mode": images_mode,
        "version": read_optional_text(params, "version"),
        "ratios": None if splits is None else read_ratios(splits),
        # An empty one is no field, where the newest version has one.
        "group_by": "" if params.get("group_by") == "" else read_optional_text(params, "group_by"),
        "control": read_optional_text(params, "control"),
    }


def _read_queue(params: Params) -> Arguments:
    refuse_others(params, "by", "count", "view", "dry_run", "seed", "random_percent")
    count = read_number(params, "count")
    random_percent = read_number(params, "random_percent", default=RANDOM_PERCENT)
    if not 0 <= random_percent <= 100:
        raise LabelingError(f"random_percent {random_percent}: expected a whole number from 0 to 100")
    if count < 1:
        raise LabelingError(f"count {count}: expected a whole number above 0")
    return {
        "by": read_text(params, "by"),
        "count": count,
        "view": read_optional_text(params, "view"),
        "seed": read_number(params, "seed", default=0),
        "random_percent": random_percent,
        "dry_run": read_flag(params, "dry_run"),
    }


def _read_relabel(params: Params) -> Arguments:
    refuse_others(params, "old", "new", "control", "dry_run")
    return {
        "old": read_text(params, "old"),
        "new": read_text(params, "new"),
        "control": read_optional_text(params, "control"),
        "dry_run": read_flag(params, "dry_run"),
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
    "calibrate": read_calibrate,
    "train": read_train,
    "evaluate": read_evaluate,
    "promote": read_promote,
    "rollback": read_rollback,
    **{name: _make_work_reader(name) for name in WORKS},
}
