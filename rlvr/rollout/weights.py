"""The trainer's weights as an engine takes them: names of the checkpoint format, tensors, checksums.

A checksum is the sum of a tensor's bits read as integers, modulo 2**64: whatever moves weights about, the
receiver can tell that it holds what was sent.
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
    """The tensor's bits as integers, summed modulo 2**64."""
    words = tensor.contiguous().view(WORDS[tensor.element_size()])
    return int(words.sum(dtype=torch.int64)) % 2**64


def checksums(weights: Iterable[tuple[str, torch.Tensor]]) -> dict[str, int]:
    """Checksum of each tensor by name, read from the device in one go."""
    names, sums = [], []
    for name, tensor in weights:
        names.append(name)
        sums.append(tensor.contiguous().view(WORDS[tensor.element_size()]).sum(dtype=torch.int64))
    return dict(zip(names, (s % 2**64 for s in torch.stack(sums).tolist()), strict=True)) if names else {}


@contextmanager
def perturbed(model: Any) -> Iterator[None]:
    """Within the block the model says something else entirely; afterwards it is what it was, to the bit.

    Weights change their sign, which needs no copy; an adapter, zero at first, is set to random numbers.
    """
    if has_adapter(model):
        adapter = [p for p in model.parameters() if p.requires_grad]
        kept = [p.detach().clone() for p in adapter]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in adapter:
                p.copy_(torch.randn(p.shape, generator=generator) * p.shape[-1] ** -0.5)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, before in zip(adapter, kept, strict=True):
                    p.copy_(before)
        return
    _negate(model)
    try:
        yield
    finally:
        _negate(model)


@torch.no_grad()
def _negate(model: Any) -> None:
    for parameter in model.parameters():
        parameter.neg_()
