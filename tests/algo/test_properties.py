"""Splitting, permuting and padding change no gradient.

Each preset is the same method on any layout of its batch.
"""

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.algo import entropy
from rlvr.algo.advantages import BASELINES, SCALES, group_advantages, zero_variance_groups
from rlvr.algo.aggregate import Totals, normaliser
from rlvr.algo.corrections import second_moment
from rlvr.algo.credit import future_kl
from rlvr.algo.loss import Tokens
from rlvr.algo.select import select
from rlvr.recipe.presets import PRESETS
from tests.algo.steps import advantages_of, loss_of, terms_of

BY_TOKEN = ("logp", "old", "mu", "ref", "entropy", "proxy", "collision")
VARIANTS = {
    **{preset: (preset, {}) for preset in PRESETS},
    "kept": ("forking20", {"denominator": "kept", "aggregation": "seq_mean_token_mean"}),
    "geo kept": ("dapo", {"correction": "geo_mask", "denominator": "kept", "veto": 0.5}),
    "kl_cov more": ("kl_cov", {"entropy_share": 0.2, "aggregation": "prompt_mean_token_mean"}),
    "clip_cov more": ("clip_cov", {"entropy_share": 0.2, "cov_low": 0.0}),
    "lp_reg more": ("lp_reg", {"entropy_share": 0.5}),
    "m2 more": ("m2po", {"m2_limit": 1e-3}),
    "sequence": ("default", {"correction": "sequence_truncate"}),
    "k3": ("default", {"correction": "k3_mask", "correction_high": 0.05}),
    "reward kl": ("grpo", {"kl": "k1_reward"}),
    "dppo_kl": ("dppo", {"gate": "dppo_kl", "divergence_limit": 0.01}),
}
EACH = pytest.mark.parametrize("variant", VARIANTS)


def batch(seed: int, groups: int = 3, siblings: int = 4, tokens: int = 6):
    g = torch.Generator().manual_seed(seed)
    b = groups * siblings
    lengths = torch.randint(1, tokens + 1, (b,), generator=g)
    mask = torch.arange(tokens) < lengths[:, None]
    logp = -torch.rand(b, tokens, generator=g, dtype=torch.float64) * 2
    near = lambda: logp + torch.randn(b, tokens, generator=g, dtype=torch.float64) * 0.3  # noqa: E731
    rewards = torch.rand(b, generator=g, dtype=torch.float64)
    rewards[:siblings] = 1.0  # one group that agrees
    old, proxy = near().clamp_max(0.0), near()
    p = old.exp()
    proxy[::2, ::2] = -torch.inf
    return {
        "logp": logp,
        "old": old,
        "mu": near(),
        "ref": near(),
        "entropy": torch.rand(b, tokens, generator=g, dtype=torch.float64),
        "proxy": proxy,
        "collision": p.square() + (1 - p).square() * torch.rand(b, tokens, generator=g),
        "greedy": torch.rand(groups, generator=g, dtype=torch.float64).repeat_interleave(siblings),
        "mask": mask,
        "rewards": rewards,
        "group": torch.arange(groups).repeat_interleave(siblings),
    }


def gradient(variant: str, x: dict, splits: list[list[int]] | None = None) -> torch.Tensor:
    """d loss / d logp of the whole step, computed micro-batch by micro-batch."""
    preset, changes = VARIANTS[variant]
    logp = x["logp"].clone().requires_grad_()
    terms = terms_of(loss_of(preset, **changes), x, splits)
    (-(terms.coefficient * logp).sum()).backward()
    return logp.grad


@EACH
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**31), order=st.permutations(range(12)), cuts=st.sets(st.integers(1, 11), max_size=5)
)
def test_micro_batches_change_no_gradient(variant, seed, order, cuts):
    x = batch(seed)
    splits = [list(order[a:b]) for a, b in pairwise([0, *sorted(cuts), 12])]
    torch.testing.assert_close(gradient(variant, x, splits), gradient(variant, x), atol=1e-12, rtol=0)


@EACH
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), order=st.permutations(range(12)))
def test_order_changes_no_gradient(variant, seed, order):
    x = batch(seed)
    shuffled = {k: v[order] for k, v in x.items()}
    torch.testing.assert_close(gradient(variant, shuffled), gradient(variant, x)[order], atol=1e-7, rtol=0)


@EACH
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), columns=st.integers(1, 5))
def test_padding_changes_no_gradient_and_gets_none(variant, seed, columns):
    x = batch(seed)
    pad = torch.full((12, columns), torch.nan, dtype=torch.float64)
    padded = {k: torch.cat([v, pad], 1) if k in BY_TOKEN else v for k, v in x.items()}
    padded["mask"] = torch.cat([x["mask"], torch.zeros(12, columns, dtype=torch.bool)], 1)
    grad = gradient(variant, padded)
    torch.testing.assert_close(grad[:, :6], gradient(variant, x), atol=1e-12, rtol=0)
    assert not grad[~padded["mask"]].nan_to_num(9.0).any()


@EACH
def test_on_policy_every_gate_is_plain_policy_gradient(variant):
    """Of what the method keeps: advantages and selection, but no gate, weight or penalty acts."""
    x = batch(5)
    same = x | dict.fromkeys(("old", "mu", "ref", "proxy"), x["logp"])
    preset, changes = VARIANTS[variant]
    loss = loss_of(preset, **changes)
    advantages = advantages_of(loss, same)
    tokens = Tokens(
        mask=x["mask"], group=x["group"], advantages=advantages, logprobs=x["logp"], old=x["logp"],
        rollout=x["logp"], entropy=x["entropy"], log_proxy=x["logp"],
    )  # fmt: skip
    chosen = select(loss, tokens)
    kept = x["mask"] if chosen.kept is None else chosen.kept
    counted = kept if loss.denominator == "kept" else x["mask"]
    n = normaliser(
        counted, x["group"], chosen.totals, kind=loss.aggregation, length_constant=loss.length_constant
    )
    torch.testing.assert_close(gradient(variant, same), -(n * advantages * kept), atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    "kind", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "prompt_mean_token_mean"]
)
def test_the_normaliser_is_the_mean_it_is_named_for(kind):
    x = batch(3)
    n = normaliser(x["mask"], x["group"], Totals.of(x["mask"], x["group"]), kind=kind, length_constant=None)
    values, rows = x["logp"], [x["logp"][i][x["mask"][i]] for i in range(12)]
    prompts = [torch.cat([rows[i] for i in range(12) if x["group"][i] == g]).mean() for g in range(3)]
    expected = {
        "token_mean": torch.cat(rows).mean(),
        "seq_mean_token_mean": sum(row.mean() for row in rows) / 12,
        "seq_mean_token_sum": sum(row.sum() for row in rows) / 12,
        "prompt_mean_token_mean": sum(prompts) / 3,
    }[kind]
    assert float((n * values).sum()) == pytest.approx(float(expected), abs=1e-6)


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


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("baseline", BASELINES)
def test_unknown_rewards_have_no_part_in_any_advantage(baseline, scale):
    x = batch(11)
    rewards = x["rewards"].clone()
    rewards[[1, 6]] = torch.nan
    known = ~rewards.isnan()
    tokens = x["mask"].sum(-1)
    settings_ = {"baseline": baseline, "scale": scale, "epsilon": 1e-6}
    greedy = x["greedy"]
    got = group_advantages(rewards, x["group"], tokens, **settings_, greedy_B=greedy)
    assert (got[~known] == 0).all()
    assert got.isfinite().all()
    alone = group_advantages(
        rewards[known], x["group"][known], tokens[known], **settings_, greedy_B=greedy[known]
    )
    torch.testing.assert_close(got[known], alone)
    empty = group_advantages(rewards * torch.nan, x["group"], tokens, **settings_, greedy_B=greedy)
    assert not empty.any()


@settings(max_examples=30, deadline=None)
@given(rights=st.lists(st.booleans(), min_size=2, max_size=7), k=st.sampled_from([2, 4]))
def test_pass_at_k_is_the_mean_over_all_draws(rights, k):
    """Every draw of k is a group of its own whose best counts: enumerated."""
    rewards = torch.tensor(rights, dtype=torch.float64)
    group = torch.zeros(len(rights), dtype=torch.long)
    got = group_advantages(
        rewards, group, torch.ones(len(rights)), baseline=f"pass_at_{k}", scale="none", epsilon=1e-6
    )
    draws = list(combinations(range(len(rights)), k))
    best = [max(rights[i] for i in draw) for draw in draws]
    mean = sum(best) / len(draws) if draws else 0.0
    deviation = (mean * (1 - mean)) ** 0.5
    for i in range(len(rights)):
        mine = [b for draw, b in zip(draws, best, strict=True) if i in draw]
        expected = sum((b - mean) / deviation for b in mine) / len(mine) if deviation else 0.0
        assert float(got[i]) == pytest.approx(expected, abs=1e-6)


def test_selections_by_hand():
    row = lambda *values: torch.tensor([values], dtype=torch.float64)  # noqa: E731
    all_of = torch.ones(1, 5, dtype=torch.bool)
    assert entropy.forking_tokens(row(1, 2, 3, 4, 5), all_of, share=0.4).tolist() == [[0, 0, 0, 1, 1]]
    assert entropy.highest(row(1, 5, 5, 2, 0), all_of, 1).tolist() == [[0, 1, 1, 0, 0]], "ties go together"
    rare = entropy.rare_tokens(row(-9, -1, -5, -2, -3), row(1, -1, -1, -1, -1), all_of, share=0.5)
    assert rare.tolist() == [[0, 0, 1, 0, 1]]
    kept = second_moment(row(0, 0.1, -2, 0.1, 3), row(0, 0, 0, 0, 0), all_of, limit=1.1)
    assert kept.tolist() == [[1, 1, 1, 1, 0]]
    none = torch.zeros(1, 5, dtype=torch.bool)
    assert not entropy.rare_tokens(row(1, 1, 1, 1, 1), row(1, 1, 1, 1, 1), all_of, share=0.5).any()
    assert not entropy.forking_tokens(row(1, 2, 3, 4, 5), none, share=0.4).any()
    assert not second_moment(row(1, 2, 3, 4, 5), row(1, 2, 3, 4, 5), none, limit=1.0).any()


def test_the_future_weighs_by_hand():
    log_ratio = torch.tensor([[0.1, -0.3, 0.2, 9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False]])
    got = future_kl(log_ratio, mask, decay=0.5, reach=0.2)
    # 0.1 - 0.15 + 0.05 = 0; -0.3 + 0.1 = -0.2, held at 1; exp(0.2) = 1.2214, held at 1.2.
    assert got[0, :3].tolist() == pytest.approx([1.0, 1.0, 1.2])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("preset", ["grpo", "dr_grpo", "rloo", "maxrl", "lite_ppo"])
def test_advantages_of_siblings_sum_to_zero(preset, seed):
    x = batch(seed)
    loss = loss_of(preset)
    got = group_advantages(
        x["rewards"], x["group"], x["mask"].sum(-1),
        baseline=loss.baseline, scale=loss.scale, epsilon=loss.advantage_epsilon,
    )  # fmt: skip
    assert got.abs().max() > 0.1
    torch.testing.assert_close(got.view(3, 4).sum(-1), torch.zeros(3), atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), siblings=st.integers(2, 6))
def test_rloo_is_dr_grpo_times_g_over_g_less_one(seed, siblings):
    x = batch(seed, siblings=siblings)
    rule = {"scale": "none", "epsilon": 1e-6}
    rloo, dr_grpo = (
        group_advantages(x["rewards"], x["group"], x["mask"].sum(-1), baseline=baseline, **rule)
        for baseline in ("leave_one_out", "group_mean")
    )
    torch.testing.assert_close(rloo, dr_grpo * siblings / (siblings - 1))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_gspo_by_token_is_gspo_where_the_advantage_is_constant(seed):
    """GSPO-token, arXiv:2507.18071 eq. 13: s = sg[s] pi / sg[pi] has the value of s and d log pi its own."""
    x = batch(seed)
    logp = torch.where(x["mask"], x["logp"], 0.0).requires_grad_()
    log = logp - torch.where(x["mask"], x["old"], 0.0)
    lengths = x["mask"].sum(-1, keepdim=True)
    mean = (log * x["mask"]).sum(-1, keepdim=True) / lengths
    advantages = advantages_of(loss_of("gspo"), x)
    for level in (mean.exp(), mean.detach().exp() * (logp - logp.detach()).exp()):
        value = torch.minimum(level * advantages, level.clamp(1 - 0.2, 1 + 0.3) * advantages)
        (grad,) = torch.autograd.grad((-value * x["mask"] / lengths / 12).sum(), logp)
        ours = -terms_of(loss_of("gspo", clip_low=0.2, clip_high=0.3), x).coefficient
        torch.testing.assert_close(ours, grad, atol=1e-7, rtol=0)


REGULARISED = ("rloo", "grpo", "r1_zero", "reinforce_pp", "reinforce_pp_baseline", "deepseek_v3_2", "remax",
               "prime_rl", "dro", "vineppo", "spo_chain", "reward kl", "kl_cov", "kl_cov more")  # fmt: skip
"""A penalty pushes whatever the rewards are."""
UNCOMPARED = ("reinforce", "w_reinforce", "rl_zvp", "prorl_v2", "magistral", "spro")
"""These learn from a group that agrees, or subtract the batch's mean of what is not exactly 0."""


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in REGULARISED + UNCOMPARED])
def test_a_group_that_agrees_pushes_nothing_and_counts_in_the_means(variant, seed):
    """The first group's rewards are all 1: dropping it before (`zero_variance: drop`) is another divisor."""
    x = batch(seed)
    grad = gradient(variant, x)
    assert float(grad[:4].abs().max()) < (1e-6 if variant == "otb" else 1e-12)  # its epsilon
    preset, changes = VARIANTS[variant]
    loss = loss_of(preset, **changes)
    totals = Totals.of(x["mask"], x["group"])
    assert (totals.sequences, totals.groups, totals.tokens) == (12, 3, int(x["mask"].sum()))
    is_by_group = loss.scale in ("none", "group_std") and loss.baseline != "gdpo"
    if not loss.selects and is_by_group and loss.gate == "clip":
        rest = {name: values[4:] for name, values in x.items()} | {"group": x["group"][4:] - 1}
        share = {"token_mean": int(rest["mask"].sum()) / totals.tokens}.get(loss.aggregation, 8 / 12)
        torch.testing.assert_close(grad[4:], share * gradient(variant, rest), atol=1e-8, rtol=0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize("preset", [p for p in PRESETS if loss_of(p).ratio_base == "rollout"])
def test_a_ratio_to_the_engine_is_never_weighted_by_it_again(preset, seed):
    """The old policy may be anything: no factor old/rollout is in the gradient (the reference's (viii))."""
    x = batch(seed)
    changes = {"entropy": "off", "correction": "none"}  # lp_reg and geo_mask choose by the old policy
    ours = terms_of(loss_of(preset, **changes), x).coefficient
    other = terms_of(loss_of(preset, **changes), x | {"old": x["old"] - 0.7}).coefficient
    torch.testing.assert_close(ours, other, atol=0, rtol=0)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
@EACH
def test_narrow_inputs_are_reduced_in_float32(variant, narrow):
    """The same numbers, given in 16 bits, give the coefficients that they give in float32."""
    x = batch(7)
    loss = loss_of(VARIANTS[variant][0], **VARIANTS[variant][1])
    narrowed = {name: x[name].to(narrow) for name in BY_TOKEN}
    wide = terms_of(loss, x | {name: values.float() for name, values in narrowed.items()})
    got = terms_of(loss, x | narrowed)
    assert got.coefficient.dtype is not narrow
    torch.testing.assert_close(got.coefficient.double(), wide.coefficient.double(), atol=1e-6, rtol=1e-5)
