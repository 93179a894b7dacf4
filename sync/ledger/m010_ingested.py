"""The tenth migration: which files were ever added, so that one whose sample was deleted does not come back."""

from __future__ import annotations

from sqlite_utils import Database


def m010_ingested(db: Database) -> None:
    """The files that became samples, with the sum over what was in them."""
    db.table("ingested").create({"path": str, "image_sha256": str}, pk="path", not_null=("image_sha256",), strict=True)
