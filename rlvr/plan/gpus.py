"""The devices that a plan is asked for: kinds by name, and this machine's own CPU, which is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter

from rlvr.errors import RecipeError, near_miss
from rlvr.policy.gpus import GPUS, Gpu

CPU = "cpu"
"""The machine that asks."""
USUAL = ("A10G", "L4", "RTX-4090", "L40S", "A100-40GB", "A100-80GB", "H100", "H200", "B200")
"""Kinds shown where none is asked for."""
TRIAL = 768
"""Rows of the matrices that a CPU is timed with."""
TRIAL_BYTES = 64 * 2**20
"""Of the copy that its memory is timed with: more than its caches hold."""
TRIALS = 5
"""The best of so many counts."""


def find(names: Sequence[str], memory_bytes: int) -> list[Gpu]:
    """The kinds in `H100,L40S`, `H200`; `cpu` is this machine, of `memory_bytes`; by default the usual ones.

    RecipeError with the near miss where one is not known.
    """
    written = {name.lower(): name for name in (*GPUS, CPU)}
    asked = dict.fromkeys(name.strip() for each in names for name in each.split(","))
    for name in asked:
        if name.lower() not in written:
            near = near_miss(name.lower(), written)
            for lower, right in written.items():
                near = near.replace(f"`{lower}`", f"`{right}`")
            near = near if "did you mean" in near else f"; choose from: {', '.join(written.values())}"
            what = f"no such kind is known{near}" if name else f"no kind is named{near}"
            raise RecipeError(f"--gpu {name or repr(','.join(names))}: {what}")
    kinds = dict.fromkeys(written[name.lower()] for name in asked) or dict.fromkeys(USUAL)
    return [this_machine(memory_bytes) if kind == CPU else GPUS[kind] for kind in kinds]


def this_machine(memory_bytes: int) -> Gpu:
    """The CPU here; its rates by a matrix product and a copy, timed for some tenths of a second."""
    import numpy as np

    matrix = np.ones((TRIAL, TRIAL), np.float32)
    source = np.ones(TRIAL_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    copied = 2 * TRIAL_BYTES / _best_s(lambda: np.copyto(target, source))
    rate = 2 * TRIAL**3 / _best_s(lambda: matrix @ matrix)
    return Gpu(
        name=CPU,
        memory_bytes=memory_bytes,
        bandwidth=copied,
        flops={"float32": rate, "bfloat16": rate},
        link=copied / 4,
        source="timed here just now: a float32 product and a copy by numpy; between ranks a quarter of that",
        is_cpu=True,
    )


def _best_s(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIALS):
        begun = perf_counter()
        work()
        seconds.append(perf_counter() - begun)
    return max(min(seconds), 1e-9)
