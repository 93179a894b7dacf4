import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.answers.uncertainty import (
    CANDIDATE_FLOOR,
    NOTHING_FOUND_UNCERTAINTY,
    SCORE_NAMES,
    Candidate,
    compute_corrections,
    compute_disagreement,
    compute_iou_matrix,
    compute_least_confidence,
    compute_mean_entropy,
    compute_rarity,
    compute_u_mean,
    compute_u_rare,
    compute_u_sum,
    compute_uncertainties,
    to_score,
)

probabilities = st.lists(st.floats(0, 1), min_size=1)
counts = st.dictionaries(st.sampled_from(["car", "bus", "cat"]), st.integers(0, 10_000))
candidates = st.lists(
    st.builds(Candidate, st.sampled_from(["car", "bus", "cat", "dog"]), st.floats(0, 1), st.booleans()), max_size=120
)


@dataclass
class View:
    xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    class_ids: npt.NDArray[np.int64]


def make_view(*rows: tuple[float, float, float, float, float, int]) -> View:
    table = np.array(rows, np.float64).reshape(-1, 6)
    return View(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int64))


# u_mean


def test_u_mean_is_one_minus_the_mean_probability() -> None:
    assert compute_u_mean([0.9, 0.7, 0.5]) == pytest.approx(0.3)


def test_boxes_of_probability_one_are_certain_and_of_zero_are_not() -> None:
    assert (compute_u_mean([1.0]), compute_u_mean([0.0])) == (0.0, 1.0)


@given(probabilities)
def test_uncertainty_and_score_stay_between_zero_and_one(values: list[float]) -> None:
    uncertainty = compute_u_mean(values)

    assert 0 <= uncertainty <= 1
    assert to_score(uncertainty) == pytest.approx(sum(values) / len(values))


@given(probabilities)
def test_the_order_of_the_boxes_does_not_matter(values: list[float]) -> None:
    assert compute_u_mean(values) == pytest.approx(compute_u_mean(values[::-1]))
    assert compute_u_sum(values) == compute_u_sum(values[::-1])


@given(probabilities, st.integers(0), st.floats(0, 1))
def test_a_surer_box_makes_the_image_less_uncertain(values: list[float], place: int, higher: float) -> None:
    surer = list(values)
    surer[place % len(values)] = max(higher, surer[place % len(values)])

    assert compute_u_mean(surer) <= compute_u_mean(values) + 1e-12


# u_sum and the effort


def test_the_effort_is_the_summed_entropy_of_the_boxes_above_the_floor() -> None:
    # H(1/4) = 2 - 3/4 log2 3 bits; .5 has one bit, 1.0 none, .05 itself is below the floor.
    expected = 1 + (2 - 0.75 * math.log2(3))

    assert compute_corrections([0.5, 0.25, 1.0, CANDIDATE_FLOOR]) == pytest.approx(expected)
    assert compute_u_sum([0.5, 0.25, 1.0, CANDIDATE_FLOOR]) == pytest.approx(expected / (expected + 5))


def test_a_hundred_boxes_count_and_no_more() -> None:
    assert compute_corrections([0.5] * 150) == 100.0


@given(st.lists(st.floats(0, 1), max_size=99), st.floats(CANDIDATE_FLOOR, 1, exclude_min=True))
def test_one_more_box_is_never_less_to_correct(values: list[float], added: float) -> None:
    assert compute_corrections([*values, added]) >= compute_corrections(values) - 1e-12


@given(probabilities)
def test_u_sum_keeps_the_order_of_the_effort(values: list[float]) -> None:
    corrections, u_sum = compute_corrections(values), compute_u_sum(values)

    assert 0 <= u_sum < 1
    if any(value > CANDIDATE_FLOOR for value in values):
        assert u_sum == pytest.approx(corrections / (corrections + 5))


# Nothing found


def test_nothing_found_is_its_own_case_and_not_certainty() -> None:
    nothing = compute_uncertainties([], disagreement=compute_disagreement([make_view(), make_view()]), label_counts={})

    assert {getattr(nothing, name) for name in SCORE_NAMES} == {NOTHING_FOUND_UNCERTAINTY} == {0.5}
    assert (nothing.least_confidence, nothing.mean_entropy) == (0.5, 0.5)
    assert nothing.corrections == 0.0


def test_sure_boxes_are_zero_and_zero_is_not_nothing_found() -> None:
    sure = compute_uncertainties([Candidate("car", 1.0, True)], disagreement=0.0, label_counts={"car": 1})

    assert {getattr(sure, name) for name in SCORE_NAMES} == {0.0}


def test_boxes_that_are_only_suspected_leave_nothing_shown_but_something_to_correct() -> None:
    scores = compute_uncertainties([Candidate("car", 0.125, False)])

    assert scores.u_mean == NOTHING_FOUND_UNCERTAINTY
    assert 0 < scores.u_sum < NOTHING_FOUND_UNCERTAINTY


def test_what_was_not_computed_is_none_and_the_default_is_served_in_its_place() -> None:
    scores = compute_uncertainties([Candidate("car", 0.75, True)])

    assert (scores.u_disagree, scores.u_rare) == (None, None)
    assert scores.choose("u_disagree") == scores.choose("u_mean") == ("u_mean", 0.25)


def test_a_disagreement_of_zero_is_served_as_it_is() -> None:
    scores = compute_uncertainties([Candidate("car", 0.75, True)], disagreement=0.0)

    assert scores.choose("u_disagree") == ("u_disagree", 0.0)


@given(candidates, st.none() | counts, st.none() | st.floats(0, 1))
def test_whatever_is_found_every_score_is_between_zero_and_one(
    found: list[Candidate], label_counts: dict[str, int] | None, disagreement: float | None
) -> None:
    scores = compute_uncertainties(found, disagreement=disagreement, label_counts=label_counts)

    values = [getattr(scores, name) for name in (*SCORE_NAMES, "least_confidence", "mean_entropy")]
    assert all(0 <= value <= 1 for value in values if value is not None)
    assert (scores.u_rare is None) == (label_counts is None)
    assert (scores.u_disagree is None) == (disagreement is None)


# u_rare


def test_a_box_of_a_rare_class_weighs_more() -> None:
    label_counts = {"car": 99, "bus": 3}

    # sqrt((1 + 3) / (1 + 99)) = .2, and the rarest is 1.
    assert compute_rarity("car", label_counts) == pytest.approx(0.2)
    assert compute_rarity("bus", label_counts) == 1.0
    assert compute_u_rare([Candidate("car", 0.5, True)], label_counts) == pytest.approx(0.1)
    assert compute_u_rare([Candidate("bus", 0.5, True)], label_counts) == 0.5


def test_a_class_nobody_ever_reviewed_is_the_rarest() -> None:
    assert compute_rarity("tram", {"car": 99, "bus": 3}) == 1.0


def test_nothing_found_keeps_its_place_in_the_middle_of_what_was_reviewed() -> None:
    # 99 cars of .2 and one bus of 1 (its count is the fewest): the mean rarity is .208.
    label_counts = {"car": 99, "bus": 1}
    rarity = math.sqrt(2 / 100)

    assert compute_u_rare([], label_counts) == pytest.approx(0.5 * (99 * rarity + 1) / 100)


@given(candidates, counts)
def test_rarity_never_makes_an_image_more_uncertain(found: list[Candidate], label_counts: dict[str, int]) -> None:
    shown = [Candidate(one.label, one.probability, True) for one in found]

    assert compute_u_rare(shown, label_counts) <= compute_u_mean([one.probability for one in shown]) + 1e-12


# u_disagree


def test_the_same_boxes_do_not_disagree() -> None:
    view = make_view((0, 0, 10, 10, 0.9, 0), (20, 0, 40, 10, 0.5, 1))

    assert compute_disagreement([view, view]) == 0.0


def test_disagreement_is_one_minus_overlap_times_the_ratio_of_scores() -> None:
    first = make_view((0, 0, 20, 10, 0.8, 0))
    second = make_view((0, 0, 10, 10, 0.6, 0))

    # IoU 100 / 200 = .5, scores .6 / .8 = .75.
    assert compute_disagreement([first, second]) == pytest.approx(1 - 0.5 * 0.75)


def test_a_box_only_one_view_shows_disagrees_entirely() -> None:
    first = make_view((0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.9, 0))
    second = make_view((0, 0, 10, 10, 0.9, 0))

    assert compute_disagreement([first, second]) == pytest.approx(0.5)


def test_boxes_of_two_classes_do_not_match() -> None:
    assert compute_disagreement([make_view((0, 0, 10, 10, 0.9, 0)), make_view((0, 0, 10, 10, 0.9, 1))]) == 1.0


def test_boxes_no_view_shows_do_not_count_but_explain_one_that_is_shown() -> None:
    first = make_view((0, 0, 10, 10, 0.4, 0), (50, 50, 60, 60, 0.1, 0))
    second = make_view((0, 0, 10, 10, 0.1, 0), (70, 70, 80, 80, 0.1, 0))

    # One object, shown by the first view alone, which the second suspects: 1 - 1 x .1 / .4.
    assert compute_disagreement([first, second]) == pytest.approx(0.75)


def test_three_views_are_compared_two_by_two() -> None:
    one, other = make_view((0, 0, 10, 10, 0.8, 0)), make_view((0, 0, 10, 10, 0.4, 0))

    # 0 between the equal ones, .5 twice.
    assert compute_disagreement([one, one, other]) == pytest.approx(1 / 3)


def test_one_view_alone_says_nothing_about_disagreement() -> None:
    assert compute_disagreement([make_view((0, 0, 10, 10, 0.9, 0))]) is None
    assert compute_disagreement([]) is None


boxes = st.tuples(
    *[st.floats(0, 50, width=32)] * 2, *[st.floats(0, 100, width=32)] * 2, st.floats(0, 1, width=32), st.integers(0, 2)
)


@given(st.lists(st.lists(boxes, max_size=6), min_size=2, max_size=3))
def test_disagreement_is_between_zero_and_one_whatever_the_views(rows: list[list[tuple[float, ...]]]) -> None:
    views = [make_view(*view) for view in rows]  # type: ignore[arg-type]

    value = compute_disagreement(views)

    assert value is not None
    assert 0 <= value <= 1
    assert value == pytest.approx(compute_disagreement(views[::-1]))


def test_overlap_is_that_of_pycocotools() -> None:
    mask = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    first, second = (np.sort(rng.uniform(0, 100, (9, 2, 2)), axis=1).reshape(9, 4) for _ in range(2))

    def to_xywh(table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.concatenate([table[:, :2], table[:, 2:] - table[:, :2]], axis=1)

    expected = mask.iou(to_xywh(first), to_xywh(second), [0] * 9)
    assert np.allclose(compute_iou_matrix(first, second), expected)


# The habits


def test_the_habits_of_classification_are_there_to_compare_with() -> None:
    assert compute_least_confidence([0.5, 0.9, 0.1]) == pytest.approx(0.1)
    assert compute_mean_entropy([0.5, 1.0, 0.01]) == 0.5


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "compute", [compute_u_mean, compute_u_sum, compute_corrections, compute_least_confidence, compute_mean_entropy]
)
def test_what_is_no_probability_is_refused(compute: object, value: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        compute([0.5, value])  # type: ignore[operator]
