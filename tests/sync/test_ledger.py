"""The ledger: what is recorded comes back, once, whole or not at all, in this process and beside others."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlite_utils import Database

from labels.errors import LabelingError
from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.results import Label
from sync.ledger import Export, FeedbackRow, Ledger, Link, Model, Pushed, Review
from sync.ledger.migrations import MIGRATION_NAMES, apply_migrations, migrations
from sync.review.feedback import Verdict
from sync.review.merge import Conflict

ROOT = Path(__file__).resolve().parents[2]
LINK = Link("s1", 41, "ab" * 32, "yolo11n-c130b90b", "queued")
OTHER = Link("s2", 42, "cd" * 32, None, "queued")
CAR = Label("1", "label", ("car",), Box(1.5, 2, 30, 40, 12.5), confidence=0.9)
DOG = Label("2", "outline", ("dog",), Polygon(((0, 0), (5, 0), (0.1, 7))))
NOSE = Label("3", "points", ("nose",), Keypoint(3, 4, 1))
PAINT = Label("4", "brush", ("car",), Mask(np.eye(4, 6, dtype=bool)))
STARS = Label("5", "stars", rating=4)
KEEP = Label("6", "quality", ("keep", "ålesund"))
EVERY_KIND = (CAR, DOG, NOSE, PAINT, STARS, KEEP)
REVIEW = Review(
    sample_id="s1",
    task_id=41,
    annotation_id=900,
    annotation_updated_at="2026-05-04T10:00:00.000001Z",
    reviewer="ann@example.com",
    lead_time_s=12.5,
    state="conflict",
    base=(CAR, DOG),
    conflicts=(Conflict("1", CAR, None, DOG), Conflict("2", None, DOG, CAR)),
    verdicts=(
        Verdict("1", "label", "moved", "car", "car", 0.75, 0.9),
        Verdict("n", "label", "added", None, "dog", None, None),
    ),
    model_version="yolo11n-c130b90b",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of the test lies."""
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """A new ledger with two links."""
    with Ledger.open(path) as ledger:
        ledger.record_links([LINK, OTHER])
        yield ledger


def test_links_come_back_by_sample_and_by_task(ledger: Ledger) -> None:
    assert ledger.links() == {"s1": LINK, "s2": OTHER}
    assert ledger.links_by_task() == {41: LINK, 42: OTHER}
    assert ledger.links(["s2", "unknown"]) == {"s2": OTHER}
    assert ledger.links_by_task([41]) == {41: LINK}
    assert ledger.links([]) == {}


def test_a_link_takes_the_place_of_the_samples_old_one(ledger: Ledger) -> None:
    ledger.record_problem("s1", "time-out")
    moved = replace(LINK, task_id=50)
    ledger.record_links([moved])
    assert ledger.links() == {"s1": moved, "s2": OTHER}


def test_a_task_stands_for_one_sample(ledger: Ledger) -> None:
    taken = replace(OTHER, task_id=41)
    ledger.record_links([taken])
    assert ledger.links() == {"s2": taken}


def test_two_samples_can_swap_their_tasks(ledger: Ledger) -> None:
    ledger.record_links([replace(LINK, task_id=42), replace(OTHER, task_id=41)])
    assert {link.sample_id: link.task_id for link in ledger.links().values()} == {"s1": 42, "s2": 41}


def test_one_task_for_two_samples_in_one_call_is_refused_and_nothing_is_stored(ledger: Ledger) -> None:
    with pytest.raises(LabelingError, match="UNIQUE"):
        ledger.record_links([replace(LINK, task_id=7), replace(OTHER, task_id=7)])
    assert ledger.links() == {"s1": LINK, "s2": OTHER}


def test_states_and_problems_are_kept_on_the_link(ledger: Ledger) -> None:
    ledger.record_states({"s1": "reviewed", "s2": "skipped"})
    ledger.record_problem("s2", "region 7: label 'Forklift' is not in label_config.xml")
    assert ledger.links()["s1"] == replace(LINK, state="reviewed")
    assert ledger.links()["s2"].problem == "region 7: label 'Forklift' is not in label_config.xml"
    assert ledger.counts() == {
        "queued": 0,
        "reviewed": 1,
        "skipped": 1,
        "conflict": 0,
        "failed": 1,
        "gone": 0,
        "gone_queued": 0,
    }
    ledger.record_problem("s2", None)
    assert ledger.counts()["failed"] == 0


def test_a_state_of_an_unknown_sample_is_an_error_and_stores_nothing(ledger: Ledger) -> None:
    with pytest.raises(LabelingError, match="sample nobody: no task is known"):
        ledger.record_states({"s1": "reviewed", "nobody": "reviewed"})
    assert ledger.links()["s1"].state == "queued"


def test_a_pushed_prediction_comes_back_whole_and_never_pushed_is_not_pushed_empty(ledger: Ledger) -> None:
    ledger.record_pushed([Pushed("s1", "v1", 0.25, EVERY_KIND), Pushed("s2", "v1", None, ())])
    assert ledger.pushed("s1", "v1") == EVERY_KIND
    assert ledger.pushed("s2", "v1") == ()
    assert ledger.pushed("s1", "v2") is None
    ledger.record_pushed([Pushed("s1", "v1", 0.25, (CAR,))])
    assert ledger.pushed("s1", "v1") == (CAR,)


def test_a_review_is_recorded_with_base_conflicts_feedback_and_link(ledger: Ledger) -> None:
    ledger.record_problem("s1", "time-out")
    ledger.record_review(REVIEW)
    assert ledger.bases(["s1", "s2"]) == {"s1": (CAR, DOG)}
    assert ledger.conflicts() == {"s1": (Conflict("1", CAR, None, DOG), Conflict("2", None, DOG, CAR))}
    shared = ("s1", 41, 900, "2026-05-04T10:00:00.000001Z", "ann@example.com", 12.5, "yolo11n-c130b90b")
    assert ledger.feedback() == [FeedbackRow(*shared, verdict) for verdict in REVIEW.verdicts]
    assert ledger.feedback("s2") == []
    assert ledger.links()["s1"] == replace(
        LINK, state="conflict", annotation_id=900, annotation_updated_at="2026-05-04T10:00:00.000001Z"
    )


def test_recording_a_review_twice_leaves_it_once(ledger: Ledger) -> None:
    ledger.record_review(REVIEW)
    before = ledger.snapshot()
    ledger.record_reviews([REVIEW, REVIEW])
    assert ledger.snapshot() == before


def test_a_later_review_replaces_conflicts_and_its_own_feedback_and_keeps_that_of_others(ledger: Ledger) -> None:
    second = replace(REVIEW, annotation_id=901, verdicts=REVIEW.verdicts[:1])
    ledger.record_reviews([REVIEW, second, replace(REVIEW, conflicts=(), verdicts=(), base=())])
    assert ledger.conflicts() == {}
    assert ledger.bases(["s1"]) == {"s1": ()}
    assert [row.annotation_id for row in ledger.feedback("s1")] == [901]
    assert [row["annotation_id"] for row in ledger.reviews("s1")] == [900, 901]


def test_an_empty_review_keeps_its_lead_time(ledger: Ledger) -> None:
    ledger.record_review(replace(REVIEW, base=(), conflicts=(), verdicts=(), state="reviewed", model_version=None))
    assert ledger.reviews() == [
        {
            "annotation_id": 900,
            "sample_id": "s1",
            "task_id": 41,
            "annotation_updated_at": "2026-05-04T10:00:00.000001Z",
            "reviewer": "ann@example.com",
            "lead_time_s": 12.5,
            "state": "reviewed",
            "model_version": None,
        }
    ]


def test_a_skipped_task_leaves_base_and_conflicts_as_they_are(ledger: Ledger) -> None:
    ledger.record_review(REVIEW)
    ledger.record_review(replace(REVIEW, annotation_id=901, state="skipped", base=None, conflicts=None, verdicts=()))
    assert ledger.bases(["s1"]) == {"s1": (CAR, DOG)}
    assert len(ledger.conflicts()["s1"]) == 2
    assert ledger.links()["s1"].state == "skipped"


def test_reviews_are_recorded_all_or_none(ledger: Ledger) -> None:
    before = ledger.snapshot()
    with pytest.raises(LabelingError, match="sample nobody"):
        ledger.record_reviews([REVIEW, replace(REVIEW, sample_id="nobody", annotation_id=901)])
    assert ledger.snapshot() == before


def test_a_cursor_that_was_never_set_is_none(ledger: Ledger) -> None:
    assert ledger.cursor("pull") is None
    ledger.record_cursor("pull", "2026-05-04T10:00:00Z")
    ledger.record_cursor("pull", "2026-05-05T10:00:00Z")
    assert ledger.cursor("pull") == "2026-05-05T10:00:00Z"


def test_runs_come_newest_first_with_their_reports(ledger: Ledger) -> None:
    first = ledger.record_run_start("push", {"sample_ids": ["s1"]})
    ledger.record_run_end(first, "done", {"moved": 1})
    ledger.record_run_start("pull", {})
    pull, push = ledger.runs(5)
    assert (pull.job, pull.state, pull.report, pull.ended_at) == ("pull", "running", None, None)
    assert (push.id, push.job, push.params, push.state, push.report) == (
        first,
        "push",
        {"sample_ids": ["s1"]},
        "done",
        {"moved": 1},
    )
    assert [run.job for run in ledger.runs(1)] == ["pull"]


def test_a_run_of_a_killed_process_is_interrupted(ledger: Ledger, path: Path) -> None:
    script = "import sys, time; from pathlib import Path; from sync.ledger import Ledger\n"
    script += "Ledger.open(Path(sys.argv[1])).record_run_start('pull', {}); print('on', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    process.stdout.readline()
    assert ledger.runs()[0].state == "running"
    process.kill()
    process.wait()
    process.stdout.close()
    assert ledger.runs()[0].state == "interrupted"


def test_a_process_number_given_away_again_is_not_taken_for_the_run(ledger: Ledger, path: Path) -> None:
    run_id = ledger.record_run_start("pull", {})
    database = Database(path)
    database.table("runs").update(run_id, {"process_started_at": time.time() - 90_000})
    database.close()
    assert ledger.runs()[0].state == "interrupted"


def test_models_and_exports_are_kept_once(ledger: Ledger) -> None:
    model = Model("yolo11n-c130b90b", "/m/yolo11n.onnx", "c1" * 32, "package", {"map": 0.43})
    export = Export("/x/coco", "coco", "ee" * 32, 12, 0, {"notes": ["3 boxes clipped"]})
    for _ in range(2):
        ledger.record_model(model)
        ledger.record_export(replace(export, images=1))
        ledger.record_export(export)
    assert ledger.models() == [model]
    assert ledger.exports() == [export]


def test_a_snapshot_sees_labels_and_no_runs(ledger: Ledger) -> None:
    before = ledger.snapshot()
    ledger.record_run_start("push", {})
    assert ledger.snapshot() == before
    ledger.record_review(REVIEW)
    changed = {table for table, rows in ledger.snapshot().items() if rows != before[table]}
    assert changed == {"links", "bases", "conflicts", "reviews", "feedback"}


def test_what_was_recorded_is_there_after_reopening(ledger: Ledger, path: Path) -> None:
    ledger.record_review(REVIEW)
    before = ledger.snapshot()
    ledger.close()
    with Ledger.open(path) as reopened:
        assert reopened.snapshot() == before


def test_a_ledger_of_the_first_version_is_brought_up_to_date_with_its_data(path: Path) -> None:
    database = Database(path)
    apply_migrations(database, stop_before=MIGRATION_NAMES[1])
    assert not database.table("runs").exists()
    database.table("links").insert(
        {"sample_id": "s1", "task_id": 41, "image_sha256": "ab" * 32, "model_version": LINK.model_version}
        | {"state": "queued"}
    )
    database.close()
    with Ledger.open(path) as ledger:
        assert ledger.links() == {"s1": LINK}
        assert ledger.runs() == []


def test_every_migration_has_its_name_in_the_list() -> None:
    assert tuple(migration.name for migration in migrations.pending(Database(memory=True))) == MIGRATION_NAMES


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(ledger: Ledger, path: Path) -> None:
    ledger.close()
    database = Database(path)
    database.table("_sqlite_migrations").insert({"migration_set": "labelloop", "name": "m999_new", "applied_at": ""})
    database.close()
    with pytest.raises(LabelingError, match=r"newer labelloop \(m999_new is not known here.*upgrade labelloop"):
        Ledger.open(path)


def test_a_file_that_is_no_ledger_is_one_clear_error(path: Path) -> None:
    path.write_text("not a database, but long enough to be read as one" * 20)
    with pytest.raises(LabelingError, match=r"ledger .*ledger\.db: file is not a database"):
        Ledger.open(path)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LabelingError, match="unable to open database file"):
        Ledger.open(tmp_path / "nowhere" / "ledger.db")


def test_a_ledger_locked_for_too_long_is_one_clear_error(ledger: Ledger, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Ledger.open(path, busy_timeout_s=0.05) as waiting:
        assert waiting.links()["s1"] == LINK
        with pytest.raises(LabelingError, match="database is locked: another process"):
            waiting.record_cursor("pull", "x")
    other.close()


def test_an_open_ledger_belongs_to_its_thread(ledger: Ledger, path: Path) -> None:
    errors: list[LabelingError] = []

    def use() -> None:
        try:
            ledger.links()
        except LabelingError as error:
            errors.append(error)
        with Ledger.open(path) as own:
            own.record_cursor("thread", "was here")

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert ledger.cursor("thread") == "was here"


WRITER = """
import sys
from pathlib import Path
from sync.ledger import Ledger, Link
name = sys.argv[2]
for n in range(20):
    with Ledger.open(Path(sys.argv[1])) as ledger:
        ledger.links()
        ledger.record_links([Link(f"{name}-{n}", int(name) * 1000 + n, "00", None, "queued")])
"""


def test_several_processes_create_and_write_one_ledger_at_once(path: Path) -> None:
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(n)], env=environment, cwd=ROOT)
        for n in range(1, 5)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0, 0]
    with Ledger.open(path) as ledger:
        assert len(ledger.links()) == 80


def test_a_process_killed_inside_a_transaction_leaves_nothing_of_it(ledger: Ledger, path: Path) -> None:
    before = ledger.snapshot()
    script = "import os, sys; from pathlib import Path; from sync.ledger import Ledger\n"
    script += "ledger = Ledger.open(Path(sys.argv[1]))\n"
    script += "with ledger._write() as db:\n"
    script += (
        "    db.table('links').delete_where('1 = 1'); db.table('bases').insert({'sample_id': 's', 'labels': '[]'})\n"
    )
    script += "    os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=ROOT)
    assert killed.returncode == -9
    assert ledger.snapshot() == before
