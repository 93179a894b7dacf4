"""What people decided about findings, as JSON lines: one file a dataset, only ever appended to. Knows no FiftyOne.

FOLDER/mistakes/DATASET.jsonl    {"do": "keep", "sample_id": …, "label_id": …, "label": …, "box": […]}
                                 {"do": "accept", "sample_id": …, "remedy": …, "before": {…}, "after": {…}}
                                 {"do": "undo", "number": 3}    of the line with this number, the first is 1
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fiftyone_plugins.mistakes.ranking import Finding, Kept, KeptBySample


class Decisions:
    """The decisions about one dataset's labels."""

    def __init__(self, folder: Path, dataset: str) -> None:
        self.file = folder / "mistakes" / f"{quote(dataset, safe=' ').replace('.', '%2E')}.jsonl"

    def keep(self, finding: Finding) -> None:
        """Remember that a label is right as it is, or that nothing is missing there."""
        self._add({"do": "keep", **_name(finding)})

    def record(self, finding: Finding, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> None:
        """Remember a label as it was before a suggestion was accepted, and as it is to be then; None: there is none."""
        self._add({"do": "accept", "remedy": finding.remedy, **_name(finding), "before": before, "after": after})

    def undo(self, number: int) -> None:
        """Remember that a decision counts no more."""
        self._add({"do": "undo", "number": number})

    def read(self) -> dict[int, dict[str, Any]]:
        """Return the decisions that count, by their number, the first one first."""
        counting: dict[int, dict[str, Any]] = {}
        for number, values in enumerate(self._lines(), start=1):
            if values.get("do") == "undo":
                counting.pop(values["number"], None)
            elif values:
                counting[number] = values
        return counting

    def kept(self) -> KeptBySample:
        """Return what people decided to leave as it is, by sample."""
        kept: dict[str, list[Kept]] = defaultdict(list)
        for one in self.read().values():
            if one["do"] == "keep":
                box = None if one["box"] is None else tuple(one["box"])
                kept[one["sample_id"]].append(Kept(one["sample_id"], one["label_id"], one["label"], box))
        return kept

    def _lines(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        lines: list[dict[str, Any]] = []
        for text in self.file.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                # Half a line of a process that was killed: it keeps its number and says nothing.
                lines.append({})
        return lines

    def _add(self, values: Mapping[str, Any]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a+b") as stream:
            # A process that was killed may have left half a line: what follows it is not part of it.
            is_broken = False
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                is_broken = stream.read(1) != b"\n"
            stream.write((b"\n" if is_broken else b"") + json.dumps(dict(values), sort_keys=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def _name(finding: Finding) -> dict[str, Any]:
    return {
        "sample_id": finding.sample_id,
        "field": finding.field,
        "label_id": finding.label_id,
        "kind": finding.kind,
        "label": finding.label,
        "box": finding.box,
    }
