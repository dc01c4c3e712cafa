"""What an engine does before there is a step to show, for a person at a terminal."""

from __future__ import annotations

import time

import typer

AGAIN_S = 60.0
"""The same words are said once in so many seconds."""


class Terminal:
    """Hears an engine (rlvr/rollout/engine.py, `Tell`) and writes to stderr."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, words: str, *, lasting: bool = False) -> None:
        """Write `words`, unless they were just written."""
        now = time.monotonic()
        if now - self._said.get(words, -AGAIN_S) >= AGAIN_S:
            self._said[words] = now
            typer.echo(words, err=True)
