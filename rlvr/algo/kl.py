"""Penalties towards a reference policy, as (value, derivative with respect to log pi) a token.

Expected gradients (checked in tests/algo): k2 gives grad KL(pi || ref); k3 as a loss gives the *forward* KL,
kept for GRPO's sake; k3_weighted (the ratio multiplies, and is differentiated) gives grad KL(pi || ref)
off-policy too.
"""

from __future__ import annotations

import torch


def penalty(
    logprobs_BT: torch.Tensor, reference_BT: torch.Tensor, ratio_BT: torch.Tensor, *, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and derivative [B, T] of `k2`, `k3` (Schulman's estimators), `k3_weighted` (arXiv:2512.02556)."""
    log_BT = reference_BT - logprobs_BT
    if kind == "k2":
        return log_BT.square() / 2, -log_BT
    value, slope = log_BT.exp() - 1 - log_BT, 1 - log_BT.exp()
    if kind == "k3_weighted":
        return ratio_BT * value, ratio_BT * (value + slope)
    return value, slope


def rollout_penalty(logprobs_BT: torch.Tensor, rollout_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(log pi / mu)^2 and its derivative: a pull towards the policy that sampled (prime-rl's default)."""
    log_BT = logprobs_BT - rollout_BT
    return log_BT.square(), 2 * log_BT
