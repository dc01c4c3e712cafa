"""A recipe on some devices: what each phase takes, whether that fits, and how long a step lasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlvr.plan import memory as memories
from rlvr.plan.memory import Parts, total
from rlvr.plan.pace import Pace, pace
from rlvr.plan.work import Work
from rlvr.recipe.check_ranks import alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something does not fit."""

    phase: str
    """The phase."""
    why: str
    """In words, with both sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a recipe takes on some devices of a kind."""

    work: Work
    """What is asked of each rank."""
    memory: dict[str, Parts]
    """Bytes on one device, by phase and part."""
    pace: Pace
    """Seconds a step."""
    faults: tuple[Fault, ...]
    """Why it does not fit; empty where it does."""

    @property
    def fits(self) -> bool:
        """Whether it fits."""
        return not self.faults

    @property
    def peak(self) -> tuple[str, float]:
        """The phase that takes most, and how much."""
        totals = {phase: total(parts) for phase, parts in self.memory.items()}
        fullest = max(totals, key=lambda phase: totals[phase])
        return fullest, totals[fullest]

    @property
    def tokens(self) -> int:
        """Tokens a step, prompts once for each completion, at the mean length."""
        return self.work.sequences * (self.work.prompt + self.work.mean_completion)

    @property
    def run_s(self) -> float:
        """Seconds of all steps."""
        return self.pace.step * self.work.recipe.run.steps


def forecast(work: Work) -> Forecast:
    """All of it for one number of devices."""
    found = memories.memory(work)
    return Forecast(work=work, memory=found, pace=pace(work), faults=tuple(_faults(work, found)))


def _faults(work: Work, found: dict[str, Parts]) -> Iterator[Fault]:
    room, shape = work.gpu.memory_bytes, work.shape
    if work.length > shape.context:
        why = (
            f"prompts of {work.prompt:,} tokens and `sampling.max_tokens = {work.completion}` make "
            f"{work.length:,}, more than the model's context of {shape.context:,}"
        )
        yield Fault(phase="sampling", why=why)
    if work.ranks > work.gpus - work.server_gpus:
        left = work.gpus - work.server_gpus
        why = f"`run.ranks = {work.ranks}` wants as many devices, and trainers have {left}"
        yield Fault(phase="update", why=why)
    for _, why in alone(work.recipe, work.ranks):
        yield Fault(phase="update", why=why)
    for phase, parts in found.items():
        if total(parts) > room:
            fullest = max(parts, key=lambda name: parts[name])
            why = f"takes {size(total(parts))} of {size(room)}, most of it {fullest} ({size(parts[fullest])})"
            yield Fault(phase=phase, why=why)
    least, kv = memories.least_kv(work), memories.kv_bytes(work)
    if kv < least and (work.samples_here or work.server_gpus):
        why = (
            f"the KV cache has {size(max(kv, 0))}: one sequence as long as the model's context "
            f"({shape.context:,} tokens) takes {size(least)}"
        )
        yield Fault(phase="sampling", why=why)


def size(count: float) -> str:
    """Bytes for a person."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
