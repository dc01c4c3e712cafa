"""What an engine does before there is a step to show, for a person at a terminal."""

from __future__ import annotations

import os
import time

import typer

AGAIN_S = 60.0
"""The same words are said once in so many seconds."""


def leads() -> bool:
    """Whether this process speaks to people: it is the only one of its run, or the first."""
    return os.environ.get("RANK", "0") == "0"


class Terminal:
    """Hears an engine (rlvr/rollout/engine.py, `Tell`) and writes to stderr.

    Of a rank that is not the first only what is lasting is written.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, words: str, *, lasting: bool = False) -> None:
        """Write `words`, unless they were just written."""
        now = time.monotonic()
        if (leads() or lasting) and now - self._said.get(words, -AGAIN_S) >= AGAIN_S:
            self._said[words] = now
            typer.echo(words, err=True)
