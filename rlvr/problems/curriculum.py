"""Which problems are asked: those that the policy sometimes solves; the others wait, and are revisited.

The walk over the source is the sampler's: an order an epoch.  A curriculum passes over what waits, but for a
stated share: the order is a function of (seed, cursor, rates), and the rates are all there is to save.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

DECAY = 0.5
"""Weight of what was known before, at each new visit."""
UNFIT, UNSEEN, ACTIVE, OUTSIDE, RETIRED = range(5)
"""How a problem stands: prompt too long; never asked; asked; out of the band; solved.  The last two wait."""

Wants: TypeAlias = Callable[[int, int], bool]
"""Whether the problem at a serial number of the walk, of an index in the source, is asked."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """How often each of N problems was solved, in completions of this run."""

    visits: NDArray[np.int32]
    """[N] groups seen; -1 where the prompt does not fit the context."""
    right: NDArray[np.float64]
    """[N] right completions, older visits decayed."""
    known: NDArray[np.float64]
    """[N] completions that could be checked, decayed likewise."""

    @classmethod
    def blank(cls, size: int) -> Rates:
        """Nothing seen yet."""
        return cls(visits=np.zeros(size, np.int32), right=np.zeros(size), known=np.zeros(size))

    @property
    def rate(self) -> NDArray[np.float64]:
        """[N] success rate in [0, 1]; NaN where nothing is known."""
        rate = np.full(len(self.known), np.nan)
        np.divide(self.right, self.known, out=rate, where=self.known > 0)
        return rate

    def after(self, seen: Iterable[tuple[int, int, int]], unfit: Iterable[int]) -> Rates:
        """With one more visit each of (index, right completions, known ones), in that order.

        A visit without a known completion is none; `unfit` are indices of problems whose prompt is too long.
        """
        visits, right, known = self.visits.copy(), self.right.copy(), self.known.copy()
        for index, solved, checked in seen:
            if checked:
                visits[index] += 1
                right[index] = DECAY * right[index] + solved
                known[index] = DECAY * known[index] + checked
        visits[list(unfit)] = -1
        return Rates(visits=visits, right=right, known=known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """What is asked, by its success rate."""

    low: float
    """Rates below are too hard for now."""
    high: float
    """Rates above teach little."""
    retire_at: float | None
    """Rates from here on are solved; None retires nothing."""
    revisit: float
    """Share of the problems asked, in expectation and at most, that come from those that wait."""
    visits: int
    """Visits before a problem is judged."""

    def standing(self, rates: Rates) -> NDArray[np.int8]:
        """[N] one of `UNFIT`, `UNSEEN`, `ACTIVE`, `OUTSIDE`, `RETIRED` a problem."""
        rate, judged = rates.rate, rates.visits >= self.visits
        standing = np.where(rates.visits == 0, UNSEEN, ACTIVE)
        standing[judged & ((rate < self.low) | (rate > self.high))] = OUTSIDE
        if self.retire_at is not None:
            standing[judged & (rate >= self.retire_at)] = RETIRED
        standing[rates.visits < 0] = UNFIT
        return standing.astype(np.int8)

    def wants(self, seed: int, rates: Rates) -> Wants:
        """Which problems are asked while the rates are these.

        All that are unseen or active, once an epoch; of those that wait each with the chance that makes them
        `revisit` of what is asked in an epoch, once an epoch at most; where nothing is active, all that wait.
        """
        standing = self.standing(rates)
        active = int(np.isin(standing, (UNSEEN, ACTIVE)).sum())
        waiting = int((standing >= OUTSIDE).sum())
        chance = self.revisit * active / ((1 - self.revisit) * max(waiting, 1)) if active else 1.0

        def wants(serial: int, index: int) -> bool:
            if standing[index] < OUTSIDE:
                return bool(standing[index] != UNFIT)
            return _uniform(seed, serial) < chance

        return wants

    def counts(self, rates: Rates) -> dict[str, float]:
        """How many problems stand how, and the mean rate of those seen, as metrics."""
        standing, rate = self.standing(rates), rates.rate
        names = {"unseen": UNSEEN, "active": ACTIVE, "outside": OUTSIDE, "retired": RETIRED}
        found = {f"problems/{name}": float((standing == code).sum()) for name, code in names.items()}
        seen = ~np.isnan(rate)
        return found | {"problems/rate_mean": float(rate[seen].mean()) if seen.any() else float("nan")}


def _uniform(seed: int, serial: int) -> float:
    """In [0, 1), a function of the two."""
    digest = blake2b(f"revisit {seed} {serial}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64
