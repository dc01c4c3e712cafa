"""What a verifier may ask of a sandbox: run a program nobody trusts and say what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

RunStatus: TypeAlias = Literal["ok", "timeout", "memory", "output", "error"]
"""`ok` is exit code 0; `memory` and `output` are limits it ran into; `error` is any other end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended.  All of it is the program's own claim but `status` and `seconds`."""

    status: RunStatus
    """How it ended."""
    stdout: str
    """What it wrote, up to the cap; undecodable bytes replaced."""
    stderr: str
    """What it complained of, up to the cap."""
    seconds: float
    """Wall time."""
    exit_code: int | None = None
    """Its exit code, negative for a signal; None where we ended it."""
    open_doors: tuple[str, ...] = ()
    """What the sandbox could not shut during this run."""


class Sandbox(Protocol):
    """Runs Python programs apart from us."""

    @property
    def open_doors(self) -> tuple[str, ...]:
        """What it cannot shut on this machine, one phrase a door."""
        ...

    def run(
        self, source: str, *, stdin: str = "", timeout_s: float = 5.0, memory_bytes: int = 2**29
    ) -> Outcome:
        """Run `source` as a Python program; it and what it started are gone when this returns."""
        ...
