"""What several people agree on, with numbers worked out by hand."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labels.config import LabelConfig
from labels.geometry import Box, ImageSize, Keypoint, Mask, Polygon
from labels.results import Label
from sync.review.consensus import Vote, find_consensus

SIZE = ImageSize(400, 300)  # diagonal 500: points within 10 px mean the same spot
CONFIG = LabelConfig.from_xml(
    """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="car"/><Label value="bus"/><Label value="dog"/>
  </RectangleLabels>
  <PolygonLabels name="outline" toName="image"><Label value="car"/></PolygonLabels>
  <BrushLabels name="brush" toName="image"><Label value="car"/></BrushLabels>
  <KeyPointLabels name="points" toName="image"><Label value="nose"/><Label value="eye"/></KeyPointLabels>
  <Choices name="quality" toName="image"><Choice value="keep"/><Choice value="trash"/><Choice value="unsure"/></Choices>
  <Choices name="scene" toName="image" choice="multiple"><Choice value="day"/><Choice value="rain"/></Choices>
  <Rating name="stars" toName="image" maxRating="5"/>
</View>
"""
)
PREDICTED = "a" * 24


def box(x: float, y: float, width: float, height: float, *, of: str = "car", label_id: str = PREDICTED) -> Label:
    return Label(label_id, "label", (of,), Box(x, y, width, height))


def vote(number: int, *labels: Label, reviewer: str | None = None, starred: bool = False) -> Vote:
    return Vote(number, reviewer or f"person{number}@x", f"2026-01-01T00:00:{number:02}Z", starred, labels)


def agree(*votes: Vote):
    return find_consensus(votes, "agreement", config=CONFIG, size=SIZE)


def test_the_latest_answer_counts_and_the_others_are_compared_with_it():
    first, second = vote(1, box(0, 0, 10, 20)), vote(2, box(0, 0, 10, 10))
    consensus = find_consensus([second, first], "latest", config=CONFIG, size=SIZE)
    assert (consensus.labels, consensus.leading, consensus.annotators) == (second.labels, second, 2)
    assert consensus.agreement == pytest.approx(0.5)
    assert consensus.disagreement == pytest.approx(0.5)


def test_the_starred_answer_goes_before_a_later_one():
    starred, later = vote(1, box(0, 0, 10, 20), starred=True), vote(2)
    assert find_consensus([starred, later], "ground_truth", config=CONFIG, size=SIZE).leading == starred
    assert find_consensus([vote(1), later], "ground_truth", config=CONFIG, size=SIZE).leading == later


def test_one_person_cannot_disagree():
    consensus = agree(vote(1, box(0, 0, 10, 20), reviewer="ana@x"), vote(2, reviewer="ana@x"))
    assert (consensus.labels, consensus.annotators) == ((), 1)
    assert consensus.agreement is None
    assert consensus.disagreement is None


def test_two_people_who_found_nothing_agree():
    consensus = agree(vote(1), vote(2))
    assert (consensus.labels, consensus.agreement) == ((), 1.0)


def test_boxes_of_one_object_become_their_mean_under_the_predictions_id():
    consensus = agree(vote(1, box(100, 100, 40, 20)), vote(2, box(104, 100, 40, 20)), vote(3, box(102, 103, 40, 20)))
    (fused,) = consensus.labels
    assert (fused.id, fused.classes) == (PREDICTED, ("car",))
    assert fused.geometry.to_xyxy() == pytest.approx((102, 101, 142, 121), abs=1e-3)


def test_what_all_drew_the_same_stays_as_it_is_to_the_last_digit():
    drawn = box(100.123456789, 50.1, 33.3, 7.7)
    assert agree(vote(1, drawn), vote(2, drawn), vote(3, drawn)).labels == (drawn,)


def test_a_box_that_reaches_out_of_the_image_is_not_cut():
    (fused,) = agree(vote(1, box(-10, -6, 100, 50)), vote(2, box(-6, -6, 100, 50))).labels
    assert fused.geometry.to_xyxy() == pytest.approx((-8, -6, 92, 44), abs=1e-3)


def test_boxes_drawn_by_hand_go_under_the_id_of_the_annotation_that_was_made_first():
    first, second = box(10, 10, 40, 20, label_id="1" * 24), box(10, 10, 42, 20, label_id="2" * 24)
    votes = [vote(1, first), vote(2, second), vote(3, box(10, 10, 41, 20, label_id="0" * 24))]
    for order in itertools.permutations(votes):
        assert [label.id for label in agree(*order).labels] == ["1" * 24]


def test_what_half_of_the_people_drew_is_kept_and_what_a_minority_drew_is_handed_back():
    shared, half = box(10, 10, 40, 20), box(200, 10, 40, 20, label_id="b" * 24)
    lone = box(10, 200, 40, 20, label_id="c" * 24)
    two = agree(vote(1, shared, half), vote(2, shared))
    assert (two.labels, two.left_out) == ((shared, half), ())
    three = agree(vote(1, shared, half), vote(2, shared, half), vote(3, shared, lone))
    assert (three.labels, three.left_out) == ((shared, half), (lone,))
    # Two pairs agree on 1 of 3 objects, one pair on 2 of 2.
    assert three.agreement == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)


def test_one_object_with_two_classes_is_one_box_of_the_class_most_people_gave():
    car, bus = box(10, 10, 40, 20), box(10, 10, 40, 20, of="bus")
    consensus = agree(vote(1, car), vote(2, car), vote(3, bus))
    assert (consensus.labels, consensus.left_out) == ((car,), (bus,))
    assert consensus.agreement == pytest.approx(1 / 3)


def test_of_two_classes_with_as_many_votes_the_latest_answers_counts():
    car, bus = box(10, 10, 40, 20), box(10, 10, 40, 20, of="bus")
    assert agree(vote(1, car), vote(2, bus)).labels == (bus,)
    assert agree(vote(3, car), vote(2, bus)).labels == (car,)


def test_two_objects_over_each_other_stay_two():
    car, dog = box(10, 10, 40, 20), box(10, 10, 40, 24, of="dog", label_id="d" * 24)
    consensus = agree(vote(1, car, dog), vote(2, dog, car))
    assert sorted(label.classes for label in consensus.labels) == [("car",), ("dog",)]
    assert consensus.agreement == pytest.approx(1.0)


def test_a_crowd_is_matched_as_a_whole():
    # The first person's left box overlaps the second one's both boxes; taken greedily, the right ones would be left.
    left, right = box(0, 0, 10, 10, label_id="1" * 24), box(6, 0, 10, 10, label_id="2" * 24)
    other_left, other_right = box(-3, 0, 10, 10, label_id="3" * 24), box(3, 0, 10, 10, label_id="4" * 24)
    consensus = agree(vote(1, left, right), vote(2, other_left, other_right))
    assert [label.id for label in consensus.labels] == ["1" * 24, "2" * 24]
    assert consensus.agreement == pytest.approx(7 / 13)


def test_a_predicted_box_dragged_to_two_places_becomes_two_boxes_with_two_ids():
    consensus = agree(vote(1, box(10, 10, 40, 20)), vote(2, box(200, 200, 40, 20)))
    assert len({label.id for label in consensus.labels}) == 2
    assert PREDICTED in {label.id for label in consensus.labels}
    assert consensus == agree(vote(1, box(10, 10, 40, 20)), vote(2, box(200, 200, 40, 20)))
    assert consensus.agreement == 0.0


def test_a_turned_box_and_a_polygon_are_taken_as_somebody_drew_them():
    turned = [Label(PREDICTED, "label", ("car",), Box(100, 100, 80, 20, angle)) for angle in (20.0, 30.0, 24.0)]
    (fused,) = agree(*(vote(n, label) for n, label in enumerate(turned, start=1))).labels
    assert fused.geometry == turned[2].geometry
    outlines = [
        Label(PREDICTED, "outline", ("car",), Polygon(((0, 0), (width, 0), (width, 30), (0, 30))))
        for width in (50, 60, 54)
    ]
    (fused,) = agree(*(vote(n, label) for n, label in enumerate(outlines, start=1))).labels
    assert fused.geometry == outlines[2].geometry


def test_a_pixel_is_painted_where_half_of_the_people_painted_it():
    masks = []
    for columns in (4, 5, 6):
        pixels = np.zeros((3, 8), dtype=np.bool_)
        pixels[:, :columns] = True
        masks.append(Label(PREDICTED, "brush", ("car",), Mask(pixels)))
    (fused,) = agree(*(vote(n, label) for n, label in enumerate(masks, start=1))).labels
    assert fused.geometry == masks[1].geometry


def test_points_near_each_other_are_one_and_go_to_the_median():
    def point(x: float, of: str = "nose", label_id: str = PREDICTED) -> Label:
        return Label(label_id, "points", (of,), Keypoint(x, 50, 4))

    (fused,) = agree(vote(1, point(100)), vote(2, point(103)), vote(3, point(104))).labels
    assert fused.geometry == Keypoint(103, 50, 4)
    apart = agree(vote(1, point(100, label_id="1" * 24)), vote(2, point(111, label_id="2" * 24)))
    assert len(apart.labels) == 2
    near = agree(vote(1, point(100, label_id="1" * 24)), vote(2, point(100, "eye", "2" * 24)))
    assert len(near.labels) == 2
    assert agree(vote(1, point(100)), vote(2, point(105))).agreement == pytest.approx(0.75)


def choice(name: str) -> Label:
    return Label("c" * 24, "quality", (name,))


def test_the_choice_of_most_people_counts():
    consensus = agree(vote(1, choice("keep")), vote(2, choice("trash")), vote(3, choice("keep")))
    assert [label.classes for label in consensus.labels] == [("keep",)]
    assert [label.classes for label in consensus.left_out] == [("trash",)]
    assert consensus.agreement == pytest.approx(1 / 3)


def test_a_tied_choice_is_the_latest_answers_at_every_reading():
    votes = [vote(1, choice("keep")), vote(2, choice("trash"))]
    assert {agree(*votes).labels[0].classes for _ in range(20)} == {("trash",)}


def test_a_choice_only_a_minority_made_is_handed_back():
    consensus = agree(vote(1, choice("keep")), vote(2), vote(3))
    assert (consensus.labels, consensus.left_out) == ((), (choice("keep"),))


def test_of_several_ticks_those_of_half_of_the_people_count():
    def ticks(*names: str) -> Label:
        return Label("s" * 24, "scene", names)

    consensus = agree(vote(1, ticks("day", "rain")), vote(2, ticks("day")), vote(3, ticks("day")))
    assert [label.classes for label in consensus.labels] == [("day",)]
    # Of the ticks of each pair, these are in both: 1 of 2, 1 of 2, 1 of 1.
    assert consensus.agreement == pytest.approx((0.5 + 0.5 + 1) / 3)


def test_a_rating_is_the_median_and_near_ratings_disagree_little():
    consensus = agree(*(vote(n, Label("r" * 24, "stars", rating=stars)) for n, stars in enumerate((1, 4, 5), start=1)))
    assert [label.rating for label in consensus.labels] == [4]
    # Apart by 3, 4 and 1 of the 4 steps there are.
    assert consensus.agreement == pytest.approx((0.25 + 0 + 0.75) / 3)


@st.composite
def answers(draw: st.DrawFn) -> list[Vote]:
    """Up to four people with up to six shapes each, near each other so that they meet; ids shared and own."""
    votes = []
    for number in range(1, draw(st.integers(2, 5))):
        ids = draw(st.lists(st.integers(1, 9), unique=True, max_size=6))
        shapes = [
            box(
                *(draw(st.integers(0, 12)) for _ in range(2)),
                *(draw(st.integers(4, 12)) for _ in range(2)),
                of=draw(st.sampled_from(["car", "bus", "dog"])),
                label_id=f"{label_id if label_id < 6 else 100 * number + label_id:024x}",
            )
            for label_id in ids
        ]
        votes.append(vote(number, *shapes))
    return votes


@settings(max_examples=100, deadline=None)
@given(answers(), st.randoms(use_true_random=False))
def test_nothing_is_lost_and_nothing_is_there_twice_whatever_people_draw(votes: list[Vote], chance: random.Random):
    consensus = agree(*votes)
    kept = {label.id: label for label in consensus.labels}
    assert len(kept) == len(consensus.labels)
    drawn = [label for one in votes for label in one.labels]
    assert all(label in drawn for label in consensus.left_out)
    # Every object that is kept stands for one shape at least that is not handed back.
    assert len(consensus.left_out) + len(consensus.labels) <= len(drawn)
    for label in drawn:
        is_meant = any(one.classes == label.classes and touches(one, label) for one in consensus.labels)
        assert is_meant or label in consensus.left_out
    assert consensus.agreement is None or 0 <= consensus.agreement <= 1
    shuffled = [*votes]
    chance.shuffle(shuffled)
    assert agree(*shuffled) == consensus


def touches(one: Label, other: Label) -> bool:
    """Return whether two upright boxes meet."""
    a, b = one.geometry.to_xyxy(), other.geometry.to_xyxy()
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def test_there_must_be_an_answer():
    with pytest.raises(ValueError, match="no answer"):
        agree()
