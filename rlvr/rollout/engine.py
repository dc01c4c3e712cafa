"""The protocol of rollout engines: requests in, groups out as they finish, weights in by version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from rlvr.types import Group, Request, Sampling


class Engine(Protocol):
    """Draws completions with the newest weights it was given."""

    name: str
    """`hf`, `vllm_local`, `vllm_server`."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield `(index of the request, its group)` as soon as the whole group has finished, in any order.

        A completion depends on its prompt, its seed, the weights and `sampling`, not on its neighbours in the
        batch (up to the rounding of the matrix products).
        """
        ...

    def load_weights(self, model: Any, version: int) -> None:
        """Sample from `model`'s weights from now on and stamp completions with `version`."""
        ...

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""
        ...
