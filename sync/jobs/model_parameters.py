"""What the jobs on models may be given: how far the numbers of a training go, what a gate is asked, who asks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from labels.errors import LabelingError
from ml_backend.environment import DEVICE_PATTERN
from ml_backend.models.calibration_fit import METHODS
from sync.jobs.param_values import (
    Arguments,
    Params,
    read_flag,
    read_number,
    read_optional_text,
    read_part,
    read_positive,
    read_text,
    refuse_others,
    refuse_unknown,
)
from sync.models.gate import FORCED_FOR_NOTHING, Rules
from sync.versions.version import SPLITS

MOST_WHOLE: Final = 2**31 - 1
MOST_WEIGHT: Final = 100
TRAIN_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "epochs": (1, 100_000),
    "imgsz": (32, 8192),
    "batch": (1, 4096),
    "seed": (0, MOST_WHOLE),
    "freeze": (0, MOST_WHOLE),
    "workers": (0, 256),
    "patience": (1, MOST_WHOLE),
    "replay": (0, MOST_WHOLE),
}
"""From what to what the whole numbers of a training go: beyond, a machine has no room for it."""


def read_calibrate(params: Params) -> Arguments:
    """Return the arguments of ``calibrate``."""
    refuse_others(params, "method", "look_again")
    method = read_optional_text(params, "method") or METHODS[0]
    refuse_unknown("method", method, METHODS)
    return {"method": method, "look_again": read_flag(params, "look_again")}


def read_train(params: Params) -> Arguments:
    """Return the arguments of ``train``."""
    texts = ("version", "model", "weights", "control", "device")
    refuse_others(params, *texts, *TRAIN_NUMBERS, "lr", "corrections_weight", "dry_run")
    read: Arguments = {name: read_optional_text(params, name) for name in texts}
    if read["device"] is not None and not DEVICE_PATTERN.fullmatch(read["device"]):
        raise LabelingError(f"device {read['device']!r}: expected auto, cpu, cuda or cuda:N")
    for name, (lowest, highest) in TRAIN_NUMBERS.items():
        number = None if params.get(name) is None else read_number(params, name)
        if number is not None and not lowest <= number <= highest:
            raise LabelingError(f"{name} {number}: expected a whole number from {lowest} to {highest}")
        read[name] = number
    weight = read_positive(params, "corrections_weight")
    if weight is not None and not 1 <= weight <= MOST_WEIGHT:
        raise LabelingError(f"corrections_weight {weight:g}: expected a number from 1 to {MOST_WEIGHT}")
    rest = {"lr": read_positive(params, "lr"), "corrections_weight": weight}
    return read | rest | {"dry_run": read_flag(params, "dry_run")}


def read_evaluate(params: Params) -> Arguments:
    """Return the arguments of ``evaluate``."""
    refuse_others(params, "model", "version", "split", "fields", "precision_floor")
    split = read_optional_text(params, "split") or "test"
    refuse_unknown("split", split, SPLITS)
    return {
        "model": read_optional_text(params, "model"),
        "version": read_optional_text(params, "version"),
        "split": split,
        "with_fields": read_flag(params, "fields"),
        "precision_floor": read_part(params, "precision_floor"),
    }


def read_promote(params: Params) -> Arguments:
    """Return the arguments of ``promote``."""
    rules = ("margin", "min_examples", "confidence")
    refuse_others(params, "candidate", "version", "force", "reason", "by", "trust", "dry_run", *rules)
    usual = Rules()
    margin, confidence = read_part(params, "margin"), read_part(params, "confidence")
    asked = Rules(
        class_margin=usual.class_margin if margin is None else margin,
        fewest_examples=read_number(params, "min_examples", default=usual.fewest_examples),
        confidence=usual.confidence if confidence is None else confidence,
    )
    if not 0.5 <= asked.confidence < 1 or asked.fewest_examples < 1:
        raise LabelingError("confidence is from 0.5 to below 1, min_examples a whole number above 0")
    person = _read_person(params)
    candidate = read_text(params, "candidate")
    if read_flag(params, "force") and person["reason"] is None:
        raise LabelingError(FORCED_FOR_NOTHING)
    return {
        "candidate": candidate,
        "version": read_optional_text(params, "version"),
        **{name: read_flag(params, name) for name in ("force", "trust", "dry_run")},
        **person,
        "rules": asked,
    }


def read_rollback(params: Params) -> Arguments:
    """Return the arguments of ``rollback``."""
    refuse_others(params, "to", "by", "reason", "dry_run")
    to = read_optional_text(params, "to")
    return {"to": to, **_read_person(params), "dry_run": read_flag(params, "dry_run")}


def _read_person(params: Params) -> Arguments:
    """Return who asks, and why."""
    return {"by": read_optional_text(params, "by") or "somebody", "reason": read_optional_text(params, "reason")}
