"""Corrections among annotations: which are ours and untouched, which became a person's, what each was made from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize
from labels.results import Label, to_result
from sync.catalogue.samples import SampleLabels
from sync.jobs.exchange.answers import name_answers
from sync.jobs.exchange.corrections import leave_out_corrections
from sync.jobs.exchange.reviewing import Known, Outcome, read_review
from sync.ledger import Correction, Link, Reading
from sync.review.merge import Conflict
from sync.workbench.label_studio import Annotation, Task

CONFIG = LabelConfig.from_xml(
    """<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">
    <Label value="car"/><Label value="bus"/><Label value="dog"/></RectangleLabels></View>"""
)
SIZE = ImageSize(120, 80)
MARK = 4242


def box(number: int, name: str = "car") -> Label:
    return Label(f"{number:024x}", "label", (name,), Box(10.0 * number, 5, 8, 6))


PLAIN = (box(1), box(2))
CURATED = (box(1, "bus"), box(2))


def annotation(annotation_id: int, labels: tuple[Label, ...], at: str, **more: Any) -> Annotation:
    return Annotation(annotation_id, tuple(to_result(labels, CONFIG, SIZE)), False, at, "ann@x", 2.0, None, **more)


PERSON = annotation(1, PLAIN, "2026-01-01T10")
OURS = annotation(2, CURATED, "2026-01-01T11", import_id=MARK, parent_id=1, updated_by="admin@x")
SENT = Correction(MARK, "s", 9, 1, CURATED, 2, "2026-01-01T11")
LINK = Link("s", 9, "0" * 64, None, "reviewed", annotation_id=1, annotation_updated_at="2026-01-01T10")


def task(*annotations: Annotation) -> Task:
    return Task(9, "s", "2026-01-01T12", annotations, ())


def review(*annotations: Annotation, corrections: tuple[Correction, ...] = (), **known: Any) -> Outcome:
    people = leave_out_corrections(task(*annotations), corrections, CONFIG)
    held = Known(**{"link": LINK, "size": SIZE, "ours": SampleLabels(CURATED, True), "base": PLAIN} | known)
    return read_review(people, held, CONFIG, "latest", lambda _sample_id, _conflict: None)


def test_a_correction_that_nobody_touched_is_no_word_of_people() -> None:
    people = leave_out_corrections(task(PERSON, OURS), [SENT], CONFIG)
    assert people.task.annotations == (PERSON,)
    assert (dict(people.taken_over), people.confirmed, people.family) == ({}, (), {1, 2})


def test_a_correction_that_a_person_saved_is_that_persons() -> None:
    saved = replace(OURS, updated_at="2026-01-01T12", updated_by="bea@x")
    people = leave_out_corrections(task(PERSON, saved), [SENT], CONFIG)
    assert people.task.annotations == (PERSON, replace(saved, reviewer="bea@x"))
    assert dict(people.taken_over) == {2: SENT}


@pytest.mark.parametrize(
    ("found", "is_ours"),
    [(OURS, True), (annotation(2, PLAIN, "2026-01-01T11", import_id=MARK, parent_id=1), False)],
)
def test_a_correction_whose_answer_was_lost_is_known_by_what_it_says(found: Annotation, is_ours: bool) -> None:
    lost = replace(SENT, annotation_id=None, annotation_updated_at=None)
    people = leave_out_corrections(task(PERSON, found), [lost], CONFIG)
    assert people.confirmed == ((SENT,) if is_ours else ())
    assert (2 in people.taken_over) is not is_ours


def test_what_a_program_numbered_and_the_ledger_does_not_know_is_a_persons() -> None:
    people = leave_out_corrections(task(PERSON, OURS), [], CONFIG)
    assert people.task.annotations == (PERSON, OURS)


def test_a_changed_correction_is_compared_with_what_was_sent() -> None:
    saved = annotation(2, (CURATED[0], box(2, "dog")), "2026-01-01T12", import_id=MARK, parent_id=1)
    outcome = review(PERSON, saved, corrections=(SENT,))
    assert outcome.labels == (CURATED[0], box(2, "dog"))
    assert outcome.review.conflicts == ()
    assert (outcome.review.taken_over, outcome.review.correction_due) == ((MARK,), False)
    assert [reading.annotation_id for reading in outcome.review.readings] == [1, 2]


def test_the_corrected_annotation_changed_after_it_is_compared_with_what_it_said_before() -> None:
    later = annotation(1, (box(1), box(2, "dog")), "2026-01-01T13")
    taken_over = replace(OURS, updated_at="2026-01-01T12")
    link = replace(LINK, annotation_id=2, annotation_updated_at="2026-01-01T12")
    outcome = review(later, taken_over, link=link, base=CURATED, readings={1: Reading(1, "s", PLAIN)})
    assert outcome.labels == (CURATED[0], box(2, "dog"))
    assert (outcome.review.conflicts, outcome.review.correction_due) == ((), True)


def test_of_annotations_that_do_not_come_from_one_another_the_last_counts_whole() -> None:
    other = annotation(3, (box(1, "dog"),), "2026-01-01T14")
    outcome = review(PERSON, other, ours=SampleLabels(PLAIN, True), readings={3: Reading(3, "s", PLAIN)})
    assert outcome.labels == (box(1, "dog"),)
    assert [one.annotation_id for one in outcome.reviews] == [1, 3]


def test_a_curators_change_alone_is_due_and_a_conflict_is_not() -> None:
    assert review(PERSON).review.correction_due is True
    assert review(PERSON, ours=SampleLabels(PLAIN, True)).review.correction_due is False
    both = review(annotation(1, (box(1, "dog"), box(2)), "2026-01-01T12"), ours_at="2026-01-01T09")
    (conflict,) = both.review.conflicts or ()
    assert (conflict.ours_at, conflict.theirs_at) == ("2026-01-01T09", "2026-01-01T12")
    assert (both.review.state, both.review.correction_due) == ("conflict", False)


def test_a_side_that_did_not_move_keeps_its_time() -> None:
    before = Conflict(box(1).id, box(1), box(1, "bus"), box(1, "dog"), "2026-01-01T09", "2026-01-01T12")
    theirs = annotation(1, (box(1, "dog"), box(2)), "2026-01-01T15")
    (conflict,) = review(theirs, ours_at="2026-01-01T14", conflicts=(before,)).review.conflicts or ()
    assert (conflict.ours_at, conflict.theirs_at) == ("2026-01-01T09", "2026-01-01T12")


def test_a_prediction_that_cannot_be_read_keeps_no_review_from_being_merged() -> None:
    from sync.workbench.label_studio import Prediction

    answered = replace(annotation(1, (box(1), box(2, "dog")), "2026-01-01T12"), prediction_id=5)
    shown = Prediction(5, "yolo-1", ({"id": "x", "type": "nonsense"},))
    people = leave_out_corrections(replace(task(answered), predictions=(shown,)), [], CONFIG)
    outcome = read_review(
        people, Known(LINK, SIZE, SampleLabels(PLAIN, True), base=PLAIN), CONFIG, "latest", lambda *_: None
    )
    assert outcome.labels == (box(1), box(2, "dog"))
    assert len(outcome.notes) == 1


def test_the_name_of_what_was_said_changes_with_every_word_and_with_the_way_it_is_read() -> None:
    names = {
        name_answers(task(PERSON), "latest"),
        name_answers(task(PERSON), "agreement"),
        name_answers(task(PERSON, OURS), "latest"),
        name_answers(task(replace(PERSON, ground_truth=True)), "latest"),
        name_answers(task(replace(PERSON, is_skip=True)), "latest"),
        name_answers(task(replace(PERSON, updated_at="2026-01-01T16")), "latest"),
    }
    assert len(names) == 6
    assert name_answers(task(PERSON, OURS), "latest") == name_answers(task(OURS, PERSON), "latest")


def test_a_correction_that_was_taken_over_and_deleted_takes_nothing_of_the_curators_away() -> None:
    link = replace(LINK, annotation_id=2, annotation_updated_at="2026-01-01T12")
    outcome = review(PERSON, link=link, base=CURATED, readings={1: Reading(1, "s", PLAIN)})
    assert (outcome.labels, outcome.review.conflicts) == (None, ())
    assert outcome.review.readings == (Reading(1, "s", PLAIN),)


def test_shapes_that_were_cleared_beside_an_answer_are_no_deletion() -> None:
    later = annotation(1, PLAIN, "2026-01-01T12")
    outcome = review(later, ours=SampleLabels((), has_regions=False, silent=frozenset({"label"})))
    assert (outcome.labels, outcome.review.correction_due) == (PLAIN, False)
