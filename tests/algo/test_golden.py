"""Values and gradients of every preset against reference/golden_losses.json, an independent numpy program."""

import json
from pathlib import Path

import pytest
import torch

from rlvr.algo import entropy
from rlvr.algo.advantages import group_advantages
from rlvr.algo.aggregate import Totals, normaliser
from rlvr.algo.corrections import correction_weights
from rlvr.algo.credit import zero_variance_entropy
from rlvr.algo.diagnostics import drift_sums
from rlvr.algo.loss import Tokens, loss_terms
from tests.algo.steps import advantages_of, loss_of, terms_of

FILE = Path(__file__).parents[2].parent / "shared/reference/golden_losses.json"
if not FILE.exists():
    pytest.skip(
        "golden_losses.json is not beside this checkout (../shared/reference)", allow_module_level=True
    )
GOLDEN = json.loads(FILE.read_text())

NARROW = {"clip_low": 0.05, "clip_high": 0.08}
BAND = {"correction_low": 0.9, "correction_high": 1.2}
KEPT = {"denominator": "kept"}
CASES = [
    ("grpo_eps0.2", "grpo", {"kl": "off"}),
    ("grpo_eps0.2_kl_k3_beta0.04", "grpo", {}),
    ("grpo_kl_k2_beta0.04", "grpo", {"kl": "k2"}),
    ("grpo_kl_k3_isratio_beta0.04", "grpo", {"kl": "k3_weighted"}),
    ("dr_grpo_Lmax4", "dr_grpo", {"length_constant": 4.0}),
    ("dapo_0.2_0.28", "dapo", {}),
    ("dapo_0.2_0.28", "fipo", {"credit": "sequence"}),
    ("dapo_dualclip_c1.2", "dapo", {"dual_clip": 1.2}),
    ("lite_ppo", "lite_ppo", {}),
    ("magistral_0.2_0.28", "magistral", {"aggregation": "token_mean"}),
    ("gspo_3e-4_4e-4", "gspo", {}),
    ("gspo_0.05_0.08", "gspo", NARROW),
    ("gspo_token_0.05_0.08", "gspo", NARROW),
    ("luspo_0.05_0.08", "luspo", NARROW),
    ("gmpo_logclip0.2", "gmpo", {"clip_low": 0.2, "clip_high": 0.2}),
    ("cispo_max5", "cispo", {}),
    ("cispo_max1.2", "cispo", {"ratio_cap": 1.2}),
    ("scalerl_cispo_max1.2_promptmean_batchstd", "scalerl", {"ratio_cap": 1.2, "ratio_base": "old"}),
    ("sapo_1.0_1.05", "sapo", {}),
    ("rloo_reinforce", "rloo", {"kl": "off"}),
    ("opo_reinforce", "opo", {}),
    ("remax_reinforce", "remax", {"kl": "off"}),
    ("maxrl_reinforce", "maxrl", {}),
    ("reinforce_pp_beta0.01_eps0.2", "reinforce_pp", {}),
    ("reinforce_pp_baseline_k2_beta0.01", "reinforce_pp_baseline", {}),
    ("topr", "topr", {"ratio_base": "old"}),
    ("vespo_k2_l3_k3_l2", "vespo", {"ratio_base": "old"}),
    ("dppo_tv_0.15", "dppo", {"ratio_base": "old", "divergence_limit": 0.15}),
    ("dppo_kl_0.1", "dppo", {"ratio_base": "old", "gate": "dppo_kl", "divergence_limit": 0.1}),
    ("dapo+token_tis_2", "dapo", {"correction": "token_truncate"}),
    ("dapo+token_tis_2", "default", {}),
    ("dapo+token_mask_icepop_0.5_2", "dapo", {"correction": "token_mask"}),
    ("dapo+seq_tis_2", "dapo", {"correction": "sequence_truncate"}),
    ("dapo+seq_mis_3", "dapo", {"correction": "sequence_mask", "correction_low": 0, "correction_high": 3}),
    ("dapo+seq_mask_tis_0.9_1.2_maskdenom", "dapo", {"correction": "geo_mask_token"} | BAND | KEPT),
    ("dapo+seq_mask_tis_0.9_1.2_fulldenom", "dapo", {"correction": "geo_mask_token"} | BAND),
    ("dapo+geo_rs_0.9_1.2_maskdenom", "dapo", {"correction": "geo_mask"} | BAND | KEPT),
    ("dapo+geo_rs_0.9_1.2_fulldenom", "dapo", {"correction": "geo_mask"} | BAND),
    ("dapo+k3_rs_0.1_maskdenom", "dapo", {"correction": "k3_mask", "correction_high": 0.1} | KEPT),
    ("dapo+k3_rs_0.1_fulldenom", "dapo", {"correction": "k3_mask", "correction_high": 0.1}),
    ("dapo+opsm_delta0.1", "dapo", {"opsm_delta": 0.1}),
    (
        "decoupled_ppo_uncapped",
        "dapo",
        {"clip_high": 0.2, "correction": "token_truncate", "correction_high": 1e9},
    ),
    ("minirl_bypass_ppo_clip", "dapo", {"ratio_base": "rollout"}),
    ("kl_cov_top2_coef1", "kl_cov", {"entropy_share": 2 / 9}),
    (
        "clip_cov_all_in_band_0.3_5",
        "clip_cov",
        {"entropy_share": 1.0, "cov_low": 0.3},
    ),
    ("forking_top20pct_fulldenom", "forking20", {}),
    ("forking_top20pct_keptdenom", "forking20", KEPT),
    ("fipo_decay1_range0.2_highonly", "fipo", {"future_decay": 1.0}),
    ("m2po_tau0.04_fulldenom", "m2po", {}),
    # The value is whole; the gradient is that of the sampled tokens, the golden entropies being constants:
    # that of the vocabulary is in tests/policy/test_logprobs.py and tests/algo/test_updates.py.
    ("skywork_entropy_bonus_0.01", "skywork_or1", {"entropy_coef": 0.01}),
]
OTHERS = {
    # Compared below: the gradient, and the value by the ratio where ours is logged by log pi.
    "prime_rl_default_tv0.15_kltau1e-3",
}


def test_no_golden_loss_is_forgotten():
    assert {golden for golden, _, _ in CASES} | OTHERS == set(GOLDEN["losses"])


def garbage(name: str) -> torch.Tensor:
    """An input whose padding holds NaN: whoever forgets the mask is found out."""
    mask = torch.tensor(GOLDEN["inputs"]["mask"]).bool()
    return torch.where(mask, torch.tensor(GOLDEN["inputs"][name], dtype=torch.float64), torch.nan)


def inputs() -> dict:
    group = torch.tensor(GOLDEN["inputs"]["group"])
    return {
        "mask": torch.tensor(GOLDEN["inputs"]["mask"]).bool(),
        "group": group,
        "greedy": torch.tensor(GOLDEN["inputs"]["greedy_reward"], dtype=torch.float64)[group],
        "rewards": torch.tensor(GOLDEN["inputs"]["reward"], dtype=torch.float64),
        "logp": garbage("logp"),
        "old": garbage("old_logp"),
        "mu": garbage("rollout_logp"),
        "ref": garbage("ref_logp"),
        "entropy": garbage("entropy"),
    }


def computed(preset: str, changes: dict):
    """Terms and gradient of the step, by way of the loss that is differentiated."""
    x = inputs()
    logp = x["logp"].clone().requires_grad_()
    terms = terms_of(loss_of(preset, **changes), x)
    (-(terms.coefficient * torch.where(x["mask"], logp, 0.0)).sum()).backward()
    return terms, logp.grad


def expected_gradient(golden: str) -> torch.Tensor:
    return torch.tensor(GOLDEN["losses"][golden]["grad"], dtype=torch.float64)


@pytest.mark.parametrize(("golden", "preset", "changes"), CASES, ids=[f"{p}-{g}" for g, p, _ in CASES])
def test_value_and_gradient(golden, preset, changes):
    terms, grad = computed(preset, changes)
    assert float(terms.surrogate.sum()) == pytest.approx(GOLDEN["losses"][golden]["loss"], abs=3e-7)
    torch.testing.assert_close(grad, expected_gradient(golden), atol=3e-7, rtol=0)


def test_prime_rl_has_the_gradient_and_by_its_own_count_the_value():
    golden = "prime_rl_default_tv0.15_kltau1e-3"
    terms, grad = computed("prime_rl", {"divergence_limit": 0.15})
    torch.testing.assert_close(grad, expected_gradient(golden), atol=3e-7, rtol=0)
    x = inputs()
    log = torch.where(x["mask"], x["logp"] - x["mu"], 0.0)
    coefficient = terms.coefficient + 2e-3 * log / 9
    value = float((-coefficient + 1e-3 * log.square() / 9).sum())
    assert value == pytest.approx(GOLDEN["losses"][golden]["loss"], abs=3e-7)


@pytest.mark.parametrize(
    ("golden", "baseline", "scale", "epsilon"),
    [
        ("grpo_ddof1_eps1e-6", "group_mean", "group_std", 1e-6),
        ("grpo_ddof0_eps1e-6", "group_mean", "group_std_population", 1e-6),
        ("grpo_ddof1_eps1e-4_TRL", "group_mean", "group_std", 1e-4),
        ("dr_grpo", "group_mean", "none", 1e-6),
        ("rloo", "leave_one_out", "none", 1e-6),
        ("lite_ppo_batchstd_ddof1", "group_mean", "batch_std", 1e-6),
        ("magistral_ddof0", "group_mean", "batch_whiten", 1e-6),
        ("opo", "length_weighted", "none", 1e-6),
        ("maxrl", "group_mean", "group_mean", 1e-6),
        ("remax", "greedy", "none", 1e-6),
    ],
)
def test_advantages(golden, baseline, scale, epsilon):
    x = inputs()
    rule = {"baseline": baseline, "scale": scale, "epsilon": epsilon, "greedy_B": x["greedy"]}
    got = group_advantages(x["rewards"], x["group"], x["mask"].sum(-1), **rule)
    torch.testing.assert_close(got, torch.tensor(GOLDEN["advantages"][golden]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("golden", "preset", "changes"),
    [
        ("reinforce_pp_beta0", "reinforce_pp", {"kl": "off", "kl_coef": 0.0}),
        ("reinforce_pp_beta0.01", "reinforce_pp", {}),
        ("reinforce_pp_baseline", "reinforce_pp_baseline", {}),
    ],
)
def test_advantages_of_tokens(golden, preset, changes):
    got = advantages_of(loss_of(preset, **changes), inputs())
    expected = torch.tensor(GOLDEN["advantages"][golden], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("golden", "baseline", "rewards", "positive_weight"),
    [
        ("passk_n4_k2_correct[1,0,0,0]", "pass_at_2", [1, 0, 0, 0], 1),
        ("passk_n4_k2_correct[1,1,0,0]", "pass_at_2", [1, 1, 0, 0], 1),
        ("passk_n8_k4_correct2", "pass_at_4", [1, 1, 0, 0, 0, 0, 0, 0], 1),
        ("w_reinforce_lam0.1_correct[1,0]", "signed", [1, 0], 0.1),
    ],
)
def test_advantages_by_right_and_wrong(golden, baseline, rewards, positive_weight):
    b = len(rewards)
    x = {
        "rewards": torch.tensor(rewards, dtype=torch.float64),
        "group": torch.zeros(b, dtype=torch.long),
        "mask": torch.ones(b, 1, dtype=torch.bool),
    }
    got = advantages_of(loss_of("w_reinforce", baseline=baseline, positive_weight=positive_weight), x)
    expected = torch.tensor(GOLDEN["advantages"][golden], dtype=torch.float64)
    torch.testing.assert_close(got[:, 0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("golden", "sign"), [("rl_zvp_all_correct_alpha0.1", 1.0), ("rl_zvp_all_wrong_alpha0.1", -1.0)]
)
def test_uniform_groups_learn_by_entropy(golden, sign):
    x = inputs()
    advantages = torch.full(x["mask"].shape, sign, dtype=torch.float64)
    got = zero_variance_entropy(advantages, x["entropy"], x["mask"], x["group"], alpha=0.1)
    expected = torch.tensor(GOLDEN["advantages"][golden], dtype=torch.float64)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)


def test_advantages_of_several_rewards():
    rewards = torch.tensor(GOLDEN["inputs"]["two_rewards"], dtype=torch.float64)
    x = inputs() | {"channels": rewards}
    got = advantages_of(loss_of("gdpo"), x)
    expected = torch.tensor(GOLDEN["advantages"]["gdpo_ddof1"], dtype=torch.float64)
    torch.testing.assert_close(got, torch.where(x["mask"], expected[:, None], 0.0), atol=1e-6, rtol=0)


def test_no_golden_advantage_is_forgotten():
    mine = Path(__file__).read_text()
    assert [name for name in GOLDEN["advantages"] if f'"{name}"' not in mine] == []


CORRECTIONS = {
    "token_tis_2": ("token_truncate", 0, 2),
    "token_mask_icepop_0.5_2": ("token_mask", 0.5, 2),
    "seq_tis_2": ("sequence_truncate", 0, 2),
    "seq_mis_3": ("sequence_mask", 0, 3),
    "seq_mask_tis_0.9_1.2": ("geo_mask_token", 0.9, 1.2),
    "geo_rs_0.9_1.2": ("geo_mask", 0.9, 1.2),
    "k3_rs_0.1": ("k3_mask", 0, 0.1),
}


@pytest.mark.parametrize("golden", GOLDEN["correction_weights"])
def test_correction_weights(golden):
    x, (kind, low, high) = inputs(), CORRECTIONS[golden]
    got = correction_weights(x["old"], x["mu"], x["mask"], kind=kind, low=low, high=high)
    row = GOLDEN["correction_weights"][golden]
    expected = torch.tensor(row["weight"], dtype=torch.float64) * torch.tensor(row["keep"])
    torch.testing.assert_close(torch.where(x["mask"], got, 0.0), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", GOLDEN["aggregation_of_ppo_clip_0.2_0.28"])
def test_aggregation(kind):
    x, name = inputs(), kind.removesuffix("_const")
    terms = terms_of(loss_of("dapo"), x)  # token mean: nine times a token's share is its value
    values = 9 * terms.surrogate.double()
    constant = float(GOLDEN["l_max"]) if kind != name else None
    n = normaliser(
        x["mask"], x["group"], Totals.of(x["mask"], x["group"]), kind=name, length_constant=constant
    )
    assert float((n * values).sum()) == pytest.approx(
        GOLDEN["aggregation_of_ppo_clip_0.2_0.28"][kind], abs=1e-6
    )


@pytest.mark.parametrize("kind", ["k1_reward", "k2", "k3"])
def test_kl_values(kind):
    terms = terms_of(loss_of("grpo", kl=kind), inputs())
    assert float(terms.kl.sum() / 9) == pytest.approx(
        GOLDEN["kl_values_mean_over_tokens"][kind.removesuffix("_reward")], abs=1e-9
    )


@pytest.mark.parametrize("name", GOLDEN["lp_reg"]["cases"])
def test_lp_reg(name):
    golden, case = GOLDEN["lp_reg"], GOLDEN["lp_reg"]["cases"][name]
    old = torch.tensor(golden["p_old"], dtype=torch.float64)
    kept = old >= golden["kappa"] * old.max()
    proxy = torch.where(kept, old, 0.0) / old[kept].sum()
    torch.testing.assert_close(proxy, torch.tensor(golden["proxy"], dtype=torch.float64))
    one = lambda value: torch.tensor([[value]], dtype=torch.float64)  # noqa: E731
    mask, group = torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    token = case["token"]
    tokens = Tokens(
        mask=mask, group=group, advantages=one(case["adv"]), logprobs=one(case["p_new"]).log(),
        old=old[token].log()[None, None], rollout=old[token].log()[None, None],
        log_proxy=proxy[token].log()[None, None], marked=mask,
    )  # fmt: skip
    terms = loss_terms(loss_of("lp_reg"), tokens, Totals.of(mask, group))
    assert float(terms.surrogate) == pytest.approx(case["loss"])
    assert float(-terms.coefficient) == pytest.approx(case["dloss_dlogp"])
    penalty, _ = entropy.pull_to_proxy(tokens.logprobs, tokens.log_proxy)
    assert float(penalty) == pytest.approx(case["penalty_k3"])


def test_diagnostics():
    x, golden = inputs(), GOLDEN["diagnostics"]
    sums = drift_sums(x["old"], x["mu"], x["mask"])
    assert sums["k3"] / 9 == pytest.approx(golden["kl_k3"])
    assert sums["max"] == pytest.approx(golden["abs_logp_diff_max"])
    assert sums["w_squared"] / 9 - 1 == pytest.approx(golden["chi2_token"])
    terms = terms_of(loss_of("dapo"), x)
    stopped = (terms.gate == 0) & x["mask"]
    assert int((stopped & (terms.ratio < 1)).sum()) / 9 == pytest.approx(golden["clip_frac_low_0.2"])
    assert int((stopped & (terms.ratio > 1)).sum()) / 9 == pytest.approx(golden["clip_frac_high_0.28"])
