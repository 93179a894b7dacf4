"""Claims, what counts as seen, and files that are moved: without a database and without a detector."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiftyone_plugins.app.work import DrawnBoxes, find_work
from fiftyone_plugins.clean.claims import Claim, read_folder_claim, read_value_claim
from fiftyone_plugins.clean.files import copy_file, find_free, move_file, place_beside
from fiftyone_plugins.clean.judging import Criteria, check_classes, count_outcomes, find_boxes, format_table, judge
from labels.errors import ItemError, LabelingError

PERSON = Criteria(("person",))


def make_boxes(*boxes: tuple[str, float, tuple[float, float, float, float]]) -> DrawnBoxes:
    xyxy = np.array([place for *_, place in boxes], np.float32).reshape(-1, 4)
    return DrawnBoxes(xyxy, np.array([score for _, score, _ in boxes], np.float32), tuple(name for name, *_ in boxes))


# Claims


@pytest.mark.parametrize("text", ["all", "folder", "folder:people", "tag:night", "field:scene", "field:scene=street"])
def test_a_claim_is_written_as_it_was_read(text: str) -> None:
    assert Claim.from_text(text).text == text


@pytest.mark.parametrize("text", ["", "tag", "tag:", "field", "field:=a", "field:a=", "colour:red", "all:x"])
def test_what_is_no_claim_is_refused(text: str) -> None:
    with pytest.raises(LabelingError, match="is not known: expected all, folder"):
        Claim.from_text(text)


@pytest.mark.parametrize(
    ("path", "name", "claim"),
    [
        ("/a/traffic_light/x.jpg", None, True),
        ("/a/Traffic Light/2024/x.jpg", None, True),
        ("/a/no traffic light/x.jpg", None, False),
        ("/a/traffic light.jpg", None, False),
        ("/a/signals/x.jpg", "signals", True),
        ("/a/signals/x.jpg", "/a/signals", True),
        ("/b/signals/x.jpg", "/a/signals", False),
        ("/a/signals-old/x.jpg", "/a/signals", False),
    ],
)
def test_a_folder_claims_by_its_name_at_any_depth(path: str, name: str | None, claim: bool) -> None:
    assert read_folder_claim(Path(path), ["traffic light"], name) is claim


@pytest.mark.parametrize(
    ("value", "wanted", "claim"),
    [
        ("Person", None, True),
        (True, None, True),
        (False, None, False),
        (None, None, None),
        ([], None, False),
        ([None], None, False),
        (["car", "person"], None, True),
        ("keep", "keep", True),
        ("trash", "keep", False),
        (3, "3", True),
    ],
)
def test_a_field_claims_by_its_value_and_nothing_claims_nothing(value: Any, wanted: str | None, claim: Any) -> None:
    assert read_value_claim(value, ["person"], wanted) is claim


# Judging


@pytest.mark.parametrize(
    ("confidence", "claim", "outcome", "score"),
    [
        (0.9, True, "true positive", 0.1),
        (0.9, False, "false positive", 0.9),
        (0.1, True, "false negative", 0.9),
        (0.0, True, "false negative", 1.0),
        (0.1, False, "true negative", 0.1),
        (0.5, False, "false positive", 0.5),
        (0.3, True, "unsure, claimed", 0.7),
        (0.2, False, "unsure, not claimed", 0.2),
        (0.9, None, "no claim", None),
    ],
)
def test_an_image_is_judged_by_claim_and_confidence(
    confidence: float, claim: bool | None, outcome: str, score: float | None
) -> None:
    judged = judge(confidence, claim, PERSON)

    assert judged.outcome == outcome
    assert judged.score == (None if score is None else pytest.approx(score))


def test_boxes_of_other_classes_and_small_ones_do_not_count() -> None:
    drawn = make_boxes(
        ("car", 0.99, (0, 0, 100, 50)),
        ("Person", 0.4, (0, 0, 50, 40)),
        ("person", 0.8, (0, 0, 9, 11)),
        ("person", 0.6, (0, 0, 20, 5)),
        ("person", 0.9, (30, 30, 30, 45)),
    )

    assert find_boxes(drawn, PERSON, 100 * 50).tolist() == [4, 2, 3, 1]
    # 0.02 of 5000 pixels are 100: 99 are too few, 100 are enough.
    assert find_boxes(drawn, Criteria(("person",), min_size=0.02), 100 * 50).tolist() == [3, 1]
    assert find_boxes(make_boxes(), PERSON, 100 * 50).tolist() == []


def test_a_class_that_the_detector_cannot_name_is_refused() -> None:
    check_classes(["traffic_light"], frozenset({"Traffic Light"}))
    check_classes(["unicorn"], None)
    with pytest.raises(LabelingError, match="the detector does not know 'unicorn' \\(known: car, person\\)"):
        check_classes(["person", "unicorn"], frozenset({"person", "car"}))


def test_the_table_has_the_claim_in_the_place_of_the_truth() -> None:
    counts = count_outcomes(["true positive"] * 3 + ["false negative"] * 2 + ["false positive"] + ["true negative"] * 4)
    counts |= {"unsure, claimed": 5, "unsure, not claimed": 6}

    assert format_table(counts, ["person"]) == [
        "                     seen  unsure  not seen",
        "claimed: person      3 TP  5       2 FN",
        "not claimed: person  1 FP  6       4 TN",
    ]


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({}, "give at least one class"),
        ({"classes": []}, "give at least one class"),
        ({"classes": "person"}, "parameter 'classes': expected a list of texts"),
        ({"classes": ["a"], "threshold": 2}, "threshold 2: expected a number from 0 to 1"),
        ({"classes": ["a"], "unsure_from": 0.8}, "unsure from 0.8: expected at most the threshold 0.5"),
        ({"classes": ["a"], "model": "m", "seen_in": "predictions"}, "give one of them"),
    ],
)
def test_what_cannot_be_meant_is_refused(params: dict[str, Any], problem: str) -> None:
    with pytest.raises(LabelingError, match=problem):
        find_work("clean").read_params(params)


def test_a_threshold_below_doubt_leaves_no_doubt() -> None:
    criteria = find_work("clean").read_params({"classes": ["a"], "threshold": 0.1})["criteria"]

    assert (criteria.threshold, criteria.unsure_from) == (0.1, 0.1)


# Files


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_moved_file_gets_a_number_where_its_name_is_taken(tmp_path: Path) -> None:
    source = write(tmp_path / "a" / "x.jpg", "mine")
    write(tmp_path / "b" / "x.jpg", "other")
    write(tmp_path / "b" / "x-2.jpg", "mine")
    target = find_free(tmp_path / "b", source, for_copy=False)
    move_file(source, target)

    assert {path.name: path.read_text() for path in (tmp_path / "b").iterdir()} == {
        "x.jpg": "other",
        "x-2.jpg": "mine",
        "x-3.jpg": "mine",
    }
    assert not source.exists()


def test_a_file_is_never_moved_over_another_one(tmp_path: Path) -> None:
    source, target = write(tmp_path / "a.jpg", "mine"), write(tmp_path / "b.jpg", "other")

    with pytest.raises(ItemError, match=r"cannot be moved to .*b.jpg \(File exists\)"):
        move_file(source, target)
    assert (source.read_text(), target.read_text()) == ("mine", "other")


def test_a_move_that_was_killed_between_its_two_steps_is_ended(tmp_path: Path) -> None:
    source = write(tmp_path / "a" / "x.jpg", "mine")
    (tmp_path / "b").mkdir()
    os.link(source, tmp_path / "b" / "x.jpg")
    target = find_free(tmp_path / "b", source, for_copy=False)
    move_file(source, target)

    assert target == tmp_path / "b" / "x.jpg"
    assert (source.exists(), target.read_text()) == (False, "mine")


def test_a_file_moves_to_another_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = os.link

    def refuse(source: Any, target: Any, **options: Any) -> None:
        if Path(source).suffix != ".part":
            raise OSError(18, "Invalid cross-device link")
        link(source, target)

    monkeypatch.setattr(os, "link", refuse)
    source = write(tmp_path / "a" / "x.jpg", "mine")
    os.utime(source, (1000, 1000))
    move_file(source, tmp_path / "b" / "x.jpg")

    moved = tmp_path / "b" / "x.jpg"
    assert (source.exists(), moved.read_text(), moved.stat().st_mtime) == (False, "mine", 1000)
    assert [path.name for path in moved.parent.iterdir()] == ["x.jpg"]


def test_a_second_copy_of_the_same_bytes_is_not_made(tmp_path: Path) -> None:
    source = write(tmp_path / "x.jpg", "mine")
    for _ in range(2):
        copy_file(source, find_free(tmp_path / "b", source, for_copy=True))

    assert [path.name for path in (tmp_path / "b").iterdir()] == ["x.jpg"]


def test_the_folder_beside_has_a_name_that_every_disk_takes() -> None:
    assert place_beside(Path("/p/people/x.jpg"), "without person/rider") == Path("/p/people-without-person-rider")
