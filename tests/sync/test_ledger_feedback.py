"""The ledger when a class gets another name: in every table, in one transaction, the second time nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from labels.geometry import Box
from labels.results import Label
from sync.ledger import Correction, Ledger, Link, Pushed, Reading, Review
from sync.review.feedback import Verdict
from sync.review.merge import Conflict
from sync.review.relabelling import Renaming

CAR_TO_BUS = Renaming("label", "RectangleLabels", "car", "bus")
BOX = Box(1, 2, 3, 4)


def label(number: int, name: str, *, control: str = "label") -> Label:
    return Label(f"{number:024x}", control, (name,), BOX)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """One sample with a review, a conflict, a correction and a reading, all of them with cars."""
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        ledger.record_links([Link("s1", 5, "sum", "yolo-1", "queued")])
        cars = (label(1, "car"), label(2, "dog"), label(3, "car", control="other"))
        ledger.record_pushed([Pushed("s1", "yolo-1", 0.5, cars)])
        ledger.record_corrections([Correction(9, "s1", 5, 40, cars, 41, "2026-01-01T00:00:02.000000Z")])
        ledger.record_reviews(
            [
                Review(
                    sample_id="s1",
                    task_id=5,
                    annotation_id=40,
                    annotation_updated_at="2026-01-01T00:00:01.000000Z",
                    reviewer="ana@x",
                    lead_time_s=2.0,
                    state="conflict",
                    base=cars,
                    conflicts=(Conflict("1", label(1, "car"), label(1, "dog"), None),),
                    verdicts=(
                        Verdict("1", "label", "relabelled", "car", "bus", 1.0, 0.5),
                        Verdict("2", "label", "relabelled", "car", "bus", 0.8, 0.5),
                        Verdict("3", "label", "relabelled", "car", "dog", 1.0, 0.5),
                        Verdict("4", "other", "relabelled", "car", "bus", 1.0, 0.5),
                        Verdict("5", "label", "added", None, "car"),
                    ),
                    model_version="yolo-1",
                    answers="latest:abc",
                    readings=(Reading(40, "s1", cars),),
                )
            ]
        )
        yield ledger


def test_every_label_set_has_the_new_name_in_its_control_alone(ledger: Ledger):
    ledger.record_class(CAR_TO_BUS)
    renamed = (label(1, "bus"), label(2, "dog"), label(3, "car", control="other"))
    assert ledger.bases(["s1"]) == {"s1": renamed}
    assert ledger.pushed("s1", "yolo-1") == renamed
    assert ledger.readings(["s1"])[40].labels == renamed
    assert ledger.corrections(["s1"])["s1"][0].labels == renamed
    (conflict,) = ledger.conflicts()["s1"]
    assert (conflict.base, conflict.ours, conflict.theirs) == (label(1, "bus"), label(1, "dog"), None)


def test_what_people_had_changed_into_the_new_name_was_right_after_all(ledger: Ledger):
    ledger.record_class(CAR_TO_BUS)
    verdicts = [(row.verdict.kind, row.verdict.class_before, row.verdict.class_after) for row in ledger.feedback()]
    assert verdicts == [
        ("confirmed", "bus", "bus"),
        ("moved", "bus", "bus"),
        ("relabelled", "bus", "dog"),
        ("relabelled", "car", "bus"),
        ("added", None, "bus"),
    ]


def test_a_second_time_nothing_changes(ledger: Ledger):
    assert ledger.record_class(CAR_TO_BUS) > 0
    before = ledger.snapshot()
    assert ledger.record_class(CAR_TO_BUS) == 0
    assert ledger.snapshot() == before


def test_a_name_with_signs_of_json_is_found(ledger: Ledger):
    name = 'say "Käfer" \\ Co'
    ledger.record_bases({"s1": (label(1, name),)})
    ledger.record_class(Renaming("label", "RectangleLabels", name, "beetle"))
    assert ledger.bases(["s1"])["s1"] == (label(1, "beetle"),)


def test_a_task_that_has_to_be_read_again_is_no_longer_known_as_it_was_read(ledger: Ledger):
    ledger.record_unread([6])
    assert ledger.links()["s1"].answers == "latest:abc"
    ledger.record_unread([5, 6])
    assert ledger.links()["s1"].answers is None


def test_a_renaming_that_was_begun_is_known_until_it_ends(ledger: Ledger):
    assert ledger.unfinished_renaming() is None
    ledger.record_renaming_start(CAR_TO_BUS)
    assert ledger.unfinished_renaming() == CAR_TO_BUS
    ledger.record_renaming_end()
    ledger.record_renaming_end()
    assert ledger.unfinished_renaming() is None
