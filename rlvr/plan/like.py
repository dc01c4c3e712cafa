"""A measured run beside its own plan: what the plan's seconds are multiplied with to be the run's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from rlvr.errors import RunError
from rlvr.plan.assumed import Assumed
from rlvr.plan.config import shape_of
from rlvr.plan.gpus import this_machine
from rlvr.plan.pace import pace
from rlvr.plan.work import work_of
from rlvr.policy.gpus import Gpu, called
from rlvr.recipe.load import load
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import Manifest, read_manifest
from rlvr.runs.reader import read_metrics

PHASES = {
    "sample": ("sample", "ahead_sample"),
    "logprobs": ("logprobs",),
    "update": ("update",),
    "sync": ("sync",),
}
"""Factors, and the phases of the record that are measured for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a run teaches plans of its like."""

    gpu: Gpu
    """What it ran on."""
    mean: int
    """Tokens of a completion on average."""
    assumed: Assumed
    """With its factors."""
    source: str
    """The run, its steps and device, for a person."""


def like(folder: RunFolder, start: Assumed, *, prompt: int | None, memory_bytes: int) -> Measured:
    """Factors of the phases from the medians of a run's steps, the first left out: it warms up.

    Raises RunError where there is nothing to measure, or its device is of no known kind.
    """
    manifest = read_manifest(folder)
    rows = [row.metrics for row in read_metrics(folder.path) if row.kind == "train"][1:]
    lengths = _numbers(rows, "rollout/length_mean_tokens")
    if not lengths:
        raise RunError(
            f"{folder.path}: no step after the first is in its record; give a run of two steps or more"
        )
    loaded = load(folder.expanded_recipe)
    loaded = replace(loaded, path=Path(manifest.base_dir) / folder.expanded_recipe.name)
    gpu, mean = _device(folder, manifest, memory_bytes), max(1, round(median(lengths)))
    devices = len(manifest.gpus) or 1
    work = work_of(loaded.recipe, shape_of(loaded), gpu, devices, prompt=prompt, mean=mean, assumed=start)
    planned, factors = pace(work), dict[str, float]()
    for name, phases in PHASES.items():
        # A step without signal has no update: what it would have taken is asked.
        known = [[s for s in _numbers(rows, f"time/{phase}_s") if s > 0] for phase in phases]
        seconds = sum(median(found) for found in known if found)
        if seconds > 0 and getattr(planned, name) > 0:
            factors[name] = getattr(start, name) * seconds / getattr(planned, name)
    source = f"{folder.path}: {len(rows)} steps of {mean} tokens a completion on {work.gpus} x {gpu.name}"
    return Measured(gpu=gpu, mean=mean, assumed=start.model_copy(update=factors), source=source)


def _numbers(rows: list[Mapping[str, float | None]], name: str) -> list[float]:
    return [value for row in rows if (value := row.get(name)) is not None]


def _device(folder: RunFolder, manifest: Manifest, memory_bytes: int) -> Gpu:
    rate, source = manifest.peak.get("flops_per_s"), str(manifest.peak.get("source", ""))
    if source.startswith("cpu") and isinstance(rate, float):
        here = this_machine(memory_bytes)
        return replace(here, flops={"float32": rate, "bfloat16": rate}, source=f"{source}; a copy by numpy")
    found = called(source)
    if found is None:
        raise RunError(
            f"{folder.path}: its device is of no kind that a plan knows: {source or 'not recorded'}"
        )
    return found
