"""Methods that no other trainer's numbers vouch for, against loops over plain Python floats.

Each oracle is written from the paper's definition; it knows nothing of tensors or micro-batches.
"""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.algo.steps import loss_of, terms_of
from tests.algo.test_properties import batch

SEEDS = {"seed": st.integers(0, 2**31), "cuts": st.sets(st.integers(1, 11), max_size=4)}


def rows_of(x: dict, name: str) -> list[list[float]]:
    """The counted tokens of each sequence."""
    return [x[name][i][x["mask"][i]].tolist() for i in range(len(x["mask"]))]


def siblings(x: dict) -> list[list[int]]:
    groups = x["group"].tolist()
    return [[i for i, g in enumerate(groups) if g == each] for each in sorted(set(groups))]


def grpo_advantages(x: dict) -> list[float]:
    rewards, found = x["rewards"].tolist(), [0.0] * len(x["rewards"])
    for group in siblings(x):
        mean = sum(rewards[i] for i in group) / len(group)
        deviation = math.sqrt(sum((rewards[i] - mean) ** 2 for i in group) / (len(group) - 1))
        for i in group:
            found[i] = (rewards[i] - mean) / (deviation + 1e-6)
    return found


def clipped(ratio: float, advantage: float, low: float, high: float) -> float:
    """d/d log pi of min(rho A, clip(rho) A)."""
    stopped = ratio > 1 + high if advantage > 0 else ratio < 1 - low
    return 0.0 if stopped else ratio * advantage


def compare(preset: str, x: dict, cuts: set[int], expected: list[list[float]], **changes: object) -> None:
    """Gradients of the loss, token by token, whole and split."""
    splits = [list(range(a, b)) for a, b in pairwise([0, *sorted(cuts), 12])]
    for parts in (None, splits):
        got = -terms_of(loss_of(preset, **changes), x, parts).coefficient
        for i, row in enumerate(expected):
            assert got[i][x["mask"][i]].tolist() == pytest.approx(row, abs=2e-7)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_lp_reg(seed, cuts):
    """arXiv:2510.03222: of the blamed tokens the least likely half, where pi is below the proxy."""
    x = batch(seed)
    advantages, old, pi, proxy = grpo_advantages(x), *(rows_of(x, name) for name in ("old", "logp", "proxy"))
    blamed = sorted(p for i, row in enumerate(old) for p in row if advantages[i] < 0)
    rarest = blamed[: max(1, len(blamed) // 2)]
    tokens = sum(map(len, old))
    expected = []
    for i, row in enumerate(pi):
        expected.append([])
        for t, log_pi in enumerate(row):
            slope = -clipped(math.exp(log_pi - old[i][t]), advantages[i], 1.0, 9.0)
            if advantages[i] < 0 and old[i][t] <= rarest[-1] and log_pi < proxy[i][t]:
                slope -= math.exp(proxy[i][t] - log_pi) - 1
            expected[-1].append(slope / tokens)
    compare("lp_reg", x, cuts, expected, entropy_share=0.5)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_lp_reg_on_pivot_words(seed, cuts):
    """The same pull, on the blamed tokens of pivot words, however likely they are."""
    x = batch(seed)
    x["pivot"] = torch.rand(x["mask"].shape, generator=torch.Generator().manual_seed(seed)) < 0.4
    advantages, old, pi, proxy = grpo_advantages(x), *(rows_of(x, name) for name in ("old", "logp", "proxy"))
    pivot, expected = rows_of(x, "pivot"), []
    tokens = sum(map(len, old))
    for i, row in enumerate(pi):
        expected.append([])
        for t, log_pi in enumerate(row):
            slope = -clipped(math.exp(log_pi - old[i][t]), advantages[i], 1.0, 9.0)
            if advantages[i] < 0 and pivot[i][t] and log_pi < proxy[i][t]:
                slope -= 3.0 * (math.exp(proxy[i][t] - log_pi) - 1)
            expected[-1].append(slope / tokens)
    compare("lp_reg", x, cuts, expected, entropy="lp_reg_pivots", entropy_coef=3.0)


@settings(max_examples=40, deadline=None)
@given(**SEEDS, right=st.booleans())
def test_rl_zvp(seed, cuts, right):
    """arXiv:2509.21880: the first group agrees, the others are GRPO's."""
    x = batch(seed)
    x["rewards"][:4] = float(right)
    advantages, old, pi, entropy = (
        grpo_advantages(x),
        *(rows_of(x, name) for name in ("old", "logp", "entropy")),
    )
    tokens = sum(map(len, old))
    expected = []
    for i, row in enumerate(pi):
        expected.append([])
        for t, log_pi in enumerate(row):
            advantage = advantages[i]
            if i < 4:
                advantage = 0.1 * entropy[i][t] if right else -0.1 * (max(entropy[i]) - entropy[i][t])
            expected[-1].append(-clipped(math.exp(log_pi - old[i][t]), advantage, 0.2, 0.28) / tokens)
    compare("rl_zvp", x, cuts, expected)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_self_logratio(seed, cuts):
    """SPRO, arXiv:2507.01551: beta log pi_old / pi_ref summed so far, less the siblings' mean."""
    x = batch(seed)
    advantages, old, pi, far = grpo_advantages(x), *(rows_of(x, name) for name in ("old", "logp", "ref"))
    tokens = sum(map(len, old))
    sums = [
        [0.3 * sum(old[i][k] - far[i][k] for k in range(t + 1)) for t in range(len(old[i]))]
        for i in range(12)
    ]
    expected: list[list[float]] = [[]] * 12
    for group in siblings(x):
        for i in group:
            expected[i] = []
            for t, own in enumerate(sums[i]):
                there = [sums[j][t] for j in group if t < len(sums[j])]
                advantage = advantages[i] + own - sum(there) / len(there)
                expected[i].append(-clipped(math.exp(pi[i][t] - old[i][t]), advantage, 0.2, 0.2) / tokens)
    compare("spro", x, cuts, expected, self_logratio_weight=0.3)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_topr(seed, cuts):
    """arXiv:2503.14286: what was good weighs 1, what was bad prod(pi / mu) up to 1."""
    x = batch(seed)
    rewards, mu, pi = x["rewards"].tolist(), rows_of(x, "mu"), rows_of(x, "logp")
    expected: list[list[float]] = [[]] * 12
    for group in siblings(x):
        mean = sum(rewards[i] for i in group) / len(group)
        for i in group:
            trust = math.exp(sum(pi[i]) - sum(mu[i]))
            weight = 1.0 if rewards[i] >= mean else min(1.0, trust)
            expected[i] = [-weight * (rewards[i] - mean) / 12] * len(pi[i])
    compare("topr", x, cuts, expected)


@settings(max_examples=40, deadline=None)
@given(**SEEDS, limit=st.sampled_from([1e-3, 0.02, 0.04, 10.0]))
def test_m2po(seed, cuts, limit):
    """arXiv:2510.01161: the worst token goes until the mean of log(pi_old / mu)^2 is below the limit."""
    x = batch(seed)
    advantages, old, mu, pi = grpo_advantages(x), *(rows_of(x, name) for name in ("old", "mu", "logp"))
    left = {(i, t): (old[i][t] - mu[i][t]) ** 2 for i in range(12) for t in range(len(old[i]))}
    tokens = len(left)
    while left and sum(left.values()) / len(left) >= limit:
        del left[max(left, key=left.__getitem__)]
    expected = [
        [
            -math.exp(log_pi - old[i][t]) * advantages[i] / tokens if (i, t) in left else 0.0
            for t, log_pi in enumerate(row)
        ]
        for i, row in enumerate(pi)
    ]
    compare("m2po", x, cuts, expected, m2_limit=limit)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_otb(seed, cuts):
    """arXiv:2602.07078: at each place the siblings that reach it, weighed by what they have risked so far."""
    x = batch(seed)
    rewards, old, pi = x["rewards"].tolist(), rows_of(x, "old"), rows_of(x, "logp")
    collision = rows_of(x, "collision")
    tokens = sum(map(len, old))
    energy = [
        [sum(1 - 2 * math.exp(row[j]) + collision[i][j] for j in range(t + 1)) for t in range(len(row))]
        for i, row in enumerate(old)
    ]
    expected: list[list[float]] = [[]] * 12
    for group in siblings(x):
        for i in group:
            expected[i] = []
            for t, log_pi in enumerate(pi[i]):
                here = [j for j in group if len(old[j]) > t]
                total = sum(energy[j][t] for j in here) + 1e-6
                advantage = rewards[i] - sum(energy[j][t] * rewards[j] for j in here) / total
                pushed = clipped(math.exp(log_pi - old[i][t]), advantage, 0.2, 0.2)
                expected[i].append(-pushed / tokens)
    compare("otb", x, cuts, expected)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_dro(seed, cuts):
    """arXiv:2405.19107: d/d log pi of A log pi - beta/2 (log pi/mu)^2, a mean over tokens, beta 0.05."""
    x = batch(seed)
    rewards, mu, pi = x["rewards"].tolist(), rows_of(x, "mu"), rows_of(x, "logp")
    tokens = sum(map(len, pi))
    expected: list[list[float]] = [[]] * 12
    for group in siblings(x):
        mean = sum(rewards[i] for i in group) / len(group)
        for i in group:
            expected[i] = [
                -(rewards[i] - mean - 0.05 * (log_pi - mu[i][t])) / tokens for t, log_pi in enumerate(pi[i])
            ]
    compare("dro", x, cuts, expected)


@settings(max_examples=40, deadline=None)
@given(**SEEDS)
def test_remax(seed, cuts):
    """arXiv:2310.10505: the reward less that of the greedy completion of its problem, sums over sequences."""
    x = batch(seed)
    expected = [
        [-(reward - greedy) / 12] * len(row)
        for reward, greedy, row in zip(
            x["rewards"].tolist(), x["greedy"].tolist(), rows_of(x, "logp"), strict=True
        )
    ]
    compare("remax", x, cuts, expected, kl="off")
