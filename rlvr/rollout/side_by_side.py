"""Generators in threads of their own, for CPUs: small matrix products do not thread, whole sequences do.

torch lets go of Python's lock in every operation, so that threads compute at the same time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias, TypeVar

import torch

T = TypeVar("T")
Part: TypeAlias = Callable[[threading.Event], Iterator[T]]
"""Makes a generator that ends soon once the event is set."""


def side_by_side(parts: Sequence[Part[T]]) -> Iterator[T]:
    """Yield what the parts yield, as it comes; torch's CPU threads are shared out among them.

    The first error ends all parts and is raised here; when it returns, or is closed, no thread is left.
    """
    threads = torch.get_num_threads()
    stop = threading.Event()
    said: queue.SimpleQueue[list[T] | BaseException | None] = queue.SimpleQueue()

    def run(part: Part[T]) -> None:
        torch.set_num_threads(max(1, threads // len(parts)))
        try:
            for one in part(stop):
                said.put([one])
            said.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            said.put(error)

    workers = [threading.Thread(target=run, args=(part,), daemon=True) for part in parts]
    try:
        for worker in workers:
            worker.start()
        running = len(parts)
        while running:
            heard = said.get()
            if isinstance(heard, BaseException):
                raise heard
            if heard is None:
                running -= 1
            else:
                yield heard[0]
    finally:
        stop.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
        torch.set_num_threads(threads)  # the workers' own number is what new threads would begin with
