"""Token terms -> one number: the normaliser n of every token, from counts over the whole optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rlvr.algo.ranks import ALONE, Ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over the optimizer step, all micro-batches and ranks together."""

    tokens: int
    """Tokens in the loss."""
    sequences: int
    """Sequences with at least one such token."""
    groups: int
    """Groups with at least one such token."""
    group_tokens: torch.Tensor
    """float32 [group index]: tokens of each group on this rank."""

    @classmethod
    def of(cls, mask_BT: torch.Tensor, group_B: torch.Tensor, ranks: Ranks = ALONE) -> Totals:
        """Count a whole step's mask, of which `ranks` hold a part each."""
        size = int(group_B.max()) + 1 if len(group_B) else 0
        lengths_B = mask_BT.sum(-1).float()
        group_tokens = lengths_B.new_zeros(size).index_add(0, group_B, lengths_B)
        counts = torch.stack([mask_BT.sum(), mask_BT.any(-1).sum(), (group_tokens > 0).sum()])
        tokens, sequences, groups = ranks.sum(counts).tolist()
        return cls(tokens=tokens, sequences=sequences, groups=groups, group_tokens=group_tokens)


def normaliser(
    mask_BT: torch.Tensor, group_B: torch.Tensor, totals: Totals, *, kind: str, length_constant: float | None
) -> torch.Tensor:
    """Weight n [B, T] of each token, 0 where the mask is False; `sum(n * term)` is the aggregate.

    `token_mean` (DAPO): 1 / tokens; `seq_mean_token_mean` (GRPO): 1 / (sequences * length of its own);
    `seq_mean_token_sum` (Dr. GRPO): 1 / (sequences * length_constant); `prompt_mean_token_mean` (ScaleRL,
    arXiv:2510.13786): 1 / (groups * tokens of its group).
    """
    lengths_B1 = mask_BT.sum(-1, keepdim=True).clamp_min(1)
    if kind == "token_mean":
        weight = 1.0 / max(totals.tokens, 1)
        return mask_BT * weight
    if kind == "seq_mean_token_mean":
        return mask_BT / (max(totals.sequences, 1) * lengths_B1)
    if kind == "prompt_mean_token_mean":
        tokens_B1 = totals.group_tokens[group_B][:, None].clamp_min(1)
        return mask_BT / (max(totals.groups, 1) * tokens_B1)
    return mask_BT * (1.0 / (max(totals.sequences, 1) * (length_constant or 1.0)))
