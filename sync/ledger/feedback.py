"""The ledger when a class gets another name: every label set and verdict it keeps, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlite_utils import Database

from sync.ledger import rows
from sync.ledger.file import LedgerFile
from sync.review.relabelling import Renaming, rename_class_text, rename_records

LABEL_COLUMNS: Final = {
    "bases": ("labels",),
    "pushed_predictions": ("labels",),
    "readings": ("labels",),
    "corrections": ("labels",),
    "conflicts": ("base", "ours", "theirs"),
}
RELABEL_CURSOR: Final = "relabel"
"""Holds the renaming that was begun and not ended; empty: none."""


class FeedbackLedger(LedgerFile):
    """The part of the ledger that knows of renamed classes."""

    def unfinished_renaming(self) -> Renaming | None:
        """Return the renaming that was begun and not ended; None: there is none."""
        found = self._query("select value from cursors where name = ?", (RELABEL_CURSOR,))
        return Renaming.from_json(found[0]["value"]) if found else None

    def record_renaming_start(self, renaming: Renaming) -> None:
        """Store that a renaming began: no other job may write until it has ended."""
        with self._write() as db:
            db.table("cursors").upsert({"name": RELABEL_CURSOR, "value": renaming.to_json()}, pk="name")

    def record_renaming_end(self) -> None:
        """Store that the renaming is done."""
        with self._write() as db:
            db.table("cursors").delete_where("name = ?", [RELABEL_CURSOR])

    def record_class(self, renaming: Renaming) -> int:
        """Give a class its new name everywhere, and return how many rows had the old one; twice changes nothing.

        Where a person had changed the old class into the new one, the model was right after all.
        """
        with self._write() as db:
            return _rename_labels(db, renaming) + _rename_verdicts(db, renaming)

    def record_annotation_times(self, times: Mapping[int, tuple[str, str]]) -> None:
        """Store new times of annotations that were read at the first one and have the second one now.

        An annotation that was not read at the first time keeps what is known of it: a pull has to read it.
        """
        changes = [{"id": key, "before": before, "after": after} for key, (before, after) in times.items()]
        with self._write() as db:
            for table in ("links", "reviews", "corrections"):
                db.conn.executemany(
                    f"update {table} set annotation_updated_at = :after "  # noqa: S608  names are ours
                    "where annotation_id = :id and annotation_updated_at = :before",
                    changes,
                )

    def record_answers(self, answers: Mapping[str, tuple[str, str]]) -> None:
        """Store new names of all that people said of samples' tasks, for links that have the first one of the two."""
        changes = [{"id": key, "before": before, "after": after} for key, (before, after) in answers.items()]
        with self._write() as db:
            sql = "update links set answers = :after where sample_id = :id and answers = :before"
            db.conn.executemany(sql, changes)


def _rename_labels(db: Database, renaming: Renaming) -> int:
    # A column that does not change is no row that is written.
    db.register_function(
        lambda text: rename_records(text, renaming), name="with_new_class", deterministic=True, replace=True
    )
    changed = 0
    for table, columns in LABEL_COLUMNS.items():
        for column in columns:
            cursor = db.execute(
                f"update {table} set {column} = with_new_class({column}) "  # noqa: S608  names are ours
                f"where instr({column}, ?) and with_new_class({column}) <> {column}",
                [rows.to_json(renaming.old)],
            )
            changed += cursor.rowcount
    return changed


def _rename_verdicts(db: Database, renaming: Renaming) -> int:
    db.register_function(
        lambda text: rename_class_text(text, renaming), name="with_new_name", deterministic=True, replace=True
    )
    changed = 0
    for column in ("class_before", "class_after"):
        cursor = db.execute(
            f"update feedback set {column} = with_new_name({column}) "  # noqa: S608  names are ours
            f"where control = ? and instr({column}, ?) and with_new_name({column}) <> {column}",
            [renaming.control, renaming.old],
        )
        changed += cursor.rowcount
    db.execute(
        "update feedback set kind = case when iou is null or iou >= 1 then 'confirmed' else 'moved' end "
        "where control = ? and kind = 'relabelled' and class_before = class_after",
        [renaming.control],
    )
    return changed
