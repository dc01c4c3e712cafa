"""What a metric means, in words: one metric, a room of them, or the whole register as docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.errors import RunError, near_miss
from rlvr.runs.metrics import METRICS, Metric, find

_BETTER = {"up": "up", "down": "down", "neither": "neither way by itself"}
_PAGE = """# Metrics

Every number that a run records. Written by `rlvr runs explain --markdown`: edit the register, not this page.
`rlvr/runs/metrics.py` has unit, meaning, good direction and alarm, `rlvr/runs/healthy.py` range and source.
`rlvr runs show` marks what lies outside its range; an alarm says what to try."""
_HEAD = "| metric | unit | meaning | better | healthy | alarm |"


def explain(name: str = "") -> str:
    """The metric called `name`, or one line a metric of the room `name`; ``""`` is the whole register.

    Raises RunError with the near miss where there is none.
    """
    room = name.strip().rstrip("/")
    listed = [row for row in METRICS.values() if not room or row.name.startswith(f"{room}/")]
    if listed:
        width = max(len(row.name) for row in listed)
        return "\n".join(f"{row.name:<{width}}  {row.meaning}" for row in listed)
    found = find(room)
    if found is None:
        rooms = {row.name.partition("/")[0] for row in METRICS.values()}
        choices = METRICS if "/" in room else {**METRICS, **dict.fromkeys(rooms)}
        raise RunError(f"there is no metric `{room}`{near_miss(room, choices)}")
    return "\n".join(_lines(found, room))


def markdown() -> str:
    """The page docs/metrics.md."""
    parts = [_PAGE]
    for room in dict.fromkeys(row.name.partition("/")[0] for row in METRICS.values()):
        parts += [f"\n## {room}\n", _HEAD, "|---" * 6 + "|"]
        for row in METRICS.values():
            if row.name.startswith(f"{room}/"):
                cells = (f"`{row.name}`", row.unit, row.meaning, row.better, healthy(row), _fires(row))
                parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(parts)


def healthy(row: Metric) -> str:
    """`at most 0.05 (AReaL's documentation)`, or why there is no range."""
    return f"{row.healthy.range} ({row.healthy.source})" if row.healthy.range else row.healthy.source


def _lines(row: Metric, name: str) -> Iterator[str]:
    yield name
    yield f"  meaning  {row.meaning}"
    yield f"  unit     {row.unit}{' (0 to 1)' if row.unit == 'share' else ''}"
    yield f"  better   {_BETTER[row.better]}"
    yield f"  healthy  {healthy(row)}"
    yield f"  alarm    {_fires(row) or 'none'}"


def _fires(row: Metric) -> str:
    """When the alarm rings: the first line of its rule's docstring."""
    return "" if row.alarm is None else (row.alarm.__doc__ or "").strip().partition("\n")[0]
