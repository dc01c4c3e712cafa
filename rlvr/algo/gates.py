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
    of them (GSPO, arXiv:2507.18071 eq. 7); `sequence_product`: their product; `none`: 1.
    """
    if level == "none":
        return torch.ones_like(logprobs_BT)
    log_BT = torch.where(mask_BT, logprobs_BT - base_BT, torch.zeros_like(base_BT))
    if level == "sequence":
        log_BT = sequence_mean(log_BT, mask_BT)
    elif level == "sequence_product":
        log_BT = log_BT.sum(-1, keepdim=True).expand_as(log_BT)
    return log_BT.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def sequence_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the counted tokens of each sequence, at each of its places [B, T]."""
    counted_BT = torch.where(mask_BT, values_BT, torch.zeros_like(values_BT))
    return (counted_BT.sum(-1, keepdim=True) / mask_BT.sum(-1, keepdim=True).clamp_min(1)).expand_as(
        values_BT
    )


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


def sapo(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, *, up: float, down: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A soft gate 4/tau * sigmoid(tau * (ratio - 1)), tau `up` or `down` by the sign of the advantage.

    SAPO, arXiv:2511.20347.
    """
    tau = torch.where(advantages_BT > 0, up, down).to(ratio_BT.dtype)
    s = torch.sigmoid(tau * (ratio_BT - 1))
    return 4 * ratio_BT * s * (1 - s), 4 / tau * s * advantages_BT


def gmpo(
    log_ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, mask_BT: torch.Tensor, *, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The geometric mean of the sequence's token ratios, each clipped in log space on its advantage's side.

    GMPO, arXiv:2507.20673.
    """
    above = (advantages_BT > 0) & (log_ratio_BT > high)
    below = (advantages_BT < 0) & (log_ratio_BT < -low)
    clipped_BT = torch.where(above, high, torch.where(below, -low, log_ratio_BT)).to(log_ratio_BT.dtype)
    mean_BT = sequence_mean(clipped_BT, mask_BT).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    return torch.where(above | below, torch.zeros_like(mean_BT), mean_BT), mean_BT * advantages_BT


def dppo(
    ratio_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    logprobs_BT: torch.Tensor,
    base_BT: torch.Tensor,
    *,
    measure: str,
    limit: float,
    cap: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ratio, capped; 0 where the token's probability p has moved too far from q in its advantage's sense.

    DPPO, arXiv:2602.04879: `tv` measures |p - q|, `kl` the Bernoulli KL(q || p).  Unlike the ratio, both
    leave room to rare tokens.
    """
    p, q = logprobs_BT.double().exp(), base_BT.double().exp()
    if measure == "tv":
        moved = (p - q).abs()
    else:
        p, q = (x.clamp(1e-12, 1 - 1e-12) for x in (p, q))
        moved = q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()
    outward = ((advantages_BT > 0) & (p > q)) | ((advantages_BT < 0) & (p < q))
    weight = torch.where(outward & (moved > limit), torch.zeros_like(ratio_BT), ratio_BT.clamp_max(cap))
    return weight, weight * advantages_BT * logprobs_BT


def vespo(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, logprobs_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """W^k * exp(lambda * (1 - W)) as a constant weight; (k, lambda) is (2, 3), or (3, 2) for A < 0.

    VESPO, arXiv:2602.10693, W the ratio of the whole sequence.
    """
    down = advantages_BT < 0
    k, rate = torch.where(down, 3.0, 2.0), torch.where(down, 2.0, 3.0)
    weight = (k * ratio_BT.log() + rate * (1 - ratio_BT)).exp().to(ratio_BT.dtype)
    return weight, weight * advantages_BT * logprobs_BT


def topr(
    ratio_BT: torch.Tensor, advantages_BT: torch.Tensor, logprobs_BT: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """1 for what was good, the ratio up to 1 for what was bad, as a constant weight.

    Tapered off-policy REINFORCE, arXiv:2503.14286.
    """
    weight = torch.where(advantages_BT < 0, ratio_BT.clamp_max(1.0), torch.ones_like(ratio_BT))
    return weight, weight * advantages_BT * logprobs_BT
