"""Rewards of siblings -> advantages.

Statistics run over the whole batch; a reward of NaN (could not be checked) takes no part in them and gets
advantage 0.

Shapes: B sequences; `group_B` says which sequences are siblings.
"""

from __future__ import annotations

import torch


def group_advantages(
    rewards_B: torch.Tensor,
    group_B: torch.Tensor,
    tokens_B: torch.Tensor,
    *,
    baseline: str,
    scale: str,
    epsilon: float,
) -> torch.Tensor:
    """float32 [B]: `(reward - baseline) / (scale + epsilon)`, 0 for the only member of a group.

    `tokens_B` counts the loss tokens of each sequence, for `token_whiten`.
    group_mean and group_std: GRPO, arXiv:2402.03300 section 4.1.2, with the n-1 standard deviation;
    leave_one_out: RLOO, arXiv:2402.14740 eq. 7; batch_std: Lite PPO, arXiv:2508.08221 (of the rewards);
    token_whiten: REINFORCE++-baseline, arXiv:2501.03262 (each sequence counts once a token, n-1 variance).
    """
    valid_B = ~rewards_B.isnan()
    rewards_B = rewards_B.double().nan_to_num(0.0)
    groups = int(group_B.max()) + 1 if len(group_B) else 0
    weight_B = valid_B.double()
    count_B = _sum_by_group(weight_B, group_B, groups)[group_B]
    mean_B = (_sum_by_group(rewards_B * weight_B, group_B, groups)[group_B]) / count_B.clamp_min(1)
    centred_B = BASELINES[baseline](rewards_B - mean_B, count_B)
    if scale == "group_std":
        squares_B = _sum_by_group((rewards_B - mean_B).square() * weight_B, group_B, groups)[group_B]
        scaled_B = centred_B / ((squares_B / (count_B - 1).clamp_min(1)).sqrt() + epsilon)
    elif scale == "batch_std":
        known = rewards_B[valid_B]
        scaled_B = centred_B / ((known.std() if len(known) > 1 else known.new_zeros(())) + epsilon)
    elif scale == "token_whiten":
        scaled_B = _whiten(centred_B, tokens_B.double() * weight_B, epsilon)
    else:
        scaled_B = centred_B
    return torch.where(valid_B & (count_B > 1), scaled_B, torch.zeros_like(scaled_B)).float()


def zero_variance_groups(rewards_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """bool [groups]: the known rewards of the group are all equal (or fewer than two): it teaches nothing."""
    groups = int(group_B.max()) + 1 if len(group_B) else 0
    valid_B = ~rewards_B.isnan()
    low = torch.full((groups,), torch.inf, dtype=rewards_B.dtype).scatter_reduce(
        0, group_B[valid_B], rewards_B[valid_B], "amin"
    )
    high = torch.full((groups,), -torch.inf, dtype=rewards_B.dtype).scatter_reduce(
        0, group_B[valid_B], rewards_B[valid_B], "amax"
    )
    return ~(high > low)


def _sum_by_group(values_B: torch.Tensor, group_B: torch.Tensor, groups: int) -> torch.Tensor:
    return values_B.new_zeros(groups).index_add(0, group_B, values_B)


def _whiten(values_B: torch.Tensor, weight_B: torch.Tensor, epsilon: float) -> torch.Tensor:
    total = weight_B.sum()
    mean = (values_B * weight_B).sum() / total.clamp_min(1)
    variance = ((values_B - mean).square() * weight_B).sum() / (total - 1).clamp_min(1)
    return (values_B - mean) / (variance + epsilon).sqrt()


BASELINES = {
    "group_mean": lambda difference_B, count_B: difference_B,
    # The mean of the others is further away by n/(n-1).
    "leave_one_out": lambda difference_B, count_B: difference_B * count_B / (count_B - 1).clamp_min(1),
}
