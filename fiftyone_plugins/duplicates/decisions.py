"""What curators decided about duplicates, as lines in a file that is only ever added to. Knows no FiftyOne.

FOLDER/duplicates/DATASET/decisions.jsonl    {"number": 1, "action": "drop", "group": "…", "sample_ids": […], …}
                                                      {"number": 2, "action": "undo", "of": 1}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fiftyone_plugins.app.lines import add_lines, open_alone

Action = Literal["keep", "drop", "apart"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision: ``sample_ids`` are kept, dropped, or set apart from ``others`` of their group.

    ``dropped`` are dropped in the same go: of a group that was decided as a whole. ``group`` empty: of several groups.
    ``tagged`` had the tag of what is dropped before; None: an older labelloop did not write it down.
    """

    number: int
    action: Action
    group: str
    sample_ids: tuple[str, ...]
    others: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    tagged: tuple[str, ...] | None = None


class Decisions:
    """All decisions about one dataset that were not undone; what others decided meanwhile is there after each write."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "decisions.jsonl"
        self._last = 0
        self.taken: dict[int, Decision] = {}
        self._read()

    def apart(self) -> set[tuple[str, str]]:
        """Return the pairs of sample ids that a person said are no duplicates; the lower id first."""
        return {
            (min(one, other), max(one, other))
            for decision in self.taken.values()
            if decision.action == "apart"
            for one in decision.sample_ids
            for other in decision.others
        }

    def latest(self) -> dict[str, Action]:
        """Return what was last decided about each sample: to keep it, to drop it, that it is no duplicate."""
        latest: dict[str, Action] = {}
        for decision in self.taken.values():
            latest.update(dict.fromkeys(decision.sample_ids, decision.action))
            latest.update(dict.fromkeys(decision.dropped, "drop"))
        return latest

    def record(
        self,
        action: Action,
        group: str,
        sample_ids: Sequence[str],
        others: Iterable[str] = (),
        dropped: Iterable[str] = (),
        *,
        tagged: Iterable[str] = (),
    ) -> Decision:
        """Write a decision; it is on the disk when this returns."""
        number = self._write(
            {
                "action": action,
                "group": group,
                "sample_ids": list(sample_ids),
                "others": list(others),
                "dropped": list(dropped),
                "tagged": list(tagged),
            }
        )
        return self.taken[number]

    def find_last(self) -> Decision | None:
        """Return the decision that an undo would take back; None: there is none."""
        return self.taken[max(self.taken)] if self.taken else None

    def undo(self, decision: Decision) -> None:
        """Write that a decision no longer counts."""
        self._write({"action": "undo", "of": decision.number})

    def _write(self, line: Mapping[str, Any]) -> int:
        """Add a line behind those that others have written by now; return its number."""
        # The panel and a job may both write: two lines of one number would be one decision less.
        with open_alone(self._file) as stream:
            self._read()
            number = self._last + 1
            add_lines(stream, [{"number": number, **line}])
        self._follow({"number": number, **line})
        return number

    def _read(self) -> None:
        """Read all lines anew."""
        self._last = 0
        self.taken.clear()
        for line in self._read_lines():
            self._follow(line)

    def _read_lines(self) -> list[Mapping[str, Any]]:
        try:
            lines = self._file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def _follow(self, line: Mapping[str, Any]) -> None:
        self._last = max(self._last, line["number"])
        if line["action"] == "undo":
            self.taken.pop(line["of"], None)
            return
        others, dropped = tuple(line.get("others", ())), tuple(line.get("dropped", ()))
        number, sample_ids = line["number"], tuple(line["sample_ids"])
        tagged = tuple(line["tagged"]) if "tagged" in line else None
        self.taken[number] = Decision(number, line["action"], line["group"], sample_ids, others, dropped, tagged)
