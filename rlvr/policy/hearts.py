"""Who notices that a rank is lost: each tells the others, by a thread, that it lives and where it is.

A process that is killed or stopped falls silent; one that hangs does not, but it waits for nobody while the
others wait for it.  Nothing here depends on clocks of different machines agreeing, and a rank counts no time
in which it stood still itself: it heard nobody then, which says nothing of them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from torch.distributed import Store  # type: ignore[attr-defined]  # made in C

BEAT_S = 0.5
"""Between two signs of life."""
SILENCE_S = 4.0
"""A rank that was silent for so long is the lost one, where a connection broke."""
ENDING_S = 10.0
"""Longest wait for the record of a run's end: its file system may be beyond the network that is cut."""
LOST = 5
"""Exit code, that of `RankError`."""
OWN = str(Path(__file__).parents[1])


@dataclass(slots=True)
class Heart:
    """One rank as this one knows it."""

    said: bytes = b"{}"
    """Its newest sign of life: host, process, what it does, where, and whether it waits for others."""
    heard: float = 0.0
    """When that came, in seconds of this process's life."""


class Hearts:
    """Tells the others that this rank lives, and ends this process when one of them is silent too long."""

    def __init__(self, store: Store, *, rank: int, count: int, deadline_s: float, place: str) -> None:
        """`store` belongs to this object alone; `place` is its address, for people."""
        self.doing: Callable[[], str] = lambda: "start"
        """Asked what this rank does."""
        self.ending: Callable[[str], None] = lambda words: None
        """Told why the run ends, on the rank that speaks for all, before the process does."""
        self._store, self._rank, self._deadline_s, self._place = store, rank, deadline_s, place
        self._hearts = {other: Heart() for other in range(count)}
        self._lived = self._reached = self._still = 0.0
        self._main = threading.main_thread().ident or 0
        self._is_over = threading.Event()

    def start(self) -> None:
        """Begin; from now on silence is death."""
        self._store.set(self._key(self._rank), self._sign(0))
        for work in (self._beat, self._judge):
            threading.Thread(target=work, daemon=True, name=f"rlvr {work.__name__}").start()

    def stop(self) -> None:
        """This rank is about to end, and so are the others; safe to call twice."""
        self._is_over.set()

    def lost(self) -> tuple[list[int], str]:
        """After a connection broke or timed out: which ranks are lost, and words for it; none where all live.

        Takes a few seconds: the living must have had time to say so.
        """
        for _ in range(round(4 * SILENCE_S / BEAT_S)):
            if self.is_cut_off:
                return [rank for rank in self._hearts if rank != self._rank], self._cut_off()
            if silent := self._silent(SILENCE_S):
                return silent, "; ".join([*(self._words(rank, "is gone") for rank in silent), *self._stop()])
            time.sleep(BEAT_S / 2)
        busy = [rank for rank in self._hearts if rank != self._rank and not self._said(rank).get("waits")]
        return busy, "; ".join(
            [*(self._words(rank, "keeps the others waiting") for rank in busy), *self._stop()]
        )

    @property
    def is_cut_off(self) -> bool:
        """Whether this rank is the one that is lost: it does not reach what all of them meet at."""
        return self._lived - self._reached > SILENCE_S

    @property
    def may_record(self) -> bool:
        """Whether this rank may write how the run ended: one that is cut off knows nothing of the others."""
        return self._rank == 0 or not self.is_cut_off

    def _cut_off(self) -> str:
        return (
            f"rank {self._rank} on {socket.gethostname()} has not reached the other ranks for "
            f"{self._lived - self._reached:.0f} s: the network to {self._place} is cut, or what runs "
            "there has stopped"
        )

    def _stop(self) -> list[str]:
        """Words for the time in which this process stood still, where that was long."""
        if self._still < SILENCE_S:
            return []
        return [
            f"rank {self._rank} on {socket.gethostname()} itself stood still for {self._still:.0f} s (it was "
            "stopped, or its machine busy): the others may have taken it for lost"
        ]

    def speaker(self, lost: list[int]) -> int:
        """The rank that speaks for all but the lost."""
        return min(rank for rank in self._hearts if rank not in lost)

    def _silent(self, seconds: float) -> list[int]:
        return [r for r, h in self._hearts.items() if r != self._rank and self._lived - h.heard > seconds]

    def _said(self, rank: int) -> dict[str, object]:
        said: dict[str, object] = json.loads(self._hearts[rank].said)
        return said

    def _words(self, rank: int, what: str) -> str:
        said, silent = self._said(rank), self._lived - self._hearts[rank].heard
        who = f"rank {rank} on {said.get('host', 'an unknown host')} (process {said.get('pid', '?')})"
        quiet = f", silent for {silent:.0f} s" if silent > SILENCE_S else ""
        return f"{who} {what}{quiet}: it was in `{said.get('doing', '?')}`, at {said.get('at', '?')}"

    def _sign(self, number: int) -> str:
        frames = sys._current_frames()
        stack = list(_files(frames.get(self._main)))
        at = next(
            (f"rlvr{name.removeprefix(OWN)}:{line}" for name, line in stack if name.startswith(OWN)), ""
        )
        if at.startswith("rlvr/train/feed.py"):  # for what another thread draws, which may wait itself
            stack = [place for frame in frames.values() for place in _files(frame)]
        asks = any(name == __file__ for name, _ in _files(frames.get(self._main)))  # who is lost
        waits = asks or any("torch/distributed" in name for name, _ in stack)
        said = {"number": number, "host": socket.gethostname(), "pid": os.getpid(), "doing": self.doing()}
        return json.dumps({**said, "at": at, "waits": waits})

    def _key(self, rank: int) -> str:
        return f"rlvr-heart-{rank}"

    def _beat(self) -> None:
        number = 0
        keys = [self._key(rank) for rank in self._hearts]
        while not self._is_over.wait(BEAT_S):
            number += 1
            try:
                self._store.set(self._key(self._rank), self._sign(number))
                found = self._store.multi_get(keys)
            except RuntimeError:  # its host is gone: `_judge` sees to it
                continue
            now = self._reached = self._lived
            for heart, said in zip(self._hearts.values(), found, strict=True):
                if said != heart.said:
                    heart.said, heart.heard = said, now

    def _judge(self) -> None:
        begun = time.monotonic()
        while not self._is_over.wait(BEAT_S):
            passed, begun = time.monotonic() - begun, time.monotonic()
            self._lived += min(passed, 2 * BEAT_S)
            self._still = max(self._still, passed)
            if self._lived - self._reached > self._deadline_s:
                self._end(self._cut_off(), self._rank)
            elif silent := self._silent(self._deadline_s):
                words = "; ".join(self._words(rank, "is lost") for rank in silent)
                self._end(words, self.speaker(silent))

    def _end(self, words: str, speaker: int) -> None:
        """The main thread may wait in a library for ever, so the process ends here."""
        if self._rank == speaker:
            teller = threading.Thread(target=self.ending, args=(words,), daemon=True)
            teller.start()
            teller.join(ENDING_S)
        else:
            time.sleep(2 * BEAT_S)
        if not self._is_over.is_set():
            os._exit(LOST)


def _files(frame: FrameType | None) -> Iterator[tuple[str, int]]:
    """File and line of a frame and of those that called it."""
    while frame is not None:
        yield frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
