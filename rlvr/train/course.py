"""The course of a run: its entropy and pivot words beside its start, and whether the entropy guard is armed.

All of it is a function of the numbers recorded so far: a run that is taken up replays its own rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite

from rlvr.runs.alarms import SOLVED, Values, fed, starving

START_STEPS, START_LIMIT = 3, 10
"""The start is the mean of the first so many steps; of more where words are few, up to the limit."""
START_WORDS = 50
"""Pivot words below which the start says too little to compare with."""
SMOOTHING = 0.8
"""Weight of the past in the smoothed value."""
TREND_STEPS, TREND_LEAST = 20, 5
"""Steps that a slope is fitted to, and the fewest that make one."""


@dataclass(slots=True)
class Line:
    """One number over the steps."""

    start: float | None = None
    """Its mean over the first steps; None before they are over."""
    smooth: float = 0.0
    """Running mean since then."""
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=TREND_STEPS))
    """Newest values."""
    first: list[float] = field(default_factory=list)
    """Values of the start, while it lasts."""

    def follow(self, value: float, *, enough: bool = True) -> None:
        """Take in the next value; the start lasts until there is `enough` of it."""
        self.recent.append(value)
        if self.start is not None:
            self.smooth = SMOOTHING * self.smooth + (1 - SMOOTHING) * value
        elif len(self.first) < START_LIMIT:
            self.first.append(value)
            if len(self.first) >= START_STEPS and enough:
                self.start = self.smooth = sum(self.first) / len(self.first)

    @property
    def ratio(self) -> float | None:
        """The smoothed value over the start; None before there is one, or where it is 0."""
        return self.smooth / self.start if self.start else None

    @property
    def is_below(self) -> bool:
        """Whether the newest value is below the start."""
        return self.start is not None and self.recent[-1] < self.start

    @property
    def slope(self) -> float | None:
        """Change a step, by least squares over the newest values; None while they are few."""
        count = len(self.recent)
        if count < TREND_LEAST:
            return None
        middle, mean = (count - 1) / 2, sum(self.recent) / count
        across = sum((x - middle) * (y - mean) for x, y in enumerate(self.recent))
        return across / sum((x - middle) ** 2 for x in range(count))


class Course:
    """Follows a run's rows; `armed` is for the step that comes next."""

    def __init__(self, rows: Iterable[Values], when: str) -> None:
        """`rows`: those of the finished steps, in order; `when`: `algorithm.entropy_when`."""
        self._when = when
        self._words = 0.0
        self._entropy, self._pivots, self._reward = Line(), Line(), Line()
        self.armed = when == "always"
        for row in rows:
            self.follow(row)

    def follow(self, row: Values) -> dict[str, float]:
        """Take in the numbers of the next finished step; returns what they are beside the start."""
        if (entropy := _finite(row, "policy/entropy_nats")) is not None:
            self._entropy.follow(entropy)
        if (reward := _finite(row, "reward/mean")) is not None:
            self._reward.follow(reward)
        if (rate := _finite(row, "pivot/rate")) is not None:
            self._words += _finite(row, "pivot/words") or 0.0
            self._pivots.follow(rate, enough=self._words >= START_WORDS)
        found = {
            "policy/entropy_vs_start": self._entropy.ratio,
            "policy/entropy_slope_nats": self._entropy.slope,
            "pivot/rate_vs_start": self._pivots.ratio,
            "reward/slope": self._reward.slope,
        }
        beside = {name: value for name, value in found.items() if value is not None}
        seen = {**row, **beside}
        if self._when == "alarm":
            self.armed = not fed(seen) if self.armed else starving(seen) is not None
        elif self._when == "below_start":
            is_solved = (_finite(row, "verify/right_share") or 0.0) >= SOLVED
            self.armed = not is_solved and (self._pivots.is_below or starving(seen) is not None)
        return beside


def _finite(row: Values, name: str) -> float | None:
    value = row.get(name)
    return value if value is not None and isfinite(value) else None
