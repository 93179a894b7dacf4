"""Finding and grouping of images that show the same, on pictures drawn here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from fiftyone_plugins.duplicates.comparing import SAME_PICTURE, compute_likeness
from fiftyone_plugins.duplicates.decisions import Decisions
from fiftyone_plugins.duplicates.finding import NEAR, Checker, Rules, choose_examples, find_pairs
from fiftyone_plugins.duplicates.fingerprint_store import FingerprintStore
from fiftyone_plugins.duplicates.fingerprints import Fingerprint, read_fingerprint
from fiftyone_plugins.duplicates.grouping import Member, Pair, join_pairs, make_groups, name_groups
from labels.errors import ItemError


def draw(seed: int, size: tuple[int, int] = (320, 200)) -> Image.Image:
    """Return a picture of blurred coloured blocks; another one for each seed."""
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def save(picture: Image.Image, path: Path, **options: Any) -> Fingerprint:
    picture.save(path, **options)
    return read_fingerprint(path)


def find(prints: list[Fingerprint], *methods: str) -> set[tuple[int, int]]:
    """Return the pairs that hold."""
    rules = Rules(methods)
    checker = Checker(prints, rules)
    return {(pair.first, pair.second) for pair in find_pairs(prints, None, rules) if checker(pair)}


def test_the_same_bytes_are_found_and_nothing_else_by_their_sum(tmp_path: Path) -> None:
    prints = [save(draw(1), tmp_path / "a.png"), save(draw(2), tmp_path / "b.png"), save(draw(1), tmp_path / "c.png")]
    assert find(prints, "exact") == {(0, 2)}


def test_a_picture_is_known_again_re_encoded_resized_turned_and_mirrored(tmp_path: Path) -> None:
    picture = draw(1)
    others = [
        save(picture, tmp_path / "poor.jpg", quality=20),
        save(picture.resize((150, 94)), tmp_path / "small.png"),
        save(picture.rotate(90, expand=True), tmp_path / "turned.png"),
        save(ImageOps.mirror(picture), tmp_path / "mirrored.png"),
        save(picture.convert("L"), tmp_path / "grey.png"),
    ]
    prints = [save(picture, tmp_path / "a.png"), *others, save(draw(2), tmp_path / "other.png")]
    found = find(prints, "phash")
    assert {(0, row) for row in range(1, 6)} <= found
    assert not {pair for pair in found if 6 in pair}


def test_pictures_of_one_colour_are_nobodys_duplicates(tmp_path: Path) -> None:
    wide, high = Image.new("RGB", (40, 20), "teal"), Image.new("RGB", (20, 40), "teal")
    prints = [save(one, tmp_path / f"{number}.png") for number, one in enumerate((wide, high, wide.resize((80, 40))))]
    vectors = {row: np.ones(8, np.float32) for row in range(3)}
    assert find(prints, "exact", "phash") == set()
    assert find_pairs(prints, vectors, Rules(("phash", "near"), 1.0, check=False)) == []


def test_a_crop_is_laid_onto_the_whole_and_another_picture_cannot_be(tmp_path: Path) -> None:
    picture = draw(1)
    whole, crop, blurred, other = (
        save(one, tmp_path / f"{number}.png").small
        for number, one in enumerate(
            (picture, picture.crop((16, 10, 304, 190)), picture.filter(ImageFilter.GaussianBlur(4)), draw(2))
        )
    )
    assert compute_likeness(whole, crop) >= SAME_PICTURE
    assert compute_likeness(whole, blurred) >= SAME_PICTURE
    assert compute_likeness(whole, other) < SAME_PICTURE


def test_what_vectors_propose_is_looked_at_unless_that_is_not_wanted(tmp_path: Path) -> None:
    prints = [save(draw(seed), tmp_path / f"{seed}.png") for seed in (1, 2)]
    vectors = {0: np.array([1.0, 0.0], np.float32), 1: np.array([1.0, 0.1], np.float32)}
    for check, expected in ((True, []), (False, [(0, 1)])):
        rules = Rules(("near",), 0.2, check=check)
        checker = Checker(prints, rules)
        found = [(pair.first, pair.second) for pair in find_pairs(prints, vectors, rules) if checker(pair)]
        assert found == expected


def test_a_damaged_file_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    with pytest.raises(ItemError, match=r"broken\.jpg"):
        read_fingerprint(tmp_path / "broken.jpg")


def test_fingerprints_come_back_from_their_files_the_newest_of_each_sample(tmp_path: Path) -> None:
    old, new = save(draw(1), tmp_path / "a.png"), save(draw(2), tmp_path / "b.png")
    store = FingerprintStore(tmp_path)
    store.append([("s1", "1", old), ("s2", "1", old)])
    store.append([("s1", "2", new)])
    found = FingerprintStore(tmp_path).read()
    assert {name: stamp for name, (stamp, _) in found.items()} == {"s1": "2", "s2": "1"}
    read = found["s1"][1]
    assert (read.sha256, read.width, read.height, read.sharpness) == (new.sha256, 320, 200, new.sharpness)
    assert np.array_equal(read.small, new.small)


def pair(first: int, second: int, distance: float = 0.1, rank: int = NEAR) -> Pair:
    return Pair(rank, distance, first, second)


def groups_of(*pairs: Pair, count: int = 6, apart: tuple[tuple[int, int], ...] = ()) -> list[set[int]]:
    held = join_pairs(pairs, count, apart)
    return [{row for one in some for row in (one.first, one.second)} for _, some in sorted(held.items())]


def test_pairs_that_touch_make_one_group() -> None:
    assert groups_of(pair(0, 1), pair(1, 2), pair(4, 5)) == [{0, 1, 2}, {4, 5}]


def test_what_was_set_apart_never_comes_together_whatever_lies_between() -> None:
    assert groups_of(pair(0, 1, 0.1), pair(1, 2, 0.2), apart=((0, 2),)) == [{0, 1}]
    assert groups_of(pair(0, 1), pair(2, 3), pair(1, 2, 0.3), apart=((0, 3),)) == [{0, 1}, {2, 3}]


def test_a_pair_inside_a_group_is_not_looked_at_again() -> None:
    looked_at = []

    def look(one: Pair) -> bool:
        looked_at.append((one.first, one.second))
        return True

    join_pairs([pair(0, 1, 0.1), pair(1, 2, 0.2), pair(0, 2, 0.3)], 3, (), look)
    assert looked_at == [(0, 1), (1, 2)]


def test_the_keeper_is_reviewed_before_labelled_before_large_before_sharp() -> None:
    members = [
        Member("large", "1", pixels=900, sharpness=9),
        Member("reviewed", "2", pixels=10, is_reviewed=True),
        Member("labelled", "3", pixels=10, labels=2),
        Member("sharp", "4", pixels=100, sharpness=5),
        Member("soft", "5", pixels=100, sharpness=1),
    ]
    (group,) = make_groups(join_pairs([pair(0, row) for row in range(1, 5)], 5), members)
    assert [members[row].sample_id for row in group.members] == ["reviewed", "labelled", "large", "sharp", "soft"]


def test_a_group_across_splits_is_a_leak_and_labels_that_differ_are_told() -> None:
    members = [
        Member("a", "1", splits=("train",), said=(("cat",),)),
        Member("b", "2", splits=("test",), said=(("dog",),)),
        Member("c", "3", splits=("train",), said=(("cat",),)),
        Member("d", "4", said=(("cat",),)),
        Member("e", "5"),
        Member("f", "6"),
    ]
    groups = make_groups(join_pairs([pair(0, 1), pair(2, 3), pair(4, 5)], 6), members)
    assert [(group.is_leak, group.differs) for group in groups] == [(True, True), (False, False), (False, None)]


def test_a_group_keeps_its_name_when_images_join_and_gives_it_to_its_larger_part() -> None:
    first = [Member("b", "bb"), Member("c", "cc")]
    (name,) = name_groups([first])
    grown = [Member("a", "aa"), *(Member(one.sample_id, one.content, old_group=name) for one in first)]
    assert name_groups([grown]) == [name]
    assert name_groups([list(reversed(first))]) == [name]
    small = [Member("x", "xx", old_group=name), Member("y", "yy")]
    names = name_groups([small, grown])
    assert names[1] == name
    assert names[0] != name


def test_some_pairs_of_every_distance_are_kept_to_be_looked_at() -> None:
    many = [pair(0, row, 0.1 + row / 1e5) for row in range(1, 200)]
    examples = choose_examples([*many, pair(0, 300, 0.305), pair(0, 1, 0.0, rank=0)], of_each=3)
    assert [one.second for one in examples] == [1, 100, 199, 300]


def test_decisions_are_read_again_in_a_new_process_and_undone_ones_do_not_count(tmp_path: Path) -> None:
    decisions = Decisions(tmp_path)
    decisions.record("keep", "g", ["a"])
    decisions.record("drop", "g", ["b", "c"])
    decisions.record("apart", "g", ["c"], ["a", "b"])
    again = Decisions(tmp_path)
    assert again.latest() == {"a": "keep", "b": "drop", "c": "apart"}
    assert again.apart() == {("a", "c"), ("b", "c")}
    last = again.find_last()
    assert last is not None
    again.undo(last)
    assert Decisions(tmp_path).latest() == {"a": "keep", "b": "drop", "c": "drop"}
    assert Decisions(tmp_path).apart() == set()


def test_decisions_of_two_who_write_at_once_both_count_and_each_is_taken_back(tmp_path: Path) -> None:
    panel, job = Decisions(tmp_path), Decisions(tmp_path)
    panel.record("drop", "g", ["a"])
    dropped = job.record("drop", "g", ["b"])
    assert Decisions(tmp_path).latest() == {"a": "drop", "b": "drop"}
    panel.undo(dropped)
    assert panel.latest() == Decisions(tmp_path).latest() == {"a": "drop"}
    last = Decisions(tmp_path).find_last()
    assert last is not None
    job.undo(last)
    assert Decisions(tmp_path).latest() == {}


def test_a_line_that_a_killed_process_left_half_is_passed_over(tmp_path: Path) -> None:
    Decisions(tmp_path).record("keep", "g", ["a"])
    with (tmp_path / "decisions.jsonl").open("ab") as file:
        file.write(b'{"number": 2, "action": "dr')
    decisions = Decisions(tmp_path)
    decisions.record("drop", "g", ["b"])
    assert Decisions(tmp_path).latest() == {"a": "keep", "b": "drop"}


def test_many_pictures_that_are_alike_propose_few_pairs_each_and_come_together(tmp_path: Path) -> None:
    base = save(draw(1), tmp_path / "a.png")
    noise = np.random.default_rng(0).integers(-9, 10, (300, *base.small.shape))
    smalls = np.clip(base.small.astype(int) + noise, 0, 255).astype(np.uint8)
    prints = [replace(base, sha256=str(row), small=small) for row, small in enumerate(smalls)]
    pairs = find_pairs(prints, None, Rules(("phash",)))
    assert len(pairs) < 300 * 8 * 13
    (held,) = join_pairs(pairs, len(prints)).values()
    assert len({row for one in held for row in (one.first, one.second)}) == 300


def test_labels_are_compared_field_by_field_among_images_that_say_something() -> None:
    members = [Member("a", "1", said=("car", None)), Member("b", "2", said=("car", "sunny"))]
    (group,) = make_groups(join_pairs([pair(0, 1)], 2), members)
    assert group.differs is False
