"""Ranking on small plans that can be checked by eye: directions on a circle, a handful of values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sync.review.choosing import NEAR_DUPLICATE, Candidate, Chosen, choose_farthest, choose_highest, choose_random


def at(degrees: float, *, length: float = 1.0) -> list[float]:
    return [length * math.cos(math.radians(degrees)), length * math.sin(math.radians(degrees))]


def ids(selection) -> list[str]:
    return [one.sample_id for one in selection.chosen]


def test_the_highest_come_first_and_equals_keep_their_order():
    candidates = [Candidate("a", 0.2), Candidate("b", 0.9), Candidate("c", 0.2), Candidate("d", 0.5)]
    assert choose_highest(candidates, [], 3).chosen == (Chosen("b", 0.9), Chosen("d", 0.5), Chosen("a", 0.2))


def test_what_was_not_computed_comes_after_zero():
    candidates = [Candidate("none"), Candidate("nan", math.nan), Candidate("zero", 0.0), Candidate("minus", -1.0)]
    assert choose_highest(candidates, [], 9).chosen == (
        Chosen("zero", 0.0),
        Chosen("minus", -1.0),
        Chosen("none", None),
        Chosen("nan", None),
    )


def test_a_near_duplicate_of_what_waits_or_was_chosen_is_held_back():
    waiting = [Candidate("w", embedding=at(0))]
    candidates = [
        Candidate("like w", 0.9, at(10, length=5)),
        Candidate("own", 0.8, at(90)),
        Candidate("like own", 0.7, at(95)),
        Candidate("far", 0.6, at(180)),
        Candidate("without", 0.5),
    ]
    selection = choose_highest(candidates, waiting, 9)
    assert ids(selection) == ["own", "far", "without"]
    assert selection.held_back == ("like w", "like own")


def test_the_limit_of_a_near_duplicate_is_a_cosine_distance():
    limit_deg = math.degrees(math.acos(1 - NEAR_DUPLICATE))
    for degrees, kept in ((limit_deg - 0.1, ["a"]), (limit_deg + 0.1, ["a", "b"])):
        assert ids(choose_highest([Candidate("a", 2, at(0)), Candidate("b", 1, at(degrees))], [], 2)) == kept


def test_one_of_a_group_goes_at_a_time():
    waiting = [Candidate("w", groups=("look:1",))]
    candidates = [
        Candidate("of w", 0.9, groups=("sum:x", "look:1")),
        Candidate("a", 0.8, groups=("look:2",)),
        Candidate("b", 0.7, groups=("look:2",)),
        Candidate("c", 0.6, groups=()),
    ]
    assert ids(choose_highest(candidates, waiting, 9)) == ["a", "c"]


def test_chance_follows_from_the_seed_alone():
    candidates = [Candidate(f"{n:02}") for n in range(30)]
    drawn = ids(choose_random(candidates, [], 5, seed=1))
    assert drawn == ids(choose_random(candidates[::-1], [], 5, seed=1))
    assert drawn != ids(choose_random(candidates, [], 5, seed=2))
    assert len(set(drawn)) == 5


def test_the_farthest_from_all_that_is_there_comes_first():
    waiting, answered = [Candidate("w", embedding=at(0))], [Candidate("r", embedding=at(90))]
    candidates = [Candidate(f"{degrees}", embedding=at(degrees)) for degrees in (45, 130, 230, 300)]
    selection = choose_farthest(candidates, waiting, answered, 3)
    # 230 is 130 from w; then 300 is 60 from w, 130 is 40 from r, 45 is 45 from both.
    assert ids(selection) == ["230", "300", "45"]
    assert [one.value for one in selection.chosen] == pytest.approx(
        [1 - math.cos(math.radians(degrees)) for degrees in (130, 60, 45)], abs=1e-6
    )


def test_with_nothing_to_be_distant_from_the_middle_comes_first():
    candidates = [Candidate(f"{degrees}", embedding=at(degrees)) for degrees in (0, 40, 50, 110)]
    selection = choose_farthest(candidates, [], [], 2)
    assert selection.chosen[0] == Chosen("50", None)
    assert ids(selection)[1] == "110"


def test_the_farthest_leave_near_duplicates_out_however_many_are_asked_for():
    waiting = [Candidate("w", embedding=at(0), groups=("g:1",))]
    candidates = [
        Candidate("like w", embedding=at(3)),
        Candidate("of w", embedding=at(200), groups=("g:1",)),
        Candidate("a", embedding=at(90), groups=("g:2",)),
        Candidate("of a", embedding=at(180), groups=("g:2",)),
        Candidate("like a", embedding=at(92)),
    ]
    selection = choose_farthest(candidates, waiting, [], 9)
    assert ids(selection) == ["of a", "like a"]
    assert set(selection.held_back) == {"like w", "of w", "a"}


def test_what_has_no_embedding_comes_last_and_one_of_a_group():
    candidates = [
        Candidate("x", groups=("g:1",)),
        Candidate("a", embedding=at(10), groups=("g:1",)),
        Candidate("y"),
        Candidate("z"),
    ]
    selection = choose_farthest(candidates, [], [], 3)
    assert selection.chosen == (Chosen("a", None), Chosen("y", None), Chosen("z", None))
    assert selection.held_back == ("x",)


def test_many_vectors_are_spread_as_by_the_textbook():
    """The greedy k-center of the paper, written as it stands there."""
    vectors = np.random.default_rng(7).normal(size=(60, 5))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    distance = 1 - unit @ unit.T
    centres, expected = [0], []
    while len(expected) < 10:
        nearest = distance[:, centres].min(axis=1)
        expected.append(int(np.argmax(nearest)))
        centres.append(expected[-1])
    candidates = [Candidate(str(n), embedding=vectors[n].tolist()) for n in range(1, 60)]
    waiting = [Candidate("0", embedding=vectors[0].tolist())]
    assert ids(choose_farthest(candidates, waiting, [], 10)) == [str(n) for n in expected]


def test_embeddings_of_two_models_are_refused():
    with pytest.raises(ValueError, match="inhomogeneous"):
        choose_farthest([Candidate("a", embedding=[1, 0]), Candidate("b", embedding=[1, 0, 0])], [], [], 1)
    with pytest.raises(ValueError, match="all zero"):
        choose_highest([Candidate("a", embedding=[0, 0])], [], 1)
