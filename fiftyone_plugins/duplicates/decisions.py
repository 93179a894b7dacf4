"""What curators decided about duplicates, as lines in a file that is only ever added to. Knows no FiftyOne.

FOLDER/duplicates/DATASET/decisions.jsonl    {"number": 1, "action": "drop", "group": "…", "sample_ids": […], …}
                                                      {"number": 2, "action": "undo", "of": 1}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

Action = Literal["keep", "drop", "apart"]
ACTIONS: Final[tuple[Action, ...]] = ("keep", "drop", "apart")


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision: ``sample_ids`` are kept, dropped, or set apart from ``others`` of their group.

    ``dropped`` are dropped in the same go: of a group that was decided as a whole. ``group`` empty: of several groups.
    """

    number: int
    action: Action
    group: str
    sample_ids: tuple[str, ...]
    others: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


class Decisions:
    """All decisions about one dataset that were not undone."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "decisions.jsonl"
        self._last = 0
        self.taken: dict[int, Decision] = {}
        for line in self._read_lines():
            self._follow(line)

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
    ) -> Decision:
        """Write a decision; it is on the disk when this returns."""
        decision = Decision(self._last + 1, action, group, tuple(sample_ids), tuple(others), tuple(dropped))
        self._write(
            {
                "number": decision.number,
                "action": action,
                "group": group,
                "sample_ids": list(sample_ids),
                "others": list(decision.others),
                "dropped": list(decision.dropped),
            }
        )
        return decision

    def find_last(self) -> Decision | None:
        """Return the decision that an undo would take back; None: there is none."""
        return self.taken[max(self.taken)] if self.taken else None

    def undo(self, decision: Decision) -> None:
        """Write that a decision no longer counts."""
        self._write({"number": self._last + 1, "action": "undo", "of": decision.number})

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a+b") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                # A process that was killed may have left half a line.
                broken = stream.read(1) != b"\n"
                stream.write(b"\n" if broken else b"")
            stream.write((json.dumps(dict(line)) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())
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
        self.taken[number] = Decision(number, line["action"], line["group"], sample_ids, others, dropped)
