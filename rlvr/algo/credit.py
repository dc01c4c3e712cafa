"""Advantages of sequences -> advantages of tokens.

`token_advantages` needs the whole step at once (statistics over its tokens) and the policy before the update,
`optimal_baseline` whole groups and that policy; `future_kl` looks at one sequence and at the policy of the
moment.  Shapes [B, T], True in the mask counts.
"""

from __future__ import annotations

import torch

from rlvr.algo.ranks import ALONE, Ranks

LOG_WEIGHT_LIMIT = 20.0
"""Sums of log ratios are clamped to +-20 before the exponential."""


def token_advantages(
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    reward_kl_BT: torch.Tensor | None,
    whiten_epsilon: float | None,
    positive_weight: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """Advantages of the step's tokens, 0 where the mask is False.

    reward_kl: coef * (log pi_old - log pi_ref), taken off the reward of its token, so each token answers for
    the sum from itself on (k1 in the reward, arXiv:2501.03262); whiten: minus mean, over sqrt(variance +
    epsilon), each token once, n-1 (ibid.); positive_weight: factor of what is above 0 (arXiv:2506.01347).
    """
    zero = torch.zeros_like(advantages_BT)
    values_BT = torch.where(mask_BT, advantages_BT, zero).double()
    if reward_kl_BT is not None:
        cost = torch.where(mask_BT, reward_kl_BT, zero).double()
        values_BT = values_BT - cost.flip(-1).cumsum(-1).flip(-1)
    if whiten_epsilon is not None:
        known = values_BT[mask_BT]
        count = ranks.sum(mask_BT.sum())
        mean = ranks.sum(known.sum()) / count.clamp_min(1)
        variance = ranks.sum((known - mean).square().sum()) / (count - 1).clamp_min(1)
        values_BT = (values_BT - mean) / (variance + whiten_epsilon).sqrt()
    values_BT = torch.where(values_BT > 0, positive_weight * values_BT, values_BT)
    return torch.where(mask_BT, values_BT.to(advantages_BT.dtype), zero)


def zero_variance_entropy(
    advantages_BT: torch.Tensor,
    entropy_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    group_B: torch.Tensor,
    *,
    alpha: float,
) -> torch.Tensor:
    """Groups that agree learn by entropy H: all right alpha * H, all wrong -alpha * (max H - H).

    RL-ZVP, arXiv:2509.21880, the maximum over the sequence.  Such groups come with the same advantage, +1 or
    -1, for every member (`baseline: rl_zvp`); the others are left as they are.
    """
    zero = torch.zeros_like(advantages_BT)
    entropy_BT = torch.where(mask_BT, entropy_BT, zero)
    seen_B = mask_BT.any(-1)
    value_B = torch.where(mask_BT, advantages_BT, zero).gather(-1, mask_BT.int().argmax(-1)[:, None])[:, 0]
    groups = int(group_B.max()) + 1 if len(group_B) else 0
    lowest = value_B.new_full((groups,), torch.inf).scatter_reduce(
        0, group_B[seen_B], value_B[seen_B], "amin"
    )
    highest = value_B.new_full((groups,), -torch.inf).scatter_reduce(
        0, group_B[seen_B], value_B[seen_B], "amax"
    )
    # Exactly 1 for all of them: what other groups have sums to 0 before some of it is masked.
    agree_B1 = ((highest == lowest)[group_B] & (value_B.abs() == 1))[:, None]
    shaped = torch.where(
        value_B[:, None] > 0, alpha * entropy_BT, -alpha * (entropy_BT.amax(-1, keepdim=True) - entropy_BT)
    )
    return torch.where(mask_BT, torch.where(agree_B1, shaped, advantages_BT), zero)


def optimal_baseline(
    rewards_BT: torch.Tensor,
    old_BT: torch.Tensor,
    collision_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    group_B: torch.Tensor,
    *,
    epsilon: float,
) -> torch.Tensor:
    """Each token's reward less sum(W * reward) / (sum(W) + epsilon) over the siblings that reach its place.

    OTB, arXiv:2602.07078: W, the energy that a sequence has realised, is the running sum of 1 - 2 pi + sum
    over the vocabulary of pi^2 (`collision`), the squared length of the gradient with respect to the logits.
    """
    energy_BT = torch.where(mask_BT, 1 - 2 * old_BT.double().exp() + collision_BT.double(), 0.0)
    weight_BT = torch.where(mask_BT, energy_BT.cumsum(-1), 0.0)
    rewards = torch.where(mask_BT, rewards_BT, torch.zeros_like(rewards_BT)).double()
    groups = int(group_B.max()) + 1 if len(group_B) else 0
    empty_GT = weight_BT.new_zeros(groups, weight_BT.shape[1])
    weights_GT = empty_GT.index_add(0, group_B, weight_BT)
    weighted_GT = empty_GT.index_add(0, group_B, weight_BT * rewards)
    baseline_BT = (weighted_GT / (weights_GT + epsilon))[group_B]
    return torch.where(mask_BT, rewards - baseline_BT, 0.0).to(rewards_BT.dtype)


def self_logratio(log_ratio_BT: torch.Tensor, mask_BT: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """What is added to the advantages: the sum of log ratios so far, less its mean over the siblings there.

    SPRO, arXiv:2507.01551, a token a step: `log_ratio` is beta * (log pi_old - log pi_ref), the policy's own
    reward of a token; the mean at token t is over the members of the group that have one.
    """
    gains_BT = torch.where(mask_BT, log_ratio_BT, torch.zeros_like(log_ratio_BT)).double().cumsum(-1)
    groups = int(group_B.max()) + 1 if len(group_B) else 0
    sums_NT = gains_BT.new_zeros(groups, gains_BT.shape[1]).index_add(0, group_B, gains_BT * mask_BT)
    counts_NT = torch.zeros_like(sums_NT).index_add(0, group_B, mask_BT.double()).clamp_min(1)
    own_BT = gains_BT - (sums_NT / counts_NT)[group_B]
    return torch.where(mask_BT, own_BT, torch.zeros_like(own_BT)).to(log_ratio_BT.dtype)


def future_kl(
    log_ratio_BT: torch.Tensor, mask_BT: torch.Tensor, *, decay: float, reach: float
) -> torch.Tensor:
    """Weight of each advantage: exp(sum over k >= t of decay^(k-t) log rho_k), held in [1, 1 + reach].

    FIPO, arXiv:2603.19835: tokens whose future the policy has made likelier count for more.
    """
    log_BT = torch.where(mask_BT, log_ratio_BT, torch.zeros_like(log_ratio_BT))
    future = torch.zeros_like(log_BT[:, 0])
    sums = []
    for column in log_BT.flip(-1).unbind(-1):
        future = column + decay * future
        sums.append(future)
    total_BT = torch.stack(sums, -1).flip(-1)
    return total_BT.clamp(-LOG_WEIGHT_LIMIT, LOG_WEIGHT_LIMIT).exp().clamp(1.0, 1.0 + reach)
