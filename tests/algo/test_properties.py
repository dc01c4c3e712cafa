"""Splitting, permuting and padding change no gradient.

Each preset is the same method on any layout of its batch.
"""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.algo.advantages import group_advantages, zero_variance_groups
from rlvr.algo.aggregate import Totals
from rlvr.algo.loss import Loss, loss_terms
from rlvr.recipe.presets import PRESETS

LOSS_KEYS = set(Loss.__dataclass_fields__)


def loss_of(preset: str) -> Loss:
    row = {**PRESETS["default"], **PRESETS[preset]}
    return Loss(**{k: v for k, v in row.items() if k in LOSS_KEYS})


def batch(seed: int, groups: int = 3, siblings: int = 4, tokens: int = 6):
    g = torch.Generator().manual_seed(seed)
    b = groups * siblings
    lengths = torch.randint(1, tokens + 1, (b,), generator=g)
    mask = torch.arange(tokens) < lengths[:, None]
    logp = -torch.rand(b, tokens, generator=g, dtype=torch.float64) * 2
    near = lambda: logp + torch.randn(b, tokens, generator=g, dtype=torch.float64) * 0.3  # noqa: E731
    rewards = torch.rand(b, generator=g, dtype=torch.float64)
    group = torch.arange(groups).repeat_interleave(siblings)
    return {
        "logp": logp,
        "old": near(),
        "mu": near(),
        "ref": near(),
        "mask": mask,
        "rewards": rewards,
        "group": group,
    }


def gradient(preset: str, x: dict, splits: list[list[int]] | None = None) -> torch.Tensor:
    """d loss / d logp of the whole step, computed micro-batch by micro-batch."""
    row = {**PRESETS["default"], **PRESETS[preset]}
    advantages = group_advantages(
        x["rewards"], x["group"], x["mask"].sum(-1),
        baseline=row["baseline"], scale=row["scale"], epsilon=row["advantage_epsilon"],
    )[:, None].expand_as(x["logp"]).double()  # fmt: skip
    logp = x["logp"].clone().requires_grad_()
    totals = Totals.of(x["mask"])
    for rows in splits or [list(range(len(logp)))]:
        terms = loss_terms(
            loss_of(preset), logprobs=logp[rows], old=x["old"][rows], rollout=x["mu"][rows],
            reference=x["ref"][rows], advantages=advantages[rows], mask=x["mask"][rows], totals=totals,
        )  # fmt: skip
        (-(terms.coefficient * logp[rows]).sum()).backward()
    return logp.grad


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.sets(st.integers(1, 11), max_size=5))
def test_micro_batches_change_no_gradient(preset, seed, cuts):
    x = batch(seed)
    edges = [0, *sorted(cuts), 12]
    splits = [list(range(a, b)) for a, b in pairwise(edges)]
    torch.testing.assert_close(gradient(preset, x, splits), gradient(preset, x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(12)))
def test_order_changes_no_gradient(preset, seed, order):
    x = batch(seed)
    shuffled = {k: v[order] for k, v in x.items()}
    torch.testing.assert_close(gradient(preset, shuffled), gradient(preset, x)[order], atol=1e-7, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), columns=st.integers(1, 5))
def test_padding_changes_no_gradient_and_gets_none(preset, seed, columns):
    x = batch(seed)
    pad = torch.full((12, columns), torch.nan, dtype=torch.float64)
    padded = {k: torch.cat([v, pad], 1) if k in ("logp", "old", "mu", "ref") else v for k, v in x.items()}
    padded["mask"] = torch.cat([x["mask"], torch.zeros(12, columns, dtype=torch.bool)], 1)
    grad = gradient(preset, padded)
    torch.testing.assert_close(grad[:, :6], gradient(preset, x), atol=1e-12, rtol=0)
    assert not grad[~padded["mask"]].nan_to_num(9.0).any()


@pytest.mark.parametrize("preset", PRESETS)
def test_on_policy_every_gate_is_plain_policy_gradient(preset):
    x = batch(5)
    same = {**x, "old": x["logp"], "mu": x["logp"], "ref": x["logp"]}
    row = {**PRESETS["default"], **PRESETS[preset]}
    advantages = group_advantages(
        x["rewards"], x["group"], x["mask"].sum(-1),
        baseline=row["baseline"], scale=row["scale"], epsilon=row["advantage_epsilon"],
    )[:, None].expand_as(x["logp"]).double()  # fmt: skip
    tokens, sequences = x["mask"].sum(), len(x["mask"])
    n = {
        "token_mean": torch.ones(12, 1) / tokens,
        "seq_mean_token_mean": 1 / (sequences * x["mask"].sum(-1, keepdim=True)),
        "seq_mean_token_sum": torch.ones(12, 1) / (sequences * (row["length_constant"] or 1)),
    }[row["aggregation"]]
    expected = -(n * advantages * x["mask"]).double()
    torch.testing.assert_close(gradient(preset, same), expected, atol=1e-8, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), baseline=st.sampled_from(["group_mean", "leave_one_out"]))
def test_group_advantages_equal_the_naive_loop(seed, baseline):
    x = batch(seed)
    got = group_advantages(
        x["rewards"], x["group"], x["mask"].sum(-1), baseline=baseline, scale="none", epsilon=1e-6
    )
    for i in range(12):
        others = [
            j for j in range(12) if x["group"][j] == x["group"][i] and (j != i or baseline == "group_mean")
        ]
        naive = x["rewards"][i] - sum(x["rewards"][j] for j in others) / len(others)
        assert float(got[i]) == pytest.approx(float(naive), abs=1e-6)


def test_a_reward_that_could_not_be_checked_takes_no_part():
    rewards = torch.tensor([1.0, 0.0, torch.nan, 1.0, torch.nan, 1.0])
    group = torch.tensor([0, 0, 0, 0, 1, 1])
    got = group_advantages(
        rewards, group, torch.ones(6), baseline="group_mean", scale="group_std", epsilon=1e-6
    )
    kept = torch.tensor([1.0, 0.0, 1.0])
    expected = (kept - kept.mean()) / (kept.std() + 1e-6)
    torch.testing.assert_close(got[[0, 1, 3]], expected, atol=1e-6, rtol=0)
    assert got[2] == 0
    assert got[4] == 0
    assert got[5] == 0, "the only one left of its group has nobody to be compared with"


def test_zero_variance_groups():
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, torch.nan, 1.0, torch.nan, torch.nan])
    group = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert zero_variance_groups(rewards, group).tolist() == [True, False, True, True]


def test_kl_estimators_have_the_gradients_they_claim():
    """Expected gradient over a categorical: k2 and k3_weighted give the reverse KL's, k3 the forward KL's."""
    from rlvr.algo.kl import penalty

    theta = torch.tensor([0.3, -0.2, 0.8, -1.0], dtype=torch.float64, requires_grad=True)
    ref = torch.tensor([0.1, 0.4, -0.3, 0.2], dtype=torch.float64).log_softmax(0)

    def exact(f):
        return torch.autograd.grad(f(theta.log_softmax(0)), theta)[0]

    reverse = exact(lambda lp: (lp.exp() * (lp - ref)).sum())
    forward = exact(lambda lp: (ref.exp() * (ref - lp)).sum())

    def expected(kind):
        logp = theta.log_softmax(0)
        _, slope = penalty(logp.detach(), ref, torch.ones(4, dtype=torch.float64), kind=kind)
        return torch.autograd.grad((logp.detach().exp() * slope * logp).sum(), theta)[0]

    torch.testing.assert_close(expected("k2"), reverse)
    torch.testing.assert_close(expected("k3_weighted"), reverse)
    torch.testing.assert_close(expected("k3"), forward)
