"""What decisions about trash leave when they follow each other, are taken back in any order, or are interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fiftyone_plugins.app.journal import Journal, read_decided
from fiftyone_plugins.app.work import Tools, find_work
from fiftyone_plugins.quality.deciding import keep_by_hand, trash_by_hand
from fiftyone_plugins.quality.proposals import read_scored
from labels.errors import LabelingError
from labels.report import Report

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own

SMALL_IS_TRASH = {"thresholds": {"low_resolution": 0.1}}


def write_photo(path: Path, width: int = 64) -> None:
    levels = np.random.default_rng(width).integers(0, 255, (48, width, 3)).astype(np.uint8)
    Image.fromarray(levels).save(path)


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    return Tools(tmp_path / "curation")


@pytest.fixture
def photos(fiftyone: Any, tmp_path: Path, tools: Tools) -> Iterator[Any]:
    """Three small photos, measured."""
    dataset = fiftyone.Dataset("decided")
    for number in range(3):
        write_photo(tmp_path / f"{number}.png")
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    dataset.add_samples([fiftyone.Sample(filepath=path) for path in paths], progress=False)
    run(dataset, tools, "quality")
    yield dataset
    dataset.delete()


def run(samples: Any, tools: Tools, job: str, **params: Any) -> Report:
    report = find_work(job).perform(samples, params, tools)
    samples._dataset.reload()
    return report


@pytest.mark.parametrize("order", list(itertools.permutations(["trash-1", "keep-1", "trash-2"])), ids="+".join)
def test_decisions_are_taken_back_in_any_order_and_the_last_that_stands_says_what_an_image_is(
    photos: Any, tools: Tools, order: tuple[str, ...]
) -> None:
    base = [[], ["trash"], ["keep"]]
    photos.set_values("tags", base)
    run(photos, tools, "quality_decide", **SMALL_IS_TRASH)
    keep_by_hand(photos, tools.folder)
    trash_by_hand(photos, tools.folder)
    assert photos.values("tags") == [["trash"]] * 3

    standing = ["trash-1", "keep-1", "trash-2"]
    for decision in order:
        run(photos, tools, "quality_undo", run=decision)
        standing.remove(decision)
        # The rules tagged the first one alone; what a person had kept before, Keep did not change.
        found = {"trash-1": [["trash"], *base[1:]], "keep-1": [["keep"]] * 3, "trash-2": [["trash"]] * 3}
        assert photos.values("tags") == (found[standing[-1]] if standing else base)
    with pytest.raises(LabelingError, match="there is no decision to take back"):
        run(photos, tools, "quality_undo")


def test_what_a_person_calls_trash_after_a_rule_did_stays_trash_when_the_rules_decision_is_taken_back(
    photos: Any, tools: Tools
) -> None:
    run(photos, tools, "quality_decide", **SMALL_IS_TRASH)
    first = trash_by_hand(photos.limit(1), tools.folder)
    again = trash_by_hand(photos.limit(1), tools.folder)
    undone = run(photos, tools, "quality_undo", run="trash-1")

    assert (first, again) == (("trash-2", 1), (None, 0))
    assert photos.values("tags") == [["trash"], [], []]
    assert (undone.moved, undone.unchanged) == (2, 1)
    assert undone.notes == ("trash-1 is taken back", "as a later decision says, and so left: 1")
    run(photos, tools, "quality_undo")
    assert photos.values("tags") == [[], [], []]


def test_what_was_kept_and_is_called_trash_by_hand_is_no_longer_kept(photos: Any, tools: Tools) -> None:
    keep_by_hand(photos.limit(2), tools.folder)
    trash_by_hand(photos.limit(1), tools.folder)

    assert photos.values("tags") == [["trash"], ["keep"], []]
    assert [one.said for one in read_scored(photos)] == [None, "keep", None]


def test_what_a_person_keeps_while_rules_tag_is_not_tagged(photos: Any, tools: Tools) -> None:
    def keep_meanwhile(done: float | None, message: str) -> None:
        if message.startswith("tagging"):
            keep_by_hand(photos.limit(1), tools.folder)

    report = run(photos, Tools(tools.folder, keep_meanwhile), "quality_decide", **SMALL_IS_TRASH)

    assert photos.values("tags") == [["keep"], ["trash"], ["trash"]]
    assert (report.moved, report.unchanged) == (2, 1)
    logged = [change["sample_id"] for change in read_decided(tools.folder, photos.name, "trash-1").changes]
    assert logged == photos.values("id")[1:]


def test_what_a_person_keeps_between_the_log_and_the_tag_is_not_tagged_either(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Journal.add

    def add_and_keep(journal: Journal, changes: Any) -> None:
        add(journal, changes)
        if journal.run.startswith("trash"):
            keep_by_hand(photos.limit(1), tools.folder)

    monkeypatch.setattr(Journal, "add", add_and_keep)
    run(photos, tools, "quality_decide", **SMALL_IS_TRASH)

    assert photos.values("tags") == [["keep"], ["trash"], ["trash"]]


def test_a_keep_that_was_killed_before_its_tags_leaves_the_trash_and_can_be_taken_back(
    photos: Any, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash_by_hand(photos.limit(1), tools.folder)

    def die(*_given: Any, **_named: Any) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fiftyone_plugins.quality.deciding.change_tags", die)
        with pytest.raises(KeyboardInterrupt):
            keep_by_hand(photos, tools.folder)
    run(photos, tools, "quality_undo", run="keep-1")

    assert photos.values("tags") == [["trash"], [], []]


def test_other_tags_and_absent_ones_are_no_obstacle(photos: Any, tools: Tools) -> None:
    photos.set_values("tags", [["night", "trash", "rain"], None, ["keep"]])
    keep_by_hand(photos, tools.folder)
    kept = photos.values("tags")
    run(photos, tools, "quality_undo")

    assert kept == [["night", "rain", "keep"], ["keep"], ["keep"]]
    assert [sorted(tags) for tags in photos.values("tags")] == [["night", "rain", "trash"], [], ["keep"]]


# Files that changed since they were measured


def test_a_file_that_was_replaced_is_measured_anew(photos: Any, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"half a picture")
    broken = run(photos, tools, "quality")
    was = photos.values("quality_corrupt")
    write_photo(tmp_path / "0.png", 80)
    sound = run(photos, tools, "quality")

    assert (broken.moved, was) == (1, [1.0, 0.0, 0.0])
    assert (sound.moved, photos.values("quality_corrupt")) == (1, [0.0, 0.0, 0.0])
    assert run(photos, tools, "quality").moved == 0


def test_nothing_is_said_any_more_of_a_file_that_is_gone(photos: Any, tools: Tools, tmp_path: Path) -> None:
    (tmp_path / "0.png").unlink()
    reports = [run(photos, tools, "quality", everything=every) for every in (False, True)]

    assert [[one.sample_id for one in report.failed] for report in reports] == [photos.values("id")[:1]] * 2
    for path in ("quality_corrupt", "quality_low_resolution", "quality_stamp", "quality_proposal"):
        assert [value is None for value in photos.values(path)] == [True, False, False]
    run(photos, tools, "quality_decide", **SMALL_IS_TRASH)
    assert photos.values("tags") == [[], ["trash"], ["trash"]]


def test_scores_of_another_file_than_the_one_there_is_decide_nothing(photos: Any, tools: Tools, tmp_path: Path) -> None:
    write_photo(tmp_path / "0.png", 80)
    would = run(photos, tools, "quality_decide", dry_run=True, **SMALL_IS_TRASH)
    run(photos, tools, "quality_decide", **SMALL_IS_TRASH)

    assert would.moved == 2
    assert would.notes == ("left out, since their files changed: 1 (labelloop quality measures them anew)",)
    assert photos.values("tags") == [[], ["trash"], ["trash"]]


def test_what_was_measured_before_files_had_a_stamp_is_measured_once_more(photos: Any, tools: Tools) -> None:
    photos.delete_sample_field("quality_stamp")

    assert [run(photos, tools, "quality").moved for _ in range(2)] == [3, 0]


def test_fields_that_were_made_before_they_said_whose_they_are_are_taken_over(
    fiftyone: Any, photos: Any, tools: Tools
) -> None:
    about = "1: cannot be read; 0.5: damaged, and shown nevertheless; 0: sound"
    photos.get_field("quality_corrupt").description = about
    for path in ("quality_dark", "aesthetic_mean"):
        photos.get_field(path).description = None
    # A person moved them out of the plugin's group.
    photos.app_config.sidebar_groups = [fiftyone.SidebarGroupDocument(name="mine", paths=["quality_dark"])]
    photos.save()
    run(photos, tools, "quality")

    assert photos.get_field("quality_dark").description == "labelloop: how far its brightest parts are from white"
    assert photos.get_field("aesthetic_mean").description == "labelloop: written by quality"


def test_a_persons_own_field_of_the_same_name_is_refused(fiftyone: Any, tools: Tools, tmp_path: Path) -> None:
    write_photo(tmp_path / "0.png")
    dataset = fiftyone.Dataset("own")
    dataset.add_sample(fiftyone.Sample(filepath=str(tmp_path / "0.png"), quality_reason="too near"))
    with pytest.raises(LabelingError, match="field 'quality_reason' is there already and is not labelloop's"):
        run(dataset, tools, "quality")

    assert dataset.values("quality_reason") == ["too near"]
    assert not dataset.has_sample_field("quality_dark")
    dataset.delete()
