from itertools import combinations
from math import isclose, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.eval.stats import avg_at_k, interval, maj_at_k, pass_at_k, rerun_se, t_quantile, wilson


def test_avg_at_k_uses_every_sample():
    # (4/4 + 1/4 + 0/4) / 3
    assert avg_at_k([4, 1, 0], 4) == pytest.approx(5 / 12)


@pytest.mark.parametrize(
    ("n", "c", "k", "expected"),
    [
        (2, 1, 1, 0.5),
        (4, 1, 2, 1 - 3 / 6),
        (5, 2, 3, 1 - 1 / 10),
        (4, 0, 4, 0.0),
        (4, 4, 1, 1.0),
        (200, 200, 100, 1.0),
    ],
)
def test_pass_at_k_golden(n, c, k, expected):
    assert pass_at_k(n, c, k) == pytest.approx(expected)


@settings(max_examples=60)
@given(outcome=st.lists(st.booleans(), min_size=1, max_size=8), data=st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(outcome, data):
    k = data.draw(st.integers(1, len(outcome)))
    subsets = list(combinations(outcome, k))
    assert isclose(
        pass_at_k(len(outcome), sum(outcome), k), sum(map(any, subsets)) / len(subsets), abs_tol=1e-12
    )


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0)])
def test_pass_at_k_refuses_what_it_cannot_estimate(n, c, k):
    with pytest.raises(ValueError, match=f"n = {n}, c = {c}"):
        pass_at_k(n, c, k)


@pytest.mark.parametrize(
    ("found", "right", "expected"),
    [
        (["4", "4", "5"], [True, True, False], 1.0),
        (["4", "5", "5"], [True, False, False], 0.0),
        (["4", "5"], [True, False], 0.5),
        (["4", "5", "6"], [True, False, False], 1 / 3),
        (["4", None, None], [True, False, False], 0.0),
        (["1 / 2", " 1 /  2", "3"], [True, True, False], 1.0),
        (["4", "4", "4"], [True, True, False], 2 / 3),
        ([None, None], [False, False], 0.0),
    ],
)
def test_majority_votes_on_answers(found, right, expected):
    assert maj_at_k(found, right) == pytest.approx(expected)


def test_interval_is_clustered_over_problems():
    # shares 1, 0, .5, .5: mean .5, variance (.25 + .25) / 3, SE sqrt(1/6) / 2 = .2041, t(3) = 3.1824
    found = interval([1.0, 0.0, 0.5, 0.5])
    assert found.kind == "t"
    assert found.standard_error == pytest.approx(sqrt(1 / 6) / 2)
    assert found.low == 0.0
    assert found.high == 1.0
    many = interval([1.0, 0.0, 0.5, 0.5] * 25)
    # sum of squares 100 * .125 = 12.5; SE sqrt(12.5 / 99) / 10 = .035533; t(99) = 1.98422
    assert (many.low, many.high) == pytest.approx((0.5 - 0.070506, 0.5 + 0.070506), abs=2e-5)


@pytest.mark.parametrize(
    ("p", "n", "low", "high"), [(1.0, 10, 0.7225, 1.0), (0.0, 10, 0.0, 0.2775), (0.5, 1, 0.0546, 0.9454)]
)
def test_no_spread_gives_wilson(p, n, low, high):
    found = interval([p] * n)
    assert found.kind == "wilson"
    assert found.standard_error is None
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_wilson_golden():
    # Newcombe 1998, table I: 81 of 263
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30))
def test_intervals_hold_the_mean_and_are_never_empty(counts):
    shares = [c / 4 for c in counts]
    found = interval(shares)
    assert 0 <= found.low < found.high <= 1
    assert found.low - 1e-12 <= sum(shares) / len(shares) <= found.high + 1e-12


def test_rerun_error():
    # k = 2: p(1-p) = .25 each; sqrt(.25 / (2 * 1))
    assert rerun_se([0.5, 0.5], 2) == pytest.approx(sqrt(0.125))
    assert rerun_se([1.0, 0.0], 4) == 0.0
    assert rerun_se([1.0, 0.0], 1) is None


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (29, 2.04523), (1318, 1.96176)],
)
def test_t_quantile_table(freedom, expected):
    assert t_quantile(0.975, freedom) == pytest.approx(expected, abs=0.004)
