"""The ledger's reviews: what people said of a sample, what both sides agreed on, and where they do not agree.

Three things are remembered of label sets. The *base* of a sample is what both sides last agreed on. A *reading* is what
one annotation said when it was last read, kept where a task has several. A *correction* is what a curator's change
looked like when it was sent to Label Studio.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from labels.results import Label
from sync.ledger import rows
from sync.ledger.file import LedgerFile
from sync.ledger.links import update_link
from sync.ledger.rows import Correction, FeedbackRow, Reading, Review
from sync.review.merge import Conflict


class ReviewLedger(LedgerFile):
    """The part of the ledger that knows what people said."""

    def record_review(self, review: Review) -> None:
        """Store one review: see ``record_reviews``."""
        self.record_reviews([review])

    def record_reviews(self, reviews: Iterable[Review]) -> None:
        """Store reviews: base, open conflicts, feedback and link state of each, all of them in one transaction.

        The link's problem is the review's. Feedback is replaced per annotation, conflicts per sample. Of several
        reviews of one sample the last one says what becomes of the link.

        Raises:
            LabelingError: a sample has no link; nothing was stored then.
        """
        with self._write() as db:
            _record_reviews(db, list(reviews))

    def record_present_reviews(
        self, sample_ids: Collection[str], annotation_ids: Mapping[int, Collection[int]]
    ) -> None:
        """Forget reviews of these samples, and their feedback, whose annotation is gone from its task.

        ``annotation_ids`` holds the annotations that are there, by task id; reviews of other tasks stay.
        """
        found = self._rows_of("reviews", "sample_id", sample_ids)
        gone = [
            (row["annotation_id"],)
            for row in found
            if row["annotation_id"] not in annotation_ids.get(row["task_id"], (row["annotation_id"],))
        ]
        if gone:
            with self._write() as db:
                db.conn.executemany("delete from feedback where annotation_id = ?", gone)
                db.conn.executemany("delete from reviews where annotation_id = ?", gone)

    def record_bases(self, bases: Mapping[str, Iterable[Label]]) -> None:
        """Store label sets both sides agree on by sample id, in place of older ones: those a task was sent with."""
        records = [{"sample_id": key, "labels": rows.labels_to_json(labels)} for key, labels in bases.items()]
        with self._write() as db:
            db.table("bases").upsert_all(records, pk="sample_id")

    def bases(self, sample_ids: Collection[str]) -> dict[str, tuple[Label, ...]]:
        """Return the label sets last agreed; no key: never agreed, an empty set: agreed that nothing is there."""
        found = self._rows_of("bases", "sample_id", sample_ids)
        return {row["sample_id"]: rows.labels_from_json(row["labels"]) for row in found}

    def base_records(self, sample_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
        """Return the same as the ledger keeps them, records of labels, for those who look at many and at little."""
        found = self._rows_of("bases", "sample_id", sample_ids)
        return {row["sample_id"]: json.loads(row["labels"]) for row in found}

    def conflicts(self, sample_ids: Collection[str] | None = None) -> dict[str, tuple[Conflict, ...]]:
        """Return the open conflicts by sample id: of these samples, or of all."""
        conflicts: dict[str, tuple[Conflict, ...]] = {}
        for row in self._rows_of("conflicts", "sample_id", sample_ids, order_by="sample_id, position"):
            sample_id = row["sample_id"]
            conflicts[sample_id] = (*conflicts.get(sample_id, ()), rows.conflict_from_row(row))
        return conflicts

    def conflict_sample_ids(self, after: str = "", *, limit: int = -1) -> list[str]:
        """Return the samples with open conflicts, by id from after one on."""
        sql = "select distinct sample_id from conflicts where sample_id > ? order by sample_id limit ?"
        return [row["sample_id"] for row in self._query(sql, (after, limit))]

    def record_decision(
        self, sample_id: str, state: str, base: Iterable[Label], conflicts: Iterable[Conflict], *, is_due: bool
    ) -> None:
        """Store what a decision made of a sample's conflicts, without a new word of people.

        Raises:
            LabelingError: the sample has no link; nothing was stored then.
        """
        with self._write() as db:
            update_link(db, sample_id, {"state": state, "is_mirrored": 0, "correction_due": int(is_due)})
            db.table("bases").upsert({"sample_id": sample_id, "labels": rows.labels_to_json(base)}, pk="sample_id")
            db.execute("delete from conflicts where sample_id = ?", (sample_id,))
            db.table("conflicts").insert_all(rows.conflicts_to_rows(sample_id, conflicts))

    def reviews(self, sample_id: str | None = None) -> list[dict[str, Any]]:
        """Return what is kept of the reviews of a sample, or of all: plain columns, one per annotation."""
        ids = None if sample_id is None else [sample_id]
        return self._rows_of("reviews", "sample_id", ids, order_by="annotation_id")

    def reviewed_versions(self, sample_ids: Collection[str]) -> dict[str, set[str | None]]:
        """Return by sample id what the reviews of these samples say was seen; a sample without reviews is left out."""
        found: dict[str, set[str | None]] = {}
        for row in self._rows_of("reviews", "sample_id", sample_ids):
            found.setdefault(row["sample_id"], set()).add(row["model_version"])
        return found

    def feedback(self, sample_id: str | None = None) -> list[FeedbackRow]:
        """Return the verdicts of a sample, or of all, by annotation and in their order."""
        where, args = ("", ()) if sample_id is None else ("where sample_id = ?", (sample_id,))
        found = self._query(
            f"select * from feedback join reviews using (annotation_id) {where} "  # noqa: S608  values are bound
            "order by annotation_id, position",
            args,
        )
        return [rows.feedback_from_row(row) for row in found]

    def readings(self, sample_ids: Collection[str]) -> dict[int, Reading]:
        """Return what annotations of these samples said when they were last read, by annotation id."""
        found = self._rows_of("readings", "sample_id", sample_ids, order_by="annotation_id")
        return {row["annotation_id"]: rows.reading_from_row(row) for row in found}

    def record_corrections(self, corrections: Iterable[Correction]) -> None:
        """Store corrections, each in place of what was known under its mark."""
        records = [rows.to_row(one) | {"labels": rows.labels_to_json(one.labels)} for one in corrections]
        with self._write() as db:
            db.table("corrections").upsert_all(records, pk="mark")

    def record_dropped_corrections(self, marks: Iterable[int]) -> None:
        """Forget corrections that never arrived in Label Studio."""
        with self._write() as db:
            db.conn.executemany("delete from corrections where mark = ?", [(mark,) for mark in marks])

    def corrections(self, sample_ids: Collection[str] | None = None) -> dict[str, tuple[Correction, ...]]:
        """Return the corrections that nobody has changed, of these samples or of all, in the order they were sent."""
        found: dict[str, tuple[Correction, ...]] = {}
        order = "sample_id, annotation_id is null, annotation_id"
        for row in self._rows_of("corrections", "sample_id", sample_ids, order_by=order):
            found[row["sample_id"]] = (*found.get(row["sample_id"], ()), rows.correction_from_row(row))
        return found


def _record_readings(db: Database, readings: Iterable[Reading]) -> None:
    records = [rows.to_row(one) | {"labels": rows.labels_to_json(one.labels)} for one in readings]
    db.table("readings").upsert_all(records, pk="annotation_id")


def _record_reviews(db: Database, reviews: Sequence[Review]) -> None:
    for review in reviews:
        changes = {
            "state": review.state,
            "annotation_id": review.annotation_id,
            "annotation_updated_at": review.annotation_updated_at,
            "task_updated_at": review.task_updated_at,
            "answers": review.answers,
            "problem": review.problem,
            "is_mirrored": 0,
        }
        due = {} if review.correction_due is None else {"correction_due": int(review.correction_due)}
        update_link(db, review.sample_id, changes | due)
    bases = [
        {"sample_id": review.sample_id, "labels": rows.labels_to_json(review.base)}
        for review in reviews
        if review.base is not None
    ]
    db.table("bases").upsert_all(bases, pk="sample_id")
    # Of several reviews of one sample, or readings of one annotation, the last one counts.
    compared = {review.sample_id: review for review in reviews if review.conflicts is not None}.values()
    last = {review.annotation_id: review for review in reviews}.values()
    db.conn.executemany("delete from conflicts where sample_id = ?", [(review.sample_id,) for review in compared])
    db.table("conflicts").insert_all(
        row for review in compared for row in rows.conflicts_to_rows(review.sample_id, review.conflicts or ())
    )
    db.table("reviews").upsert_all(map(rows.review_to_row, last), pk="annotation_id")
    db.conn.executemany("delete from feedback where annotation_id = ?", [(one.annotation_id,) for one in last])
    db.table("feedback").insert_all(row for review in last for row in rows.verdicts_to_rows(review))
    _record_readings(db, (reading for review in reviews for reading in review.readings))
    taken_over = [(mark,) for review in reviews for mark in review.taken_over]
    db.conn.executemany("delete from corrections where mark = ?", taken_over)
