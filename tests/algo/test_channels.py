"""Advantages of several rewards against a plain-Python program, and what must not change them."""

from statistics import fmean, stdev

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.algo.channels import channel_advantages

EPSILON = 1e-6
REWARD = st.sampled_from([0.0, 0.25, 1.0])
ROW = st.one_of(st.tuples(REWARD, REWARD, REWARD), st.none())
GROUPS = st.lists(st.lists(ROW, min_size=1, max_size=5), min_size=1, max_size=5)
WEIGHTS = (1.0, 0.5, 3.0)


def naive(groups):
    """By lists and loops: rows of K rewards, None where not known; the advantages in the same shape."""
    sums = {}
    for g, group in enumerate(groups):
        known = [i for i, row in enumerate(group) if row is not None]
        if len(known) < 2:
            continue
        for i in known:
            sums[g, i] = 0.0
            for k, weight in enumerate(WEIGHTS):
                column = [group[j][k] for j in known]
                sums[g, i] += weight * (group[i][k] - fmean(column)) / (stdev(column) + EPSILON)
    if len(sums) < 2:
        return [[0.0] * len(group) for group in groups]
    mean, deviation = fmean(sums.values()), stdev(sums.values()) + EPSILON
    return [
        [(sums[g, i] - mean) / deviation if (g, i) in sums else 0.0 for i in range(len(group))]
        for g, group in enumerate(groups)
    ]


def computed(groups, order=None):
    rows = [(g, row or (float("nan"),) * 3) for g, group in enumerate(groups) for row in group]
    order = list(range(len(rows))) if order is None else order
    rewards_BK = torch.tensor([rows[i][1] for i in order], dtype=torch.float64)
    group_B = torch.tensor([rows[i][0] for i in order])
    weights_BK = torch.tensor(WEIGHTS, dtype=torch.float64).expand(rewards_BK.shape)
    got = channel_advantages(rewards_BK, weights_BK, group_B, epsilon=EPSILON)
    return got[torch.tensor(order).argsort()].tolist()


@settings(max_examples=200, deadline=None)
@given(GROUPS, st.randoms())
def test_equals_the_naive_loop_in_any_order(groups, random):
    expected = [a for group in naive(groups) for a in group]
    assert computed(groups) == pytest.approx(expected, abs=1e-4)
    order = list(range(len(expected)))
    random.shuffle(order)
    assert computed(groups, order) == pytest.approx(expected, abs=1e-4)


def test_distinct_earnings_stay_distinct():
    """(1, 0), (0, 1), (1, 1), (0, 0) earn 1, 1, 2, 0 in sum; with a rarer second reward all four differ."""
    group = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)]
    assert len({round(a, 6) for a in computed([group])[:4]}) == 4


def test_the_scale_of_a_channel_does_not_matter():
    rewards = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    weights, group = torch.ones_like(rewards), torch.tensor([0, 0, 1, 1])
    usual = channel_advantages(rewards, weights, group, epsilon=1e-9)
    scaled = channel_advantages(
        rewards * torch.tensor([1.0, 100.0], dtype=torch.float64), weights, group, epsilon=1e-9
    )
    torch.testing.assert_close(scaled, usual, atol=1e-6, rtol=0)


def test_a_channel_of_weight_0_has_no_say():
    rewards = torch.tensor([[1.0, 0.3], [0.0, 0.9], [0.0, 0.1], [0.0, 0.2]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    group = torch.zeros(4, dtype=torch.long)
    alone = channel_advantages(rewards[:, :1], weights[:, :1], group, epsilon=EPSILON)
    assert torch.equal(channel_advantages(rewards, weights, group, epsilon=EPSILON), alone)
