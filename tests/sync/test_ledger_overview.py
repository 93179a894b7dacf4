"""What the overview asks of the ledger: days, conflicts, and when the feedback has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labels.report import Report
from labels.results import Label
from sync.ledger import Export, Ledger, Link, Model, Review
from sync.ledger.overview import Day
from sync.review.merge import Conflict

SAMPLES = ("a" * 24, "b" * 24, "c" * 24)
CAR = Label("1" * 24, "label", ("car",))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.record_links(Link(sample, number, "0" * 64, None, "queued") for number, sample in enumerate(SAMPLES))
        yield ledger


def make_review(number: int, day: str, state: str = "reviewed", conflicts: tuple[Conflict, ...] = ()) -> Review:
    return Review(SAMPLES[number], number, number, f"{day}T10:00:00.000000Z", None, None, state, (CAR,), conflicts)


def record_push(ledger: Ledger, tasks: int) -> str:
    """Record a push that ended now, and return the day."""
    run_id = ledger.record_run_start("push", {})
    ledger.record_run_end(run_id, "done", Report("push", moved=tasks, details={"tasks created": tasks}).to_dict())
    (run,) = ledger.runs(limit=1)
    assert run.ended_at is not None
    return run.ended_at[:10]


def test_reviews_and_skips_count_on_the_day_of_their_last_change(ledger: Ledger) -> None:
    ledger.record_reviews(
        [make_review(0, "2026-01-02"), make_review(1, "2026-01-02", "skipped"), make_review(2, "2026-01-04")]
    )

    assert ledger.days("2026-01-01") == [Day("2026-01-02", 0, 1, 1), Day("2026-01-04", 0, 1, 0)]
    assert ledger.days("2026-01-03") == [Day("2026-01-04", 0, 1, 0)]

    ledger.record_review(make_review(0, "2026-01-05"))
    assert ledger.days("2026-01-05") == [Day("2026-01-05", 0, 1, 0)]


def test_a_sample_that_several_people_answered_counts_once_on_the_day_of_the_last_answer(ledger: Ledger) -> None:
    first, second = make_review(0, "2026-01-02"), replace(make_review(0, "2026-01-04"), annotation_id=99)
    ledger.record_reviews([first, replace(second, state="skipped")])
    assert ledger.days("2026-01-01") == [Day("2026-01-04", 0, 0, 1)]

    ledger.record_review(second)
    assert ledger.days("2026-01-01") == [Day("2026-01-04", 0, 1, 0)]


def test_tasks_count_on_the_day_their_push_ended_and_a_failed_one_counts_nothing(ledger: Ledger) -> None:
    today = record_push(ledger, 3)
    record_push(ledger, 4)
    record_push(ledger, 0)
    ledger.record_run_end(ledger.record_run_start("push", {}), "failed", error="no answer")

    assert ledger.days(today) == [Day(today, 7, 0, 0)]


def test_conflicts_are_counted_by_sample(ledger: Ledger) -> None:
    two = tuple(Conflict(f"{number:024x}", None, CAR, None) for number in range(2))
    assert ledger.count_conflicts() == 0

    ledger.record_reviews([make_review(0, "2026-01-02", "conflict", two), make_review(1, "2026-01-02")])
    assert ledger.count_conflicts() == 1


def test_the_feedback_has_another_version_after_each_review(ledger: Ledger) -> None:
    versions = [ledger.feedback_version()]
    ledger.record_review(make_review(0, "2026-01-02"))
    versions.append(ledger.feedback_version())
    changed = make_review(0, "2026-01-03")
    ledger.record_review(changed)
    versions.append(ledger.feedback_version())
    record_push(ledger, 1)
    assert ledger.feedback_version() == versions[-1]
    ledger.record_run_end(ledger.record_run_start("relabel", {}), "done", Report("relabel").to_dict())
    versions.append(ledger.feedback_version())

    assert len(set(versions)) == 4


def test_exports_and_models_say_when_they_were_recorded(ledger: Ledger) -> None:
    ledger.record_export(Export("/x", "coco", "0" * 64, 1, 1))
    ledger.record_model(Model("v", "/m.pt", "0" * 64, "hub"))

    assert list(ledger.recorded_at("exports")) == ["/x"]
    assert ledger.recorded_at("models")["v"].startswith("20")


def test_an_empty_ledger_has_no_days(ledger: Ledger) -> None:
    assert ledger.days("2000-01-01") == []


def test_what_was_dismissed_stays_so_and_an_older_run_takes_nothing_back(ledger: Ledger) -> None:
    ledger.record_cursor("pull", "2026-01-01")
    ledger.record_dismissed("pull", 12)
    ledger.record_dismissed("push", 9)
    ledger.record_dismissed("pull", 7)
    assert ledger.dismissed() == {"pull": 12, "push": 9}
    assert ledger.cursor("pull") == "2026-01-01"
