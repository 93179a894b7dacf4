"""The plugin's works as jobs: their parameters, read and checked, and what runs. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fiftyone_plugins.app.params import read_flag, read_number, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from labels.errors import LabelingError
from labels.report import Report

METHODS: Final = ("exact", "phash", "near")
DEFAULT_THRESHOLD: Final = 0.35


def read_methods(value: object) -> tuple[str, ...]:
    """Return the methods of a list; all where it is absent.

    Raises:
        LabelingError: it is no list, is empty, or a method is not known.

    >>> read_methods(["near", "exact"])
    ('exact', 'near')
    """
    if value is None:
        return METHODS
    if not isinstance(value, list | tuple) or not value:
        raise LabelingError(f"parameter 'methods': expected a list of {', '.join(METHODS)}")
    unknown = [one for one in value if one not in METHODS]
    if unknown:
        raise LabelingError(f"method {unknown[0]!r} is not known (known: {', '.join(METHODS)})")
    return tuple(one for one in METHODS if one in value)


def _read_scan(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "methods", "threshold", "unchecked", "vectors", "splits", "dry_run")
    threshold = read_number(params, "threshold", 0, 1)
    return {
        "methods": read_methods(params.get("methods")),
        "threshold": DEFAULT_THRESHOLD if threshold is None else threshold,
        "check": not read_flag(params, "unchecked"),
        "vectors": read_text(params, "vectors"),
        "splits": read_text(params, "splits"),
        "dry_run": read_flag(params, "dry_run"),
    }


def _scan(
    samples: Any, tools: Tools, *, methods: tuple[str, ...], threshold: float, check: bool, **rest: Any
) -> Report:
    from fiftyone_plugins.duplicates.finding import Rules
    from fiftyone_plugins.duplicates.scanning import scan

    return scan(samples, tools, rules=Rules(methods, threshold, check), **rest)


def _read_drop(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "dry_run")
    return {"dry_run": read_flag(params, "dry_run")}


def _drop(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.duplicates.deciding import drop_proposed

    return drop_proposed(samples, tools, **arguments)


def _read_undo(params: Params) -> Mapping[str, Any]:
    refuse_others(params)
    return {}


def _undo(samples: Any, tools: Tools) -> Report:
    from fiftyone_plugins.duplicates.deciding import undo_last

    return undo_last(samples, tools)


SCAN: Final = Work(_read_scan, _scan)
DROP: Final = Work(_read_drop, _drop)
UNDO: Final = Work(_read_undo, _undo)
