"""Who notices that a rank is lost: each tells the others, by a thread, that it lives and where it is.

A process that is killed or stopped falls silent; one that hangs does not, but it waits for nobody while the
others wait for it.  Nothing here depends on clocks of different machines agreeing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch.distributed import Store  # type: ignore[attr-defined]  # made in C

BEAT_S = 0.5
"""Between two signs of life."""
SILENCE_S = 4.0
"""A rank that was silent for so long is the lost one, where a connection broke."""
LOST = 5
"""Exit code, that of `RankError`."""
OWN = str(Path(__file__).parents[1])


@dataclass(slots=True)
class Heart:
    """One rank as this one knows it."""

    said: bytes = b"{}"
    """Its newest sign of life: host, process, what it does, where, and whether it waits for others."""
    heard: float = 0.0
    """When that came, by this machine's clock."""


class Hearts:
    """Tells the others that this rank lives, and ends this process when one of them is silent too long."""

    def __init__(self, store: Store, *, rank: int, count: int, deadline_s: float, place: str) -> None:
        """`store` belongs to this object alone; `place` is its address, for people."""
        self.doing: Callable[[], str] = lambda: "start"
        """Asked what this rank does."""
        self.ending: Callable[[str], None] = lambda words: None
        """Told why the run ends, on the rank that speaks for all, before the process does."""
        self._store, self._rank, self._deadline_s, self._place = store, rank, deadline_s, place
        self._hearts = {other: Heart(heard=time.monotonic()) for other in range(count)}
        self._reached = time.monotonic()
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
        until = time.monotonic() + 2 * SILENCE_S
        while time.monotonic() < until:
            if self.is_cut_off:
                return [rank for rank in self._hearts if rank != self._rank], self._cut_off()
            if silent := self._silent(SILENCE_S):
                return silent, "; ".join(self._words(rank, "is gone") for rank in silent)
            time.sleep(BEAT_S / 2)
        busy = [rank for rank in self._hearts if rank != self._rank and not self._said(rank).get("waits")]
        return busy, "; ".join(self._words(rank, "keeps the others waiting") for rank in busy)

    @property
    def is_cut_off(self) -> bool:
        """Whether this rank is the one that is lost: it does not reach what all of them meet at."""
        return time.monotonic() - self._reached > SILENCE_S

    @property
    def may_record(self) -> bool:
        """Whether this rank may write how the run ended: one that is cut off knows nothing of the others."""
        return self._rank == 0 or not self.is_cut_off

    def _cut_off(self) -> str:
        return (
            f"rank {self._rank} on {socket.gethostname()} has not reached the other ranks for "
            f"{time.monotonic() - self._reached:.0f} s: the network to {self._place} is cut, or what runs "
            "there has stopped"
        )

    def speaker(self, lost: list[int]) -> int:
        """The rank that speaks for all but the lost."""
        return min(rank for rank in self._hearts if rank not in lost)

    def _silent(self, seconds: float) -> list[int]:
        now = time.monotonic()
        return [r for r, h in self._hearts.items() if r != self._rank and now - h.heard > seconds]

    def _said(self, rank: int) -> dict[str, object]:
        said: dict[str, object] = json.loads(self._hearts[rank].said)
        return said

    def _words(self, rank: int, what: str) -> str:
        said, silent = self._said(rank), time.monotonic() - self._hearts[rank].heard
        who = f"rank {rank} on {said.get('host', 'an unknown host')} (process {said.get('pid', '?')})"
        quiet = f", silent for {silent:.0f} s" if silent > SILENCE_S else ""
        return f"{who} {what}{quiet}: it was in `{said.get('doing', '?')}`, at {said.get('at', '?')}"

    def _sign(self, number: int) -> str:
        frame, at, waits = sys._current_frames().get(self._main), "", False
        while frame is not None:
            name = frame.f_code.co_filename
            waits = waits or "torch/distributed" in name or name == __file__  # it asks who is lost itself
            if not at and name.startswith(OWN):
                at = f"rlvr{name.removeprefix(OWN)}:{frame.f_lineno}"
            frame = frame.f_back
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
            now = self._reached = time.monotonic()
            for heart, said in zip(self._hearts.values(), found, strict=True):
                if said != heart.said:
                    heart.said, heart.heard = said, now

    def _judge(self) -> None:
        begun = time.monotonic()
        while not self._is_over.wait(BEAT_S):
            # While this process was stopped, or its machine busy, it heard nobody: that says nothing of them.
            stopped, begun = max(0.0, time.monotonic() - begun - 2 * BEAT_S), time.monotonic()
            self._reached += stopped
            for heart in self._hearts.values():
                heart.heard += stopped
            if time.monotonic() - self._reached > self._deadline_s:
                self._end(self._cut_off(), self._rank)
            elif silent := self._silent(self._deadline_s):
                words = "; ".join(self._words(rank, "is lost") for rank in silent)
                self._end(words, self.speaker(silent))

    def _end(self, words: str, speaker: int) -> None:
        """The main thread may wait in a library for ever, so the process ends here."""
        if self._rank == speaker:
            self.ending(words)
        else:
            time.sleep(2 * BEAT_S)
        if not self._is_over.is_set():
            os._exit(LOST)
