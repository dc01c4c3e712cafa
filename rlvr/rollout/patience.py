"""Waiting with a deadline for code that runs in this very thread.

A timer's signal interrupts the main thread: first to tell what is waited for, at last to end the wait.  Code
that holds the thread in C, where no signal is heard, is ended with the process by a watchdog that needs no
thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rlvr.rollout.engine import Tell

FIRST_WORD_S = 5.0
"""A wait is told when it has lasted so long."""
LAST_RESORT = 2.0
"""The process ends at so many times the deadline."""


class HungError(Exception):
    """The deadline passed without a sign of life."""


class Watched:
    """Marks the code that is waited for: `with watched: engine.step()`."""

    def __init__(self, deadline_s: float) -> None:
        self.since: float | None = None
        """When the code that runs now began; None while the caller's own runs."""
        self._deadline_s = deadline_s

    def __enter__(self) -> None:
        self.since = time.monotonic()
        faulthandler.dump_traceback_later(LAST_RESORT * self._deadline_s, exit=True, file=2)

    def __exit__(self, *_: object) -> None:
        self.since = None
        faulthandler.cancel_dump_traceback_later()


@contextmanager
def patience(what: str, deadline_s: float, tell: Tell) -> Iterator[Watched]:
    """Raise HungError when watched code takes longer than `deadline_s`, and tell before.

    Only the main thread can be interrupted; elsewhere the last resort alone is at work.
    """
    watched = Watched(deadline_s)
    if threading.current_thread() is not threading.main_thread():
        try:
            yield watched
        finally:
            faulthandler.cancel_dump_traceback_later()
        return

    def on_alarm(_: int, __: FrameType | None) -> None:
        silent = time.monotonic() - watched.since if watched.since is not None else 0.0
        if silent >= deadline_s:
            raise HungError(f"{what}: no sign of life for {silent:.3g} s")
        if silent >= min(FIRST_WORD_S, deadline_s / 2):
            tell(f"waiting for vllm, {what}: no sign of life (deadline {deadline_s:g} s)")

    tick = min(1.0, deadline_s / 4)
    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, tick, tick)
    try:
        yield watched
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(ValueError):  # where a forgotten generator ends in another thread
            signal.signal(signal.SIGALRM, before)
