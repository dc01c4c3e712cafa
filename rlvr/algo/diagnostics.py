"""How far the four policies have drifted apart, as sums that add up over micro-batches and ranks."""

from __future__ import annotations

import torch

from rlvr.algo.gates import LOG_RATIO_LIMIT


def drift_sums(old_BT: torch.Tensor, rollout_BT: torch.Tensor, mask_BT: torch.Tensor) -> dict[str, float]:
    """Sums over the masked tokens of w, w^2 and k3 = w - 1 - log w for w = pi_old / mu, and max |log w|."""
    log_w = (old_BT - rollout_BT)[mask_BT].double().clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    w = log_w.exp()
    return {
        "w": float(w.sum()),
        "w_squared": float(w.square().sum()),
        "k3": float((w - 1 - log_w).sum()),
        "max": float(log_w.abs().max()) if len(log_w) else 0.0,
    }


def ess_share(w_sum: float, w_squared_sum: float, tokens: int) -> float:
    """Effective sample size (sum w)^2 / (n sum w^2), in (0, 1]."""
    return w_sum**2 / (tokens * w_squared_sum) if tokens and w_squared_sum else 1.0
