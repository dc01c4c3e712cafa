"""The rate that a device could work at: its maker's number, or a product that is timed."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import torch

from rlvr.cpu import is_faster, product
from rlvr.policy.gpus import called

MEASURED_SIZE, MEASURED_S = 1024, 0.15
"""Width of the matrices multiplied to measure a device, and for how long."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The rate that utilisation is a share of."""

    flops_per_s: float
    """Of the device."""
    source: str
    """The device, and where the number is from."""


def peak_of(device: torch.device, dtype: torch.dtype) -> Peak:
    """By the GPU's name, dense bfloat16 whatever the model's type; of what the table lacks, measured."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        gpu = called(name)
        if gpu is not None:
            return Peak(gpu.flops["bfloat16"], f"{name}: dense bfloat16, its maker's number")
        return Peak(_measured(device, torch.bfloat16), f"{name}: bfloat16 {_HOW}")
    kind = str(dtype).removeprefix("torch.")
    how = f"{_HOW} with oneDNN" if _takes_onednn(device, dtype) else _HOW
    return Peak(_measured(device, dtype), f"{device.type}, {torch.get_num_threads()} threads: {kind} {how}")


_HOW = f"products of {MEASURED_SIZE} x {MEASURED_SIZE}, measured"


def _takes_onednn(device: torch.device, dtype: torch.dtype) -> bool:
    return device.type == "cpu" and dtype == torch.float32 and is_faster()


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    """The fastest of a few products."""
    left = torch.ones(MEASURED_SIZE, MEASURED_SIZE, device=device, dtype=dtype)
    multiply = product if _takes_onednn(device, dtype) else torch.matmul
    best, ends = 0.0, perf_counter() + MEASURED_S
    while best == 0.0 or perf_counter() < ends:
        started = perf_counter()
        float(multiply(left, left)[0, 0])
        best = max(best, 2 * MEASURED_SIZE**3 / (perf_counter() - started))
    return best
