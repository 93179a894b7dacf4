"""The ledger's promotions: which model took the place of which, by whose word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sync.ledger import rows
from sync.ledger.file import LedgerFile

Action = Literal["promoted", "forced", "rolled back"]
CHANGING_CURSOR: Final = "changing model"
"""The change of the model that is under way."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One change of the model that draws pre-labels.

    ``model`` and ``previous`` are names the ML backend knows; ``previous`` None: nobody could tell. ``reason`` is a
    person's, where a model was forced or rolled back. ``verdict`` is what the gate said: decision, reasons, numbers.
    """

    model: str
    previous: str | None
    action: Action
    promoted_by: str
    dataset_version: str | None = None
    reason: str | None = None
    verdict: Mapping[str, Any] = field(default_factory=dict)
    recorded_at: str = field(default="", compare=False)


class PromotionLedger(LedgerFile):
    """The part of the ledger that knows promotions, and the one that is under way: one is made at a time."""

    def record_changing(self, promotion: Promotion) -> None:
        """Store that a model is about to take another's place, until ``record_promotion`` says that it did."""
        text = rows.to_json(asdict(promotion))
        with self._write() as db:
            db.table("cursors").upsert({"name": CHANGING_CURSOR, "value": text}, pk="name")

    def changing(self) -> Promotion | None:
        """Return the change that was begun and of which nobody knows how it ended; None: there is none."""
        found = self._query("select value from cursors where name = ?", (CHANGING_CURSOR,))
        return Promotion(**json.loads(found[0]["value"])) if found else None

    def record_promotion(self, promotion: Promotion) -> None:
        """Store that a model took another's place; none is under way any more."""
        record = {
            "model": promotion.model,
            "previous": promotion.previous,
            "action": promotion.action,
            "dataset_version": promotion.dataset_version,
            "promoted_by": promotion.promoted_by,
            "reason": promotion.reason,
            "verdict": rows.to_json(dict(promotion.verdict)),
            "recorded_at": datetime.now(UTC).isoformat(),
        }
        with self._write() as db:
            db.table("promotions").insert(record)
            db.table("cursors").delete_where("name = ?", (CHANGING_CURSOR,))

    def promotions(self) -> list[Promotion]:
        """Return the promotions and roll-backs, the newest first."""
        found = self._query("select * from promotions order by id desc")
        return [
            Promotion(
                **{name: row[name] for name in Promotion.__dataclass_fields__ if name != "verdict"},
                verdict=json.loads(row["verdict"]),
            )
            for row in found
        ]
