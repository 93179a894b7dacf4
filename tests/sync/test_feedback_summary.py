"""The numbers of a class, the confusions and the times, counted by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from labels.fields import SENT_LABELS
from sync.ledger.rows import FeedbackRow
from sync.review.feedback import Verdict
from sync.review.feedback_summary import Confusion, Times, group_feedback, summarize_feedback, write_feedback_csv


def row(verdict: Verdict, *, annotation_id: int = 1, reviewer: str | None = "ana@x", version: str | None = "yolo-1"):
    return FeedbackRow("s1", 5, annotation_id, "2026-01-01T00:00:00Z", reviewer, 4.5, version, verdict)


def verdict(kind: str, before: str | None = None, after: str | None = None, iou: float | None = None) -> Verdict:
    confidence = None if before is None else 0.75
    return Verdict("a" * 24, "label", kind, before, after, iou, confidence)  # type: ignore[arg-type]


def review(lead_time_s: float | None, version: str | None = "yolo-1", *, state: str = "reviewed", reviewer="ana@x"):
    return {"lead_time_s": lead_time_s, "model_version": version, "state": state, "reviewer": reviewer}


CARS = [
    *[verdict("confirmed", "car", "car", 1.0)] * 4,
    verdict("moved", "car", "car", 0.9),
    verdict("moved", "car", "car", 0.7),
    verdict("moved", "car", "car", 0.2),
    *[verdict("relabelled", "car", "truck", 1.0)] * 2,
    verdict("deleted", "car"),
    *[verdict("added", None, "car")] * 3,
]


def test_a_class_is_counted_by_what_became_of_its_boxes():
    summary = summarize_feedback([row(one) for one in CARS], [review(4.0)])
    car = {one.name: one for one in summary.classes}["car"]
    assert (car.predicted, car.confirmed, car.moved, car.relabelled, car.deleted, car.added) == (10, 4, 3, 2, 1, 3)
    assert car.mean_iou == pytest.approx(0.6)
    # Six were right: a box that was moved off its object by more than half was not.
    assert car.precision == pytest.approx(0.6)
    # There are 4 + 3 + 3 cars in the reviews.
    assert car.recall == pytest.approx(0.6)
    assert car.f1 == pytest.approx(0.6)
    assert car.confused_with == (Confusion("label", "car", "truck", 2),)
    assert not car.is_few


def test_a_class_the_model_never_drew_has_a_recall_and_no_precision():
    summary = summarize_feedback([row(verdict("relabelled", "car", "truck", 1.0))], [])
    truck = {one.name: one for one in summary.classes}["truck"]
    assert (truck.predicted, truck.precision, truck.recall, truck.mean_iou) == (0, None, 0.0, None)
    assert truck.is_few


def test_a_class_whose_boxes_were_all_deleted_has_a_precision_and_no_recall():
    (ghost,) = summarize_feedback([row(verdict("deleted", "ghost"))], []).classes
    assert (ghost.precision, ghost.recall, ghost.f1) == (0.0, None, 0.0)


def test_a_point_that_was_moved_counts_as_right_since_points_do_not_overlap():
    (nose,) = summarize_feedback([row(verdict("moved", "nose", "nose"))], []).classes
    assert (nose.precision, nose.mean_iou) == (1.0, None)


def test_the_weakest_class_comes_first_and_classes_with_few_labels_last():
    good = [verdict("confirmed", "bus", "bus", 1.0)] * 10
    bad = [verdict("deleted", "dog")] * 12
    few = [verdict("deleted", "cat")] * 2
    summary = summarize_feedback([row(one) for one in (*good, *CARS, *bad, *few)], [])
    assert [one.name for one in summary.classes] == ["dog", "car", "bus", "cat", "truck"]


def test_two_controls_with_one_class_are_counted_apart():
    outline = replace(verdict("deleted", "car"), control="outline")
    summary = summarize_feedback([row(outline), row(verdict("confirmed", "car", "car", 1.0))], [])
    assert [(one.control, one.f1) for one in summary.classes] == [("outline", 0.0), ("label", 1.0)]


def test_the_commonest_confusion_comes_first():
    pairs = [("car", "bus"), ("car", "truck"), ("car", "truck"), ("cat", "dog")]
    summary = summarize_feedback([row(verdict("relabelled", *pair, 1.0)) for pair in pairs], [])
    assert [(one.predicted, one.reviewed, one.count) for one in summary.confusions] == [
        ("car", "truck", 2),
        ("car", "bus", 1),
        ("cat", "dog", 1),
    ]


def test_time_with_and_without_boxes_is_the_median_of_what_is_known():
    reviews = [review(4.0), review(8.0), review(None), review(100.0), review(20.0, None), review(12.0, None)]
    times = summarize_feedback([], [*reviews, review(1.0, None, state="skipped")]).times
    assert times.with_prelabels == Times(4, 3, 8.0, is_few=True)
    assert times.without == Times(2, 2, 16.0, is_few=True)
    assert times.ratio == pytest.approx(0.5)


def test_images_that_came_with_labels_of_people_are_no_work_without_boxes():
    reviews = [review(4.0), review(20.0, None), review(1.0, SENT_LABELS), review(3.0, SENT_LABELS)]
    times = summarize_feedback([], reviews).times
    assert (times.without, times.with_prelabels) == (Times(1, 1, 20.0, is_few=True), Times(1, 1, 4.0, is_few=True))
    assert times.over_labels == Times(2, 2, 2.0, is_few=True)
    assert times.ratio == pytest.approx(0.2)


def test_a_time_that_is_not_known_is_not_zero():
    times = summarize_feedback([], [review(3.0)]).times
    assert times.without == Times(0, 0, None, is_few=True)
    assert times.ratio is None
    assert summarize_feedback([], [review(0.0)]).times.with_prelabels.median_s == 0.0


def test_ten_timed_reviews_are_enough():
    assert not summarize_feedback([], [review(3.0)] * 10).times.with_prelabels.is_few


def test_reviewers_and_versions_are_summed_up_each_on_its_own():
    rows = [row(verdict("confirmed", "car", "car", 1.0)), row(verdict("deleted", "car"), reviewer="ben@x")]
    reviews = [review(4.0), review(9.0, None, reviewer="ben@x"), review(9.0, reviewer="")]
    by_person = group_feedback(rows, reviews, by="reviewer")
    assert {name: (one.reviews, [c.f1 for c in one.classes]) for name, one in by_person.items()} == {
        "ana@x": (1, [1.0]),
        "ben@x": (1, [0.0]),
        "unknown": (1, []),
    }
    assert {name: one.reviews for name, one in group_feedback(rows, reviews, by="version").items()} == {
        "no prediction": 1,
        "yolo-1": 2,
    }


def test_the_csv_has_a_line_for_each_verdict_and_reads_back():
    stream = io.StringIO()
    rows = [row(verdict("moved", "car", "car", 0.5)), row(verdict("added", None, 'a "b", c'), version=None)]
    assert write_feedback_csv(rows, stream) == 2
    first, second = csv.DictReader(io.StringIO(stream.getvalue()))
    assert (first["kind"], first["iou"], first["model_version"], first["lead_time_s"]) == (
        "moved",
        "0.5",
        "yolo-1",
        "4.5",
    )
    assert (second["class_before"], second["class_after"], second["confidence"]) == ("", 'a "b", c', "")
    again = io.StringIO()
    write_feedback_csv(rows, again)
    assert again.getvalue() == stream.getvalue()


def test_a_class_that_looks_like_a_formula_is_none_in_a_spreadsheet():
    stream = io.StringIO()
    write_feedback_csv([row(verdict("added", None, "=1+1"))], stream)
    assert next(csv.DictReader(io.StringIO(stream.getvalue())))["class_after"] == "'=1+1"
