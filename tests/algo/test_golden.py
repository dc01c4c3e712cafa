"""Values and gradients of every preset against reference/golden_losses.json, an independent numpy program."""

import json
from pathlib import Path

import pytest
import torch

from rlvr.algo.advantages import group_advantages
from rlvr.algo.aggregate import Totals
from rlvr.algo.loss import Loss, loss_terms
from rlvr.recipe.presets import PRESETS

FILE = Path(__file__).parents[2].parent / "shared/reference/golden_losses.json"
if not FILE.exists():
    pytest.skip(
        "golden_losses.json is not beside this checkout (../shared/reference)", allow_module_level=True
    )
GOLDEN = json.loads(FILE.read_text())

LOSS_KEYS = set(Loss.__dataclass_fields__)
CASES = [
    ("grpo_eps0.2", "grpo", {"kl": "off"}),
    ("grpo_eps0.2_kl_k3_beta0.04", "grpo", {}),
    ("grpo_kl_k2_beta0.04", "grpo", {"kl": "k2"}),
    ("grpo_kl_k3_isratio_beta0.04", "grpo", {"kl": "k3_weighted"}),
    ("dr_grpo_Lmax4", "dr_grpo", {"length_constant": 4.0}),
    ("dapo_0.2_0.28", "dapo", {}),
    ("dapo_dualclip_c1.2", "dapo", {"dual_clip": 1.2}),
    ("lite_ppo", "dapo", {"scale": "batch_std", "clip_high": 0.2}),
    ("gspo_3e-4_4e-4", "gspo", {}),
    ("gspo_0.05_0.08", "gspo", {"clip_low": 0.05, "clip_high": 0.08}),
    ("cispo_max5", "cispo", {}),
    ("cispo_max1.2", "cispo", {"ratio_cap": 1.2}),
    ("rloo_reinforce", "rloo", {}),
    ("reinforce_pp_baseline_k2_beta0.01", "reinforce_pp_baseline", {}),
    ("dapo+token_tis_2", "dapo", {"correction": "token_truncate", "correction_high": 2.0}),
    ("dapo+token_tis_2", "default", {}),
    ("dapo+token_mask_icepop_0.5_2", "dapo", {"correction": "token_mask"}),
    (
        "decoupled_ppo_uncapped",
        "dapo",
        {"clip_high": 0.2, "correction": "token_truncate", "correction_high": 1e9},
    ),
    ("minirl_bypass_ppo_clip", "dapo", {"ratio_base": "rollout"}),
]


def garbage(name: str) -> torch.Tensor:
    """An input whose padding holds NaN: whoever forgets the mask is found out."""
    mask = torch.tensor(GOLDEN["inputs"]["mask"]).bool()
    return torch.where(mask, torch.tensor(GOLDEN["inputs"][name], dtype=torch.float64), torch.nan)


def inputs():
    mask = torch.tensor(GOLDEN["inputs"]["mask"]).bool()
    return mask, garbage("logp"), garbage("old_logp"), garbage("rollout_logp"), garbage("ref_logp")


def advantages(row: dict, mask: torch.Tensor) -> torch.Tensor:
    rewards = torch.tensor(GOLDEN["inputs"]["reward"], dtype=torch.float64)
    group = torch.tensor(GOLDEN["inputs"]["group"])
    return group_advantages(
        rewards,
        group,
        mask.sum(-1),
        baseline=row["baseline"],
        scale=row["scale"],
        epsilon=row["advantage_epsilon"],
    )


@pytest.mark.parametrize(("golden", "preset", "changes"), CASES, ids=[f"{p}-{g}" for g, p, _ in CASES])
def test_value_and_gradient(golden, preset, changes):
    row = {**PRESETS["default"], **PRESETS[preset], **changes}
    mask, logp, old, rollout, ref = inputs()
    logp.requires_grad_()
    terms = loss_terms(
        Loss(**{k: v for k, v in row.items() if k in LOSS_KEYS}),
        logprobs=logp, old=old, rollout=rollout, reference=ref,
        advantages=advantages(row, mask)[:, None].expand_as(logp).double(),
        mask=mask, totals=Totals.of(mask),
    )  # fmt: skip
    loss = -(terms.coefficient * torch.where(mask, logp, 0.0)).sum()
    loss.backward()
    expected = GOLDEN["losses"][golden]
    assert float(terms.surrogate.sum()) == pytest.approx(expected["loss"], abs=2e-7)
    torch.testing.assert_close(
        logp.grad, torch.tensor(expected["grad"], dtype=torch.float64), atol=2e-7, rtol=0
    )


@pytest.mark.parametrize(
    ("golden", "baseline", "scale"),
    [
        ("grpo_ddof1_eps1e-6", "group_mean", "group_std"),
        ("dr_grpo", "group_mean", "none"),
        ("rloo", "leave_one_out", "none"),
        ("lite_ppo_batchstd_ddof1", "group_mean", "batch_std"),
    ],
)
def test_advantages(golden, baseline, scale):
    mask = torch.tensor(GOLDEN["inputs"]["mask"]).bool()
    row = {"baseline": baseline, "scale": scale, "advantage_epsilon": 1e-6}
    expected = torch.tensor(GOLDEN["advantages"][golden])
    torch.testing.assert_close(advantages(row, mask), expected, atol=1e-6, rtol=0)


def test_whitened_advantages():
    mask = torch.tensor(GOLDEN["inputs"]["mask"]).bool()
    row = {"baseline": "group_mean", "scale": "token_whiten", "advantage_epsilon": 1e-8}
    got = advantages(row, mask)[:, None] * mask
    expected = torch.tensor(GOLDEN["advantages"]["reinforce_pp_baseline"])
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
