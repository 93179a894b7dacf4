"""The plugin's work as a job: its parameters, read and checked, and what runs. Light to import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fiftyone_plugins.app.params import read_flag, read_number, read_text, refuse_others
from fiftyone_plugins.app.work import Params, Tools, Work
from labels import fields
from labels.errors import LabelingError
from labels.report import Report

KINDS: Final = ("boxes", "images")
THRESHOLD: Final = 0.3
"""From this mistakenness on a sample is tagged and in the saved view."""


def _read(params: Params) -> Mapping[str, Any]:
    refuse_others(params, "labels", "kind", "model", "against", "threshold", "objectlab", "datalab", "dry_run")
    kind = read_text(params, "kind")
    if kind is not None and kind not in KINDS:
        raise LabelingError(f"kind {kind!r} is not known (known: {', '.join(KINDS)})")
    threshold = read_number(params, "threshold", 0, 1)
    return {
        "labels": read_text(params, "labels") or fields.GROUND_TRUTH,
        "kind": kind,
        "model": read_text(params, "model"),
        "against": read_text(params, "against"),
        "threshold": THRESHOLD if threshold is None else threshold,
        "objectlab": read_flag(params, "objectlab"),
        "datalab": read_flag(params, "datalab"),
        "dry_run": read_flag(params, "dry_run"),
    }


def _run(samples: Any, tools: Tools, **arguments: Any) -> Report:
    from fiftyone_plugins.mistakes.finding import find_mistakes

    return find_mistakes(samples, tools, **arguments)


MISTAKES: Final = Work(_read, _run)
