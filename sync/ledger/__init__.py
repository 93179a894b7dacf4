"""The ledger: which label version went where, what came back, and what each person did to it.

Several processes may use one ledger at once: readers never wait (write-ahead log), a writer waits for another one up to
``BUSY_TIMEOUT_S``. Every ``record_`` method is one transaction, so a process killed at any moment leaves all of it or
none; recording the same thing twice leaves it once. An open ledger belongs to the thread that opened it: other threads
open their own, which takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from labels.results import Label
from sync.ledger import rows
from sync.ledger.feedback import FeedbackLedger
from sync.ledger.ingested import IngestedLedger
from sync.ledger.links import LinkLedger
from sync.ledger.overview import OverviewLedger
from sync.ledger.promotions import Promotion, PromotionLedger
from sync.ledger.reviews import ReviewLedger
from sync.ledger.rewriting import RewritingLedger, Rewritten
from sync.ledger.rows import Correction, Export, FeedbackRow, Link, Model, Pushed, Reading, Replaced, Review
from sync.ledger.runs import Run, RunLedger
from sync.ledger.sending import Sending, SendingLedger
from sync.ledger.versions import FrozenVersion, SplitRow, VersionLedger

__all__ = [
    "Correction",
    "Export",
    "FeedbackRow",
    "FrozenVersion",
    "Ledger",
    "Link",
    "Model",
    "Promotion",
    "Pushed",
    "Reading",
    "Replaced",
    "Review",
    "Rewritten",
    "Run",
    "Sending",
    "SplitRow",
]

SNAPSHOT_ORDER: Final = {
    "links": "sample_id",
    "pushed_predictions": "sample_id, model_version",
    "replaced_predictions": "sample_id, model_version, until",
    "bases": "sample_id",
    "conflicts": "sample_id, position",
    "corrections": "mark",
    "readings": "annotation_id",
    "rewritten": "annotation_id",
    "reviews": "annotation_id",
    "feedback": "annotation_id, position",
    "cursors": "name",
    "models": "model_version",
    "exports": "path",
    "versions": "number, id",
    "splits": "image_sha256",
    "promotions": "id",
    "ingested": "path",
}


PUSH_CURSOR: Final = "push"
"""How far push has looked at the catalogue: it moves with each write of ours."""
TIMES_OF_OURS: Final = frozenset({"recorded_at", "ours_at"})


class Ledger(
    LinkLedger,
    ReviewLedger,
    RunLedger,
    OverviewLedger,
    FeedbackLedger,
    SendingLedger,
    RewritingLedger,
    VersionLedger,
    PromotionLedger,
    IngestedLedger,
):
    """An open ledger: ``with Ledger.open(path) as ledger``."""

    def record_pushed(self, pushed: Iterable[Pushed]) -> None:
        """Store predictions as they were sent."""
        records = [rows.to_row(one) | {"labels": rows.labels_to_json(one.labels)} for one in pushed]
        with self._write() as db:
            db.table("pushed_predictions").upsert_all(records, pk=("sample_id", "model_version"))

    def pushed(self, sample_id: str, model_version: str) -> tuple[Label, ...] | None:
        """Return the prediction sent for a sample; None: none was sent, empty: it found nothing."""
        found = self._query(
            "select labels from pushed_predictions where sample_id = ? and model_version = ?",
            (sample_id, model_version),
        )
        return rows.labels_from_json(found[0]["labels"]) if found else None

    def pushed_versions(self, sample_ids: Collection[str]) -> dict[str, dict[str, tuple[Label, ...]]]:
        """Return every prediction sent for the samples, by sample id and model version."""
        found: dict[str, dict[str, tuple[Label, ...]]] = {}
        order = "sample_id, model_version"
        for row in self._rows_of("pushed_predictions", "sample_id", sample_ids, order_by=order):
            found.setdefault(row["sample_id"], {})[row["model_version"]] = rows.labels_from_json(row["labels"])
        return found

    def record_replaced(self, replaced: Iterable[Replaced]) -> None:
        """Keep predictions that give way to others of the same version: somebody may have their task open."""
        records = [rows.to_row(one) | {"labels": rows.labels_to_json(one.labels)} for one in replaced]
        with self._write() as db:
            db.table("replaced_predictions").upsert_all(records, pk=("sample_id", "model_version", "until"))

    def replaced_predictions(self, sample_ids: Collection[str]) -> dict[str, tuple[Replaced, ...]]:
        """Return the predictions of the samples that gave way to others of the same version, the oldest first."""
        found: dict[str, tuple[Replaced, ...]] = {}
        for row in self._rows_of("replaced_predictions", "sample_id", sample_ids, order_by="sample_id, until"):
            replaced = Replaced(**row | {"labels": rows.labels_from_json(row["labels"])})
            found[replaced.sample_id] = (*found.get(replaced.sample_id, ()), replaced)
        return found

    def record_cursor(self, name: str, value: str) -> None:
        """Store how far something was read."""
        with self._write() as db:
            db.table("cursors").upsert({"name": name, "value": value}, pk="name")

    def cursor(self, name: str) -> str | None:
        """Return how far something was read; None: it never was."""
        found = self._query("select value from cursors where name = ?", (name,))
        return str(found[0]["value"]) if found else None

    def record_model(self, model: Model) -> None:
        """Store weights that were used, in place of what was known of the same version."""
        record = rows.to_row(model) | {"details": rows.to_json(dict(model.details)), "recorded_at": _now()}
        with self._write() as db:
            db.table("models").upsert(record, pk="model_version")

    def models(self) -> list[Model]:
        """Return the known weights, by name."""
        return [rows.model_from_row(row) for row in self._query("select * from models order by model_version")]

    def record_export(self, export: Export) -> None:
        """Store an export, in place of an earlier one to the same path."""
        record = rows.to_row(export) | {"details": rows.to_json(dict(export.details)), "recorded_at": _now()}
        with self._write() as db:
            db.table("exports").upsert(record, pk="path")

    def exports(self) -> list[Export]:
        """Return the exports, by path."""
        return [rows.export_from_row(row) for row in self._query("select * from exports order by path")]

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Return all that matters, to compare two moments: every table but the runs, sorted, without times of ours."""
        with self._transaction("BEGIN"):
            return {
                table: [
                    {name: value for name, value in row.items() if name not in TIMES_OF_OURS}
                    for row in self._query(f"select * from {table} order by {order}")  # noqa: S608  names are ours
                    if row.get("name") != PUSH_CURSOR
                ]
                for table, order in SNAPSHOT_ORDER.items()
            }


def _now() -> str:
    return datetime.now(UTC).isoformat()
