"""Which image a name in a label file means: by content, by path, by the end of a path, and never a guess."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.imports.matching import FileIndex, NoMatchError


def test_a_name_is_found_by_its_longest_end_and_never_opened():
    root = Path("/photos")
    index = FileIndex(root, [root / "a/x.jpg", root / "b/x.jpg", root / "b/y.png"])
    assert index.find("/elsewhere/b/x.jpg") == root / "b/x.jpg"
    assert index.find("C:\\data\\a\\x.jpg") == root / "a/x.jpg"
    assert index.find("../../b/y.png") == root / "b/y.png"
    assert index.find("y.jpg") == root / "b/y.png"
    with pytest.raises(NoMatchError, match="2 images have this name"):
        index.find("x.jpg")
    for name in ("../../etc/passwd", "/etc/passwd", "", "..", "z.jpg"):
        with pytest.raises(NoMatchError, match="no image of this name"):
            index.find(name)


def test_a_content_counts_more_than_a_name():
    root = Path("/photos")
    index = FileIndex(root, [root / "a.jpg", root / "b.jpg"], {root / "a.jpg": "1", root / "b.jpg": "2"})
    assert index.find("a.jpg", "2") == root / "b.jpg"
    assert index.find("a.jpg", "3") == root / "a.jpg"


def test_a_whole_path_means_its_file_whatever_else_has_that_name():
    root = Path("/photos")
    index = FileIndex(root, [root / "a.jpg", root / "sub/a.jpg", root / "sub/deep/a.jpg"])
    assert index.find("a.jpg") == root / "a.jpg"
    assert index.find("sub/a") == root / "sub/a.jpg"
    assert index.find("/photos/sub/deep/a.jpg") == root / "sub/deep/a.jpg"
    with pytest.raises(NoMatchError, match="3 images have this name"):
        index.find("elsewhere/a.jpg")
    begun = FileIndex(root, [root / "a.jpg", root / "sub/a.jpg"], labels=root / "sub")
    assert begun.find("a.jpg") == root / "sub/a.jpg", "a path begins where the label file lies"


PARTS = st.sampled_from(["a", "b", "a.0001", "a.jpg", "images"])
PATHS = st.builds(lambda parts, suffix: "/".join(parts) + suffix, st.lists(PARTS, min_size=1, max_size=3),
                  st.sampled_from([".jpg", ".png"]))  # fmt: skip


@given(st.sets(PATHS, min_size=1, max_size=8))
def test_each_file_is_found_at_its_path_and_nothing_else_without_a_suffix_than_what_has_that_name(names: set[str]):
    root = Path("/photos")
    index = FileIndex(root, [root / name for name in sorted(names)])
    for name in names:
        assert index.find(name) == index.find(str(root / name)) == root / name
        stem = str(Path(name).with_suffix(""))
        alike = [one for one in names if str(Path(one).with_suffix("")) == stem]
        if stem not in names and len(alike) == 1:
            assert index.find(stem) == root / name


def test_only_the_suffix_of_an_image_can_be_another_one():
    root = Path("/photos")
    index = FileIndex(root, [root / "clip.jpg", root / "shot.0001.png"])
    assert index.find("clip.HEIC") == root / "clip.jpg"
    assert index.find("shot.0001") == root / "shot.0001.png"
    for name in ("clip.0001", "shot.0002", "shot"):
        with pytest.raises(NoMatchError, match="no image of this name"):
            index.find(name)


def test_an_accent_that_is_a_letter_of_its_own_is_the_same_name():
    root = Path("/photos")
    index = FileIndex(root, [root / unicodedata.normalize("NFD", "é/ü.jpg")])
    assert index.find("é/ü.jpg") == index.find(unicodedata.normalize("NFD", "ü.jpg"))
