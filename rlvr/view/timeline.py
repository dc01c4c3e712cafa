"""Where the time of the steps went: a table of all, and the shares of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from rlvr.runs.reader import Row
from rlvr.view import lines

AHEAD = "ahead_"
"""Begins the names of what passed beside the trainer, and is no part of its time."""
LEAST = 0.0005
"""Share of the time below which a phase is not shown."""
_TITLES = ("", "s a step", "share", "tokens/s", "MFU", "peak memory")


def timeline(train: Sequence[Row]) -> Table:
    """Phases by their time, the longest first, means over the steps; then the step, and what ran beside it.

    Rates and utilisation are those of all steps together; memory is the most of any.
    """
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in _TITLES:
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    spent = _spent(train)
    beside = {name: spent.pop(name) for name in list(spent) if name.startswith(AHEAD)}
    whole = spent.pop("step", 0.0) or sum(spent.values())
    for name, seconds in sorted(spent.items(), key=lambda item: -item[1]):
        if seconds >= LEAST * whole:
            table.add_row(*_cells(train, name, name, seconds, lines.fine_share(seconds / whole)))
    if whole:
        table.add_row(*_cells(train, "step", "step", whole, ""), style="bold")
    for name, seconds in beside.items():
        if seconds:
            table.add_row(
                *_cells(train, f"beside: {name.removeprefix(AHEAD)}", name, seconds, ""), style="dim"
            )
    return table


def shares(row: Row) -> str:
    """`update 61%  sample 30%  other 5%` of one step; empty where it does not say."""
    spent = {name: s for name, s in _spent([row]).items() if not name.startswith(AHEAD)}
    whole = spent.pop("step", 0.0)
    ranked = sorted(spent.items(), key=lambda item: -item[1])
    return "  ".join(f"{name} {lines.share(s / whole)}" for name, s in ranked if whole and s >= 0.01 * whole)


def _spent(train: Sequence[Row]) -> dict[str, float]:
    """Seconds by phase, over all steps."""
    spent: dict[str, float] = {}
    for row in train:
        for metric, value in row.metrics.items():
            room, _, name = metric.partition("/")
            if room == "time" and name.endswith("_s") and not name.endswith("_per_s"):
                spent[name.removesuffix("_s")] = spent.get(name.removesuffix("_s"), 0.0) + (value or 0.0)
    return spent


def _cells(train: Sequence[Row], label: str, name: str, seconds: float, share: str) -> list[Text]:
    speed = f"time/{name}_tokens_per_s"
    if name in ("sample", f"{AHEAD}sample"):
        speed = "rollout/tokens_per_s"
    clock = f"time/{name}_s"
    peaks = [p for row in train if (p := row.metrics.get(f"memory/{name}_bytes")) is not None]
    cells = [
        f"  {label}",
        f"{seconds / len(train):.3f}",
        share,
        _weighted(train, speed, clock, lambda v: lines.rate(v).removesuffix(" tok/s")),
        _weighted(train, f"time/{name}_mfu_share", clock, lines.fine_share),
        memory(max(peaks)) if peaks else "",
    ]
    return [Text(lines.printable(cell)) for cell in cells]


def _weighted(train: Sequence[Row], metric: str, clock: str, form: Callable[[float], str]) -> str:
    """The mean of a rate over the time it was measured in."""
    known = [
        (value, row.metrics.get(clock) or 0.0)
        for row in train
        if (value := row.metrics.get(metric)) is not None
    ]
    seconds = sum(s for _, s in known)
    return form(sum(value * s for value, s in known) / seconds) if seconds else ""


def memory(count: float) -> str:
    """`1.2 GiB`, `340 MiB`."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
