"""A second verifier's opinion on a sample of completions: it trains nothing, and tells reward from merit.

Its checks run in workers of their own, beside the sampling and the update: no check that trains waits for
them.  A step's are collected at its end, so that they belong to its record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from hashlib import blake2b

from rlvr.types import Group, ScoredGroup, Verdict
from rlvr.verify.pool import Pool

Progress = Callable[[str, int, int], None]


class Auditor:
    """Has a share of the completions checked by the one verifier of its pool."""

    def __init__(self, pool: Pool, share: float) -> None:
        self._pool = pool
        self._share = share
        self._begun: dict[int, tuple[Group, list[Future[Verdict] | None]]] = {}

    def start(self, group: Group, seed: int) -> None:
        """Begin to check its sample of the group; the seed says which, and completion i gets seed + i."""
        futures = [
            self._pool.submit(0, group.problem, completion.text, seed + i)
            if is_drawn(seed, i, self._share)
            else None
            for i, completion in enumerate(group.completions)
        ]
        self._begun[id(group)] = (group, futures)

    def finish(self, scored: Sequence[ScoredGroup], progress: Progress) -> list[ScoredGroup]:
        """The groups with what the audit says of each, waited for; those not begun are left as they are."""
        done = []
        for count, one in enumerate(scored):
            progress("audit", count, len(scored))
            _, futures = self._begun.pop(id(one.group), (one.group, []))
            done.append(replace(one, audits=tuple(None if f is None else f.result() for f in futures)))
        return done


def is_drawn(seed: int, sibling: int, share: float) -> bool:
    """Whether a completion is in the sample: a hash of the two numbers, as uniform as a draw."""
    words = seed.to_bytes(8, "little") + sibling.to_bytes(8, "little") + b"audit"
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little") < share * 2**64
