"""Splits: even by class, whole groups together, and never another one for what was put somewhere once."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from labels.errors import LabelingError
from sync.versions.leaks import compute_leaks
from sync.versions.looks import find_near_pairs, read_look
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
    assert set(find_near_pairs(looks)) == {("0", "small"), ("1", "bright")}
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert read_look(tmp_path / "broken.jpg") is None
