"""The gate: what is promoted, what is not, and what cannot be told."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from sync.models.bootstrap import draw_differences, read_matches, score_draw
from sync.models.boxes import Boxes
from sync.models.evaluation import evaluate_boxes
from sync.models.gate import ClassChange, Comparison, Rules, compare_models, decide
from tests.fakes.measured import make_comparison
from tests.sync.models.made_boxes import CLASSES, SIZE, ask_pycocotools, make_found, make_truth

RULES = Rules(resamples=300)
GOOD = make_comparison(
    ClassChange("car", 50, 0.5, 0.46), ClassChange("dog", 5, 0.9, 0.1), ClassChange("bus", 0, None, None)
)


def compare(images: int, truth: Boxes, current: Boxes, candidate: Boxes, rules: Rules = RULES) -> Comparison:
    before, after = (evaluate_boxes([SIZE] * images, CLASSES, truth, found) for found in (current, candidate))
    return compare_models(before, after, truth, (current, candidate), rules, groups=np.arange(images))


def test_a_model_that_is_better_on_many_images_passes() -> None:
    truth = make_truth(120)
    worse, better = make_found(truth, seed=1, off_px=8.0), make_found(truth, seed=2, off_px=3.0)

    comparison = compare(120, truth, worse, better)
    verdict = decide(comparison, RULES)

    assert verdict.is_pass, verdict
    assert comparison.low is not None
    assert comparison.high is not None
    assert 0 < comparison.low < comparison.candidate - comparison.current < comparison.high  # type: ignore[operator]
    assert decide(compare(120, truth, better, worse), RULES).reasons[0].endswith(": it is worse")


def test_two_models_that_differ_by_chance_do_not_pass_either_way() -> None:
    truth = make_truth(60)
    one, other = make_found(truth, seed=1, off_px=5.0), make_found(truth, seed=2, off_px=5.0)

    for pair in ((one, other), (other, one)):
        verdict = decide(compare(60, truth, *pair), RULES)
        assert verdict.decision == "not better"
        assert "may be chance" in verdict.reasons[0]


def test_the_same_model_is_no_better_than_itself() -> None:
    truth = make_truth(60)
    found = make_found(truth, seed=1, off_px=5.0)

    comparison = compare(60, truth, found, found)

    assert (comparison.difference, comparison.low, comparison.high) == (0.0, 0.0, 0.0)
    assert not decide(comparison, RULES).is_pass


def test_an_image_that_is_drawn_twice_counts_twice_as_pycocotools_counts_it() -> None:
    images, draws = 30, 8
    truth = make_truth(images)
    found = make_found(truth, seed=1, off_px=6.0)
    theirs = ask_pycocotools(truth, found, images)
    matches = read_matches(truth, found, images=images, classes=len(CLASSES))

    random = np.random.default_rng(7)
    kept = list(theirs.evalImgs)
    for _ in range(draws):
        drawn = random.integers(0, images, images)
        # Pycocotools sums up the matches of the images that were drawn, each as often as it was.
        theirs.evalImgs = [kept[start + image] for start in range(0, len(kept), images) for image in drawn]
        with contextlib.redirect_stdout(io.StringIO()):
            theirs.accumulate()
        precision = theirs.eval["precision"][:, :, :, 0, -1]

        ours = score_draw(matches, np.bincount(drawn, minlength=images))

        expected = [column.mean() if column.max() > -1 else np.nan for column in np.moveaxis(precision, 2, 0)]
        assert ours.tolist() == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_half_of_the_confidence_lies_on_each_side_of_the_median() -> None:
    truth = make_truth(60)
    pair = make_found(truth, seed=1, off_px=6.0), make_found(truth, seed=2, off_px=4.0)

    wide, narrow = compare(60, truth, *pair), compare(60, truth, *pair, rules=replace(RULES, confidence=0.5))

    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]
    for one in wide.classes[:3]:
        assert one.low < one.change < one.high  # type: ignore[operator]
    assert (wide.classes[3].low, wide.classes[3].high) == (None, None)


def test_the_same_seed_gives_the_same_interval_and_another_one_nearly_the_same() -> None:
    truth = make_truth(50)
    pair = make_found(truth, seed=1, off_px=6.0), make_found(truth, seed=2, off_px=4.0)

    first, again = compare(50, truth, *pair), compare(50, truth, *pair)
    other = compare(50, truth, *pair, rules=replace(RULES, seed=1))

    assert first == again
    assert other.low != first.low
    assert other.low == pytest.approx(first.low, abs=0.02)


def test_a_class_with_enough_examples_that_falls_stops_a_model_that_is_better_on_the_whole() -> None:
    fallen = replace(GOOD, classes=(ClassChange("car", 50, 0.5, 0.44), *GOOD.classes[1:]))

    assert decide(GOOD, RULES).decision == "better"
    verdict = decide(fallen, RULES)
    assert verdict.decision == "not better"
    assert verdict.reasons[0] == "class 'car' falls from 0.5000 to 0.4400 on 50 examples, by more than 0.05"
    assert decide(fallen, replace(RULES, class_margin=0.1)).is_pass
    assert decide(fallen, replace(RULES, fewest_examples=51)).is_pass


def test_too_few_images_decide_nothing_and_it_is_said() -> None:
    verdict = decide(replace(GOOD, images=29), RULES)

    assert verdict.decision == "undecided"
    assert verdict.reasons[0] == "29 test images are too few to decide (expected at least 30)"


def test_many_frames_of_a_few_films_decide_nothing_and_of_many_films_the_interval_is_wider() -> None:
    truth = make_truth(60)
    pair = make_found(truth, seed=1, off_px=8.0), make_found(truth, seed=2, off_px=3.0)
    before, after = (evaluate_boxes([SIZE] * 60, CLASSES, truth, found) for found in pair)

    few, many, alone = (
        compare_models(before, after, truth, pair, RULES, groups=np.arange(60) // frames) for frames in (10, 5, 1)
    )

    assert decide(few, RULES).reasons[0] == (
        "60 test images are 6 groups of images that belong together: too few to decide (expected at least 10)"
    )
    assert (few.groups, many.groups, alone.groups) == (6, 12, 60)
    assert decide(many, RULES).is_pass
    assert "60 images in 12 groups, " in decide(many, RULES).reasons[0]
    assert " groups" not in decide(alone, RULES).reasons[0]


def test_a_draw_takes_the_images_of_a_group_together() -> None:
    truth = make_truth(20)
    groups = np.arange(20) % 2
    pair = [
        read_matches(truth, make_found(truth, seed=seed, off_px=6.0), images=20, classes=len(CLASSES))
        for seed in (1, 2)
    ]

    drawn = draw_differences(pair[0], pair[1], groups=groups, draws=60, seed=1)

    # Of two groups a draw has one of them twice, or both: no other number can come of it.
    counts = [(groups == one) * 2 for one in (0, 1)] + [np.ones(20, np.int64)]
    expected = {round(float(np.nanmean(score_draw(pair[1], one) - score_draw(pair[0], one))), 9) for one in counts}
    assert {round(value, 9) for value in drawn.overall.tolist()} == expected


def test_images_without_anything_drawn_decide_nothing() -> None:
    nothing = Boxes.from_rows([])
    found = Boxes(nothing.images, nothing.classes, nothing.xyxy, np.zeros(0))

    comparison = compare(40, nothing, found, found)

    assert (comparison.difference, comparison.current) == (None, None)
    assert decide(comparison, RULES).decision == "undecided"


def test_where_no_class_has_enough_examples_the_reasons_say_so() -> None:
    verdict = decide(GOOD, replace(RULES, fewest_examples=1000))

    assert verdict.is_pass
    assert verdict.reasons[1] == "no class has 1000 examples: none was held to a margin of its own"


def test_a_comparison_goes_to_json_and_back() -> None:
    assert Comparison.from_dict(json.loads(json.dumps(GOOD.to_dict()))) == GOOD
