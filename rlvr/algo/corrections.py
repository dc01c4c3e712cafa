"""Rollout correction: the weight pi_old / mu of tokens that the engine drew from a slightly other policy."""

from __future__ import annotations

import torch

from rlvr.algo.gates import LOG_RATIO_LIMIT


def correction_weights(
    old_BT: torch.Tensor, rollout_BT: torch.Tensor, *, kind: str, low: float, high: float
) -> torch.Tensor:
    """Weights [B, T], constant with respect to the parameters.

    `none`: 1; `token_truncate`: min(pi_old / mu, high) (TIS); `token_mask`: pi_old / mu inside [low, high],
    else 0 (IcePop, arXiv:2510.18855).  The denominators of the aggregation do not change.
    """
    if kind == "none":
        return torch.ones_like(old_BT)
    weight_BT = (old_BT - rollout_BT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    if kind == "token_truncate":
        return weight_BT.clamp_max(high)
    inside = (weight_BT >= low) & (weight_BT <= high)
    return torch.where(inside, weight_BT, torch.zeros_like(weight_BT))
