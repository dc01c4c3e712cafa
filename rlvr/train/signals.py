"""Signals become `Interrupted` at a place where the run can be saved.

The first SIGINT, SIGTERM or SIGHUP raises in the main thread at once, or at the end of a `deferred` block (an
optimizer step or a checkpoint is never cut in half).  The second one ends the process on the spot.  Both are
said: of several ranks by who started them (rlvr/launch.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rlvr.errors import Interrupted
from rlvr.launch import STOPPING, aloud, joined


class Signals:
    """Use as a context manager around the run; must be entered in the main thread."""

    def __init__(self) -> None:
        self.stopping = ""
        """Said at the first signal."""
        self.leaving = ""
        """Said at the second one."""
        self._before: dict[signal.Signals, Any] = {}
        self._received = False
        self._waiting: int | None = None
        self._depth = 0

    def __enter__(self) -> Signals:
        for number in STOPPING:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # under nohup the run outlives its terminal
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Finish the block before a signal is heard."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if self._depth == 0:
            self.hear()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Within a deferred block: hear a signal at once, also one that waits."""
        depth, self._depth = self._depth, 0
        try:
            self.hear()
            yield
        finally:
            self._depth = depth

    def hear(self) -> None:
        """Raise for a signal that waits."""
        if self._waiting is not None:
            number, self._waiting = self._waiting, None
            raise Interrupted(number)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._received:
            self._say(self.leaving)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._received = True
        self._say(self.stopping)
        if self._depth == 0:
            raise Interrupted(number)
        self._waiting = number

    def _say(self, words: str) -> None:
        if words and not joined():
            aloud(words)
