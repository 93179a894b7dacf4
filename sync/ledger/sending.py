"""The request that is under way: what Label Studio may still be making when the job that asked for it is dead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sync.ledger.file import LedgerFile

SENDING_CURSOR: Final = "sending"


@dataclass(frozen=True, slots=True)
class Sending:
    """A request that makes something in Label Studio, as of ``at`` (UTC). It makes one of four things.

    Tasks for ``sample_ids``, with numbers above ``after_task_id``; or predictions, by task ``versions`` names them; or
    corrections, by task ``marks`` names them; or annotations that were to travel with their tasks, by task ``regions``
    has the ids of what is in them.
    """

    at: str
    sample_ids: tuple[str, ...] = ()
    after_task_id: int = 0
    versions: Mapping[int, str] = field(default_factory=dict)
    marks: Mapping[int, int] = field(default_factory=dict)
    regions: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    def describe(self) -> str:
        """Return what it makes, for people.

        >>> Sending("2026-05-04T10:00:00+00:00", versions={7: "yolo-1", 8: "yolo-1"}).describe()
        '2 predictions'
        """
        if self.sample_ids:
            return f"{len(self.sample_ids)} tasks"
        if self.regions:
            return f"the annotations of {len(self.regions)} tasks"
        return f"{len(self.versions)} predictions" if self.versions else f"{len(self.marks)} corrections"


class SendingLedger(LedgerFile):
    """The part of the ledger that knows the request under way. There is one at most: one job writes at a time."""

    def record_sending(self, sending: Sending) -> None:
        """Store that a request is about to be sent, in place of the one before."""
        with self._write() as db:
            db.table("cursors").upsert({"name": SENDING_CURSOR, "value": json.dumps(asdict(sending))}, pk="name")

    def record_sent(self) -> None:
        """Store that no request is under way: its answer came, or none is expected any more."""
        with self._write() as db:
            db.table("cursors").delete_where("name = ?", (SENDING_CURSOR,))

    def sending(self) -> Sending | None:
        """Return the request that was sent and whose answer never came; None: there is none."""
        found = self._query("select value from cursors where name = ?", (SENDING_CURSOR,))
        return _from_json(found[0]["value"]) if found else None


def _from_json(text: str) -> Sending:
    values: dict[str, Any] = json.loads(text)
    return Sending(
        values["at"],
        tuple(values["sample_ids"]),
        values["after_task_id"],
        {int(task_id): version for task_id, version in values["versions"].items()},
        {int(task_id): mark for task_id, mark in values["marks"].items()},
        {int(task_id): tuple(ids) for task_id, ids in values.get("regions", {}).items()},
    )
