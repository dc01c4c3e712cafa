"""Kinds of GPU, with what their makers' datasheets say, and this machine's own CPU.

Memory is counted in the datasheet's 10**9 bytes.  Drivers report a few percent more on most: that is left for
what no formula here knows, such as a fragmented allocator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from rlvr.errors import RecipeError, near_miss


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One device of a kind.  Rates are peaks: what is reached of them is an assumption (`pace.Assumed`)."""

    name: str
    """As `--gpu` takes it."""
    memory_bytes: float
    """Its memory."""
    bandwidth: float
    """Bytes of it read a second."""
    flops: dict[str, float]
    """Dense matrix FLOP/s by dtype; float32 without TF32, as torch computes unless told otherwise."""
    link: float
    """Bytes a second to its neighbours, one way: NVLink, or else PCIe."""
    source: str
    """Where the numbers stand."""
    is_cpu: bool = False
    """This machine's processor, which has no neighbours."""


def _gpu(
    name: str, memory_gb: float, bandwidth_gb: float, bf16: float, fp32: float, link_gb: float, source: str
) -> Gpu:
    return Gpu(
        name=name,
        memory_bytes=memory_gb * 1e9,
        bandwidth=bandwidth_gb * 1e9,
        flops={"bfloat16": bf16 * 1e12, "float32": fp32 * 1e12},
        link=link_gb * 1e9,
        source=source,
    )


GPUS = {
    gpu.name: gpu
    for gpu in (
        #     name      GB  GB/s   bf16   fp32  link GB/s one way
        _gpu("A10G", 24, 600, 70, 35, 32, "NVIDIA A10G datasheet; PCIe 4.0 x16"),
        _gpu("L4", 24, 300, 121, 30.3, 32, "NVIDIA L4 datasheet; PCIe 4.0 x16"),
        _gpu(
            "RTX-4090",
            24,
            1008,
            165.2,
            82.6,
            32,
            "NVIDIA Ada GPU architecture whitepaper, appendix A; PCIe 4.0 x16",
        ),
        _gpu("L40S", 48, 864, 362.05, 91.6, 32, "NVIDIA L40S datasheet; PCIe 4.0 x16"),
        _gpu("A100-40GB", 40, 1555, 312, 19.5, 300, "NVIDIA A100 datasheet (SXM); NVLink 3"),
        _gpu("A100-80GB", 80, 2039, 312, 19.5, 300, "NVIDIA A100 datasheet (SXM); NVLink 3"),
        _gpu("H100", 80, 3350, 989.5, 67, 450, "NVIDIA H100 datasheet (SXM); NVLink 4"),
        _gpu("H200", 141, 4800, 989.5, 67, 450, "NVIDIA H200 datasheet (SXM); NVLink 4"),
        _gpu("B200", 180, 8000, 2250, 75, 900, "NVIDIA HGX B200 datasheet; NVLink 5"),
    )
}
"""Dense rates: half of what datasheets print `with sparsity`."""
CPU = "cpu"
"""The machine that asks."""
TRIAL = 768
"""Rows of the matrices that a CPU is timed with."""
TRIAL_BYTES = 64 * 2**20
"""Of the copy that its memory is timed with: more than its caches hold."""
TRIALS = 5
"""The best of so many counts."""


def find(names: str, memory_bytes: int) -> list[Gpu]:
    """The kinds in `H100,L40S`; `cpu` is this machine, of `memory_bytes`.

    RecipeError with the near miss where one is not known.
    """
    written = {name.lower(): name for name in (*GPUS, CPU)}
    asked = dict.fromkeys(name.strip() for name in names.split(","))
    unknown = next((name for name in asked if name.lower() not in written), None)
    if unknown is not None:
        near = near_miss(unknown.lower(), written)
        for lower, name in written.items():
            near = near.replace(f"`{lower}`", f"`{name}`")
        near = near if "did you mean" in near else f"; choose from: {', '.join(written.values())}"
        raise RecipeError(f"--gpu {unknown}: no such kind is known{near}")
    kinds = dict.fromkeys(written[name.lower()] for name in asked)
    return [this_machine(memory_bytes) if kind == CPU else GPUS[kind] for kind in kinds]


def this_machine(memory_bytes: int) -> Gpu:
    """The CPU here; its rates by a matrix product and a copy, timed for some tenths of a second."""
    import numpy as np

    matrix = np.ones((TRIAL, TRIAL), np.float32)
    source = np.ones(TRIAL_BYTES // 4, np.float32)
    target = np.zeros_like(source)
    rate = 2 * TRIAL**3 / _best_s(lambda: matrix @ matrix)
    return Gpu(
        name=CPU,
        memory_bytes=memory_bytes,
        bandwidth=2 * TRIAL_BYTES / _best_s(lambda: np.copyto(target, source)),
        flops={"float32": rate, "bfloat16": rate},
        link=1.0,
        source="timed here just now: a float32 product and a copy by numpy",
        is_cpu=True,
    )


def _best_s(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(TRIALS):
        begun = perf_counter()
        work()
        seconds.append(perf_counter() - begun)
    return max(min(seconds), 1e-9)
