"""The trainer's weights as an engine takes them: names of the checkpoint format, tensors, checksums.

A checksum reads a tensor's bits as integers, weighs each with its row and its column, and adds them up modulo
2**64: whatever moves weights about, the receiver can tell that it holds what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
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

    Each matrix is rolled by a number of its own, so that no two changes undo each other, and rolled back:
    that takes room for one at a time.  Vectors, and adapters, which are zero at first, become random numbers.
    """
    has_one = has_adapter(model)
    changing = [p for p in model.parameters() if p.requires_grad or not has_one]
    generator = torch.Generator().manual_seed(0)
    undo: list[Callable[[], object]] = []
    try:
        with torch.no_grad():
            for number, parameter in enumerate(changing):
                data, shift = parameter.detach(), 2 * number + 1
                if has_one or data.ndim < 2:
                    undo.append(partial(data.copy_, data.clone()))
                    scale = data.shape[-1] ** -0.5 if has_one else 1.0
                    data.copy_(torch.randn(data.shape, generator=generator) * scale)
                else:
                    rolled = data.roll(shift)
                    data.copy_(rolled)
                    undo.append(partial(_roll_back, data, shift))
        yield
    finally:
        with torch.no_grad():
            for step in undo:
                step()


def _roll_back(data: torch.Tensor, shift: int) -> None:
    data.copy_(data.roll(-shift))
