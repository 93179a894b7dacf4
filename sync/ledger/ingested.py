"""The ledger's files: which of them ever became samples, whatever became of these."""

from __future__ import annotations

from collections.abc import Mapping

from sync.ledger.file import LedgerFile


class IngestedLedger(LedgerFile):
    """The part of the ledger that knows what was added to the catalogue."""

    def record_ingested(self, files: Mapping[str, str]) -> None:
        """Store that these files, by path with the SHA-256 of their content, are samples."""
        with self._write() as db:
            records = [{"path": path, "image_sha256": sha256} for path, sha256 in files.items()]
            db.table("ingested").upsert_all(records, pk="path")

    def delete_ingested(self) -> None:
        """Forget all of them: the samples went with their dataset."""
        with self._write() as db:
            db.table("ingested").delete_where()

    def ingested(self) -> dict[str, str]:
        """Return the SHA-256 of every file that ever became a sample, by its path."""
        return {row["path"]: row["image_sha256"] for row in self._query("select path, image_sha256 from ingested")}
