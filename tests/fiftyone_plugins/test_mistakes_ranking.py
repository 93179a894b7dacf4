"""The ranked list, what people decided about it, the pictures, and classes of whole images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fiftyone_plugins.mistakes.decisions import Decisions
from fiftyone_plugins.mistakes.image_labels import judge_labels, predict_out_of_sample, spread_answers
from fiftyone_plugins.mistakes.marking import SUGGESTED, SUSPECTED, draw_finding, make_picture
from fiftyone_plugins.mistakes.ranking import Finding, compute_mistakenness, list_findings, read_findings
from fiftyone_plugins.mistakes.work import MISTAKES
from labels.errors import ItemError, LabelingError

ROW = {"bounding_box": [0.1, 0.2, 0.3, 0.4]}
DOCUMENT: dict[str, Any] = {
    "_id": "s1",
    "filepath": "/photos/a.jpg",
    "disagreement": 0.4,
    "annotators": 3,
    "mistake_swapped": 0.8,
    "ground_truth": {
        "detections": [
            {"_id": "a", "label": "car", **ROW, "mistake_swapped": 0.8, "mistake_location": 0.1,
             "mistake_kind": "swapped", "mistake_reason": "labelled car, the detector sees truck here",
             "mistake_suggestion": "truck"},
            {"_id": "b", "label": "car", **ROW, "mistake_swapped": 0.02, "mistake_kind": None},
            {"_id": "c", "label": "dog", **ROW, "mistake_location": 0.6, "mistake_kind": "location",
             "mistake_reason": "elsewhere", "mistake_box": [0.5, 0.5, 0.2, 0.2]},
        ]
    },
    "mistake_proposals": {
        "detections": [
            {"_id": "p", "label": "cat", **ROW, "mistake_missing": 0.9, "mistake_field": "ground_truth",
             "mistake_reason": "the detector sees a cat here"},
        ]
    },
}  # fmt: skip
FIELDS = ("ground_truth",)


def keep(folder: Path, finding: Finding) -> Decisions:
    decisions = Decisions(folder, "photos")
    decisions.keep(finding)
    return decisions


def test_the_likeliest_comes_first_whatever_kind_it_is():
    found = list_findings([DOCUMENT], FIELDS, {})
    assert [(one.kind, one.score, one.remedy) for one in found] == [
        ("missing", 0.9, "add"),
        ("swapped", 0.8, "relabel"),
        ("location", 0.6, "move"),
        ("disagreement", 0.4, None),
    ]
    assert found[-1].reason == "3 people gave answers that differ by 40%"


def test_a_kind_can_be_listed_alone():
    assert [one.label_id for one in list_findings([DOCUMENT], FIELDS, {}, kinds=["location"])] == ["c"]


def test_what_was_kept_is_not_listed_while_the_label_stays_the_same(tmp_path: Path):
    missing, swapped, *_ = list_findings([DOCUMENT], FIELDS, {})
    keep(tmp_path, missing)
    kept = keep(tmp_path, swapped).kept()
    assert [one.kind for one in list_findings([DOCUMENT], FIELDS, kept)] == ["location", "disagreement"]
    assert compute_mistakenness(DOCUMENT, FIELDS, kept["s1"]) == 0.6

    first, *others = DOCUMENT["ground_truth"]["detections"]
    moved = {**DOCUMENT, "ground_truth": {"detections": [{**first, "bounding_box": [0.2, 0.2, 0.3, 0.4]}, *others]}}
    assert [one.kind for one in list_findings([moved], FIELDS, kept)] == ["swapped", "location", "disagreement"]


def test_a_missing_box_that_was_kept_away_stays_away_when_another_model_draws_it_a_little_off(tmp_path: Path):
    missing = list_findings([DOCUMENT], FIELDS, {})[0]
    (proposal,) = DOCUMENT["mistake_proposals"]["detections"]
    other = {**proposal, "_id": "q", "bounding_box": [0.11, 0.2, 0.3, 0.4]}
    document = {**DOCUMENT, "mistake_proposals": {"detections": [other]}}
    kept = keep(tmp_path, missing).kept()
    assert "missing" not in [one.kind for one in list_findings([document], FIELDS, kept)]


def test_a_decision_taken_back_counts_no_more(tmp_path: Path):
    decisions = keep(tmp_path, read_findings(DOCUMENT, FIELDS)[0])
    (number,) = decisions.read()
    decisions.undo(number)
    assert decisions.kept() == {}
    decisions.keep(read_findings(DOCUMENT, FIELDS)[1])
    assert list(decisions.read()) == [3]


def test_each_of_several_who_decide_at_once_is_told_the_number_of_its_own_line(tmp_path: Path):
    finding = read_findings(DOCUMENT, FIELDS)[0]
    after = [{"by": number} for number in range(40)]

    def record(one: dict[str, int]) -> int:
        return Decisions(tmp_path, "photos").record(finding, None, one)

    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(record, after))
    told = Decisions(tmp_path, "photos").read()
    assert [told[number]["after"] for number in numbers] == after


def test_a_line_that_was_cut_off_by_a_kill_does_not_hide_the_others(tmp_path: Path):
    decisions = keep(tmp_path, read_findings(DOCUMENT, FIELDS)[0])
    with decisions.file.open("a") as stream:
        stream.write('{"do": "ke')
    decisions.keep(read_findings(DOCUMENT, FIELDS)[1])
    assert [one.label_id for one in decisions.kept()["s1"]] == ["a", "c"]
    assert list(decisions.read()) == [1, 3]


def test_mistakenness_is_none_where_nothing_was_judged_and_zero_where_nothing_is_wrong():
    bare = {"_id": "s2", "filepath": "/b.jpg", "ground_truth": {"detections": []}}
    assert compute_mistakenness(bare, FIELDS, ()) is None
    assert compute_mistakenness(bare | {"mistake_swapped": 0.0}, FIELDS, ()) == 0.0


def test_the_picture_marks_the_label_in_red_and_the_suggestion_in_green(tmp_path: Path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (300, 200), (120, 120, 120)).save(path)
    finding = Finding("s", str(path), "ground_truth", "location", 0.9, "", "a", "dog", (0.2, 0.2, 0.2, 0.3),
                      new_box=(0.5, 0.4, 0.2, 0.3))  # fmt: skip
    with Image.open(path) as image:
        colours = {colour for _, colour in draw_finding(image, finding).getcolors(100_000) or ()}
    assert {SUSPECTED, SUGGESTED} <= colours
    made = make_picture(finding, tmp_path / "pictures")
    assert made == make_picture(finding, tmp_path / "pictures")
    with Image.open(made) as picture:
        assert picture.size == (400, 300)


def test_an_image_that_cannot_be_read_has_no_picture(tmp_path: Path):
    finding = Finding("s", str(tmp_path / "gone.jpg"), None, "disagreement", 0.5, "")
    with pytest.raises(ItemError, match=r"gone\.jpg: cannot be read"):
        make_picture(finding, tmp_path)


def test_flipped_classes_are_found_first():
    random = np.random.default_rng(0)
    middles = random.normal(0, 1, (4, 16))
    truth = np.repeat(np.arange(4), 40)
    vectors = (middles[truth] + random.normal(0, 0.35, (160, 16))).astype(np.float32)
    names = np.array(["ash", "elm", "fir", "oak"])
    given = truth.copy()
    flipped = random.choice(160, 16, replace=False)
    given[flipped] = (given[flipped] + 1) % 4
    labels = [str(name) for name in names[given]]
    probabilities, classes = predict_out_of_sample(vectors, labels)
    judged = judge_labels(labels, probabilities, classes)
    first = np.argsort([-one.score for one in judged])[:16]
    assert len(set(first) & set(flipped)) >= 12
    right = [judged[row].suggestion == names[truth[row]] for row in flipped]
    assert sum(right) >= 12


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(["oak"] * 4, "one class"), (["oak", "oak", "oak", "elm"], "'elm' has one image")],
)
def test_what_nothing_can_be_learned_of_is_said(labels: list[str], problem: str):
    with pytest.raises(LabelingError, match=problem):
        predict_out_of_sample(np.eye(4, dtype=np.float32), labels)


def test_a_models_answer_leaves_the_rest_to_the_other_classes():
    probabilities, classes = spread_answers(["elm", "oak"], [0.7, None], ["oak", "fir"])
    assert classes == ["elm", "fir", "oak"]
    np.testing.assert_allclose(probabilities, [[0.7, 0.15, 0.15], [0.005, 0.005, 0.99]])


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"kind": "masks"}, "kind 'masks' is not known"),
        ({"threshold": 2}, "threshold 2: expected a number from 0 to 1"),
        ({"colour": "red"}, "parameter 'colour' is not known"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(params: dict[str, Any], problem: str):
    with pytest.raises(LabelingError, match=problem):
        MISTAKES.read_params(params)
