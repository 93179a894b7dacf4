import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.uncertainty import NOTHING_FOUND_UNCERTAINTY, compute_u_mean, to_score

probabilities = st.lists(st.floats(0, 1), min_size=1)


def test_u_mean_is_one_minus_the_mean_probability() -> None:
    assert compute_u_mean([0.9, 0.7, 0.5]) == pytest.approx(0.3)


def test_boxes_of_probability_one_are_certain_and_of_zero_are_not() -> None:
    assert (compute_u_mean([1.0]), compute_u_mean([0.0])) == (0.0, 1.0)


def test_nothing_found_is_its_own_case_and_not_certainty() -> None:
    assert compute_u_mean([]) == NOTHING_FOUND_UNCERTAINTY == 0.5


@given(probabilities)
def test_uncertainty_and_score_stay_between_zero_and_one(values: list[float]) -> None:
    uncertainty = compute_u_mean(values)

    assert 0 <= uncertainty <= 1
    assert to_score(uncertainty) == pytest.approx(sum(values) / len(values))


@given(probabilities)
def test_the_order_of_the_boxes_does_not_matter(values: list[float]) -> None:
    assert compute_u_mean(values) == pytest.approx(compute_u_mean(values[::-1]))


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        compute_u_mean([0.5, value])
