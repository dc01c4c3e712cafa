"""A static key/value cache with one slot a sequence; each slot has its own length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Which keys and values of a prefill some slots begin with."""

    row: int
    """Of the prefill."""
    begin: int
    """Its first column."""
    length: int
    """Columns, in tokens."""
    slots: int
    """Copies."""


class SlotCache:
    """What a transformers model sees as its `past_key_values` while the hf engine decodes.

    Keys and values are [layers][slots, kv heads, length, head width], made when the first prompts arrive.
    """

    def __init__(self, slots: int, length: int) -> None:
        self.slots = slots
        self.length = length
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._rows = torch.empty(0, dtype=torch.int64)
        self._position = torch.empty(0, dtype=torch.int64)
        self._used = 0
        self.mask = torch.empty(0)

    def adopt(self, prefilled: Any, spans: Sequence[Span], start: int) -> None:
        """Copy spans of prompt keys and values [P, H, T, D] to slots from `start` on."""
        for index, layer in enumerate(prefilled.layers):
            if index == len(self._layers):
                self._layers.append((self._room(layer.keys), self._room(layer.values)))
            for room, new in zip(self._layers[index], (layer.keys, layer.values), strict=True):
                row = start
                for span in spans:
                    last = span.begin + span.length
                    room[row : row + span.slots, :, : span.length] = new[span.row, :, span.begin : last]
                    row += span.slots

    def _room(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros((self.slots, like.shape[1], self.length, like.shape[3]))

    def grow(self, slots: int, length: int) -> None:
        """Make room for more or longer sequences; what is held stays."""
        old, (before, reach) = self._layers, (self.slots, self.length)
        self.slots, self.length, self._layers = max(slots, before), max(length, reach), []
        for pair in old:
            rooms = (self._room(pair[0]), self._room(pair[1]))
            for room, held in zip(rooms, pair, strict=True):
                room[:before, :, :reach] = held
            self._layers.append(rooms)

    def begin_step(self, position: torch.Tensor, used: int) -> None:
        """The next forward pass writes one token a slot at `position` [n]; no slot is longer than `used`."""
        n = len(position)
        self._rows = torch.arange(n, device=position.device)
        self._position = position
        self._used = used
        allowed = torch.arange(used, device=position.device)[None] <= position[:, None]
        floor = torch.finfo(self._layers[0][0].dtype).min
        self.mask = torch.zeros(n, 1, 1, used, dtype=self._layers[0][0].dtype, device=position.device)
        self.mask.masked_fill_(~allowed[:, None, None], floor)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Called by each attention layer with [n, H, 1, D]; returns all keys and values, [n, H, used, D]."""
        n = len(self._rows)
        all_keys, all_values = self._layers[layer_idx]
        all_keys[self._rows, :, self._position] = keys[:, :, 0]
        all_values[self._rows, :, self._position] = values[:, :, 0]
        return all_keys[:n, :, : self._used], all_values[:n, :, : self._used]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens already cached in the longest slot."""
        return self._used - 1

    def move(self, sources: np.ndarray, targets: np.ndarray) -> None:
        """Copy slots over finished ones."""
        if not len(sources):
            return
        device = self._layers[0][0].device
        source, target = torch.from_numpy(sources).to(device), torch.from_numpy(targets).to(device)
        for keys, values in self._layers:
            keys[target] = keys[source]
            values[target] = values[source]
