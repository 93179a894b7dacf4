"""What a person did to each predicted label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.geometry import Box, Keypoint, Mask, Polygon
from labels.results import Label
from sync.review.feedback import Verdict, compare_review
from sync.review.merge import label_key

SIX_TENTHS: Any = pytest.approx(0.6)
CAR = Label("1", "label", ("car",), Box(0, 0, 40, 20), confidence=0.9)


def test_an_untouched_box_is_confirmed() -> None:
    # Label Studio hands percent values back, so the last digits differ.
    reviewed = replace(CAR, geometry=Box(0.004, 0, 40, 20), confidence=None)
    assert compare_review([CAR], [reviewed]) == (Verdict("1", "label", "confirmed", "car", "car", 1.0, 0.9),)


def test_a_moved_box_carries_its_overlap() -> None:
    # 10 px to the right: 30 x 20 shared of 50 x 20 covered.
    (verdict,) = compare_review([CAR], [replace(CAR, geometry=Box(10, 0, 40, 20))])
    assert verdict == Verdict("1", "label", "moved", "car", "car", SIX_TENTHS, 0.9)


def test_a_relabelled_box_says_from_what_to_what() -> None:
    assert compare_review([CAR], [replace(CAR, classes=("truck",))]) == (
        Verdict("1", "label", "relabelled", "car", "truck", 1.0, 0.9),
    )


def test_a_moved_and_relabelled_box_is_relabelled_with_an_overlap_below_one() -> None:
    (verdict,) = compare_review([CAR], [replace(CAR, classes=("truck",), geometry=Box(10, 0, 40, 20))])
    assert (verdict.kind, verdict.iou) == ("relabelled", SIX_TENTHS)


def test_a_box_moved_right_off_its_place_is_still_the_same_box() -> None:
    assert compare_review([CAR], [replace(CAR, geometry=Box(200, 0, 40, 20))])[0] == Verdict(
        "1", "label", "moved", "car", "car", 0.0, 0.9
    )


def test_deleted_and_added_boxes_have_no_overlap() -> None:
    dog = Label("n", "label", ("dog",), Box(100, 100, 10, 10))
    assert compare_review([CAR], [dog]) == (
        Verdict("1", "label", "deleted", "car", None, None, 0.9),
        Verdict("n", "label", "added", None, "dog", None, None),
    )


def test_a_box_deleted_and_drawn_again_is_moved_and_not_a_false_alarm_plus_a_miss() -> None:
    again = Label("n", "label", ("car",), Box(10, 0, 40, 20))
    (verdict,) = compare_review([CAR], [again])
    assert verdict == Verdict("1", "label", "moved", "car", "car", SIX_TENTHS, 0.9)


def test_a_box_drawn_again_with_less_than_half_its_overlap_is_another_object() -> None:
    # 14 px: 26 shared of 54 covered, 0.48.
    again = Label("n", "label", ("car",), Box(14, 0, 40, 20))
    assert [verdict.kind for verdict in compare_review([CAR], [again])] == ["deleted", "added"]


def test_a_box_matched_by_its_id_is_not_taken_for_a_redrawn_one() -> None:
    other = Label("2", "label", ("car",), Box(0, 0, 40, 20))
    kinds = [(verdict.label_id, verdict.kind) for verdict in compare_review([CAR, other], [replace(other, id="1")])]
    assert kinds == [("1", "confirmed"), ("2", "deleted")]


def test_a_redrawn_box_goes_to_the_same_class_first_then_to_the_best_overlap() -> None:
    bus = Label("2", "label", ("bus",), Box(9, 0, 40, 20), confidence=0.4)
    redrawn = [Label("n", "label", ("car",), Box(10, 0, 40, 20)), Label("m", "label", ("van",), Box(8, 0, 40, 20))]
    verdicts = compare_review([bus, CAR], redrawn)
    assert [(one.label_id, one.kind, one.class_after) for one in verdicts] == [
        ("2", "relabelled", "van"),
        ("1", "moved", "car"),
    ]


def test_nothing_predicted_and_nothing_found_is_no_verdict() -> None:
    assert compare_review([], []) == ()


def test_a_keypoint_can_move_but_has_no_overlap() -> None:
    nose = Label("1", "points", ("nose",), Keypoint(5, 5, 3))
    assert compare_review([nose], [replace(nose, geometry=Keypoint(9, 5, 3))])[0] == Verdict(
        "1", "points", "moved", "nose", "nose", None, None
    )


def test_polygons_and_masks_are_compared_by_their_own_outline(masks: tuple[Mask, Mask]) -> None:
    triangle = Label("1", "outline", ("car",), Polygon(((0, 0), (10, 0), (0, 10))))
    square = replace(triangle, geometry=Polygon(((0, 0), (10, 0), (10, 10), (0, 10))))
    assert compare_review([triangle], [square])[0].iou == pytest.approx(0.5)
    painted = Label("1", "brush", ("car",), masks[0])
    assert compare_review([painted], [replace(painted, geometry=masks[1])])[0].iou == pytest.approx(0.25)


def test_answers_about_the_image_are_compared_by_control_and_have_no_overlap() -> None:
    predicted = [Label("a", "quality", ("keep",), confidence=0.7), Label("b", "stars", rating=2)]
    reviewed = [Label("x", "quality", ("trash",)), Label("y", "stars", rating=2), Label("z", "light", ("day", "dusk"))]
    assert compare_review(predicted, reviewed) == (
        Verdict("a", "quality", "relabelled", "keep", "trash", None, 0.7),
        Verdict("b", "stars", "confirmed", "2", "2", None, None),
        Verdict("z", "light", "added", None, "day, dusk", None, None),
    )


BOXES = st.lists(
    st.builds(
        Label,
        id=st.sampled_from("abcdef"),
        control=st.just("label"),
        classes=st.sampled_from([("car",), ("dog",)]),
        geometry=st.builds(Box, st.integers(0, 6), st.integers(0, 3), st.integers(0, 9), st.integers(0, 5)),
    ),
    max_size=5,
    unique_by=label_key,
)


@given(BOXES, BOXES)
def test_every_label_of_both_sides_is_counted_once(predicted: list[Label], reviewed: list[Label]) -> None:
    verdicts = compare_review(predicted, reviewed)
    kinds = [verdict.kind for verdict in verdicts]
    assert [verdict.label_id for verdict in verdicts[: len(predicted)]] == [label.id for label in predicted]
    assert len(predicted) == len(kinds) - kinds.count("added")
    assert len(reviewed) == len(kinds) - kinds.count("deleted")
    assert compare_review(predicted, predicted) == tuple(
        Verdict(one.id, one.control, "confirmed", one.class_name, one.class_name, 1.0, None) for one in predicted
    )


@pytest.fixture
def masks() -> tuple[Mask, Mask]:
    """Two masks of 4 and 1 pixels on an image of 6 x 4, the second inside the first."""
    first, second = np.zeros((4, 6), dtype=bool), np.zeros((4, 6), dtype=bool)
    first[1:3, 2:4] = True
    second[1, 2] = True
    return Mask(first), Mask(second)
