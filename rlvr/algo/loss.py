"""The loss.  Whatever the method, its gradient is that of

    loss = -(stop_gradient(C) * log pi).sum()
    C    = n * k * w * c * A  -  sum over penalties of  n * coef * d(penalty)/d(log pi)

    less sum(n * coef * H) where there is an entropy bonus, the one term of the whole vocabulary;

n normaliser (aggregate.py), k what is kept (corrections.py, select.py), w rollout correction
(corrections.py), c gate (gates.py), A advantage (advantages.py, credit.py), penalties (kl.py, entropy.py).
One detached tensor, one backward pass: micro-batches, padding and order change no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch

from rlvr.algo import entropy, gates
from rlvr.algo.aggregate import Totals, normaliser
from rlvr.algo.choices import Loss
from rlvr.algo.corrections import correction_weights, on_trust
from rlvr.algo.credit import future_kl
from rlvr.algo.kl import penalty, rollout_penalty

__all__ = ["Loss", "Terms", "Tokens", "loss_terms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What is known of the completion tokens of B sequences, [B, T]; under a False mask anything, NaN too."""

    mask: torch.Tensor
    """bool: tokens that count."""
    group: torch.Tensor
    """int64 [B]: index of the group of each sequence."""
    advantages: torch.Tensor
    """A of each token."""
    logprobs: torch.Tensor
    """log pi: of the policy at this moment."""
    old: torch.Tensor
    """log pi_old: of the policy before the step."""
    rollout: torch.Tensor
    """log mu: the engine's own."""
    reference: torch.Tensor | None = None
    """log pi_ref, where there is a KL penalty."""
    entropy: torch.Tensor | None = None
    """Entropy H of the choice in nats, for `top_entropy` and `bonus`."""
    log_proxy: torch.Tensor | None = None
    """Log-probability under Lp-Reg's proxy, -inf for noise, for `lp_reg` and `lp_reg_pivots`."""
    pivot: torch.Tensor | None = None
    """bool: tokens of pivot words, for `lp_reg_pivots`."""
    kept: torch.Tensor | None = None
    """bool: what the whole step's selection keeps; None keeps all."""
    marked: torch.Tensor | None = None
    """bool: tokens that the entropy rule penalises; None is none."""

    def cleaned(self) -> Tokens:
        """Detached, with 0 where the mask is False, in float32 at least."""
        return replace(
            self,
            **{
                f.name: torch.where(self.mask, _wide(value.detach()), torch.zeros_like(_wide(value)))
                for f in fields(self)
                if f.name not in ("mask", "group") and (value := getattr(self, f.name)) is not None
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one forward pass yields, all detached, [B, T]."""

    coefficient: torch.Tensor
    """C: multiply by log pi, sum and negate to get the loss to differentiate."""
    surrogate: torch.Tensor
    """The textbook objective's contribution of each token to the loss value; for the log only."""
    ratio: torch.Tensor
    """pi / base."""
    gate: torch.Tensor
    """c."""
    kl: torch.Tensor
    """Value of the KL estimator, unweighted; 0 where off."""
    bonus: torch.Tensor
    """n * coef of the entropy bonus: multiply by H, sum and take off the loss; 0 where off."""


def loss_terms(loss: Loss, tokens: Tokens, totals: Totals) -> Terms:
    """Coefficients of one micro-batch; `totals` counts the whole optimizer step.

    `kept` and `marked` come from `select.select`, where `loss.selects`.
    """
    t = tokens.cleaned()
    if loss.credit == "future_kl":
        weight = future_kl(t.logprobs - t.old, t.mask, decay=loss.future_decay, reach=loss.future_reach)
        t = replace(t, advantages=weight * t.advantages)
    ratio, c, value = gated(loss, t)
    kw = kept_weights(loss, t)
    counted = t.mask & t.kept if loss.denominator == "kept" and t.kept is not None else t.mask
    n = normaliser(counted, t.group, totals, kind=loss.aggregation, length_constant=loss.length_constant)
    coefficient = n * kw * c * t.advantages
    surrogate = -n * kw * value
    kl = torch.zeros_like(ratio)
    for name, coef, penalised, slope in _penalties(loss, t):
        coefficient = coefficient - n * coef * slope
        surrogate = surrogate + n * coef * penalised
        kl = penalised if name == "kl" else kl
    bonus = torch.zeros_like(n)
    if loss.entropy == "bonus":
        if t.entropy is None:
            raise ValueError("loss.entropy = bonus needs the entropies")
        bonus = n * loss.entropy_coef
        surrogate = surrogate - bonus * t.entropy
    return Terms(
        coefficient=coefficient,
        surrogate=surrogate,
        ratio=ratio,
        gate=c,
        kl=torch.where(t.mask, kl, 0.0),
        bonus=bonus,
    )


def _wide(values: torch.Tensor) -> torch.Tensor:
    is_narrow = values.dtype in (torch.float16, torch.bfloat16)
    return values.float() if is_narrow else values


def gated(loss: Loss, t: Tokens) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ratio, c, and the value of the surrogate."""
    base = t.rollout if loss.ratio_base == "rollout" else t.old
    ratio = gates.ratios(t.logprobs, base, t.mask, loss.ratio_level)
    return ratio, *GATES[loss.gate](loss, ratio, base, t)


def kept_weights(loss: Loss, t: Tokens) -> torch.Tensor:
    """k * w: the rollout correction, 0 where a token or its sequence is rejected."""
    weight = correction_weights(
        t.old, t.rollout, t.mask, kind=loss.correction, low=loss.correction_low, high=loss.correction_high
    )
    trusted = on_trust(
        t.logprobs, t.old, t.rollout, t.advantages, t.mask, opsm_delta=loss.opsm_delta, veto=loss.veto
    )
    return weight * trusted if t.kept is None else weight * trusted * t.kept


def _penalties(loss: Loss, t: Tokens) -> Iterator[tuple[str, float, torch.Tensor, torch.Tensor]]:
    """Name, coefficient, value and derivative of each regulariser."""
    if loss.kl != "off":
        if t.reference is None:
            raise ValueError("loss.kl needs the reference policy's log-probabilities")
        if loss.kl == "k1_reward":  # already in the advantages: only its value is of interest here
            yield "kl", 0.0, t.logprobs - t.reference, torch.zeros_like(t.old)
        else:
            token_ratio = gates.ratios(t.logprobs, t.old, t.mask, "token")
            yield "kl", loss.kl_coef, *penalty(t.logprobs, t.reference, token_ratio, kind=loss.kl)
    if loss.rollout_penalty:
        yield "rollout", loss.rollout_penalty, *rollout_penalty(t.logprobs, t.rollout)
    if t.marked is None:
        return
    if loss.entropy == "kl_cov":
        value, slope = entropy.drift_cost(t.logprobs - t.old)
    else:
        if t.log_proxy is None:
            raise ValueError(f"loss.entropy = {loss.entropy} needs the proxy's log-probabilities")
        value, slope = entropy.pull_to_proxy(t.logprobs, t.log_proxy)
    yield "entropy", loss.entropy_coef, t.marked * value, t.marked * slope


Gate = Callable[[Loss, torch.Tensor, torch.Tensor, Tokens], tuple[torch.Tensor, torch.Tensor]]


def _dppo(loss: Loss, r: torch.Tensor, base: torch.Tensor, t: Tokens) -> tuple[torch.Tensor, torch.Tensor]:
    measure = loss.gate.removeprefix("dppo_")
    return gates.dppo(
        r, t.advantages, t.logprobs, base, measure=measure, limit=loss.divergence_limit, cap=loss.ratio_cap
    )


GATES: dict[str, Gate] = {
    "none": lambda loss, r, base, t: gates.ungated(
        r, t.advantages, t.logprobs, reinforce=loss.ratio_level == "none"
    ),
    "clip": lambda loss, r, base, t: gates.clip(
        r, t.advantages, low=loss.clip_low, high=loss.clip_high, dual=loss.dual_clip
    ),
    "cispo": lambda loss, r, base, t: gates.cispo(r, t.advantages, t.logprobs, cap=loss.ratio_cap),
    "sapo": lambda loss, r, base, t: gates.sapo(r, t.advantages, up=loss.sapo_up, down=loss.sapo_down),
    "gmpo": lambda loss, r, base, t: gates.gmpo(
        t.logprobs - base, t.advantages, t.mask, low=loss.clip_low, high=loss.clip_high
    ),
    "dppo_tv": _dppo,
    "dppo_kl": _dppo,
    "vespo": lambda loss, r, base, t: gates.vespo(r, t.advantages, t.logprobs),
    "topr": lambda loss, r, base, t: gates.topr(r, t.advantages, t.logprobs),
}
