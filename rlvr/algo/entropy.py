"""Which tokens of a step an entropy rule is about, and what it adds to their loss; the bonus's weight.

Every choice is a quantile or a top-k over all tokens given: hand over the whole optimizer step.  Tokens
that tie are chosen together, so order and splitting change nothing.  Shapes [B, T]; penalties as in kl.py.
"""

from __future__ import annotations

import math

import torch

from rlvr.algo.ranks import ALONE, Ranks


def forking_tokens(
    entropy_BT: torch.Tensor, mask_BT: torch.Tensor, *, share: float, ranks: Ranks = ALONE
) -> torch.Tensor:
    """bool: the `share` of tokens with the highest entropy, where the text can fork (arXiv:2506.01939).

    The threshold is the quantile 1 - share, interpolated.
    """
    sorted_N = ranks.gather(entropy_BT[mask_BT].double()).sort().values
    if not len(sorted_N):
        return mask_BT
    place = (len(sorted_N) - 1) * (1 - share)
    low, high = sorted_N[math.floor(place)], sorted_N[math.ceil(place)]
    return mask_BT & (entropy_BT.double() >= low + (high - low) * (place - math.floor(place)))


def covariances(
    logprobs_BT: torch.Tensor, advantages_BT: torch.Tensor, mask_BT: torch.Tensor, ranks: Ranks = ALONE
) -> torch.Tensor:
    """float64: (log pi - mean) * (A - mean), -inf where the mask is False (arXiv:2505.22617 eq. 10)."""
    counted = [
        torch.where(mask_BT, values_BT.double(), 0.0).double() for values_BT in (logprobs_BT, advantages_BT)
    ]
    sums = ranks.sum(torch.stack([*(values.sum() for values in counted), mask_BT.sum().double()]))
    mean_logprob, mean_advantage = sums[:2] / sums[2].clamp_min(1)
    return torch.where(mask_BT, (counted[0] - mean_logprob) * (counted[1] - mean_advantage), -torch.inf)


def most_covariant(
    covariance_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    share: float,
    low: float,
    high: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """bool: among tokens of covariance in [low, high] the highest, `share` of all tokens, at least one.

    KL-Cov (arXiv:2505.22617 section 4.3) has no band.  Clip-Cov (section 4.2) draws within it at random,
    which would depend on the order of the batch: we take the highest.
    """
    band_BT = mask_BT & (covariance_BT >= low) & (covariance_BT <= high)
    return highest(covariance_BT, band_BT, max(1, int(share * int(ranks.sum(mask_BT.sum())))), ranks)


def rare_tokens(
    logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    share: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """bool: of the tokens with a negative advantage the `share` least likely, at least one (Lp-Reg)."""
    blamed_BT = mask_BT & (advantages_BT < 0)
    return highest(-logprobs_BT, blamed_BT, max(1, int(share * int(ranks.sum(blamed_BT.sum())))), ranks)


def highest(
    values_BT: torch.Tensor, among_BT: torch.Tensor, count: int, ranks: Ranks = ALONE
) -> torch.Tensor:
    """bool: the `count` highest values where `among_BT` is True, and those equal to the last of them."""
    own_N = values_BT[among_BT]
    found_N = ranks.gather(own_N.topk(min(count, len(own_N))).values)
    if not len(found_N):
        return among_BT
    threshold = found_N.topk(min(count, len(found_N))).values[-1]
    return among_BT & (values_BT >= threshold)


def adapted(coef: float, entropy: float, *, target: float, step: float) -> tuple[float, float]:
    """The bonus's weight in a step whose mean entropy is `entropy`, in nats, and the next step's `coef`.

    Skywork-OR1, arXiv:2505.22312: it acts at the target and below, and grows by `step` there; above it
    shrinks.  Never below 0, where it would push the entropy down.
    """
    is_low = entropy <= target
    return (coef, coef + step) if is_low else (0.0, max(0.0, coef - step))


def pull_to_proxy(logprobs_BT: torch.Tensor, log_proxy_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Lp-Reg, arXiv:2510.03222: e^D - D - 1 with D = log proxy - log pi, where D > 0; else 0.

    The proxy is the policy before the update without its tail (tokens below kappa times the likeliest),
    renormalised; -inf marks a token of that tail, noise that nobody protects.
    """
    up = log_proxy_BT > logprobs_BT
    log_BT = torch.where(up, log_proxy_BT - logprobs_BT, torch.zeros_like(logprobs_BT)).clamp_max(20.0)
    return log_BT.exp() - 1 - log_BT, 1 - log_BT.exp()


def drift_cost(log_ratio_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """|log pi / pi_old|: what KL-Cov holds its tokens back with (arXiv:2505.22617 eq. 13)."""
    return log_ratio_BT.abs(), log_ratio_BT.sign()
