"""Annotations of people that a renaming rewrote: since when each really says what it says, and who saved it then."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from sync.ledger.file import LedgerFile


@dataclass(frozen=True, slots=True)
class Rewritten:
    """An annotation that labelloop wrote. While Label Studio has it as of ``updated_at``, it counts as of ``saved_at``.

    ``saved_by`` is who had saved it last. ``writes`` names the regions of a write that is under way; None: there is
    none, and ``updated_at`` is that of the last one.
    """

    annotation_id: int
    updated_at: str
    saved_at: str
    saved_by: str
    writes: str | None = None


class RewritingLedger(LedgerFile):
    """The part of the ledger that knows what of people's annotations labelloop wrote."""

    def record_rewritten(self, rewritten: Rewritten) -> None:
        """Store that an annotation was rewritten or is about to be, in place of what was known of it."""
        with self._write() as db:
            db.table("rewritten").upsert(asdict(rewritten), pk="annotation_id")

    def record_not_rewritten(self, annotation_id: int) -> None:
        """Store that an annotation is a person's alone again, or gone."""
        with self._write() as db:
            db.table("rewritten").delete_where("annotation_id = ?", [annotation_id])

    def rewritten(self, annotation_ids: Collection[int]) -> dict[int, Rewritten]:
        """Return what is known of these annotations, by id."""
        return {
            row["annotation_id"]: Rewritten(**row)
            for row in self._rows_of("rewritten", "annotation_id", annotation_ids)
        }

    def begun_rewritings(self) -> list[Rewritten]:
        """Return the annotations that were about to be written by a job that ended before it knew of it."""
        rows = self._query("select * from rewritten where writes is not null order by annotation_id")
        return [Rewritten(**row) for row in rows]
