"""The protocol of rollout engines: requests in, groups out as they finish, weights in by version."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

from rlvr.types import Group, Request, Sampling

logger = logging.getLogger(__name__)

Decode: TypeAlias = Callable[[Sequence[Sequence[int]]], list[str]]
"""Token ids to texts."""


class Tell(Protocol):
    """Hears what an engine waits for; what is `lasting` (a restart, a fallback) belongs into the record."""

    def __call__(self, words: str, *, lasting: bool = False) -> None:
        """Say `words` to whoever watches."""
        ...


def log(words: str, *, lasting: bool = False) -> None:
    """Tell the log, for engines that nobody watches."""
    logger.log(logging.WARNING if lasting else logging.INFO, "%s", words)


Inbox: TypeAlias = deque[tuple[int, Request]]
"""Requests that an engine has not taken up yet, each under a number of its own."""


class Engine(Protocol):
    """Draws completions with the newest weights it was given."""

    name: str
    """`hf`, `vllm_local`, `vllm_server`."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield `(index of the request, its group)` as soon as the whole group has finished, in any order.

        A completion depends on its prompt, its seed, the weights and `sampling`, not on its neighbours in the
        batch (up to the rounding of the matrix products).  Raises EngineError when it cannot be drawn.
        """
        ...

    def load_weights(self, model: Any, version: int) -> None:
        """Sample from `model`'s weights from now on and stamp completions with `version`.

        Raises EngineError when the engine did not take them; it then samples nothing more.
        """
        ...

    def rest(self) -> None:
        """Leave the device to the trainer until the next `load_weights`."""
        ...

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""
        ...


class Elsewhere:
    """An engine that another rank has: it draws nothing here."""

    name = "vllm_server"

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Nothing, since nothing may be asked."""
        assert not requests, "the rank that has the engine asks it"
        return iter(())

    def flow(self, inbox: Inbox, sampling: Sampling) -> Iterator[tuple[int, Group] | None]:
        """Likewise."""
        assert not inbox, "the rank that has the engine asks it"
        return iter(())

    def load_weights(self, model: Any, version: int) -> None:
        """They are the other rank's."""

    def rest(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Likewise."""


@runtime_checkable
class FlowingEngine(Engine, Protocol):
    """One whose sequences may outlive a change of weights: they go on with the new ones."""

    def flow(self, inbox: Inbox, sampling: Sampling) -> Iterator[tuple[int, Group] | None]:
        """As `generate`, of all that is put into `inbox` until nothing is left to be drawn.

        Between groups it yields None every now and then, so that the caller can look around.  The caller may
        load weights before it reads on: a completion's versions are then those of its first and last token.
        """
        ...
