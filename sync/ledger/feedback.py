"""The ledger when a class gets another name: every label set and verdict it keeps, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final

from sqlite_utils import Database

from sync.ledger import rows
from sync.ledger.file import LedgerFile
from sync.review.relabelling import Renaming, rename_class_text, rename_records

LABEL_COLUMNS: Final = {
    "bases": ("labels",),
    "pushed_predictions": ("labels",),
    "replaced_predictions": ("labels",),
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

    def record_unread(self, task_ids: Collection[int]) -> None:
        """Store that these tasks have to be read again, though nobody says anything new there."""
        with self._write() as db:
            sql = "update links set answers = null where task_id in (select value from json_each(?))"
            db.conn.execute(sql, (json.dumps(list(task_ids)),))


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
