"""The seventh migration: frozen versions of the dataset, and the split every image was put into."""

from __future__ import annotations

from sqlite_utils import Database


def m007_versions(db: Database) -> None:
    """What was frozen, and where each content was put for good."""
    db.table("versions").create(
        {
            "id": str,
            "number": int,
            "content_sha256": str,
            "images": int,
            "labels": int,
            "details": str,
            "recorded_at": str,
        },
        pk="id",
        not_null=("id", "number", "content_sha256", "images", "labels", "details", "recorded_at"),
        strict=True,
    )
    db.table("versions").create_index(["content_sha256"])
    # By content: a file that comes back under another name, or after its sample was deleted, is where it was.
    db.table("splits").create(
        {"image_sha256": str, "split": str, "keys": str, "look": str},
        pk="image_sha256",
        not_null=("image_sha256", "split", "keys"),
        strict=True,
    )
