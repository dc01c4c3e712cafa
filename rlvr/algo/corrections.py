"""Rollout correction: the weight pi_old / mu of tokens that the engine drew from a slightly other policy.

Weights are constants with respect to the parameters; 0 rejects.  What is rejected stays in the denominators
of the aggregation unless the recipe says `denominator: kept`.  Shapes [B, T].
"""

from __future__ import annotations

import torch

from rlvr.algo.gates import LOG_RATIO_LIMIT, sequence_mean
from rlvr.algo.ranks import ALONE, Ranks

REJECTIONS = ("geo_mask", "k3_mask")
"""Corrections that only reject: what they keep has weight 1."""


def correction_weights(
    old_BT: torch.Tensor,
    rollout_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    kind: str,
    low: float,
    high: float,
) -> torch.Tensor:
    """Weights w = pi_old / mu [B, T], cut or rejected; W is their product over the sequence.

    `none`: 1; `token_truncate`: min(w, high) (TIS); `token_mask`: w inside [low, high], else 0 (IcePop,
    arXiv:2510.18855); `sequence_truncate`: min(W, high); `sequence_mask`: W inside [low, high], else 0;
    `geo_mask`: 1 where the geometric mean of w lies in [low, high], else 0 (the four of arXiv:2512.23075 and
    "When Speed Kills Stability"); `geo_mask_token`: w where `geo_mask` is 1 (seq-mask-TIS of NeMo-RL);
    `k3_mask`: 1 where the sequence's mean of w - 1 - log w is at most `high`, else 0.
    """
    if kind == "none":
        return torch.ones_like(old_BT)
    log_BT = torch.where(mask_BT, old_BT - rollout_BT, torch.zeros_like(old_BT))
    weight_BT = log_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    measure_BT = weight_BT
    if kind.startswith("sequence"):
        product_B1 = log_BT.sum(-1, keepdim=True).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
        weight_BT = measure_BT = product_B1.expand_as(log_BT)
    elif kind.startswith("geo_mask"):
        measure_BT = sequence_mean(log_BT, mask_BT).exp()
    elif kind == "k3_mask":
        measure_BT, low = sequence_mean(weight_BT - 1 - log_BT, mask_BT), 0.0
    if kind.endswith("truncate"):
        return weight_BT.clamp_max(high)
    inside = (measure_BT >= low) & (measure_BT <= high)
    kept_BT = torch.ones_like(weight_BT) if kind in REJECTIONS else weight_BT
    return torch.where(inside, kept_BT, torch.zeros_like(kept_BT))


def on_trust(
    logprobs_BT: torch.Tensor,
    old_BT: torch.Tensor,
    rollout_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    opsm_delta: float | None,
    veto: float | None,
) -> torch.Tensor:
    """bool [B, T]: False for every token of a sequence that is not to be learned from.

    opsm_delta: a negative advantage and mean(log mu - log pi) above it (off-policy sequence masking, DeepSeek
    V3.2, arXiv:2512.02556); veto: a token whose pi_old / mu is below it (slime, verl).
    """
    trusted_BT = torch.ones_like(mask_BT)
    if opsm_delta is not None:
        strayed = sequence_mean(rollout_BT - logprobs_BT, mask_BT) > opsm_delta
        trusted_BT = trusted_BT & ~(strayed & (advantages_BT < 0))
    if veto is not None:
        ruled_out = ((old_BT - rollout_BT).exp() < veto) & mask_BT
        trusted_BT = trusted_BT & ~ruled_out.any(-1, keepdim=True)
    return trusted_BT


def second_moment(
    old_BT: torch.Tensor,
    rollout_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    limit: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """bool [B, T]: all but the largest (log w)^2, dropped until the mean of the rest is below `limit`.

    M2PO, arXiv:2510.01161.  Over all tokens given: the whole optimizer step.  Equals go together.
    """
    square_BT = (old_BT - rollout_BT).double().square()
    square_N = ranks.gather(square_BT[mask_BT]).sort().values
    means_N = square_N.cumsum(0) / torch.arange(1, len(square_N) + 1, device=square_N.device)
    over = (means_N >= limit).nonzero()
    if not len(over):
        return mask_BT
    return mask_BT & (square_BT < square_N[over[0, 0]])
