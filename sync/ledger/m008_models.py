"""The eighth migration: which model was put before the annotators when, instead of which, by whom, and why."""

from __future__ import annotations

from sqlite_utils import Database


def m008_models(db: Database) -> None:
    """Promotions and roll-backs, in their order."""
    db.table("promotions").create(
        {
            "id": int,
            "model": str,
            "previous": str,
            "action": str,
            "dataset_version": str,
            "promoted_by": str,
            "reason": str,
            "verdict": str,
            "recorded_at": str,
        },
        pk="id",
        not_null=("model", "action", "promoted_by", "verdict", "recorded_at"),
        strict=True,
    )
