"""What hands the trainer its groups: the stream itself, in turns, or a thread that runs it ahead.

With `max_lag` L it is at most L weight versions ahead of the trainer; with 0 the two take turns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rlvr.train.memory import BLANK, Memory
from rlvr.train.stream import Progress, Stream, Taken


class Feed:
    """Hands the trainer its groups, step by step.

    With `max_lag` L, the groups of step s are asked for once version s - L is published, and tokens drawn
    later come from newer ones: no completion that is trained on is older than L versions.  What was sampled
    ahead is not saved: a run that goes on asks those problems again, each for the step it belongs to.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        count: int,
        step: int,
        last: int,
        cursor: int,
        max_lag: int,
        memory: Memory = BLANK,
    ) -> None:
        """Steps `step` to `last` - 1, `count` groups each, from problem `cursor` on; `step` is published."""
        self._stream, self._count, self._last, self._max_lag = stream, count, last, max_lag
        self._published = step
        self._news = threading.Condition()
        self._is_closed = self._is_idle = False
        self._progress: tuple[str, int, int] = ("sample", 0, count)
        self._ready: queue.SimpleQueue[Taken | BaseException] = queue.SimpleQueue()
        if max_lag:
            threading.Thread(target=self._run, args=(step, cursor, memory), daemon=True).start()

    def take(self, step: int, cursor: int, progress: Progress, memory: Memory = BLANK) -> Taken:
        """The groups of `step`, from problem `cursor` on, with what was known of the problems by then."""
        if not self._max_lag:
            return self._stream.take(self._count, step, cursor, progress, memory)
        while True:
            progress(*self._progress)
            try:
                taken = self._ready.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(taken, BaseException):
                raise taken
            return taken

    def publish(self, version: int) -> None:
        """The engine samples with weights `version` from now on."""
        with self._news:
            self._published = version
            self._news.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The engine is the caller's within the block, who publishes nothing in it.

        It begins when all is sampled that may be, so that ranks which share the sampling stop at one place.
        """
        with self._news:
            while self._max_lag and not self._is_idle:
                self._news.wait()
        yield

    def close(self) -> None:
        """Begin nothing more."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _run(self, step: int, cursor: int, memory: Memory) -> None:
        try:
            for ahead in range(step, self._last):
                with self._news:
                    while not self._may_begin(ahead):
                        self._rest(True)
                        self._news.wait()
                    self._rest(False)
                    if self._is_closed:
                        return
                taken = self._stream.take(self._count, ahead, cursor, self._note, memory)
                cursor, memory = taken.cursor, taken.memory
                self._ready.put(taken)
        except BaseException as error:  # noqa: BLE001 - handed to the trainer's thread
            self._ready.put(error)
        finally:
            with self._news:
                self._rest(True)

    def _rest(self, is_idle: bool) -> None:
        if is_idle != self._is_idle:
            self._is_idle = is_idle
            self._news.notify_all()

    def _may_begin(self, step: int) -> bool:
        return self._is_closed or self._published >= step - self._max_lag

    def _note(self, phase: str, done: int, total: int) -> None:
        self._progress = (phase, done, total)
