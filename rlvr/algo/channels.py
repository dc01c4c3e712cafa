"""Several rewards of each completion -> one advantage: every reward is normalised by itself first.

Were they added first, completions that differ in what they earned could end with the same advantage, and a
reward that varies more would drown the others (GDPO, arXiv:2601.05242).
"""

from __future__ import annotations

import torch

from rlvr.algo.advantages import BASELINES, SCALES, Siblings
from rlvr.algo.ranks import ALONE, Ranks


def channel_advantages(
    rewards_BK: torch.Tensor,
    weights_BK: torch.Tensor,
    group_B: torch.Tensor,
    *,
    epsilon: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """float32 [B]: z over the batch of sum_k weight_k * (z of reward_k over its group).

    z is minus the mean, over (standard deviation, n-1) + epsilon.  A sequence with a NaN among its rewards
    takes part in nothing and gets 0, as does the only one left of its group.
    """
    known_B = ~rewards_BK.isnan().any(-1)
    summed_B = torch.zeros(len(group_B), dtype=torch.float64, device=rewards_BK.device)
    counts_B = known_B
    for rewards_B, weights_B in zip(rewards_BK.T, weights_BK.T, strict=True):
        group = Siblings(
            rewards=torch.where(known_B, rewards_B, 0.0).double(),
            known=known_B.double(),
            tokens=torch.ones_like(summed_B),
            group=group_B,
            greedy=torch.zeros_like(summed_B),
            ranks=ranks,
        )
        normalised_B = SCALES["group_std"](BASELINES["group_mean"](group), group, epsilon)
        summed_B = summed_B + weights_B.double() * normalised_B
        counts_B = known_B & (group.count() > 1)
    known = ranks.gather(summed_B[counts_B])
    if len(known) < 2:
        return torch.zeros_like(summed_B).float()
    whitened_B = (summed_B - known.mean()) / (known.std() + epsilon)
    return torch.where(counts_B, whitened_B, torch.zeros_like(whitened_B)).float()
