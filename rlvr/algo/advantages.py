"""Rewards of siblings -> advantages.

Statistics run over the whole batch; a reward of NaN (could not be checked) takes no part in them and gets
advantage 0.  What needs log-probabilities or whitens tokens is added later (credit.py).

Shapes: B sequences; `group_B` says which sequences are siblings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from rlvr.algo.ranks import ALONE, Ranks

RIGHT = 0.5
"""Where only right and wrong count, a reward of at least so much is right."""
UNCOMPARED = ("none", "signed", "greedy")
"""Baselines that ask nothing of siblings: the only member of a group keeps its advantage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Siblings:
    """Rewards with what the group of each sequence says about them, float64 [B]; 0 where not known."""

    rewards: torch.Tensor
    """Of the sequence; 0 where not known."""
    known: torch.Tensor
    """1 where the reward is known, else 0."""
    tokens: torch.Tensor
    """Loss tokens of the sequence."""
    group: torch.Tensor
    """int64: index of its group."""
    greedy: torch.Tensor
    """Reward of the greedy completion beside the group."""
    ranks: Ranks
    """Who holds the rest of the batch; a group is whole on one of them."""

    def total(self, values_B: torch.Tensor) -> torch.Tensor:
        """Sum over the known members of each one's group."""
        groups = int(self.group.max()) + 1 if len(self.group) else 0
        sums = values_B.new_zeros(groups).index_add(0, self.group, values_B * self.known)
        return sums[self.group]

    def mean(self, weights_B: torch.Tensor) -> torch.Tensor:
        """Mean reward of each one's group, weighted."""
        weight = self.total(weights_B)
        mean = self.total(self.rewards * weights_B) / weight.where(weight > 0, 1.0)
        return mean

    def count(self) -> torch.Tensor:
        """Known members of each one's group."""
        return self.total(self.known)


def group_advantages(
    rewards_B: torch.Tensor,
    group_B: torch.Tensor,
    tokens_B: torch.Tensor,
    *,
    baseline: str,
    scale: str,
    epsilon: float,
    greedy_B: torch.Tensor | None = None,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """float32 [B]: `(reward - baseline) / (scale + epsilon)`, 0 for the only member of a group.

    `tokens_B` counts the loss tokens of each sequence; `greedy_B` is the reward of the greedy completion of
    its problem, NaN where not known.  `token_whiten` and `optimal_token` change nothing here: see credit.py.
    The tables at the end of this file say what each name is.
    """
    known_B = ~rewards_B.isnan()
    if baseline == "greedy":
        if greedy_B is None:
            raise ValueError("baseline = greedy needs the rewards of the greedy completions")
        known_B = known_B & ~greedy_B.isnan()
    group = _siblings(rewards_B, group_B, tokens_B, known_B, greedy_B, ranks)
    scaled_B = SCALES[scale](BASELINES[baseline](group), group, epsilon)
    if baseline == "rl_zvp":
        same = zero_variance_groups(rewards_B, group_B)[group_B]
        scaled_B = torch.where(same, _signed(group).sign(), scaled_B)
    counts_B = known_B if baseline in UNCOMPARED else known_B & (group.count() > 1)
    return torch.where(counts_B, scaled_B, torch.zeros_like(scaled_B)).float()


def group_factors(
    rewards_B: torch.Tensor,
    group_B: torch.Tensor,
    tokens_B: torch.Tensor,
    *,
    scale: str,
    epsilon: float,
    ranks: Ranks = ALONE,
) -> torch.Tensor:
    """float64 [B]: what `group_advantages` multiplies `reward - baseline` with where `scale` divides."""
    group = _siblings(rewards_B, group_B, tokens_B, ~rewards_B.isnan(), None, ranks)
    return SCALES[scale](torch.ones_like(group.rewards), group, epsilon)


def _siblings(
    rewards_B: torch.Tensor,
    group_B: torch.Tensor,
    tokens_B: torch.Tensor,
    known_B: torch.Tensor,
    greedy_B: torch.Tensor | None,
    ranks: Ranks,
) -> Siblings:
    return Siblings(
        rewards=rewards_B.double().nan_to_num(0.0),
        known=known_B.double(),
        tokens=tokens_B.double(),
        group=group_B,
        greedy=torch.zeros_like(rewards_B) if greedy_B is None else greedy_B.double().nan_to_num(0.0),
        ranks=ranks,
    )


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


def _group_mean(group: Siblings) -> torch.Tensor:
    return group.rewards - group.mean(group.known)


def _leave_one_out(group: Siblings) -> torch.Tensor:
    """The mean of the others is further away by n/(n-1)."""
    count = group.count()
    return _group_mean(group) * count / (count - 1).clamp_min(1)


def _signed(group: Siblings) -> torch.Tensor:
    return torch.where(group.rewards >= RIGHT, 1.0, -1.0).double()


def _pass_at(group: Siblings, *, k: int) -> torch.Tensor:
    """Of n members with w wrong ones, a draw of k all fails with probability C(w,k)/C(n,k).

    The advantages are those of the draws' best, (max - mean) / deviation, averaged over all draws that a
    member is in; 0 where that deviation is, or where fewer than k rewards are known.
    """
    count = group.count()
    is_wrong = (group.rewards < RIGHT).double()
    wrong = group.total(is_wrong)
    fails, fails_with_it = torch.ones_like(count), torch.ones_like(count)
    for i in range(k):
        fails = fails * (wrong - i).clamp_min(0) / (count - i).clamp_min(1)
        if i:
            fails_with_it = fails_with_it * (wrong - i).clamp_min(0) / (count - i).clamp_min(1)
    deviation = (fails * (1 - fails)).sqrt()
    difference = fails - is_wrong * fails_with_it
    enough = (count >= k) & (deviation > 0)
    return torch.where(enough, difference / deviation.where(deviation > 0, 1.0), torch.zeros_like(count))


def _group_std(centred_B: torch.Tensor, group: Siblings, epsilon: float, *, lost: int) -> torch.Tensor:
    squares = group.total(_group_mean(group).square())
    return centred_B / ((squares / (group.count() - lost).clamp_min(1)).sqrt() + epsilon)


def _batch_std(centred_B: torch.Tensor, group: Siblings, epsilon: float) -> torch.Tensor:
    known = group.ranks.gather(group.rewards[group.known > 0])
    return centred_B / ((known.std() if len(known) > 1 else known.new_zeros(())) + epsilon)


def _batch_whiten(centred_B: torch.Tensor, group: Siblings, epsilon: float) -> torch.Tensor:
    known = group.ranks.gather(centred_B[group.known > 0])
    if not len(known):
        return centred_B
    return (centred_B - known.mean()) / (known.std(correction=0) + epsilon)


def _over_mean(centred_B: torch.Tensor, group: Siblings, epsilon: float) -> torch.Tensor:
    mean = group.mean(group.known)
    return torch.where(mean > 0, centred_B / mean.where(mean > 0, 1.0), torch.zeros_like(mean))


def _as_it_is(centred_B: torch.Tensor, group: Siblings, epsilon: float) -> torch.Tensor:
    return centred_B


BASELINES: dict[str, Callable[[Siblings], torch.Tensor]] = {
    # REINFORCE, REINFORCE++ (arXiv:2501.03262).
    "none": lambda group: group.rewards,
    # GRPO, arXiv:2402.03300 section 4.1.2.
    "group_mean": _group_mean,
    # RLOO, arXiv:2402.14740 eq. 7.
    "leave_one_out": _leave_one_out,
    # OPO, arXiv:2505.23585: sum of length * reward over sum of length.
    "length_weighted": lambda group: group.rewards - group.mean(group.tokens),
    # W-REINFORCE, arXiv:2506.01347: right is +1, wrong is -1.
    "signed": _signed,
    # RL-ZVP, arXiv:2509.21880: as group_mean, but +1 or -1 where the group agrees, for credit.py.
    "rl_zvp": _group_mean,
    # ReMax, arXiv:2310.10505: the reward of the greedy completion of the same problem.
    "greedy": lambda group: group.rewards - group.greedy,
    # OTB, arXiv:2602.07078: a baseline a token, from the step's probabilities, in credit.py.
    "optimal_token": lambda group: group.rewards,
    # Pass@k training, arXiv:2508.10751, the analytic form.
    "pass_at_2": partial(_pass_at, k=2),
    "pass_at_4": partial(_pass_at, k=4),
    "pass_at_8": partial(_pass_at, k=8),
    "pass_at_16": partial(_pass_at, k=16),
}
SCALES: dict[str, Callable[[torch.Tensor, Siblings, float], torch.Tensor]] = {
    # Dr. GRPO, arXiv:2503.20783.
    "none": _as_it_is,
    # GRPO with the n-1 standard deviation, as trainers do; and with n.
    "group_std": partial(_group_std, lost=1),
    "group_std_population": partial(_group_std, lost=0),
    # Lite PPO, arXiv:2508.08221: the standard deviation (n-1) of the batch's rewards.
    "batch_std": _batch_std,
    # Magistral, arXiv:2506.10910: standardised over the batch's sequences (n).
    "batch_whiten": _batch_whiten,
    # REINFORCE++: over the batch's tokens, in credit.py.
    "token_whiten": _as_it_is,
    # MaxRL, arXiv:2602.02710: 0 for a group whose mean is not above 0.
    "group_mean": _over_mean,
}
