"""From scored groups to the tensors of a step, and from those to micro-batches that fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields

import torch
from torch.nn.utils.rnn import pad_sequence

from rlvr.algo.advantages import UNCOMPARED, group_advantages, group_factors
from rlvr.algo.channels import channel_advantages
from rlvr.algo.ranks import ALONE, Ranks
from rlvr.algo.states import value_changes
from rlvr.policy.flops import Shape
from rlvr.types import Batch, ScoredGroup


def teaches(group: ScoredGroup, *, mask_truncated: bool = False) -> bool:
    """Whether the group has a contrast, and a completion that is known counts in the loss."""
    pairs = zip(group.group.completions, group.rewards, strict=True)
    finishes = [completion.finish for completion, reward in pairs if reward is not None]
    counts = any(finish != "length" for finish in finishes) or not mask_truncated
    return counts and group.has_contrast


def pack(
    groups: Sequence[ScoredGroup],
    *,
    baseline: str,
    scale: str,
    epsilon: float,
    mask_truncated: bool,
    device: torch.device,
    ranks: Ranks = ALONE,
    push_below: float | None = None,
) -> Batch:
    """All completions of `groups` with their advantages, right-padded, in the order given.

    `groups` are this rank's; the greedy completion beside a group is no part of it, only what it earned.
    `push_below`, where states within completions have values: tokens have the advantages of the steps between
    states, and those that the engine gave a probability above it have none.
    A completion without a reward keeps its place but not one token of it counts; truncated ones likewise with
    `mask_truncated`, and the only one left of its group where tokens are whitened.  Token statistics follow
    in `update`.
    """
    rows = [
        (index, group.group.prompt_ids, completion, reward)
        for index, group in enumerate(groups)
        for completion, reward in zip(group.group.completions, group.rewards, strict=True)
    ]
    prompt_lengths_B = torch.tensor([len(prompt) for _, prompt, _, _ in rows], dtype=torch.long)
    completion_lengths_B = torch.tensor([len(c.token_ids) for _, _, c, _ in rows], dtype=torch.long)
    rewards_B = _rewards(reward for _, _, _, reward in rows)
    greedy_B = _rewards(g.greedy.rewards[0] if g.greedy else None for g in groups for _ in g.rewards)
    group_B = torch.tensor([index for index, _, _, _ in rows], dtype=torch.long)
    counts_B = ~rewards_B.isnan()
    if mask_truncated:
        counts_B &= torch.tensor([c.finish != "length" for _, _, c, _ in rows], dtype=torch.bool)
    if scale == "token_whiten" and baseline not in UNCOMPARED:
        known = (~rewards_B.isnan()).long()
        counts_B &= torch.zeros(len(groups), dtype=torch.long).index_add(0, group_B, known)[group_B] > 1
    columns = int(completion_lengths_B.max()) if rows else 1
    mask_BC = (torch.arange(columns) < completion_lengths_B[:, None]) & counts_B[:, None]
    tokens_B = mask_BC.sum(-1)
    if baseline == "gdpo":
        advantages_B = channel_advantages(*_earned(groups, rewards_B), group_B, epsilon=epsilon, ranks=ranks)
    else:
        advantages_B = group_advantages(
            rewards_B,
            group_B,
            tokens_B,
            baseline=baseline,
            scale=scale,
            epsilon=epsilon,
            greedy_B=greedy_B,
            ranks=ranks,
        )
    rollout_logprobs_BC = _padded([torch.tensor(c.logprobs) for _, _, c, _ in rows], torch.float32)
    advantages_BC = advantages_B[:, None] * mask_BC
    if push_below is not None:
        start_B = rewards_B - group_advantages(
            rewards_B, group_B, tokens_B, baseline=baseline, scale="none", epsilon=epsilon
        )
        factor_B = group_factors(rewards_B, group_B, tokens_B, scale=scale, epsilon=epsilon, ranks=ranks)
        states = [known for g in groups for known in g.states or ((),) * len(g.rewards)]
        changes_BC = value_changes(start_B, rewards_B, states, mask_BC.shape[1])
        stepwise_BC = mask_BC & torch.tensor([bool(known) for known in states], dtype=torch.bool)[:, None]
        advantages_BC = torch.where(stepwise_BC, (changes_BC * factor_B[:, None]).float(), advantages_BC)
        if push_below < 1:
            advantages_BC = advantages_BC * (rollout_logprobs_BC <= math.log(push_below))
    replayed = [i >= len(g.rewards) - g.replayed for g in groups for i in range(len(g.rewards))]
    batch = Batch(
        ids_BT=_padded([torch.tensor(p + c.token_ids) for _, p, c, _ in rows], torch.long),
        prompt_lengths_B=prompt_lengths_B,
        lengths_B=prompt_lengths_B + completion_lengths_B,
        mask_BC=mask_BC,
        rollout_logprobs_BC=rollout_logprobs_BC,
        advantages_BC=advantages_BC,
        group_B=group_B,
        replayed_B=torch.tensor(replayed, dtype=torch.bool),
    )
    given = {f.name: value for f in fields(batch) if (value := getattr(batch, f.name)) is not None}
    return Batch(**{name: value.to(device) for name, value in given.items()})


def _padded(rows: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Right-padded; of no row at all [0, 1]."""
    return pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 1, dtype=dtype)


def _rewards(rewards: Iterable[float | None]) -> torch.Tensor:
    """float64, NaN where not known."""
    return torch.tensor([float("nan") if r is None else r for r in rewards], dtype=torch.float64)


def _earned(groups: Sequence[ScoredGroup], rewards_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rewards and weights [B, K] by channel; weight 0 where a group has no such channel, or none at all."""
    names = list(dict.fromkeys(channel.name for group in groups for channel in group.channels))
    rewards_BK = rewards_B[:, None].repeat(1, max(len(names), 1))
    weights_BK = torch.full_like(rewards_BK, 0.0 if names else 1.0)
    start = 0
    for group in groups:
        end = start + len(group.rewards)
        for channel in group.channels:
            k = names.index(channel.name)
            rewards_BK[start:end, k] = _rewards(channel.rewards)
            weights_BK[start:end, k] = channel.weight
        start = end
    return rewards_BK, weights_BK


def take(batch: Batch, rows: torch.Tensor) -> Batch:
    """The sequences `rows` [b], cut to the longest among them; of none the first columns."""
    lengths_b, prompts_b = batch.lengths_B[rows], batch.prompt_lengths_B[rows]
    tokens, columns = (int(lengths_b.max()), int((lengths_b - prompts_b).max())) if len(rows) else (1, 1)
    return Batch(
        ids_BT=batch.ids_BT[rows, :tokens],
        prompt_lengths_B=prompts_b,
        lengths_B=lengths_b,
        mask_BC=batch.mask_BC[rows, :columns],
        rollout_logprobs_BC=batch.rollout_logprobs_BC[rows, :columns],
        advantages_BC=batch.advantages_BC[rows, :columns],
        group_B=batch.group_B[rows],
        replayed_B=batch.replayed_B[rows],
        pivot_BC=None if batch.pivot_BC is None else batch.pivot_BC[rows, :columns],
    )


def minibatches(batch: Batch, count: int, ranks: Ranks = ALONE) -> list[torch.Tensor]:
    """Rows of each of `count` updates, whole groups together, as equal as the number of groups allows.

    As many on each rank: one with fewer groups than the others has updates without a row.
    """
    if batch.update_B is not None:
        last = int(batch.update_B.max()) if len(batch.update_B) else 0
        updates = range(int(ranks.most(last)) + 1)
        return [(batch.update_B == number).nonzero()[:, 0] for number in updates]
    groups = torch.unique(batch.group_B)
    parts = torch.tensor_split(groups, min(count, int(ranks.most(len(groups)))))
    return [torch.isin(batch.group_B, part).nonzero()[:, 0] for part in parts]


def deal(
    groups: Sequence[ScoredGroup], count: int, *, rank: int, ranks: int, shape: Shape | None
) -> tuple[list[ScoredGroup], list[int]]:
    """This rank's groups of a step of `count` updates, and the update that each belongs to.

    An update has the groups that it has on one rank; they are dealt so that ranks have equal work, most first
    to whoever has least: FLOPs of the model's `shape`, linear and quadratic, or tokens where it has none.
    """

    def cost(group: ScoredGroup) -> float:
        prompt, made = len(group.group.prompt_ids), [len(c.token_ids) for c in group.group.completions]
        return shape.update(prompt, made) if shape else float(prompt + sum(made))

    costs = [cost(group) for group in groups]
    own: list[tuple[int, int]] = []
    for number, part in enumerate(torch.tensor_split(torch.arange(len(groups)), min(count, len(groups)))):
        loads = [0.0] * ranks
        for index in sorted(part.tolist(), key=lambda index: -costs[index]):
            least = loads.index(min(loads))
            loads[least] += costs[index]
            if least == rank:
                own.append((index, number))
    return [groups[index] for index, _ in sorted(own)], [number for _, number in sorted(own)]


def together(parts: Iterable[torch.Tensor], ranks: Ranks = ALONE) -> list[torch.Tensor]:
    """Micro-batches, as many on each rank: ranks that share weights run their passes together."""
    own = list(parts)
    return own + [torch.zeros(0, dtype=torch.long)] * (int(ranks.most(len(own))) - len(own))


def micro_batches(
    batch: Batch, rows: torch.Tensor, token_budget: int, *, packed: bool = False
) -> Iterator[torch.Tensor]:
    """Split `rows` so that no micro-batch has more than `token_budget` tokens; similar lengths together.

    Padded, each sequence counts as the longest beside it; `packed`, a prompt counts once for its group, and
    only a group above the budget is split.  A single sequence above it is a micro-batch of its own.  Rows
    without a token in the loss are left out.
    """
    rows = rows[batch.mask_BC[rows].any(-1)]
    lengths = batch.lengths_B[rows]
    order = lengths.argsort(descending=True, stable=True)
    rows, longest_first = rows[order], lengths[order].tolist()
    if packed:
        yield from _packed(batch, rows, token_budget)
        return
    start = 0
    while start < len(rows):
        size = max(1, token_budget // longest_first[start])
        yield rows[start : start + size]
        start += size


def _packed(batch: Batch, rows: torch.Tensor, token_budget: int) -> Iterator[torch.Tensor]:
    """Whole groups one after the other, by their longest sequence; `rows` come longest first."""
    parts: list[tuple[int, list[int]]] = []
    for group in _by_group(batch, rows):
        tokens, part = 0, list[int]()
        for row, prompt, completion in group:
            if part and tokens + completion > token_budget:
                parts.append((tokens, part))
                tokens, part = 0, []
            tokens += completion + (0 if part else prompt)
            part.append(row)
        parts.append((tokens, part))
    total, together = 0, list[int]()
    for tokens, part in parts:
        if together and total + tokens > token_budget:
            yield torch.tensor(together, device=rows.device)
            total, together = 0, []
        total += tokens
        together += part
    if together:
        yield torch.tensor(together, device=rows.device)


def _by_group(batch: Batch, rows: torch.Tensor) -> Iterable[list[tuple[int, int, int]]]:
    """(row, tokens of its prompt, tokens that it adds to it) by group, in the order of `rows`."""
    groups: dict[int, list[tuple[int, int, int]]] = {}
    prompts = batch.prompt_lengths_B[rows]
    # A completion's last token predicts nothing.
    added = (batch.lengths_B[rows] - prompts - 1).clamp_min(0)
    columns = (rows, batch.group_B[rows], prompts, added)
    for row, group, prompt, completion in zip(*(c.tolist() for c in columns), strict=True):
        groups.setdefault(group, []).append((row, prompt, completion))
    return groups.values()
