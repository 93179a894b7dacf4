"""The ledger's versions: what was frozen when, and the split each image was put into for good."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sync.ledger import rows
from sync.ledger.file import LedgerFile


@dataclass(frozen=True, slots=True)
class FrozenVersion:
    """A version as the ledger knows it: its id, numbers, and in ``details`` what is worth showing of it."""

    id: str
    number: int
    content_sha256: str
    images: int
    labels: int
    details: Mapping[str, Any] = field(default_factory=dict)
    recorded_at: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SplitRow:
    """Where an image was put, the keys it shares with those it must not be parted from, and its perceptual hash.

    ``look`` None: the file could not be read.
    """

    image_sha256: str
    split: str
    keys: tuple[str, ...] = ()
    look: str | None = None


class VersionLedger(LedgerFile):
    """The part of the ledger that knows versions."""

    def record_splits(self, splits: Mapping[str, SplitRow]) -> None:
        """Store where images were put, by content; one that was put somewhere before stays there."""
        records = [
            {
                "image_sha256": one.image_sha256,
                "split": one.split,
                "keys": rows.to_json(list(one.keys)),
                "look": one.look,
            }
            for one in splits.values()
        ]
        with self._write() as db:
            # Only what is known of it may grow, its split never changes.
            db.conn.executemany(
                "insert into splits (image_sha256, split, keys, look) values (:image_sha256, :split, :keys, :look) "
                "on conflict (image_sha256) do update set keys = excluded.keys, look = coalesce(excluded.look, look)",
                records,
            )

    def splits(self) -> dict[str, SplitRow]:
        """Return where images were put, by the SHA-256 of their content."""
        found = self._query("select * from splits order by image_sha256")
        return {
            row["image_sha256"]: SplitRow(
                row["image_sha256"], row["split"], tuple(json.loads(row["keys"])), row["look"]
            )
            for row in found
        }

    def record_version(self, version: FrozenVersion) -> None:
        """Store that a version was frozen; one that is known keeps its date."""
        record = {
            "id": version.id,
            "number": version.number,
            "content_sha256": version.content_sha256,
            "images": version.images,
            "labels": version.labels,
            "details": rows.to_json(dict(version.details)),
            "recorded_at": datetime.now(UTC).isoformat(),
        }
        with self._write() as db:
            db.table("versions").insert(record, pk="id", ignore=True)

    def versions(self) -> list[FrozenVersion]:
        """Return the versions, the oldest first."""
        found = self._query("select * from versions order by number, id")
        return [FrozenVersion(**row | {"details": json.loads(row["details"])}) for row in found]
