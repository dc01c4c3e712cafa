"""The one place where a statistic of the optimizer step crosses ranks.

Each rank holds whole groups of the step's batch.  Counts, means, deviations, quantiles and top-k selections
go through `Ranks`: any number of ranks computes the loss, and the metrics, of one that holds them all.
Every rank must make the same calls in the same order: what decides whether to call is the same on all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist


class Ranks(Protocol):
    """Who shares the step."""

    @property
    def count(self) -> int:
        """How many ranks there are."""
        ...

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise sum over the ranks; the same shape on each of them."""
        ...

    def most(self, number: float) -> float:
        """The greatest of the ranks' numbers."""
        ...

    def gather(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values of all ranks, one after the other; N may differ, the dtype may not."""
        ...


@dataclass(frozen=True, slots=True)
class Alone:
    """One rank: its statistics are the step's."""

    count: int = 1
    """How many ranks there are."""

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The values."""
        return values

    def most(self, number: float) -> float:
        """The number."""
        return number

    def gather(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values."""
        return values_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The ranks of a process group of torch.distributed (gloo, NCCL)."""

    device: torch.device
    """Where its backend communicates from."""
    group: dist.ProcessGroup | None = None
    """None: all there are."""

    @property
    def count(self) -> int:
        """How many ranks there are."""
        return dist.get_world_size(self.group)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise sum over the ranks."""
        total = values.to(self.device, copy=True)
        dist.all_reduce(total, dist.ReduceOp.SUM, self.group)
        return total.to(values.device)

    def most(self, number: float) -> float:
        """The greatest of the ranks' numbers."""
        greatest = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.all_reduce(greatest, dist.ReduceOp.MAX, self.group)
        return float(greatest)

    def gather(self, values_N: torch.Tensor) -> torch.Tensor:
        """The values of all ranks, in rank order."""
        lengths = [torch.zeros((), dtype=torch.long, device=self.device) for _ in range(self.count)]
        dist.all_gather(lengths, torch.tensor(len(values_N), device=self.device), self.group)
        longest = max(int(length) for length in lengths)
        padded = torch.nn.functional.pad(values_N.to(self.device), (0, longest - len(values_N)))
        parts = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(parts, padded, self.group)
        whole = torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])
        return whole.to(values_N.device)


ALONE = Alone()
