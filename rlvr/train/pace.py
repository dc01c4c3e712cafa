"""The numbers of a lap: seconds by phase, tokens a second, model FLOPs utilisation, peak memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rlvr.policy.flops import Shape
from rlvr.policy.peak import Peak, peak_of
from rlvr.runs.writer import Record, Silence
from rlvr.train.clock import PHASES, Lap
from rlvr.types import ScoredGroup

READING = ("logprobs", "update")
"""Phases in which the trainer's model reads completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast this run could be."""

    shape: Shape | None
    """Of the model; None: no utilisation can be told."""
    peak: Peak
    """Of the trainer's device."""
    samples_here: bool
    """Whether the engine samples on that device, and not in servers."""
    ranks: int = 1
    """Devices that train; what one of them has read stands for all."""
    drawers: int = 1
    """Those of them that sample."""

    def metrics(
        self, lap: Lap, sampled: Sequence[ScoredGroup], trained: Sequence[ScoredGroup]
    ) -> dict[str, float]:
        """Of a lap in which the groups `sampled` were drawn and those `trained` were learned from."""
        step_s = sum(lap.seconds.values())
        tokens = sum(len(c.token_ids) for group in _with_greedy(sampled) for c in group.group.completions)
        found = {f"time/{name}_s": lap.seconds[name] for name in PHASES}
        found |= {f"memory/{name}_bytes": float(peak) for name, peak in lap.peaks.items()}
        found |= {"time/step_s": step_s, "time/step_tokens_per_s": tokens / max(step_s, 1e-9)}
        for name in READING:
            if lap.tokens[name]:
                found[f"time/{name}_tokens_per_s"] = (
                    self.ranks * lap.tokens[name] / max(lap.seconds[name], 1e-9)
                )
        return found | self._utilisation(lap, sampled, trained)

    def _utilisation(
        self, lap: Lap, sampled: Sequence[ScoredGroup], trained: Sequence[ScoredGroup]
    ) -> dict[str, float]:
        """Shares of the device's rate; work of the phases between is in none."""
        shape = self.shape
        if shape is None:
            return {}
        work: dict[str, float] = {}
        if self.samples_here:
            work["sample"] = sum(shape.forward(*_lengths(group)) for group in _with_greedy(sampled))
        passes = {name: self.ranks * share for name, share in _passes(lap, trained).items()}
        work["logprobs"] = passes["logprobs"] * sum(shape.forward(*_lengths(group)) for group in trained)
        work["update"] = passes["update"] * sum(shape.update(*_lengths(group)) for group in trained)
        work["step"] = sum(work.values())
        seconds = {**lap.seconds, "step": sum(lap.seconds.values())}
        return {
            f"time/{name}_mfu_share": flops
            / max(seconds[name], 1e-9)
            / (self.peak.flops_per_s * (self.drawers if name == "sample" else self.ranks))
            for name, flops in work.items()
            if flops and (name != "step" or self.samples_here)
        }


def pace_of(model: Any, engine: str, record: Record | Silence, notes: list[str], *, ranks: int) -> Pace:
    """How fast the run could be: the rate is the manifest's, where that has one of the same device."""
    shape = Shape.of(model)
    if shape is None:
        notes.append("time/*_mfu_share is left out: the work of experts and of such attention is not counted")
    found = peak_of(model.device, model.dtype)
    peak = Peak(record.peak(found.flops_per_s, found.source), found.source)
    samples_here = engine != "vllm_server"
    drawers = ranks if samples_here else 1  # the first rank alone asks servers
    return Pace(shape=shape, peak=peak, samples_here=samples_here, ranks=ranks, drawers=drawers)


def _with_greedy(groups: Sequence[ScoredGroup]) -> list[ScoredGroup]:
    return [*groups, *(group.greedy for group in groups if group.greedy)]


def _lengths(group: ScoredGroup) -> tuple[int, list[int]]:
    return len(group.group.prompt_ids), [len(c.token_ids) for c in group.group.completions]


def _passes(lap: Lap, trained: Sequence[ScoredGroup]) -> dict[str, float]:
    """How often the model went over the completions; less than once where some have no token in the loss."""
    tokens = sum(sum(_lengths(group)[1]) for group in trained)
    return {name: lap.tokens[name] / max(tokens, 1) for name in READING}
