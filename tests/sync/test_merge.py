"""The three-way merge: what each rule does, and what holds for any three label sets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labels.errors import LabelingError
from labels.geometry import Box
from labels.results import Label, is_same
from sync.review.merge import (
    Conflict,
    Merge,
    Side,
    conflicts_version,
    decide,
    label_key,
    merge,
    with_bases_of,
)


def resolve(merged: Merge, *, prefer: Side) -> Merge:
    """Decide every conflict for one side."""
    return decide(merged, lambda _: prefer)


CAR = Label("1", "label", ("car",), Box(10, 20, 30, 40))
MOVED_CAR = replace(CAR, geometry=Box(11, 20, 30, 40))
TRUCK = replace(CAR, classes=("truck",))
DOG = Label("2", "label", ("dog",), Box(0, 0, 5, 5))
CAT = Label("3", "label", ("cat",), Box(50, 0, 5, 5))
KEEP = Label("k", "quality", ("keep",))
TRASH = Label("t", "quality", ("trash",))


def test_nothing_changed_is_nothing_to_write() -> None:
    assert merge([CAR, DOG], [CAR, DOG], [DOG, CAR]) == Merge((CAR, DOG), (), (CAR, DOG), changed=False)


def test_their_change_is_taken() -> None:
    assert merge([CAR], [CAR], [MOVED_CAR]) == Merge((MOVED_CAR,), (), (MOVED_CAR,), changed=True)


def test_our_change_stays_and_stays_ours_alone() -> None:
    assert merge([CAR], [MOVED_CAR], [CAR]) == Merge((MOVED_CAR,), (), (CAR,), changed=False)


def test_the_same_change_on_both_sides_is_one() -> None:
    assert merge([CAR], [MOVED_CAR], [MOVED_CAR]) == Merge((MOVED_CAR,), (), (MOVED_CAR,), changed=False)


def test_their_deletion_of_what_we_left_alone_is_taken() -> None:
    assert merge([CAR, DOG], [CAR, DOG], [DOG]) == Merge((DOG,), (), (DOG,), changed=True)


def test_our_deletion_of_what_they_left_alone_stays_ours_alone() -> None:
    assert merge([CAR, DOG], [DOG], [CAR, DOG]) == Merge((DOG,), (), (DOG, CAR), changed=False)


def test_different_changes_are_a_conflict_that_keeps_both_sides_and_the_base() -> None:
    merged = merge([CAR, DOG], [MOVED_CAR, DOG], [TRUCK, DOG, CAT])
    assert merged == Merge(
        labels=(MOVED_CAR, DOG, CAT),
        conflicts=(Conflict("1", base=CAR, ours=MOVED_CAR, theirs=TRUCK),),
        new_base=(CAR, DOG, CAT),
        changed=True,
    )


def test_deleted_here_and_changed_there_is_a_conflict() -> None:
    merged = merge([CAR], [], [TRUCK])
    assert merged == Merge((), (Conflict("1", CAR, None, TRUCK),), (CAR,), changed=False)


def test_changed_here_and_deleted_there_is_a_conflict_that_keeps_the_label() -> None:
    merged = merge([CAR], [TRUCK], [])
    assert merged == Merge((TRUCK,), (Conflict("1", CAR, TRUCK, None),), (CAR,), changed=False)


def test_one_id_added_differently_on_both_sides_is_a_conflict_without_a_base() -> None:
    merged = merge(None, [CAR], [TRUCK])
    assert merged == Merge((CAR,), (Conflict("1", None, CAR, TRUCK),), (), changed=False)


def test_a_first_pull_without_a_base_keeps_what_is_only_ours() -> None:
    assert merge(None, [DOG], [CAR]) == Merge((DOG, CAR), (), (CAR,), changed=True)


def test_their_empty_set_deletes_only_what_was_agreed() -> None:
    assert merge([CAR], [CAR, DOG], []).labels == (DOG,)


def test_the_confidence_is_no_change() -> None:
    sure = replace(CAR, confidence=0.9)
    assert merge([CAR], [sure], [CAR]) == Merge((sure,), (), (CAR,), changed=False)


def test_rounding_does_not_add_up_in_the_base() -> None:
    base = [CAR]
    for step in range(1, 6):
        theirs = replace(CAR, geometry=Box(10 + step * 0.001, 20, 30, 40))
        base = list(merge(base, [CAR], [theirs]).new_base)
    assert base == [CAR]


def test_answers_about_the_whole_image_are_matched_by_control() -> None:
    assert merge([KEEP], [KEEP], [TRASH]).labels == (TRASH,)
    assert merge([], [KEEP], [replace(KEEP, id="other")]).conflicts == ()


def test_two_different_answers_of_one_control_are_a_conflict_and_never_two_answers() -> None:
    merged = merge(None, [KEEP], [TRASH])
    assert merged == Merge((KEEP,), (Conflict("k", None, KEEP, TRASH),), (), changed=False)
    assert resolve(merged, prefer="theirs") == Merge((TRASH,), (), (TRASH,), changed=True)


@pytest.mark.parametrize("doubled", [[CAR, MOVED_CAR], [KEEP, TRASH]])
def test_an_id_or_answer_given_twice_is_an_error_that_names_it(doubled: list[Label]) -> None:
    with pytest.raises(LabelingError, match=r"(label '1'|control 'quality') occurs twice in theirs"):
        merge([], [], doubled)


def test_a_conflict_decided_for_us_becomes_a_change_of_ours_alone() -> None:
    merged = resolve(merge([CAR, DOG], [MOVED_CAR, DOG], [TRUCK, DOG]), prefer="ours")
    assert merged == Merge((MOVED_CAR, DOG), (), (TRUCK, DOG), changed=False)
    assert merge(merged.new_base, merged.labels, [TRUCK, DOG]) == merged


def test_a_conflict_decided_for_them_replaces_in_place() -> None:
    merged = resolve(merge([CAR, DOG], [MOVED_CAR, DOG], [TRUCK, DOG]), prefer="theirs")
    assert merged == Merge((TRUCK, DOG), (), (TRUCK, DOG), changed=True)


def test_a_deletion_can_win_a_conflict_on_either_side() -> None:
    assert resolve(merge([CAR], [TRUCK], []), prefer="theirs") == Merge((), (), (), changed=True)
    assert resolve(merge([CAR], [], [TRUCK]), prefer="ours") == Merge((), (), (TRUCK,), changed=False)
    assert resolve(merge([CAR], [], [TRUCK]), prefer="theirs") == Merge((TRUCK,), (), (TRUCK,), changed=True)


SHAPES = st.builds(
    Label,
    id=st.sampled_from("abcd"),
    control=st.just("label"),
    classes=st.sampled_from([("car",), ("dog",)]),
    geometry=st.builds(Box, st.integers(0, 1), st.just(0), st.just(5), st.just(7)),
    confidence=st.sampled_from([None, 0.25]),
)
ANSWERS = st.builds(
    Label, id=st.sampled_from("xy"), control=st.just("quality"), classes=st.sampled_from([("keep",), ("trash",)])
)
LABEL_SETS = st.lists(SHAPES | ANSWERS, max_size=5, unique_by=label_key).map(tuple)
Labels = tuple[Label, ...]


def _by_key(labels: Labels) -> dict[tuple[str, str], Label]:
    return {label_key(label): label for label in labels}


def _says_the_same(a: Labels, b: Labels) -> bool:
    first, second = _by_key(a), _by_key(b)
    return first.keys() == second.keys() and all(is_same(first[key], second[key]) for key in first)


@given(LABEL_SETS)
def test_merging_a_set_with_itself_is_the_identity(labels: Labels) -> None:
    assert merge(labels, labels, labels) == Merge(labels, (), labels, changed=False)


@given(LABEL_SETS, LABEL_SETS)
def test_where_they_changed_nothing_ours_stays_as_it_is(base: Labels, ours: Labels) -> None:
    assert merge(base, ours, base) == Merge(ours, (), merge(base, ours, base).new_base, changed=False)


@given(LABEL_SETS, LABEL_SETS)
def test_where_we_changed_nothing_theirs_is_taken(base: Labels, theirs: Labels) -> None:
    merged = merge(base, base, theirs)
    assert _says_the_same(merged.labels, theirs)
    assert _says_the_same(merged.new_base, theirs)
    assert merged.conflicts == ()


@given(st.none() | LABEL_SETS, LABEL_SETS, LABEL_SETS)
def test_no_label_disappears_unless_the_other_side_deleted_it_unchanged(
    base: Labels | None, ours: Labels, theirs: Labels
) -> None:
    merged = merge(base, ours, theirs)
    agreed = _by_key(base or ())
    kept = [*merged.labels, *(side for one in merged.conflicts for side in (one.ours, one.theirs) if side is not None)]
    for mine, other in ((ours, theirs), (theirs, ours)):
        for label in mine:
            was_deleted = label_key(label) not in _by_key(other)
            was_untouched = label_key(label) in agreed and is_same(agreed[label_key(label)], label)
            was_replaced = was_untouched and not was_deleted
            assert (was_deleted and was_untouched) or was_replaced or any(is_same(label, one) for one in kept)


@given(st.none() | LABEL_SETS, LABEL_SETS, LABEL_SETS)
def test_merging_again_changes_nothing_and_finds_the_same_conflicts(
    base: Labels | None, ours: Labels, theirs: Labels
) -> None:
    first = merge(base, ours, theirs)
    again = merge(first.new_base, first.labels, theirs)
    assert again == replace(first, changed=False, new_base=again.new_base)
    assert _says_the_same(again.new_base, first.new_base)


@given(st.none() | LABEL_SETS, LABEL_SETS, LABEL_SETS)
def test_both_sides_see_the_same_conflicts_and_agree_on_the_rest(
    base: Labels | None, ours: Labels, theirs: Labels
) -> None:
    here, there = merge(base, ours, theirs), merge(base, theirs, ours)
    disputed = {label_key(side) for one in here.conflicts for side in (one.ours, one.theirs) if side is not None}
    assert disputed == {
        label_key(side) for one in there.conflicts for side in (one.ours, one.theirs) if side is not None
    }
    assert _by_key(here.labels).keys() - disputed == _by_key(there.labels).keys() - disputed


@given(st.none() | LABEL_SETS, LABEL_SETS, LABEL_SETS, st.sampled_from(["ours", "theirs"]))
def test_a_decision_stands(base: Labels | None, ours: Labels, theirs: Labels, side: str) -> None:
    decided = resolve(merge(base, ours, theirs), prefer="ours" if side == "ours" else "theirs")
    again = merge(decided.new_base, decided.labels, theirs)
    assert again.conflicts == ()
    assert again.labels == decided.labels
    assert not again.changed


@given(st.none() | LABEL_SETS, LABEL_SETS, LABEL_SETS)
def test_changed_says_whether_the_held_set_differs_from_ours(base: Labels | None, ours: Labels, theirs: Labels) -> None:
    merged = merge(base, ours, theirs)
    assert merged.changed == (not _says_the_same(merged.labels, ours))
    assert [label for label in merged.labels if label in ours] == [label for label in ours if label in merged.labels]


def test_each_conflict_can_be_decided_for_a_side_of_its_own() -> None:
    base = (CAR, DOG)
    ours = (replace(CAR, classes=("bus",)), replace(DOG, classes=("bus",)))
    theirs = (replace(CAR, classes=("cat",)), replace(DOG, classes=("cat",)))
    sides = {CAR.id: "theirs", DOG.id: "ours"}
    decided = decide(merge(base, ours, theirs), lambda conflict: sides[conflict.label_id])
    assert decided == Merge((theirs[0], ours[1]), (), theirs, changed=True)
    assert merge(decided.new_base, decided.labels, theirs) == replace(decided, changed=False)


def test_a_conflict_that_nobody_decides_stays_with_its_base() -> None:
    ours = (replace(CAR, classes=("bus",)), replace(DOG, classes=("bus",)))
    theirs = (replace(CAR, classes=("cat",)), replace(DOG, classes=("cat",)))
    merged = merge((CAR, DOG), ours, theirs)
    decided = decide(merged, lambda conflict: "ours" if conflict.label_id == CAR.id else None)
    assert decided.conflicts == merged.conflicts[1:]
    assert decided.new_base == (theirs[0], DOG)
    assert decide(merged, lambda _: None) == merged


def test_an_answer_about_the_whole_image_is_decided_like_a_shape() -> None:
    ours, theirs = Label("1", "quality", ("keep",)), Label("2", "quality", ("trash",))
    stars = Label("3", "stars", rating=2), Label("4", "stars", rating=5)
    merged = merge(None, (ours, stars[0]), (theirs, stars[1]))
    decided = decide(merged, lambda conflict: "theirs" if conflict.label_id == "1" else "ours")
    assert decided == Merge((theirs, stars[0]), (), (theirs, stars[1]), changed=True)


def test_what_was_shown_is_told_from_what_changed_since() -> None:
    shown = Conflict("1", CAR, None, DOG)
    same = replace(shown, base=None, ours_at="2026-01-01T00:00:00.000000Z")
    assert conflicts_version([shown]) == conflicts_version([same])
    assert conflicts_version([shown]) != conflicts_version([replace(shown, theirs=CAR)])
    assert conflicts_version([shown]) != conflicts_version([])


def test_an_open_conflict_keeps_its_base_when_another_annotation_counts() -> None:
    bus, cat = replace(CAR, classes=("bus",)), replace(CAR, classes=("cat",))
    assert with_bases_of((cat, DOG), [Conflict(CAR.id, CAR, bus, cat)]) == (CAR, DOG)
    assert with_bases_of((cat, DOG), [Conflict(CAR.id, None, bus, cat)]) == (DOG,)
