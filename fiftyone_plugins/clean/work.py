"""The plugin's works as jobs: their parameters, read and checked, and what runs. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fiftyone_plugins.app.params import (
    read_choice,
    read_flag,
    read_number,
    read_path,
    read_text,
    read_texts,
    refuse_others,
)
from fiftyone_plugins.app.work import Params, Tools, Work
from labels.errors import LabelingError
from labels.report import Report

DEFAULT_THRESHOLD: Final = 0.5
DEFAULT_UNSURE_FROM: Final = 0.2
OF_A_REHEARSAL: Final = ("dry_run", "action", "to", "min_score")


def read_clean(params: Params) -> Mapping[str, Any]:
    """Return the arguments of ``clean``.

    Raises:
        LabelingError: a parameter cannot be used.
    """
    from fiftyone_plugins.clean.claims import Claim
    from fiftyone_plugins.clean.judging import Criteria

    known = ("classes", "claim", "threshold", "unsure_from", "min_size", "model", "seen_in", "only_new")
    refuse_others(params, *known, *OF_A_REHEARSAL)
    threshold = read_number(params, "threshold", 0, 1)
    unsure_from = read_number(params, "unsure_from", 0, 1)
    highest = DEFAULT_THRESHOLD if threshold is None else threshold
    if params.get("model") is not None and params.get("seen_in") is not None:
        raise LabelingError("parameters 'model' and 'seen_in': give one of them; a field's boxes are drawn already")
    return {
        "criteria": Criteria(
            read_texts(params, "classes"),
            highest,
            # Who lowers the threshold below where doubt begins has no doubt.
            min(highest, DEFAULT_UNSURE_FROM) if unsure_from is None else unsure_from,
            read_number(params, "min_size", 0, 1) or 0.0,
        ),
        "claim": Claim.from_text(read_text(params, "claim") or "all"),
        "model": read_text(params, "model"),
        "seen_in": read_text(params, "seen_in"),
        "only_new": read_flag(params, "only_new"),
        "rehearsal": _read_rehearsal(params),
    }


def _read_rehearsal(params: Params) -> Any:
    """Return what a dry run tries; None: it is none, and what acts belongs to ``clean_apply``."""
    from fiftyone_plugins.clean.planning import ACTIONS, Rehearsal

    if not read_flag(params, "dry_run"):
        given = [name for name in OF_A_REHEARSAL if params.get(name) is not None and name != "dry_run"]
        if given:
            raise LabelingError(f"parameter {given[0]!r}: goes with 'dry_run'; the job clean_apply acts")
        return None
    action = None if params.get("action") is None else read_choice(params, "action", ACTIONS)
    least = read_number(params, "min_score", 0, 1) or 0.0
    return Rehearsal(action, read_path(params, "to"), least)  # type: ignore[arg-type]  # one of ACTIONS


def _read_apply(params: Params) -> Mapping[str, Any]:
    from fiftyone_plugins.clean.planning import ACTIONS

    refuse_others(params, "action", "to", "min_score", "dry_run")
    return {
        "action": read_choice(params, "action", ACTIONS),
        "folder": read_path(params, "to"),
        "min_score": read_number(params, "min_score", 0, 1) or 0.0,
        "dry_run": read_flag(params, "dry_run"),
    }


def _read_undo(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "run")
    return {"run": read_text(params, "run")}


def _clean(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.clean.looking import clean

    return clean(samples, tools, **arguments)


def _apply(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.clean.applying import apply

    return apply(samples, tools, **arguments)


def _undo(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.clean.applying import undo

    return undo(samples, tools, **arguments)


CLEAN: Final = Work(read_clean, _clean)
APPLY: Final = Work(_read_apply, _apply)
UNDO: Final = Work(_read_undo, _undo)
