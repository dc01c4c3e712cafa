"""Success rates and what follows from them, against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.problems.curriculum import ACTIVE, OUTSIDE, RETIRED, UNFIT, UNSEEN, Curriculum, Rates
from rlvr.problems.sampler import Sampler
from tests.problems.test_sampler import table

BAND = Curriculum(low=0.1, high=0.9, retire_at=0.9, revisit=0.1, visits=2)


def rates(*tried):
    """Rates of problems whose every visit is (right, known)."""
    made = Rates.blank(len(tried))
    for index, visits in enumerate(tried):
        for right, known in visits:
            made = made.after([(index, right, known)], [])
    return made


VISITS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(0, 4)).map(
        lambda v: (v[0], v[1], v[1] + v[2])
    ),
    max_size=30,
)


@settings(max_examples=100)
@given(VISITS, st.lists(st.integers(0, 29), max_size=4))
def test_rates_are_decayed_success_rates(visits, cuts):
    """However the visits fall into steps; a visit of which nothing is known is none."""
    oracle = {i: [seen for j, *seen in visits if j == i and seen[1]] for i in range(6)}
    found, begun = Rates.blank(6), 0
    for cut in [*sorted(cuts), len(visits)]:
        found, begun = found.after(visits[begun:cut], []), max(begun, cut)
    for index, seen in oracle.items():
        weights = [0.5**age for age in range(len(seen))][::-1]
        known = sum(w * k for w, (_, k) in zip(weights, seen, strict=True))
        right = sum(w * r for w, (r, _) in zip(weights, seen, strict=True))
        assert found.visits[index] == len(seen)
        assert np.isnan(found.rate[index]) if not seen else found.rate[index] == pytest.approx(right / known)


def test_after_leaves_the_rates_before_as_they_are():
    before = rates([(1, 4)], [])
    before.after([(0, 4, 4), (1, 2, 4)], [1])
    assert (before.visits.tolist(), before.right.tolist()) == ([1, 0], [1.0, 0.0])


@pytest.mark.parametrize(
    ("visits", "standing"),
    [
        ([], UNSEEN),
        ([(0, 8)], ACTIVE),
        ([(8, 8)], ACTIVE),
        ([(8, 8), (8, 8)], RETIRED),
        ([(0, 8), (0, 8)], OUTSIDE),
        ([(0, 8), (8, 8)], ACTIVE),
        ([(8, 8), (0, 8)], ACTIVE),
        ([(7, 8), (7, 8)], ACTIVE),
        ([(0, 8), (1, 8)], OUTSIDE),  # 1 of 12 is .083
        ([(0, 8), (8, 8), (8, 8)], ACTIVE),  # 12 of 14 is .857
        ([(0, 8), (8, 8), (8, 8), (8, 8)], RETIRED),  # 14 of 15 is .933
        ([(8, 8), (8, 8), (6, 8)], ACTIVE),  # revisited, and no longer solved: 12 of 14
        ([(0, 0), (8, 8), (0, 0)], ACTIVE),
    ],
)
def test_how_a_problem_stands(visits, standing):
    assert BAND.standing(rates(visits)).tolist() == [standing]


def test_ends_of_the_band_and_no_retirement():
    never = Curriculum(low=0.25, high=0.75, retire_at=None, revisit=0.1, visits=1)
    assert never.standing(rates([(1, 4)], [(3, 4)], [(0, 4)], [(4, 4)])).tolist() == [
        ACTIVE,
        ACTIVE,
        OUTSIDE,
        OUTSIDE,
    ]
    whole = Curriculum(low=0.0, high=1.0, retire_at=None, revisit=0.1, visits=1)
    assert whole.standing(rates([(0, 4)], [(4, 4)], [(2, 4)])).tolist() == [ACTIVE] * 3


def mixed(size, waiting):
    """`waiting` solved problems, the rest half seen, half not."""
    made = Rates.blank(size)
    for _ in range(2):
        made = made.after([(i, 8, 8) for i in range(waiting)], [])
    return made.after([(i, 4, 8) for i in range(waiting, (size + waiting) // 2)], [])


def test_what_waits_is_the_stated_share_and_the_rest_comes_once_an_epoch():
    size, waiting = 400, 250
    sampler = Sampler(table(size), 3)
    taken = sampler.take(6000, BAND.wants(3, mixed(size, waiting)))
    asked = [problem.answer for _, problem in taken]
    share = sum(index < waiting for index in asked) / len(asked)
    assert abs(share - BAND.revisit) < 3 * (0.1 * 0.9 / 6000) ** 0.5
    assert len({index for index in asked if index < waiting}) > 200, "it is not the same few"
    epochs = {}
    for serial, problem in taken:
        epochs.setdefault(serial // size, []).append(problem.answer)
    for indices in list(epochs.values())[:-1]:
        assert sorted(i for i in indices if i >= waiting) == list(range(waiting, size))
        assert len(set(indices)) == len(indices)


@pytest.mark.parametrize(("revisit", "waiting", "share"), [(0.0, 30, 0.0), (0.5, 4, 4 / 40), (0.1, 40, 1.0)])
def test_shares_at_their_ends(revisit, waiting, share):
    """Nothing is revisited; all that waits comes once an epoch at most; nothing else is left."""
    size = 40
    chosen = Curriculum(low=0.0, high=1.0, retire_at=0.9, revisit=revisit, visits=1)
    taken = Sampler(table(size), 0).take(40, chosen.wants(0, mixed(size, waiting)))
    assert sum(problem.answer < waiting for _, problem in taken) / 40 == pytest.approx(share)


def test_what_does_not_fit_is_not_asked_again():
    made = Rates.blank(4).after([(0, 4, 4)], [1, 2])
    assert BAND.standing(made).tolist() == [ACTIVE, UNFIT, UNFIT, UNSEEN]
    taken = Sampler(table(4), 0).take(6, BAND.wants(0, made))
    assert {problem.answer for _, problem in taken} == {0, 3}


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 15), max_size=6))
def test_the_order_is_a_function_of_seed_cursor_and_rates(seed, cuts):
    wants = BAND.wants(seed, mixed(40, 25))
    whole = Sampler(table(40), seed).take(sum(cuts), wants)
    cursor, pieces = 0, []
    for cut in cuts:
        sampler = Sampler(table(40), seed, cursor)
        pieces += sampler.take(cut, BAND.wants(seed, mixed(40, 25)))
        cursor = sampler.cursor
    assert pieces == whole


def test_the_order_stays_as_it_is():
    """A run resumed with another version of us must ask the same problems."""
    sampler = Sampler(table(12), 7)
    taken = sampler.take(
        9, Curriculum(low=0.0, high=1.0, retire_at=0.9, revisit=0.4, visits=2).wants(7, mixed(12, 8))
    )
    assert ([serial for serial, _ in taken], sampler.cursor) == ([0, 1, 3, 6, 9, 10, 12, 14, 16], 17)


def test_counts():
    made = rates([(8, 8), (8, 8)], [(0, 8), (0, 8)], [(4, 8)], [], []).after([], [4])
    assert BAND.counts(made) == {
        "problems/unseen": 1.0,
        "problems/active": 1.0,
        "problems/outside": 1.0,
        "problems/retired": 1.0,
        "problems/rate_mean": 0.5,
    }
