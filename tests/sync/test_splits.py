"""Splits: even by class, whole groups together, and never another one for what was put somewhere once."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse.csgraph import connected_components

from labels.errors import LabelingError
from sync.versions.leaks import compute_leaks
from sync.versions.looks import find_near_twins, read_look, tie_near
from sync.versions.splits import Assigned, Candidate, assign_splits, read_ratios
from tests.fakes.pictures import draw_picture


def candidate(number: int, *classes: str, keys: tuple[str, ...] = ()) -> Candidate:
    sha256 = hashlib.sha256(str(number).encode()).hexdigest()
    return Candidate(f"{number:024x}", sha256, frozenset(keys), frozenset(classes))


def test_each_class_has_its_share_in_each_split():
    # 200 cars, of which every tenth shows a bus too, and 50 images that show nothing.
    some = [candidate(number, "car", *(["bus"] if number % 10 == 0 else [])) for number in range(200)]
    some += [candidate(number) for number in range(200, 250)]
    places = assign_splits(some, {}, ratios=(70, 20, 10))
    shown = Counter((places[one.sample_id].split, name) for one in some for name in one.classes or {"nothing"})
    assert [shown[split, "car"] for split in ("train", "val", "test")] == [140, 40, 20]
    assert [shown[split, "bus"] for split in ("train", "val", "test")] == [14, 4, 2]
    assert [shown[split, "nothing"] for split in ("train", "val", "test")] == [35, 10, 5]


def test_neither_order_nor_names_decide():
    some = [candidate(number, "car") for number in range(60)]
    renamed = [Candidate(f"{999 - at:024x}", one.sha256, one.keys, one.classes) for at, one in enumerate(some)]
    first = {one.sha256: assign_splits(some, {})[one.sample_id].split for one in some}
    second = {one.sha256: assign_splits(renamed, {})[one.sample_id].split for one in renamed}
    assert first == second


SOME = st.lists(
    st.tuples(st.integers(0, 40), st.frozensets(st.sampled_from("abcd"), max_size=3), st.sampled_from(["", "x", "y"])),
    max_size=40,
    unique_by=lambda one: one[0],
)
SPLIT = st.sampled_from(["train", "val", "test"])


@given(SOME, st.dictionaries(st.integers(0, 40), SPLIT), st.sampled_from([(80, 10, 10), (34, 33, 33), (100, 0, 0)]))
def test_what_is_frozen_stays_and_what_belongs_together_is_not_parted(some, frozen, ratios):
    candidates = [candidate(number, *classes, keys=(key,) if key else ()) for number, classes, key in some]
    known = {candidate(number).sha256: Assigned(split) for number, split in frozen.items()}
    places = assign_splits(candidates, known, ratios=ratios)
    assert places.keys() == {one.sample_id for one in candidates}
    for one in candidates:
        assert places[one.sample_id].is_new is (one.sha256 not in known)
        if one.sha256 in known:
            assert places[one.sample_id].split == known[one.sha256].split
    for key in ("x", "y"):
        fresh = {places[one.sample_id].split for one in candidates if key in one.keys and one.sha256 not in known}
        assert len(fresh) <= 1
    # Whatever was new is where all of its unit is: a second look moves nothing.
    again = {one.sha256: Assigned(places[one.sample_id].split, one.keys) for one in candidates}
    assert {key: one.split for key, one in assign_splits(candidates, known | again).items()} == {
        key: one.split for key, one in places.items()
    }
    leaks = compute_leaks(candidates, places, alike=(), threshold_bits=6)
    if not known:
        assert leaks.total == 0


def test_a_group_whose_old_members_are_gone_is_where_they_were():
    gone = {"f" * 64: Assigned("test", frozenset({"listing=7"}))}
    (place,) = assign_splits([candidate(1, "car", keys=("listing=7",))], gone).values()
    assert (place.split, place.is_new) == ("test", True)


def test_each_leak_is_counted_once_for_its_gravest_reason():
    same = candidate(1, keys=("listing=1",))
    twin = Candidate("f" * 24, same.sha256, same.keys)
    alone, like = candidate(2), candidate(3)
    split_of = {same.sample_id: "train", twin.sample_id: "test", alone.sample_id: "train", like.sample_id: "val"}
    frozen = {alone.sha256: Assigned("train"), like.sha256: Assigned("val")}
    places = assign_splits([alone, like], frozen)
    places |= {key: type(places[alone.sample_id])(split, None, False) for key, split in split_of.items()}  # type: ignore[arg-type]
    pairs = [(alone.sample_id, like.sample_id), (same.sample_id, twin.sample_id)]
    leaks = compute_leaks([same, twin, alone, like], places, alike=pairs, threshold_bits=6)
    assert (leaks.same_file, leaks.same_group, leaks.near, leaks.total) == (1, 0, 1, 2)
    assert compute_leaks([alone], places, alike=None, threshold_bits=None).near is None


def test_a_whole_group_that_lies_in_two_splits_leaks_and_takes_no_pair_for_each_two_of_it():
    some = [candidate(number, keys=("camera=A",)) for number in range(2000)]
    frozen = {one.sha256: Assigned("val" if number < 20 else "train") for number, one in enumerate(some)}
    places = assign_splits(some, frozen)
    alike = [(one.sample_id, some[0].sample_id) for one in some[1:]]
    tracemalloc.start()
    leaks = compute_leaks(some, places, alike=alike, threshold_bits=6)
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (leaks.same_group, leaks.near) == (20, 0)
    assert len(leaks.pairs) == 20, "one for each image of val and test"
    assert most_bytes < 5_000_000, "two million pairs took two hundred"


def test_a_new_group_follows_where_most_of_those_were_that_had_its_keys():
    gone = {f"{number:064x}": Assigned("val", frozenset({"camera=A"})) for number in range(3)}
    gone |= {f"{number:064x}": Assigned("train", frozenset({"camera=A", "day=7"})) for number in range(3, 5)}
    some = [candidate(number, keys=("camera=A", "day=7")) for number in range(4)]
    places = assign_splits(some, gone)
    assert {place.split for place in places.values()} == {"train"}
    assert {place.split for place in assign_splits([candidate(1, keys=("camera=A",))], gone).values()} == {"val"}


LOOKS = st.lists(st.sampled_from([0, 1, 0x7F, 0xFF, 0xFFF, 0x1FFF, 2**63, 2**64 - 1]), max_size=12)


@given(LOOKS, st.lists(SPLIT, min_size=12, max_size=12))
def test_what_looks_alike_is_tied_together_and_each_twin_in_another_split_is_found(numbers, splits):
    looks = {f"{at:02}": f"{number:016x}" for at, number in enumerate(numbers)}
    parts = dict(zip(looks, splits, strict=False))
    near = {(a, b) for a in looks for b in looks if a != b and (int(looks[a], 16) ^ int(looks[b], 16)).bit_count() <= 6}
    ties = list(tie_near(looks))
    assert {*ties} <= near
    assert len(ties) < max(len(looks), 1)
    assert units_of(looks, ties) == units_of(looks, near)
    twins = dict(find_near_twins(looks, parts))
    assert twins.keys() == {a for a, b in near if parts[a] != parts[b]}
    assert all((a, b) in near and parts[a] != parts[b] for a, b in twins.items())


def units_of(names, pairs):
    order = {name: at for at, name in enumerate(names)}
    joined = np.eye(len(order))
    for a, b in pairs:
        joined[order[a], order[b]] = 1
    _, units = connected_components(joined, directed=False)
    return {frozenset(name for name in order if units[order[name]] == unit) for unit in units}


@pytest.mark.parametrize("text", ["80,10", "80,10,10,0", "a,b,c", "0,50,50", "90,10,10", "-10,100,10", ""])
def test_shares_that_make_no_hundred_are_refused(text: str):
    with pytest.raises(LabelingError, match="splits"):
        read_ratios(text)


def test_copies_look_alike_and_others_do_not(tmp_path):
    paths = {}
    for number in range(6):
        picture = draw_picture(number)
        paths[f"{number}"] = tmp_path / f"{number}.png"
        picture.save(paths[f"{number}"])
    small = draw_picture(0).resize((60, 40))
    bright = Image.fromarray(np.clip(np.asarray(draw_picture(1), dtype=np.int16) + 12, 0, 255).astype(np.uint8))
    for name, picture in (("small", small), ("bright", bright)):
        paths[name] = tmp_path / f"{name}.jpg"
        picture.save(paths[name], quality=70)
    looks = {name: read_look(path) for name, path in paths.items()}
    assert set(tie_near(looks)) == {("0", "small"), ("1", "bright")}
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert read_look(tmp_path / "broken.jpg") is None
