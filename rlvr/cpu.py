"""What makes a CPU fast: matrix products of linear layers, and memory that is used again.

torch multiplies float32 matrices with MKL, whose AVX-512 kernels are for Intel's processors alone.  oneDNN,
which torch brings too, has them for all: on AMD's a product takes less than half the time, in float32 as well
(`scripts/bench_update`).  It makes a kernel for each shape, so it is asked only for numbers of rows that come
again: those of packed sequences and of decoding slots are rounded up to few (`round_up`).
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

LEAST_ROWS = 64
"""Below, the call costs more than the faster kernel saves."""


def round_up(rows: int) -> int:
    """One of sixteen numbers between two powers of two, at most 6 % above `rows`; small ones stay."""
    step = 2 ** (rows.bit_length() - 1) // 16
    return rows if rows < LEAST_ROWS else -(-rows // step) * step


class Linear(torch.nn.Linear):
    """A linear layer, with the same weights and results but for the order of sums."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[..., I] -> [..., O]."""
        rows = input.reshape(-1, self.in_features)
        is_alike = input.dtype == self.weight.dtype == torch.float32 and input.is_cpu
        if not is_alike or len(rows) < LEAST_ROWS or len(rows) != round_up(len(rows)):
            return super().forward(input)
        if torch.is_grad_enabled():
            out: torch.Tensor = _Product.apply(rows, self.weight)  # type: ignore[no-untyped-call]
        else:
            out = product(rows, self.weight)
        out = out.view(*input.shape[:-1], self.out_features)
        return out if self.bias is None else out + self.bias


class _Product(torch.autograd.Function):
    """y = x W^T, and its gradients dy W and dy^T x."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        return (
            product(dy[0], weight.T) if of_x else None,
            _turned(dy[0], x) if of_weight else None,
        )


def _turned(dy: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """dy^T x.  oneDNN copies what comes first, where it does not lie row by row: the narrower one."""
    return product(dy.T, x.T) if dy.shape[1] <= x.shape[1] else product(x.T, dy.T).T


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [N, I] times the transpose of weight [O, I], by oneDNN; float32 on a CPU, without gradient."""
    out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return out


@cache
def is_faster() -> bool:
    """Whether this processor has AVX-512 and MKL does not use it: a property of the machine, not a timing."""
    return (
        torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _maker() == "AuthenticAMD"
    )


def _maker() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


def take_faster(model: torch.nn.Module) -> None:
    """Let the linear layers of `model` use it, where it is faster here; layers of other classes stay."""
    if is_faster():
        for part in model.modules():
            if type(part) is torch.nn.Linear:
                part.__class__ = Linear


def keep_memory() -> None:
    """Let this process keep memory that was freed, for the next tensors; glibc gives it back and asks anew.

    Each page that is asked for anew is cleared first, which tensors of a step pay for again and again.
    """
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_TRIM_THRESHOLD, 2**30)
        mallopt(_MMAP_THRESHOLD, 2**26)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Of malloc.h: free bytes beyond which memory is given back; size from which a block is not of the heap."""
