"""Scores of classifiers, held against scikit-learn and against cases that can be counted by hand; and their gate."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, top_k_accuracy_score

from sync.models.answers import (
    AnswerEvaluation,
    Answers,
    choose_answer_thresholds,
    evaluate_answers,
    read_evaluation,
)
from sync.models.bootstrap import draw_answer_differences, find_interval
from sync.models.boxes import Numbers
from sync.models.gate import Comparison, Rules, compare_answers, decide

CLASSES = tuple(f"class {number}" for number in range(8))
RULES = Rules(resamples=400)


def make_answers(truth: Numbers, *, seed: int, share_right: float, classes: int = len(CLASSES)) -> Answers:
    """Return probabilities whose surest class is people's on about this share of the images."""
    random = np.random.default_rng(seed)
    scores = random.dirichlet(np.ones(classes), len(truth))
    for row, number in enumerate(truth):
        said = int(number) if random.uniform() < share_right else int(random.integers(classes))
        best = int(scores[row].argmax())
        scores[row, [said, best]] = scores[row, [best, said]]
    return Answers(scores)


def make_truth(images: int, *, classes: int = 6, seed: int = 1) -> Numbers:
    return np.random.default_rng(seed).integers(0, classes, images)


def evaluate(truth: Numbers, answers: Answers, **more: float) -> AnswerEvaluation:
    return evaluate_answers("kind", CLASSES, truth, answers, **more)  # type: ignore[arg-type]


def compare(truth: Numbers, current: Answers, candidate: Answers, rules: Rules = RULES) -> Comparison:
    before, after = evaluate(truth, current), evaluate(truth, candidate)
    return compare_answers(before, after, truth, (current, candidate), rules, groups=np.arange(len(truth)))


def test_all_scores_are_those_of_scikit_learn() -> None:
    truth = make_truth(200)
    answers = make_answers(truth, seed=2, share_right=0.6)
    numbers = list(range(len(CLASSES)))

    ours = evaluate(truth, answers, default_threshold=0.0)

    said = answers.scores.argmax(axis=1)
    assert ours.top1 == pytest.approx((said == truth).mean())
    assert ours.top5 == pytest.approx(top_k_accuracy_score(truth, answers.scores, k=5, labels=numbers))
    assert [row[:-1] for row in ours.confusion] == [
        tuple(row) for row in confusion_matrix(truth, said, labels=numbers).tolist()
    ]
    precision, recall, _, examples = precision_recall_fscore_support(truth, said, labels=numbers, zero_division=0)
    for one, *theirs in zip(ours.classes[:6], precision[:6], recall[:6], examples[:6], strict=True):
        assert (one.precision, one.recall, one.examples) == pytest.approx(tuple(theirs))
        assert one.top1 == one.recall


def test_a_class_without_an_example_has_no_score() -> None:
    truth = make_truth(50)

    last = evaluate(truth, make_answers(truth, seed=2, share_right=0.5)).classes[-1]

    assert (last.examples, last.top1, last.top5, last.precision, last.recall) == (0, None, None, None, None)


def test_images_without_any_score_are_not_right_and_no_class_is_mistaken_for_another() -> None:
    truth = np.array([0, 1, 1])
    scores = np.full((3, len(CLASSES)), np.nan)
    scores[0, [0, 1]] = 0.7, 0.3

    found = evaluate(truth, Answers(scores))

    assert (found.unanswered, found.shown, found.top1, found.top5) == (2, 1, pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (found.confusion[0][0], found.confusion[1][-1], sum(map(sum, found.confusion))) == (1, 2, 3)
    assert (found.precision, found.calibration_error) == (1.0, pytest.approx(0.3, abs=1e-6))
    assert (found.classes[1].top1, found.classes[1].precision) == (0.0, None)


def test_a_model_that_knows_none_of_the_classes_is_never_right_and_nothing_is_known_of_its_scores() -> None:
    truth = np.array([0, 1])

    found = evaluate(truth, Answers(np.full((2, len(CLASSES)), np.nan)))

    assert (found.top1, found.unanswered, found.precision, found.calibration_error) == (0.0, 2, None, None)


def test_no_image_at_all_has_no_score() -> None:
    found = evaluate(np.zeros(0, np.int64), Answers(np.zeros((0, len(CLASSES)))))

    assert (found.images, found.top1, found.top5, found.recall, found.calibration_error) == (0, None, None, None, None)


def test_what_lies_below_its_threshold_is_not_shown_and_still_counts_for_top_1() -> None:
    scores = np.full((2, len(CLASSES)), 0.05)
    scores[0, 0], scores[1, 1] = 0.6, 0.4

    found = evaluate_answers(
        "kind", CLASSES, np.array([0, 1]), Answers(scores), thresholds={"class 0": 0.7}, default_threshold=0.3
    )

    assert (found.top1, found.shown, found.precision, found.recall) == (1.0, 1, 1.0, 0.5)
    assert (found.classes[0].precision, found.classes[0].recall, found.classes[0].threshold) == (None, 0.0, 0.7)


def test_a_threshold_is_where_f1_is_best_among_the_surest_classes() -> None:
    truth = np.array([0] * 8 + [1] * 10)
    scores = np.zeros((18, len(CLASSES)))
    # Eight right ones down to 0.61; then those that are a class 1 by people.
    scores[:, 0] = [0.95 - place / 20 for place in range(8)] + [0.55 - place / 100 for place in range(10)]
    scores[:, 2] = 0.1

    first, second, *_ = choose_answer_thresholds(CLASSES, truth, Answers(scores), fewest_examples=8)

    assert (first.value, first.precision, first.recall) == (0.6, 1.0, 1.0)
    assert (second.examples, second.value) == (10, None)


def test_an_evaluation_goes_to_json_and_back() -> None:
    truth = make_truth(60)
    evaluation = evaluate(truth, make_answers(truth, seed=3, share_right=0.7))

    assert read_evaluation(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    assert sum(one.images for one in evaluation.reliability) == 60


def test_the_interval_is_that_of_a_paired_difference() -> None:
    truth = make_truth(400)
    before, after = (make_answers(truth, seed=seed, share_right=0.7).best == truth for seed in (1, 2))

    groups = np.arange(len(truth))
    drawn = draw_answer_differences(before, after, truth, groups=groups, classes=len(CLASSES), draws=2000, seed=0)

    change = after.astype(float) - before.astype(float)
    # By the normal approximation of a mean.
    reach = 1.96 * change.std() / math.sqrt(len(change))
    assert find_interval(drawn.overall, 0.95) == pytest.approx(
        (change.mean() - reach, change.mean() + reach), abs=0.005
    )
    first = change[truth == 0]
    reach = 1.96 * first.std() / math.sqrt(len(first))
    interval = find_interval(drawn.classes[:, 0], 0.95)
    assert interval == pytest.approx((first.mean() - reach, first.mean() + reach), abs=0.02)
    assert np.isnan(drawn.classes[:, -1]).all()


def test_images_that_belong_together_tell_no_more_than_one_of_them() -> None:
    # Ten films of six frames; on each film one of the two classifiers is right, by the toss of a coin.
    truth, groups = np.zeros(60, np.int64), np.repeat(np.arange(10), 6)
    wins = []
    for seed in range(200):
        is_after = np.repeat(np.random.default_rng(seed).integers(0, 2, 10) == 1, 6)
        drawn = draw_answer_differences(~is_after, is_after, truth, groups=groups, classes=1, draws=200, seed=0)
        interval = find_interval(drawn.overall, 0.95)
        assert interval is not None
        wins.append(interval[0] > 0)

    # One in forty by the width of the interval; frame by frame it was one in five.
    assert sum(wins) / len(wins) < 0.06


def test_a_better_classifier_passes_a_worse_one_and_one_that_differs_by_chance_do_not() -> None:
    truth = make_truth(150)
    worse, better, like = (
        make_answers(truth, seed=seed, share_right=share) for seed, share in ((1, 0.4), (2, 0.9), (3, 0.4))
    )

    comparison = compare(truth, worse, better)

    assert (comparison.metric, comparison.baseline) == ("top-1", None)
    assert decide(comparison, RULES).is_pass
    assert decide(compare(truth, better, worse), RULES).reasons[0].endswith(": it is worse")
    assert "may be chance" in decide(compare(truth, worse, like), RULES).reasons[0]
    assert compare(truth, worse, better) == comparison


def test_a_class_that_falls_stops_a_classifier_that_is_better_on_the_whole() -> None:
    truth = np.array([0] * 30 + [1] * 70)
    right_on_first = np.zeros((100, 2))
    right_on_first[:, 0] = 1
    right_on_second = right_on_first[:, ::-1].copy()
    before, after = (
        evaluate_answers("kind", ("few", "many"), truth, Answers(scores))
        for scores in (right_on_first, right_on_second)
    )

    answers = (Answers(right_on_first), Answers(right_on_second))
    comparison = compare_answers(before, after, truth, answers, RULES, groups=np.arange(100))

    verdict = decide(comparison, RULES)
    assert (comparison.difference, verdict.decision) == (pytest.approx(0.4), "not better")
    assert verdict.reasons[0] == "class 'few' falls from 1.0000 to 0.0000 on 30 examples, by more than 0.05"
    assert decide(comparison, replace(RULES, fewest_examples=31)).is_pass


def test_where_no_model_answered_before_the_candidate_must_beat_the_commonest_class() -> None:
    truth = np.array([0] * 60 + [1] * 40)
    nothing = Answers(np.full((100, 2), np.nan))
    always_first = np.zeros((100, 2))
    always_first[:, 0] = 1
    knows = np.eye(2)[truth]
    verdicts = []
    for scores in (always_first, knows):
        after = evaluate_answers("kind", ("many", "few"), truth, Answers(scores))
        answers = (nothing, Answers(scores))
        comparison = compare_answers(None, after, truth, answers, RULES, groups=np.arange(100))
        verdicts.append((comparison, decide(comparison, RULES)))

    (_, first), (comparison, second) = verdicts
    assert (first.decision, second.decision) == ("not better", "better")
    assert (comparison.current, comparison.baseline) == (0.6, "many")
    assert [(one.current, one.low) for one in comparison.classes] == [(None, None), (None, None)]
    assert "top-1 1.0000 against 0.6000 of always 'many', +0.4000" in second.reasons[0]
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
