"""A recipe on some devices: what each phase takes, whether that fits, and how long a step lasts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rlvr.plan import memory as memories
from rlvr.plan.gpus import Gpu
from rlvr.plan.memory import Parts, total
from rlvr.plan.pace import Assumed, Pace, pace
from rlvr.plan.shape import Shape
from rlvr.plan.work import Work, usual_prompt
from rlvr.recipe.schema import Recipe


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


def work_of(
    recipe: Recipe,
    shape: Shape,
    gpu: Gpu,
    gpus: int,
    *,
    prompt: int | None = None,
    mean_completion: int | None = None,
) -> Work:
    """A recipe for a model on `gpus` devices; by default `usual_prompt` and longest completions."""
    return Work(
        recipe=recipe,
        shape=shape,
        gpu=gpu,
        gpus=gpus,
        prompt=prompt or usual_prompt(recipe, shape),
        mean_completion=min(mean_completion or recipe.sampling.max_tokens, recipe.sampling.max_tokens),
    )


def forecast(work: Work, assumed: Assumed) -> Forecast:
    """All of it for one number of devices."""
    found = memories.memory(work)
    return Forecast(work=work, memory=found, pace=pace(work, assumed), faults=tuple(_faults(work, found)))


def _faults(work: Work, found: dict[str, Parts]) -> Iterator[Fault]:
    room = work.gpu.memory_bytes
    for phase, parts in found.items():
        if total(parts) > room:
            fullest = max(parts, key=lambda name: parts[name])
            why = f"takes {size(total(parts))} of {size(room)}, most of it {fullest} ({size(parts[fullest])})"
            yield Fault(phase=phase, why=why)
    least, kv = memories.least_kv(work), memories.kv_bytes(work)
    if kv < least and (work.samples_here or work.server_gpus):
        why = (
            f"the KV cache has {size(max(kv, 0))}: one sequence as long as the model's context "
            f"({work.shape.context} tokens) takes {size(least)}"
        )
        yield Fault(phase="sampling", why=why)


def size(count: float) -> str:
    """Bytes for a person."""
    if count >= 2**30:
        return f"{count / 2**30:.1f} GiB"
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
