"""Prompts on their way into one forward pass: which need not be run, and the others side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def held(batch: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """Which request's prompt holds each request's prompt: a longer one that begins with it, or its own."""
    found: dict[int, int] = {}
    longest: tuple[int, ...] = ()
    holder = -1
    # In falling order all that begin with a prompt stand right before it.
    for prompt, index in sorted(zip(prompts, batch, strict=True), reverse=True):
        if len(prompt) >= len(longest) or longest[: len(prompt)] != prompt:
            longest, holder = prompt, index
        found[index] = holder
    return found


def left_pad(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, int64 [P, T]: the last column holds the last token of every prompt."""
    longest = max(len(p) for p in prompts)
    ids = np.full((len(prompts), longest), pad_id, np.int64)
    mask = np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
