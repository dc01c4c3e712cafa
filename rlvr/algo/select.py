"""What needs all tokens of an optimizer step at once: token advantages, selections, counts.

Done before the step is split into micro-batches, so that splitting it changes no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlvr.algo import credit, entropy
from rlvr.algo.aggregate import Totals
from rlvr.algo.choices import Loss
from rlvr.algo.corrections import second_moment
from rlvr.algo.loss import Tokens, gated, kept_weights
from rlvr.algo.ranks import ALONE, Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The whole step's choice of tokens, [B, T]."""

    kept: torch.Tensor | None
    """bool: tokens that push; None is all."""
    marked: torch.Tensor | None
    """bool: tokens that the entropy rule penalises; None is none."""
    totals: Totals
    """The counts that the normaliser divides by."""


def step_advantages(
    loss: Loss,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    group_B: torch.Tensor,
    *,
    old: torch.Tensor | None = None,
    reference: torch.Tensor | None = None,
    entropy_BT: torch.Tensor | None = None,
    collision: torch.Tensor | None = None,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """The advantages of a step's tokens; `loss.needs_old` says whether the optional inputs are read."""
    reward_kl = None
    if loss.shapes_by_reference:
        if old is None or reference is None:
            raise ValueError("k1_reward and self_logratio need the log-probabilities of both policies")
        log_ratio = old.double() - reference.double()
        reward_kl = loss.kl_coef * log_ratio if loss.kl == "k1_reward" else None
        if loss.credit == "self_logratio":
            own = credit.self_logratio(loss.self_logratio_weight * log_ratio, mask_BT, group_B)
            advantages_BT = advantages_BT + own.to(advantages_BT.dtype)
    if loss.baseline == "rl_zvp":
        if entropy_BT is None:
            raise ValueError("loss.baseline = rl_zvp needs the entropies")
        advantages_BT = credit.zero_variance_entropy(
            advantages_BT, entropy_BT, mask_BT, group_B, alpha=loss.zvp_alpha
        )
    if loss.baseline == "optimal_token":
        if old is None or collision is None:
            raise ValueError("loss.baseline = optimal_token needs the old policy's probabilities")
        advantages_BT = credit.optimal_baseline(
            advantages_BT, old, collision, mask_BT, group_B, epsilon=loss.advantage_epsilon
        )
    return credit.token_advantages(
        advantages_BT,
        mask_BT,
        reward_kl_BT=reward_kl,
        whiten_epsilon=loss.advantage_epsilon if loss.scale == "token_whiten" else None,
        positive_weight=loss.positive_weight,
        ranks=ranks,
    )


def select(loss: Loss, tokens: Tokens, ranks: Ranks = ALONE) -> Selection:
    """Choose among all tokens of an optimizer step; where not `loss.selects` only count them."""
    if not loss.selects:
        return Selection(kept=None, marked=None, totals=Totals.of(tokens.mask, tokens.group, ranks))
    t = tokens.cleaned()
    kept, marked = t.mask, None
    if loss.m2_limit is not None:
        kept = kept & second_moment(t.old, t.rollout, t.mask, limit=loss.m2_limit, ranks=ranks)
    if loss.entropy == "top_entropy":
        if t.entropy is None:
            raise ValueError("loss.entropy = top_entropy needs the entropies")
        kept = kept & entropy.forking_tokens(t.entropy, t.mask, share=loss.entropy_share, ranks=ranks)
    elif loss.entropy == "lp_reg":
        marked = entropy.rare_tokens(t.old, t.advantages, t.mask, share=loss.entropy_share, ranks=ranks)
    elif loss.entropy == "lp_reg_pivots":
        if t.pivot is None:
            raise ValueError("loss.entropy = lp_reg_pivots needs the tokens of pivot words")
        marked = t.mask & t.pivot & (t.advantages < 0)
    elif loss.entropy in ("clip_cov", "kl_cov"):
        covariance = entropy.covariances(t.logprobs, t.advantages, t.mask, ranks)
        clips = loss.entropy == "clip_cov"
        low, high = (loss.cov_low, loss.cov_high) if clips else (-torch.inf, torch.inf)
        if clips:  # what the gate stops anyway is not dropped a second time
            covariance = torch.where(gated(loss, t)[1] == 0, -torch.inf, covariance)
        found = entropy.most_covariant(
            covariance, t.mask, share=loss.entropy_share, low=low, high=high, ranks=ranks
        )
        kept, marked = (kept & ~found, None) if clips else (kept, found)
    kept = kept & (kept_weights(loss, t) != 0)
    counted = kept if loss.denominator == "kept" else t.mask
    return Selection(kept=kept, marked=marked, totals=Totals.of(counted, t.group, ranks))
