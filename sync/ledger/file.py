"""The ledger's SQLite file: opening, transactions, and errors in words; what is in it is its neighbours' business."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from sqlite_utils import Database

from labels.errors import LabelingError
from sync.ledger.migrations import apply_migrations

BUSY_TIMEOUT_S: Final = 30.0


class LedgerFile:
    """An open SQLite file with an up-to-date schema; close it, or use it as a context manager."""

    def __init__(self, db: Database, path: Path) -> None:
        self._db = db
        self.path = path

    @classmethod
    def open(cls, path: Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> Self:
        """Open the ledger, creating it or bringing its schema up to date.

        Raises:
            LabelingError: no ledger can be had at that path, or a newer labelloop wrote it.
        """
        with _say_which(path):
            # No implicit transactions: each one is opened where it is meant to be.
            connection = sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)
            try:
                db = Database(connection, execute_plugins=False)
                db.enable_wal()
                db.execute("PRAGMA foreign_keys=on")
                apply_migrations(db)
            except BaseException:
                connection.close()
                raise
        return cls(db, path)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[Database]:
        # IMMEDIATE: a transaction that reads first and writes later fails at once, time-out or not, when another
        # process wrote in between.
        with self._transaction("BEGIN IMMEDIATE"):
            yield self._db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        with _say_which(self.path):
            self._db.execute(begin)
            try:
                yield
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise

    def _query(self, sql: str, args: Sequence[object] = ()) -> list[dict[str, Any]]:
        with _say_which(self.path):
            return list(self._db.query(sql, args))

    def _rows_of(
        self, table: str, key: str, keys: Collection[object] | None, *, order_by: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the rows of these keys, or all, by key."""
        order = f"order by {order_by or key}"
        if keys is None:
            return self._query(f"select * from {table} {order}")  # noqa: S608  names are ours
        # One JSON argument: SQLite limits how many single ones a statement may have.
        chosen = f"select * from {table} where {key} in (select value from json_each(?)) {order}"  # noqa: S608  as above
        return self._query(chosen, (json.dumps(list(keys)),))


@contextmanager
def _say_which(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        cure = ": another process is writing to it for long, try again" if "locked" in str(error) else ""
        raise LabelingError(f"ledger {path}: {error}{cure}") from error
