"""The loss.  Whatever the method, its gradient is that of

    loss = -(stop_gradient(C) * log pi).sum(),    C = n * w * c * A  -  n * coef * d(KL)/d(log pi)

n normaliser (aggregate.py), w rollout correction (corrections.py), c gate (gates.py),
A advantage (advantages.py).  One detached tensor, one backward pass: micro-batches, padding and order change
no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from rlvr.algo import gates
from rlvr.algo.aggregate import Totals, normaliser
from rlvr.algo.corrections import correction_weights
from rlvr.algo.kl import penalty


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The choices that make a method; a recipe's `algorithm` section says what each means."""

    ratio_level: str
    """`token | sequence | none`."""
    ratio_base: str
    """`old | rollout`."""
    gate: str
    """`none | clip | cispo`."""
    clip_low: float
    """Lower reach of `clip`."""
    clip_high: float
    """Upper reach of `clip`."""
    dual_clip: float | None
    """Bound for negative advantages, or None."""
    ratio_cap: float
    """Cap of `cispo`."""
    correction: str
    """`none | token_truncate | token_mask`."""
    correction_low: float
    """Lower end of the band."""
    correction_high: float
    """Upper end of the band, or the cap."""
    aggregation: str
    """`token_mean | seq_mean_token_mean | seq_mean_token_sum`."""
    length_constant: float | None
    """Divisor of `seq_mean_token_sum`."""
    kl: str
    """`off | k2 | k3 | k3_weighted`."""
    kl_coef: float
    """Weight of the penalty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one forward pass yields, all detached, [B, T]."""

    coefficient: torch.Tensor
    """C: multiply by log pi, sum and negate to get the loss to differentiate."""
    surrogate: torch.Tensor
    """The textbook objective's contribution of each token to the loss value; for the log only."""
    ratio: torch.Tensor
    """pi / base."""
    kl: torch.Tensor
    """Value of the KL estimator, unweighted; 0 where off."""


def loss_terms(
    loss: Loss,
    *,
    logprobs: torch.Tensor,
    old: torch.Tensor,
    rollout: torch.Tensor,
    reference: torch.Tensor | None,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    totals: Totals,
) -> Terms:
    """Coefficients of one micro-batch [B, T]; `totals` counts the whole optimizer step.

    Values under a False mask may be anything, NaN too.
    """
    zero = torch.zeros_like(logprobs)
    logprobs, old, rollout, advantages = (
        torch.where(mask, x.detach(), zero) for x in (logprobs, old, rollout, advantages)
    )
    base = rollout if loss.ratio_base == "rollout" else old
    ratio = gates.ratios(logprobs, base, mask, loss.ratio_level)
    gate, value = GATES[loss.gate](loss, ratio, advantages, logprobs)
    weight = correction_weights(
        old, rollout, kind=loss.correction, low=loss.correction_low, high=loss.correction_high
    )
    n = normaliser(mask, totals, kind=loss.aggregation, length_constant=loss.length_constant)
    coefficient, surrogate, kl = n * weight * gate * advantages, -n * weight * value, zero
    if loss.kl != "off":
        if reference is None:
            raise ValueError("loss.kl needs the reference policy's log-probabilities")
        token_ratio = gates.ratios(logprobs, old, mask, "token")
        kl, slope = penalty(logprobs, torch.where(mask, reference, zero), token_ratio, kind=loss.kl)
        coefficient = coefficient - n * loss.kl_coef * slope
        surrogate = surrogate + n * loss.kl_coef * kl
    return Terms(coefficient=coefficient, surrogate=surrogate, ratio=ratio, kl=torch.where(mask, kl, zero))


Gate = Callable[[Loss, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

GATES: dict[str, Gate] = {
    "none": lambda loss, r, a, lp: gates.ungated(r, a, lp, reinforce=loss.ratio_level == "none"),
    "clip": lambda loss, r, a, lp: gates.clip(
        r, a, low=loss.clip_low, high=loss.clip_high, dual=loss.dual_clip
    ),
    "cispo": lambda loss, r, a, lp: gates.cispo(r, a, lp, cap=loss.ratio_cap),
}
