"""The trainer's weights as an engine takes them: names of the checkpoint format, tensors, checksums.

A checksum reads a tensor's bits as integers, weighs each with its row and its column, and adds them up modulo
2**64: whatever moves weights about, the receiver can tell that it holds what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def has_adapter(model: Any) -> bool:
    """Whether `model` trains a low-rank adapter and leaves its weights alone."""
    return hasattr(model, "peft_config")


def named_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of every weight, adapters left out, tied ones once, named as in a saved checkpoint."""
    base = model.get_base_model() if has_adapter(model) else model
    for name, parameter in base.named_parameters():
        if "lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter.detach()


def checksum(tensor: torch.Tensor) -> int:
    """Of the tensor's bits, modulo 2**64; its shape does not enter but for the last dimension."""
    return int(_sum(tensor)) % 2**64


def checksums(weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """Checksum of each tensor by name, read from the device in one go."""
    names, sums = [], []
    for name, tensor in weights:
        names.append(name)
        sums.append(_sum(tensor))
    return dict(zip(names, (s % 2**64 for s in torch.stack(sums).tolist()), strict=True)) if names else {}


def _sum(tensor: torch.Tensor) -> torch.Tensor:
    """int64 [], on the tensor's device."""
    words = tensor.contiguous().reshape(-1, tensor.shape[-1] if tensor.ndim else 1)
    words = words.view(WORDS[tensor.element_size()])
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for axis, first, step in ((1, 1, 2), (0, 0, 4)):  # a word's weight is odd: no bit of it gets lost
        sums = words.sum(axis, dtype=torch.int64)
        total += (sums * torch.arange(first, first + step * len(sums), step, device=sums.device)).sum()
    return total


@contextmanager
def perturbed(model: Any) -> Iterator[None]:
    """Within the block the model says something else entirely; afterwards it is what it was, to the bit.

    Weights change their sign, which needs no copy; an adapter, zero at first, is set to random numbers.
    """
    if has_adapter(model):
        adapter = [p for p in model.parameters() if p.requires_grad]
        kept = [p.detach().clone() for p in adapter]
        generator = torch.Generator().manual_seed(0)
        try:
            with torch.no_grad():
                for p in adapter:
                    p.copy_(torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5)
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(adapter, kept, strict=True):
                    p.copy_(before)
        return
    signs = [_sign(p) for p in model.parameters()]
    try:
        _negate(model.parameters())
        yield
    finally:
        _negate(p for p, s in zip(model.parameters(), signs, strict=True) if _sign(p) != s)


def _sign(parameter: torch.Tensor) -> bool:
    """Of its first element: tells whether it was turned."""
    return bool(parameter.numel()) and bool(parameter.detach().reshape(-1)[0].signbit())


@torch.no_grad()
def _negate(parameters: Iterable[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.neg_()
