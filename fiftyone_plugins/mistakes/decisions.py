"""What people decided about findings, as JSON lines: one file a dataset, only ever appended to. Knows no FiftyOne.

FOLDER/mistakes/DATASET.jsonl    {"do": "keep", "sample_id": …, "label_id": …, "label": …, "box": […]}
                                 {"do": "accept", "sample_id": …, "remedy": …, "before": {…}, "after": {…},
                                  "proposal": {…}}
                                 {"do": "undo", "number": 3}    of the line with this number, the first is 1
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiftyone_plugins.app.lines import add_lines, open_alone
from fiftyone_plugins.app.naming import to_file_name
from fiftyone_plugins.mistakes.ranking import Finding, Kept, KeptBySample


class Decisions:
    """The decisions about one dataset's labels."""

    def __init__(self, folder: Path, dataset: str) -> None:
        self.file = folder / "mistakes" / f"{to_file_name(dataset)}.jsonl"

    def keep(self, finding: Finding) -> None:
        """Remember that a label is right as it is, or that nothing is missing there."""
        self._add({"do": "keep", **_name(finding)})

    def record(
        self,
        finding: Finding,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        proposal: Mapping[str, Any] | None = None,
    ) -> int:
        """Remember a label as it was before a suggestion was accepted, and as it is to be then; None: there is none.

        ``proposal`` is what goes when the box that it proposes is there. Returns the decision's number.
        """
        said = {"before": before, "after": after, "proposal": proposal}
        return self._add({"do": "accept", "remedy": finding.remedy, **_name(finding), **said})

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
                about = (one["sample_id"], one["field"], one["label_id"], one["label"])
                kept[one["sample_id"]].append(Kept(*about, box))
        return kept

    def size(self) -> int:
        """Return how much is written, in bytes: the same as long as nobody decides anything."""
        return self.file.stat().st_size if self.file.exists() else 0

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

    def _add(self, values: Mapping[str, Any]) -> int:
        """Add a line, which is on the disk when this returns; return its number."""
        with open_alone(self.file) as stream:
            # Several Apps may decide at once: each line has the number that its writer is told.
            number = len(stream.read().splitlines()) + 1
            add_lines(stream, [values])
        return number


def _name(finding: Finding) -> dict[str, Any]:
    return {
        "sample_id": finding.sample_id,
        "field": finding.field,
        "label_id": finding.label_id,
        "kind": finding.kind,
        "label": finding.label,
        "box": finding.box,
    }
