"""The ninth migration: what a model version had drawn before it drew anew on the same image."""

from __future__ import annotations

from sqlite_utils import Database


def m009_replaced(db: Database) -> None:
    """Predictions that gave way to others of the same version, and until when they were shown."""
    db.table("replaced_predictions").create(
        {"sample_id": str, "model_version": str, "until": str, "labels": str},
        pk=("sample_id", "model_version", "until"),
        not_null=("sample_id", "model_version", "until", "labels"),
        strict=True,
    )
