"""The ledger's promotions: which model took the place of which, by whose word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sync.ledger import rows
from sync.ledger.file import LedgerFile

Action = Literal["promoted", "forced", "rolled back"]


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
    """The part of the ledger that knows promotions."""

    def record_promotion(self, promotion: Promotion) -> None:
        """Store that a model took another's place; where the last entry says so already, nothing changes."""
        last = next(iter(self.promotions()), None)
        if last is not None and (last.model, last.previous) == (promotion.model, promotion.previous):
            return
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
