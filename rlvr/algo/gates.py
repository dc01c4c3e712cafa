"""Ratios and gates: how far each token's push is trusted.

A gate returns the coefficient c that multiplies A * grad log pi (reference: the gradient of its textbook
surrogate), and the value of that surrogate, to be logged.  Shapes [B, T]; all inputs are detached.
"""

from __future__ import annotations

import torch

LOG_RATIO_LIMIT = 20.0
"""Log ratios are clamped to +-20 so that no exponential overflows."""


def ratios(
    logprobs_BT: torch.Tensor, base_BT: torch.Tensor, mask_BT: torch.Tensor, level: str
) -> torch.Tensor:
    """Importance ratio pi / base, [B, T].

    `token`: each token its own; `sequence`: the geometric mean over the sequence's tokens, the same for all
    of them (GSPO, arXiv:2507.18071 eq. 7); `none`: 1.
    """
    if level == "none":
        return torch.ones_like(logprobs_BT)
    log_BT = torch.where(mask_BT, logprobs_BT - base_BT, torch.zeros_like(base_BT))
    if level == "sequence":
        mean_B = log_BT.sum(-1) / mask_BT.sum(-1).clamp_min(1)
        log_BT = mean_B[:, None].expand_as(log_BT)
    return log_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def clip(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, *, low: float, high: float, dual: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate (arXiv:1707.06347 eq. 7), with separate ends (DAPO, arXiv:2503.14476 eq. 10).

    `dual` bounds the push down of tokens with a negative advantage (arXiv:1912.09729 eq. 5).
    """
    up = advantages_BT > 0
    down = advantages_BT < 0
    stopped = (up & (ratio_BT > 1 + high)) | (down & (ratio_BT < 1 - low))
    value = torch.minimum(ratio_BT * advantages_BT, ratio_BT.clamp(1 - low, 1 + high) * advantages_BT)
    if dual is not None:
        stopped = stopped | (down & (ratio_BT > dual))
        value = torch.where(down, torch.maximum(value, dual * advantages_BT), value)
    return torch.where(stopped, torch.zeros_like(ratio_BT), ratio_BT), value


def cispo(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, logprobs_BT: torch.Tensor, *, cap: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ratio capped at the absolute value `cap` is a constant weight of log pi.

    MiniMax-M1, arXiv:2506.13585 eq. 4.
    """
    weight = ratio_BT.clamp_max(cap)
    return weight, weight * advantages_BT * logprobs_BT


def ungated(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, logprobs_BT: torch.Tensor, *, reinforce: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every token is pushed by its ratio; without a ratio (`reinforce`) the surrogate is A * log pi."""
    value = advantages_BT * (logprobs_BT if reinforce else ratio_BT)
    return ratio_BT, value
