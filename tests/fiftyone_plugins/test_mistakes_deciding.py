"""What people decide about findings: what becomes of the label, of the list, and how it is taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson import json_util

from fiftyone_plugins.mistakes.deciding import accept, keep, undo
from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.ranking import Finding, Kept, list_findings
from fiftyone_plugins.mistakes.storing import read_documents
from labels.errors import LabelingError
from tests.fiftyone_plugins.planted_mistakes import (
    CAR_BOX,
    MISSING,
    SHIFTED,
    SWAPPED,
    make_planted,
    read_all,
    read_found,
    run,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # FiftyOne's own


@pytest.fixture
def boxes(fiftyone: Any, tmp_path: Path) -> Iterator[Any]:
    dataset = make_planted(fiftyone, tmp_path)
    yield dataset
    dataset.delete()


def test_accepting_a_swapped_class_changes_the_label_and_undo_brings_it_back(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    before = list(boxes)[SWAPPED].mistakenness
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["swapped"])
    boxes.reload()
    label = list(boxes)[SWAPPED].ground_truth.detections[0]
    assert (label.label, label.colour, label.mistake_kind) == ("car", "red", None)
    assert list(boxes)[SWAPPED].mistakenness < 0.1 < before

    undo(boxes, tmp_path)
    boxes.reload()
    label = list(boxes)[SWAPPED].ground_truth.detections[0]
    assert (label.label, label.mistake_kind) == ("dog", "swapped")
    assert list(boxes)[SWAPPED].mistakenness == before


def test_accepting_moves_a_box_and_adds_a_missing_one_under_the_proposals_id(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes.skip(MISSING).limit(2)._dataset, tmp_path)
    accept(boxes, tmp_path, found["location"])
    # Of the two samples with something missing, that of the image with a car.
    sample = list(boxes)[MISSING]
    (document,) = read_documents(boxes, [sample.id], ["ground_truth"])
    (missing,) = list_findings([document], ["ground_truth"], {})
    accept(boxes, tmp_path, missing)
    boxes.reload()

    np.testing.assert_allclose(list(boxes)[SHIFTED].ground_truth.detections[0].bounding_box, CAR_BOX, atol=1e-6)
    added = list(boxes)[MISSING].ground_truth.detections[1]
    assert (added.id, added.label, added.confidence) == (missing.label_id, "dog", None)
    assert list(boxes)[MISSING].mistake_proposals.detections == []


def test_a_superfluous_box_goes_and_comes_back_with_undo(fiftyone: Any, boxes: Any, tmp_path: Path) -> None:
    sample = boxes.first()
    twin = fiftyone.Detection(label="car", bounding_box=[0.1, 0.21, 0.4, 0.4], colour="blue")
    sample.ground_truth.detections.append(twin)
    sample.save()
    run(boxes, tmp_path)
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["rule"])
    boxes.reload()
    assert [one.id == twin.id for one in boxes.first().ground_truth.detections] == [False, False]

    undo(boxes, tmp_path)
    boxes.reload()
    assert boxes.first().ground_truth.detections[-1].colour == "blue"


def test_a_label_that_was_changed_since_the_list_was_read_is_not_touched(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    sample = boxes[finding.sample_id]
    sample.ground_truth.detections[0].label = "cat"
    sample.save()
    with pytest.raises(LabelingError, match="was changed meanwhile"):
        accept(boxes, tmp_path, finding)
    boxes.reload()
    assert boxes[finding.sample_id].ground_truth.detections[0].label == "cat"
    assert Decisions(tmp_path, boxes.name).read() == {}


def test_what_was_kept_lowers_mistakenness_at_once_and_in_the_next_run(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    keep(boxes, tmp_path, finding)
    boxes.reload()
    lowered = boxes[finding.sample_id].mistakenness
    assert lowered < 0.1
    run(boxes, tmp_path)
    assert boxes[finding.sample_id].mistakenness == lowered
    assert "swapped" not in read_all(boxes, tmp_path)


def test_undo_leaves_a_label_that_was_changed_again(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    accept(boxes, tmp_path, read_all(boxes, tmp_path)["swapped"])
    sample = boxes.skip(SWAPPED).first()
    sample.reload()
    sample.ground_truth.detections[0].label = "cat"
    sample.save()
    with pytest.raises(LabelingError, match="was changed since"):
        undo(boxes, tmp_path)


def find_label(dataset: Any, finding: Finding) -> Any:
    dataset.reload()
    return next(one for one in dataset[finding.sample_id].ground_truth.detections if one.id == finding.label_id)


def work_on(dataset: Any, finding: Finding) -> None:
    """What a curator or a pull does with a label: an attribute changes, one is new, it gets a tag."""
    sample = dataset[finding.sample_id]
    sample.reload()
    label = next(one for one in sample.ground_truth.detections if one.id == finding.label_id)
    label["colour"], label["occluded"] = "blue", True
    label.tags.append("checked")
    sample.save()


@pytest.mark.parametrize("kind", ["swapped", "location"])
def test_what_people_said_of_a_label_since_stays_when_its_change_is_taken_back(
    boxes: Any, tmp_path: Path, kind: str
) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)[kind]
    before = find_label(boxes, finding)
    accept(boxes, tmp_path, finding)
    boxes.reload()
    work_on(boxes, finding)

    undo(boxes, tmp_path)

    label = find_label(boxes, finding)
    assert (label.label, label.bounding_box) == (before.label, before.bounding_box)
    assert (label.colour, label.occluded, label.tags) == ("blue", True, ["checked"])


def test_what_people_say_of_a_label_while_a_change_is_accepted_stays(
    boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(boxes, tmp_path)
    finding = read_all(boxes, tmp_path)["swapped"]
    record = Decisions.record

    def record_late(self: Decisions, *about: Any) -> int:
        work_on(boxes, finding)
        return record(self, *about)

    monkeypatch.setattr(Decisions, "record", record_late)
    accept(boxes, tmp_path, finding)
    label = find_label(boxes, finding)
    assert (label.label, label.colour, label.tags) == ("car", "blue", ["checked"])


def test_what_people_said_of_an_images_class_stays_when_its_change_is_taken_back(
    fiftyone: Any, dataset: Any, tmp_path: Path
) -> None:
    sample = dataset.first()
    sample["kind"] = fiftyone.Classification(label="elm", mistake_kind="class", mistake_class=0.9)
    sample.save()
    label_id = sample.kind.id
    finding = Finding(
        sample.id, sample.filepath, "kind", "class", 0.9, "", label_id, "elm", None, "ash", None, "relabel"
    )
    accept(dataset, tmp_path, finding)
    sample.reload()
    assert sample.kind.label == "ash"
    sample.kind.tags.append("checked")
    sample.save()

    undo(dataset, tmp_path)

    sample.reload()
    assert (sample.kind.label, sample.kind.mistake_kind, sample.kind.tags) == ("elm", "class", ["checked"])


def find_gap(dataset: Any, folder: Path) -> Finding:
    sample_id = dataset.values("id")[MISSING]
    return next(one for one in read_found(dataset, folder) if (one.kind, one.sample_id) == ("missing", sample_id))


def test_a_proposal_comes_back_when_its_box_is_taken_back(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = find_gap(boxes, tmp_path)
    before = boxes[finding.sample_id].mistakenness
    accept(boxes, tmp_path, finding)
    boxes.reload()
    assert boxes[finding.sample_id].mistakenness < 0.1 < before

    undo(boxes, tmp_path)

    boxes.reload()
    assert boxes[finding.sample_id].mistakenness == before
    assert find_gap(boxes, tmp_path) == finding
    assert len(boxes[finding.sample_id].ground_truth.detections) == 1


def test_an_added_box_that_people_worked_on_since_is_not_taken_back(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    finding = find_gap(boxes, tmp_path)
    accept(boxes, tmp_path, finding)
    boxes.reload()
    work_on(boxes, finding)
    with pytest.raises(LabelingError, match="was changed since: it stays as it is now"):
        undo(boxes, tmp_path)
    assert find_label(boxes, finding).colour == "blue"


def test_a_decision_that_cannot_be_taken_back_does_not_stand_before_the_others(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes, tmp_path)
    keep(boxes, tmp_path, found["location"])
    accept(boxes, tmp_path, found["swapped"])
    boxes.delete_samples([found["swapped"].sample_id])

    with pytest.raises(LabelingError, match=r"the image was deleted since\. Undo again takes back the decision before"):
        undo(boxes, tmp_path)
    assert undo(boxes, tmp_path) == found["location"].sample_id
    assert Decisions(tmp_path, boxes.name).kept() == {}
    with pytest.raises(LabelingError, match="there is nothing to undo"):
        undo(boxes, tmp_path)


def test_a_change_that_was_killed_before_it_was_made_can_be_passed_over(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes, tmp_path)
    keep(boxes, tmp_path, found["location"])
    (document,) = read_documents(boxes, [found["swapped"].sample_id], ["ground_truth"])
    held = json.loads(json_util.dumps(document["ground_truth"]["detections"][0]))
    Decisions(tmp_path, boxes.name).record(found["swapped"], held, {**held, "label": "car"})

    with pytest.raises(LabelingError, match="is what it was before already"):
        undo(boxes, tmp_path)
    assert undo(boxes, tmp_path) == found["location"].sample_id


def test_a_change_that_is_refused_takes_no_other_persons_decision_along(
    boxes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes, tmp_path)
    record = Decisions.record

    def record_and_be_overtaken(self: Decisions, *about: Any) -> int:
        number = record(self, *about)
        keep(boxes, tmp_path, found["location"])
        sample = boxes[found["swapped"].sample_id]
        sample.ground_truth.detections[0].label = "cat"
        sample.save()
        return number

    monkeypatch.setattr(Decisions, "record", record_and_be_overtaken)
    with pytest.raises(LabelingError, match="was changed meanwhile"):
        accept(boxes, tmp_path, found["swapped"])
    (left,) = Decisions(tmp_path, boxes.name).read().values()
    assert (left["do"], left["sample_id"]) == ("keep", found["location"].sample_id)


def test_the_tag_goes_with_what_was_kept_and_comes_back_with_undo(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path)
    found = read_all(boxes, tmp_path)
    for decide, kind in ((keep, "swapped"), (accept, "location")):
        sample = boxes[found[kind].sample_id]
        decide(boxes, tmp_path, found[kind])
        sample.reload()
        assert sample.tags == []
        undo(boxes, tmp_path)
        sample.reload()
        assert sample.tags == ["mistake"]


def test_the_tag_goes_by_the_threshold_of_the_last_run(boxes: Any, tmp_path: Path) -> None:
    run(boxes, tmp_path, threshold=1)
    finding = read_all(boxes, tmp_path)["swapped"]
    keep(boxes, tmp_path, finding)
    undo(boxes, tmp_path)
    boxes.reload()
    assert boxes[finding.sample_id].tags == []


def test_a_kept_class_of_an_image_stays_kept_when_another_annotation_says_it_again() -> None:
    kept = Kept("s", "kind", "a", "elm", None)
    again = Finding("s", "/a.jpg", "kind", "class", 0.9, "", "b", "elm")
    assert kept.covers(again)
    assert not kept.covers(replace(again, label="ash"))
    assert not kept.covers(replace(again, field="other"))
