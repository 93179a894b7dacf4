"""What evaluations found: a file for each model, dataset version and split; a later one replaces an earlier one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from sync.models.answers import AnyEvaluation, read_evaluation
from sync.models.gate import Comparison
from sync.models.looking import FOLDER
from sync.settings import Home

GATE_NAME: Final = "gate.json"


@dataclass(frozen=True, slots=True)
class Result:
    """What one evaluation found. ``thresholds`` are by label; ``evaluated_at`` is ISO 8601, UTC."""

    model_version: str
    version_id: str
    split: str
    evaluated_at: str
    evaluation: AnyEvaluation
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self) | {"evaluation": self.evaluation.to_dict()}


def write_result(home: Home, result: Result) -> str:
    """Keep a result and return its file, which appears whole or not at all."""
    path = home.models / FOLDER / result.model_version / f"{result.version_id}-{result.split}.json"
    _write(path, result.to_dict())
    return str(path)


def list_results(home: Home) -> list[Result]:
    """Return all results, the newest first; a file that cannot be read is none."""
    found = []
    for path in (home.models / FOLDER).glob("*/*-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            found.append(Result(**{**values, "evaluation": read_evaluation(values["evaluation"])}))
    return sorted(found, key=lambda one: (one.evaluated_at, one.model_version), reverse=True)


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate said of a model the last time it was asked, and beside which model that was."""

    model_version: str
    current: str
    version_id: str
    decided_at: str
    decision: str
    reasons: tuple[str, ...]
    comparison: Comparison


def write_gate(home: Home, gate: GateResult) -> None:
    """Keep what the gate said of a model, in place of what it said before."""
    path = home.models / FOLDER / gate.model_version / GATE_NAME
    values = asdict(gate) | {"comparison": gate.comparison.to_dict()}
    _write(path, values)


def read_gate(home: Home, model_version: str) -> GateResult | None:
    """Return what the gate said of a model last; None: it was never asked, or nobody can tell."""
    path = home.models / FOLDER / model_version / GATE_NAME
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        values = json.loads(path.read_text(encoding="utf-8"))
        comparison = Comparison.from_dict(values["comparison"])
        return GateResult(**{**values, "reasons": tuple(values["reasons"]), "comparison": comparison})
    return None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    part.replace(path)
