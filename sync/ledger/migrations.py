"""The ledger's schema as numbered migrations. A migration that was ever released is never edited: add a new one."""

from __future__ import annotations

from typing import Final

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from labels.errors import LabelingError
from sync.ledger.m007_versions import m007_versions
from sync.ledger.m008_models import m008_models
from sync.ledger.m009_replaced import m009_replaced
from sync.ledger.m010_ingested import m010_ingested

migrations = Migrations("labelloop")


@migrations()
def m001_reviews(db: Database) -> None:
    """Tasks, what was sent to them, what came back, and what was agreed."""
    db.table("links").create(
        {
            "sample_id": str,
            "task_id": int,
            "image_sha256": str,
            "model_version": str,
            "state": str,
            "problem": str,
            "annotation_id": int,
            "annotation_updated_at": str,
        },
        pk="sample_id",
        not_null=("sample_id", "task_id", "image_sha256", "state"),
        strict=True,
    )
    db.table("links").create_index(["task_id"], unique=True)
    db.table("links").create_index(["state"])
    db.table("pushed_predictions").create(
        {"sample_id": str, "model_version": str, "score": float, "labels": str},
        pk=("sample_id", "model_version"),
        not_null=("sample_id", "model_version", "labels"),
        strict=True,
    )
    db.table("bases").create(
        {"sample_id": str, "labels": str}, pk="sample_id", not_null=("sample_id", "labels"), strict=True
    )
    db.table("conflicts").create(
        {"sample_id": str, "position": int, "label_id": str, "base": str, "ours": str, "theirs": str},
        pk=("sample_id", "position"),
        not_null=("sample_id", "position", "label_id"),
        strict=True,
    )
    db.table("cursors").create({"name": str, "value": str}, pk="name", not_null=("name", "value"), strict=True)
    _create_feedback(db)


def _create_feedback(db: Database) -> None:
    # The review is a row of its own: an empty annotation has a lead time too, and no verdict to carry it.
    db.table("reviews").create(
        {
            "annotation_id": int,
            "sample_id": str,
            "task_id": int,
            "annotation_updated_at": str,
            "reviewer": str,
            "lead_time_s": float,
            "state": str,
            "model_version": str,
        },
        pk="annotation_id",
        not_null=("annotation_id", "sample_id", "task_id", "annotation_updated_at", "state"),
        strict=True,
    )
    db.table("reviews").create_index(["sample_id"])
    db.table("feedback").create(
        {
            "annotation_id": int,
            "position": int,
            "label_id": str,
            "control": str,
            "kind": str,
            "class_before": str,
            "class_after": str,
            "iou": float,
            "confidence": float,
        },
        pk=("annotation_id", "position"),
        foreign_keys=[("annotation_id", "reviews", "annotation_id")],
        not_null=("annotation_id", "position", "label_id", "control", "kind"),
        strict=True,
    )


@migrations()
def m002_runs_models_exports(db: Database) -> None:
    """What ran, with which weights, and what was exported."""
    db.table("runs").create(
        {
            "id": int,
            "job": str,
            "params": str,
            "state": str,
            "started_at": str,
            "ended_at": str,
            "report": str,
            "host": str,
            "pid": int,
            "process_started_at": float,
        },
        pk="id",
        not_null=("job", "params", "state", "started_at", "host", "pid", "process_started_at"),
        strict=True,
    )
    db.table("models").create(
        {"model_version": str, "path": str, "sha256": str, "source": str, "details": str, "recorded_at": str},
        pk="model_version",
        not_null=("model_version", "path", "sha256", "source", "details", "recorded_at"),
        strict=True,
    )
    db.table("exports").create(
        {
            "path": str,
            "format": str,
            "content_sha256": str,
            "images": int,
            "labels": int,
            "details": str,
            "recorded_at": str,
        },
        pk="path",
        not_null=("path", "format", "content_sha256", "images", "labels", "details", "recorded_at"),
        strict=True,
    )


@migrations()
def m003_task_times(db: Database) -> None:
    """When each task last changed as far as it was read: an unchanged one need not be read again."""
    db.table("links").add_column("task_updated_at", str)


@migrations()
def m004_incremental(db: Database) -> None:
    """What is left to do for which link, so that no job has to look at those that are done; corrections of curators."""
    links = db.table("links")
    links.add_column("answers", str)
    for name in ("is_gone", "is_mirrored", "correction_due"):
        links.add_column(name, int, not_null_default=0)
    links.create_index(["model_version"])
    # Partial indexes: each holds only the few rows that are asked for. A query uses one that names its condition.
    for name, columns, condition in (
        ("links_not_mirrored", "sample_id", "is_mirrored = 0"),
        ("links_due", "sample_id", "correction_due = 1"),
        ("links_gone", "sample_id", "is_gone = 1"),
        ("links_unfinished", "task_id", "problem is not null or state = 'conflict'"),
    ):
        db.execute(f"create index {name} on links ({columns}) where {condition}")
    for name in ("ours_at", "theirs_at"):
        db.table("conflicts").add_column(name, str)
    db.table("corrections").create(
        {
            "mark": int,
            "sample_id": str,
            "task_id": int,
            "parent_id": int,
            "labels": str,
            "annotation_id": int,
            "annotation_updated_at": str,
        },
        pk="mark",
        not_null=("mark", "sample_id", "task_id", "parent_id", "labels"),
        strict=True,
    )
    db.table("corrections").create_index(["sample_id"])
    db.table("readings").create(
        {"annotation_id": int, "sample_id": str, "labels": str},
        pk="annotation_id",
        not_null=("annotation_id", "sample_id", "labels"),
        strict=True,
    )
    db.table("readings").create_index(["sample_id"])


@migrations()
def m005_run_progress(db: Database) -> None:
    """Runs that wait, how far each one is, who asked for it, and whether it is still wanted."""
    # A run that waits has no process yet.
    unset = ("started_at", "host", "pid", "process_started_at")
    db.table("runs").transform(not_null=dict.fromkeys(unset, False))
    for name, kind in {"progress": float, "retry_of": int, "error": str, "started_by": str, "full_params": str}.items():
        db.table("runs").add_column(name, kind)
    db.table("runs").add_column("message", str, not_null_default="")
    db.table("runs").add_column("cancel_requested", int, not_null_default=0)
    db.table("runs").add_column("attempt", int, not_null_default=1)
    db.table("runs").add_column("created_at", str, not_null_default="")
    db.table("runs").create_index(["state"])
    # Of weights that a server reports, only the server knows the file.
    db.table("models").transform(not_null=dict.fromkeys(("path", "sha256"), False))
    db.execute("update runs set created_at = started_at")
    # An error was kept in place of the report.
    db.execute(
        "update runs set error = json_extract(report, '$.error'), report = null "
        "where json_extract(report, '$.error') is not null"
    )


@migrations()
def m006_rewritten(db: Database) -> None:
    """Since when annotations that labelloop rewrote really say what they say."""
    db.table("rewritten").create(
        {"annotation_id": int, "updated_at": str, "saved_at": str, "saved_by": str, "writes": str},
        pk="annotation_id",
        not_null=("annotation_id", "updated_at", "saved_at", "saved_by"),
        strict=True,
    )


migrations()(m007_versions)
migrations()(m008_models)
migrations()(m009_replaced)
migrations()(m010_ingested)


MIGRATION_NAMES: Final = (
    m001_reviews.__name__,
    m002_runs_models_exports.__name__,
    m003_task_times.__name__,
    m004_incremental.__name__,
    m005_run_progress.__name__,
    m006_rewritten.__name__,
    m007_versions.__name__,
    m008_models.__name__,
    m009_replaced.__name__,
    m010_ingested.__name__,
)


def apply_migrations(db: Database, *, stop_before: str | None = None) -> None:
    """Bring the schema up to date (or up to a migration), all or nothing; a second call changes nothing.

    Raises:
        LabelingError: the ledger was written by a newer labelloop.
    """
    _refuse_newer(db)
    if not migrations.pending(db):
        return
    # Taken before pending is read again: two processes that open a new ledger at once must not both create it.
    db.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(db, stop_before=stop_before)
    except BaseException:
        db.rollback()
        raise
    db.commit()


def _refuse_newer(db: Database) -> None:
    unknown = [applied.name for applied in migrations.applied(db) if applied.name not in MIGRATION_NAMES]
    if unknown:
        raise LabelingError(
            f"the ledger was written by a newer labelloop ({unknown[-1]} is not known here, "
            f"{MIGRATION_NAMES[-1]} is the newest): upgrade labelloop"
        )
