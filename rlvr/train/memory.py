"""What a run remembers of its problems, and how that decides what it practises next.

`Memory` moves along with the cursor: a step makes a new one from the old one and what it sampled, and a
checkpoint holds the one between two steps.  So a run that goes on asks and replays what it would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlvr.problems.curriculum import OUTSIDE, Curriculum, Rates, Wants
from rlvr.recipe.schema import Recipe
from rlvr.train import replay as replays
from rlvr.train.replay import Replay, Stored
from rlvr.types import ScoredGroup


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Memory:
    """What is known of the problems before a step."""

    rates: Rates | None = None
    """Success rates; None without a curriculum."""
    stored: Stored = field(default_factory=dict)
    """Successes for replay."""

    def to_state(self) -> dict[str, Any]:
        """As tensors, texts and numbers; nothing is rounded."""
        rates = self.rates and {
            name: torch.from_numpy(getattr(self.rates, name)) for name in ("visits", "right", "known")
        }
        return {"rates": rates, "stored": replays.to_state(self.stored)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Memory:
        """The inverse of `to_state`."""
        rates = state["rates"] and Rates(**{name: part.numpy() for name, part in state["rates"].items()})
        return cls(rates=rates, stored=replays.from_state(state["stored"]))


BLANK = Memory()
"""That of a run which remembers nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a step asked."""

    groups: Sequence[ScoredGroup]
    """As they were sampled."""
    indices: Sequence[int]
    """Of their problems in the source."""
    unfit: Sequence[int]
    """Of those passed over since their prompt is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """How memory is used; without its two parts not at all."""

    curriculum: Curriculum | None = None
    """What is asked."""
    replay: Replay | None = None
    """What is replayed."""

    @classmethod
    def of(cls, recipe: Recipe) -> Practice:
        """What a recipe asks for."""
        asked, kept = recipe.problems.curriculum, recipe.sampling.replay
        return cls(
            curriculum=None
            if asked is None
            else Curriculum(
                low=asked.band[0],
                high=asked.band[1],
                retire_at=asked.retire_at,
                revisit=asked.revisit,
                visits=asked.visits,
            ),
            replay=None if kept is None else Replay(share=kept.share, max_age=kept.max_age),
        )

    @property
    def remembers(self) -> bool:
        """Whether a step depends on the memory."""
        return self.curriculum is not None or self.replay is not None

    def recall(self, size: int | None, saved: Mapping[str, Any] | None) -> Memory:
        """The memory that was `saved`, or else that of a run that begins, over `size` problems."""
        if saved is not None:
            return Memory.from_state(saved)
        if self.curriculum is None or size is None:
            return BLANK
        return Memory(rates=Rates.blank(size))

    def wants(self, seed: int, memory: Memory) -> Wants | None:
        """Which problems of the walk are asked; None: all."""
        if self.curriculum is None or memory.rates is None:
            return None
        return self.curriculum.wants(seed, memory.rates)

    def join(
        self, groups: Sequence[ScoredGroup], memory: Memory, step: int, count: int
    ) -> Sequence[ScoredGroup]:
        """The groups of a step that trains on `count`, with stored successes."""
        if self.replay is None:
            return groups
        return self.replay.join(groups, memory.stored, step, int(self.replay.share * count + 1e-9))

    def after(self, memory: Memory, asked: Asked, step: int) -> Memory:
        """The memory that the next step begins with."""
        rates, stored = memory.rates, memory.stored
        if rates is not None:
            seen = [
                (
                    index,
                    sum(verdict.status == "right" for verdict in group.verdicts),
                    sum(verdict.status != "error" for verdict in group.verdicts),
                )
                for index, group in zip(asked.indices, asked.groups, strict=True)
            ]
            rates = rates.after(seen, asked.unfit)
        if self.replay is not None:
            stored = self.replay.after(stored, asked.groups, step)
        return Memory(rates=rates, stored=stored)

    def metrics(
        self, before: Memory, after: Memory, asked: Asked, kept: Sequence[ScoredGroup], step: int
    ) -> dict[str, float]:
        """How the problems stand after a step, and what came back in it."""
        found: dict[str, float] = {}
        if self.curriculum is not None and before.rates is not None and after.rates is not None:
            waited = self.curriculum.standing(before.rates)[list(asked.indices)] >= OUTSIDE
            found = self.curriculum.counts(after.rates) | {"problems/revisited_share": float(waited.mean())}
        return found | (replays.metrics(kept, after.stored, step) if self.replay is not None else {})
