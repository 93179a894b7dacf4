"""What the ledger is asked while nothing changed: it answers from small indexes, and remembers what is left to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlite_utils import Database

from labels.geometry import Box
from labels.results import Label
from sync.ledger import Correction, Ledger, Link, Reading, Review
from sync.ledger.migrations import apply_migrations
from sync.review.merge import Conflict

CAR = Label("1", "label", ("car",), Box(1.5, 2, 30, 40))
BUS = replace(CAR, classes=("bus",))
LINKS = [Link(f"s{n}", 40 + n, "ab" * 32, "yolo-1" if n < 3 else None, "queued") for n in range(1, 6)]
REVIEW = Review("s1", 41, 900, "2026-05-04T10:00:00.000001Z", "ann@example.com", 1.0, "reviewed", (CAR,), ())
CORRECTION = Correction(7, "s1", 41, 900, (BUS,))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with five links."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.record_links(LINKS)
        yield ledger


def test_a_link_is_to_be_mirrored_until_it_was_and_again_when_its_state_changes(ledger: Ledger) -> None:
    first = ledger.unmirrored(2)
    assert list(first) == ["s1", "s2"]
    ledger.record_mirrored(first.values())
    assert list(ledger.unmirrored(10)) == ["s3", "s4", "s5"]
    ledger.record_review(REVIEW)
    assert ledger.unmirrored(1)["s1"].state == "reviewed"


def test_a_link_that_changed_while_it_was_mirrored_stays_to_be_done(ledger: Ledger) -> None:
    stale = ledger.unmirrored(10)
    ledger.record_states({"s1": "skipped"})
    ledger.record_mirrored(stale.values())
    assert list(ledger.unmirrored(10)) == ["s1"]


def test_tasks_that_failed_or_wait_for_a_decision_are_unfinished_unless_they_are_gone(ledger: Ledger) -> None:
    ledger.record_problem("s2", "cannot be read")
    ledger.record_states({"s3": "conflict", "s4": "conflict"})
    ledger.record_gone([44])
    assert ledger.unfinished_task_ids() == [42, 43]
    assert ledger.counts() == {
        "queued": 3,
        "reviewed": 0,
        "skipped": 0,
        "conflict": 2,
        "failed": 1,
        "gone": 1,
        "gone_queued": 0,
    }
    assert ledger.link_count() == 4
    ledger.record_gone([44], is_gone=False)
    assert ledger.unfinished_task_ids() == [42, 43, 44]


def test_links_are_read_in_ranges_of_task_ids(ledger: Ledger) -> None:
    assert list(ledger.links_between(41, 43)) == [42, 43]
    assert list(ledger.links_between(43, None, limit=1)) == [44]
    assert ledger.max_task_id() == 45


def test_model_versions_are_counted_the_most_frequent_first(ledger: Ledger) -> None:
    ledger.record_model_versions({"s3": "yolo-2", "s4": "yolo-2", "s5": "yolo-2", "unknown": "yolo-2"})
    assert list(ledger.model_versions().items()) == [("yolo-2", 3), ("yolo-1", 2)]
    assert ledger.ids_behind("yolo-2") == ["s1", "s2"]


def test_a_curators_change_is_due_until_it_was_sent(ledger: Ledger) -> None:
    ledger.record_review(replace(REVIEW, correction_due=True))
    ledger.record_due({"s3": True, "s4": True})
    assert ledger.due_sample_ids() == ["s1", "s3", "s4"]
    assert ledger.due_sample_ids("s1", limit=1) == ["s3"]
    ledger.record_due({"s3": False})
    ledger.record_review(REVIEW)
    assert ledger.due_sample_ids() == ["s1", "s4"]


def test_a_correction_is_known_until_a_person_takes_it_over(ledger: Ledger) -> None:
    later = Correction(3, "s1", 41, 900, (CAR,), 902, "2026-05-04T11:00:00.000000Z")
    ledger.record_corrections([CORRECTION])
    ledger.record_corrections([later])
    sent = replace(CORRECTION, annotation_id=901, annotation_updated_at="2026-05-04T10:30:00.000000Z")
    ledger.record_corrections([sent])
    assert ledger.corrections(["s1"]) == {"s1": (sent, later)}
    ledger.record_review(replace(REVIEW, taken_over=(7,), readings=(Reading(901, "s1", (BUS,)),)))
    assert ledger.corrections() == {"s1": (later,)}
    assert ledger.readings(["s1"]) == {901: Reading(901, "s1", (BUS,))}
    ledger.record_dropped_corrections([3])
    assert ledger.corrections() == {}


def test_a_conflict_keeps_the_times_of_its_sides_and_ends_when_one_side_is_silent(ledger: Ledger) -> None:
    conflict = Conflict("1", None, CAR, BUS, "2026-05-04T09:00:00.000000Z", "2026-05-04T10:00:00.000001Z")
    ledger.record_review(replace(REVIEW, state="conflict", conflicts=(conflict,)))
    (found,) = ledger.conflicts(["s1", "s2"])["s1"]
    assert (found, found.ours_at, found.theirs_at) == (conflict, conflict.ours_at, conflict.theirs_at)
    assert (ledger.conflict_sample_ids(), ledger.conflict_sample_ids("s1")) == (["s1"], [])
    ledger.record_links([LINKS[0]])
    assert ledger.conflicts() == {}


def test_a_decision_is_kept_with_what_is_still_open(ledger: Ledger) -> None:
    conflicts = (Conflict("1", None, CAR, BUS), Conflict("2", None, CAR, None))
    ledger.record_review(replace(REVIEW, state="conflict", conflicts=conflicts))
    ledger.record_decision("s1", "conflict", (BUS,), conflicts[1:], is_due=False)
    assert (ledger.conflicts(), ledger.bases(["s1"])) == ({"s1": conflicts[1:]}, {"s1": (BUS,)})
    ledger.record_decision("s1", "reviewed", (BUS,), (), is_due=True)
    assert (ledger.conflicts(), ledger.links()["s1"].state) == ({}, "reviewed")
    assert ledger.due_sample_ids() == ["s1"]


@pytest.mark.parametrize(
    ("sql", "index"),
    [
        ("select * from links where is_mirrored = 0 order by sample_id limit 10", "links_not_mirrored"),
        ("select sample_id from links where correction_due = 1 and sample_id > '' order by sample_id", "links_due"),
        ("select count(*) from links where is_gone = 1", "links_gone"),
        (
            "select task_id from links where (problem is not null or state = 'conflict') and is_gone = 0 "
            "order by task_id",
            "links_unfinished",
        ),
        ("select state, count(*) n from links group by state", "idx_links_state"),
        ("select * from links where task_id > 3 and task_id <= 9 order by task_id limit -1", "idx_links_task_id"),
        ("select coalesce(max(task_id), 0) n from links", "idx_links_task_id"),
    ],
)
def test_what_every_job_asks_is_answered_from_an_index(ledger: Ledger, sql: str, index: str) -> None:
    plan = " ".join(row["detail"] for row in ledger._query(f"explain query plan {sql}"))
    assert index in plan


def test_a_ledger_of_before_has_everything_to_do(tmp_path: Path) -> None:
    database = Database(tmp_path / "old.db")
    apply_migrations(database, stop_before="m004_incremental")
    old = {"sample_id": "s1", "task_id": 41, "image_sha256": "ab" * 32, "state": "conflict", "annotation_id": 900}
    database.table("links").insert(old)
    database.table("conflicts").insert({"sample_id": "s1", "position": 0, "label_id": "1"})
    database.close()
    with Ledger.open(tmp_path / "old.db") as ledger:
        link = Link("s1", 41, "ab" * 32, None, "conflict", annotation_id=900)
        assert ledger.unmirrored(10) == {"s1": link}
        assert ledger.unfinished_task_ids() == [41]
        assert ledger.conflicts() == {"s1": (Conflict("1", None, None, None),)}
