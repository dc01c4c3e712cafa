"""The order of problems and the seeds of completions: functions of (seed, place), no state but a cursor."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from rlvr.problems.curriculum import Wants
from rlvr.problems.sources import Source
from rlvr.types import Problem

MASK = 2**64 - 1


class Sampler:
    """Walks a source for ever, each epoch in its own order; `cursor` is the whole state."""

    def __init__(self, source: Source, seed: int, cursor: int = 0) -> None:
        self.source = source
        self.seed = seed
        self.cursor = cursor
        """Problems handed out so far: the serial number of the next one."""

    def take(self, n: int, wants: Wants | None = None) -> list[tuple[int, Problem]]:
        """The next `n` problems, each with its serial number (its place in the whole walk, from 0).

        `wants` passes over the others: it must want some problem of each epoch.
        """
        taken: list[tuple[int, Problem]] = []
        while len(taken) < n:
            serial, self.cursor = self.cursor, self.cursor + 1
            index = self.index(serial)
            if wants is None or wants(serial, index):
                taken.append((serial, self.source[index]))
        return taken

    def index(self, serial: int) -> int:
        """Which problem of the source stands at a place of the walk."""
        size = self.source.size
        if size is None:
            return serial
        epoch, place = divmod(serial, size)
        return int(permutation(self.seed, epoch, size)[place])


@lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """The order of `size` problems in an epoch.

    Sorted by raw Philox words: numpy keeps that stream stable between versions, `Generator.permutation` not.
    """
    words = np.random.Philox(key=np.array([seed & MASK, epoch], dtype=np.uint64)).random_raw(size)
    order = np.argsort(words, kind="stable").astype(np.int64)
    order.flags.writeable = False
    return order


def completion_seed(run_seed: int, step: int, serial: int, sibling: int) -> int:
    """The 64-bit seed of one completion: blake2b over the four numbers (each mod 2**64, little endian)."""
    return _hashed(run_seed, step, serial, sibling)


def continuation_seed(run_seed: int, step: int, place: int, sibling: int, tokens: int, number: int) -> int:
    """The same of continuation `number` from `tokens` tokens into a sibling of the step's group `place`."""
    return _hashed(run_seed, step, place, sibling, tokens, number)


def _hashed(*numbers: int) -> int:
    words = b"".join((number & MASK).to_bytes(8, "little") for number in numbers)
    return int.from_bytes(blake2b(words, digest_size=8).digest(), "little")
