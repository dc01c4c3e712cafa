"""Where the time of a step goes: phases of one timeline that add up, and the peak of memory in each.

A phase within a phase interrupts it.  What no phase claims is `other`, so the phases of a lap are its length.
Phases also mark a torch profile (`scripts/profile_step`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch
from torch.profiler import record_function

PHASES = (
    "sample", "verify", "credit", "wait", "logprobs", "update", "sync", "audit", "eval", "save", "other",
)  # fmt: skip
"""What a step's time is split into."""


class Meter(Protocol):
    """Measures memory at the border of two phases."""

    def turn(self) -> int:
        """Bytes at most since the last call."""
        ...


class GpuMeter:
    """Memory that torch gave to tensors on a GPU.  Waits for the work under way: it belongs to its phase."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def turn(self) -> int:
        """See `Meter`."""
        torch.cuda.synchronize(self._device)
        peak: int = torch.cuda.max_memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return peak


class ProcessMeter:
    """Resident memory of this process, not of its verifiers' and engines'; Linux only (OSError elsewhere)."""

    _STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self) -> None:
        self.turn()

    def turn(self) -> int:
        """See `Meter`."""
        lines = self._STATUS.read_text().splitlines()
        peak = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
        if peak is None:
            raise OSError(f"{self._STATUS} has no VmHWM")
        self._RESET.write_text("5")
        return int(peak) * 1024


def meter_of(device: torch.device, notes: list[str]) -> Meter | None:
    """Of the memory that a model on `device` fills; None, with a note, where the system does not tell."""
    try:
        return GpuMeter(device) if device.type == "cuda" else ProcessMeter()
    except OSError as trouble:
        notes.append(f"memory/* is left out: the peak of a phase cannot be measured here ({trouble})")
        return None


@dataclass(slots=True)
class Lap:
    """What passed between two laps of a clock."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By phase; they add up to the lap's length."""
    peaks: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Bytes at most, by phase; empty without a meter."""
    tokens: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Completion tokens that a model read, by phase, as often as it did."""


class Clock:
    """A timeline of one thread."""

    def __init__(self, meter: Meter | None = None) -> None:
        """It runs from now on; `meter` measures memory."""
        self.meter = meter
        self._stack = ["other"]
        self._lap = Lap()
        self._since = perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The block's time is that of phase `name`, one of PHASES."""
        assert name in PHASES, name
        self._turn()
        self._stack.append(name)
        try:
            with record_function(f"rlvr: {name}"):
                yield
        finally:
            self._turn()
            self._stack.pop()

    def count(self, tokens: int) -> None:
        """A model has read so many completion tokens in this phase."""
        self._lap.tokens[self._stack[-1]] += tokens

    def lap(self) -> Lap:
        """What has passed since the last lap; the next one begins."""
        self._turn()
        ended, self._lap = self._lap, Lap()
        return ended

    def split(self, inner: Lap) -> None:
        """Take over from another clock what passed in the present phase, under its own names."""
        self._turn()
        self._lap.seconds[self._stack[-1]] -= sum(inner.seconds.values())
        for name, seconds in inner.seconds.items():
            self._lap.seconds[name] += seconds
        for name, peak in inner.peaks.items():
            self._lap.peaks[name] = max(self._lap.peaks[name], peak)
        for name, tokens in inner.tokens.items():
            self._lap.tokens[name] += tokens

    def _turn(self) -> None:
        """Charge what has passed to the present phase."""
        name = self._stack[-1]
        if self.meter is not None:
            self._lap.peaks[name] = max(self._lap.peaks[name], self.meter.turn())
        now = perf_counter()
        self._lap.seconds[name] += now - self._since
        self._since = now
