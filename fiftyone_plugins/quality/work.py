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
    refuse_others,
    to_number,
)
from fiftyone_plugins.app.work import Params, Tools, Work
from fiftyone_plugins.quality.checks import default_thresholds, find_check
from labels.errors import LabelingError
from labels.report import Report

RULES: Final = ("thresholds", "below_mean", "worst_percent")


def read_thresholds(value: object) -> dict[str, float]:
    """Return thresholds by check, the usual ones with those given in their place; None takes a check out.

    Raises:
        LabelingError: a check is not known, or a threshold is no number in 0..1.

    >>> read_thresholds({"dark": 0.9, "blurry": None})["dark"]
    0.9
    """
    thresholds: dict[str, float | None] = dict(default_thresholds())
    if not isinstance(value, Mapping | None):
        raise LabelingError("parameter 'thresholds': expected an object with a number for each check")
    for name, number in (value or {}).items():
        thresholds[find_check(str(name)).name] = number if number is None else to_number(name, number, 0, 1)
    return {name: number for name, number in thresholds.items() if number is not None}


def _read_rules(params: Params) -> Any:
    from fiftyone_plugins.quality.proposals import Rules

    return Rules(
        read_thresholds(params.get("thresholds")),
        read_number(params, "below_mean", 1, 10),
        read_number(params, "worst_percent", 0, 100),
    )


def _read_scan(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "everything", *RULES)
    return {"rules": _read_rules(params), "everything": read_flag(params, "everything")}


def _read_decide(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "dry_run", *RULES)
    return {"rules": _read_rules(params), "dry_run": read_flag(params, "dry_run")}


def _read_undo(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "run")
    return {"run": read_text(params, "run")}


def _read_learn(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "votes")
    votes = read_path(params, "votes")
    if votes is None:
        raise LabelingError("parameter 'votes': expected the file with the votes")
    return {"votes": votes}


def _read_examples(params: Params) -> Mapping[str, Any]:
    from fiftyone_plugins.quality.learning import SOURCES

    refuse_others(params, "source", "votes", "out", "copy", *RULES)
    return {
        "source": read_choice(params, "source", SOURCES),
        "rules": _read_rules(params),
        "votes": read_path(params, "votes"),
        "out": read_path(params, "out"),
        "copy": read_flag(params, "copy"),
    }


def _scan(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.quality.scanning import scan

    return scan(samples, tools, **arguments)


def _decide(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.quality.deciding import decide

    return decide(samples, tools, **arguments)


def _undo(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.quality.deciding import undo

    return undo(samples, tools, **arguments)


def _learn(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.quality.learning import learn

    return learn(samples, tools, **arguments)


def _write_examples(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.quality.learning import write_examples

    return write_examples(samples, tools, **arguments)


SCAN: Final = Work(_read_scan, _scan)
DECIDE: Final = Work(_read_decide, _decide)
UNDO: Final = Work(_read_undo, _undo)
LEARN: Final = Work(_read_learn, _learn)
EXAMPLES: Final = Work(_read_examples, _write_examples)
