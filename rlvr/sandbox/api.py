"""What a verifier may ask of a sandbox: run programs nobody trusts; what comes back is data, never a verdict.

run    a program with standard input, in a fresh process: compare what it printed, here
load   a program whose functions are called with values: compare what it returned, here
judge  a test file in a box of its own, which sees the program through a proxy: it passes or not
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from rlvr.errors import SandboxError
from rlvr.sandbox.asserting import Assertions

__all__ = [
    "Assertions",
    "Isolation",
    "Judgement",
    "Opaque",
    "Outcome",
    "Program",
    "Reply",
    "RunStatus",
    "Sandbox",
    "SandboxError",
    "Tier",
]

RunStatus: TypeAlias = Literal["ok", "timeout", "memory", "output", "error"]
"""`ok`: it came to its end; `timeout`, `memory` and `output` are limits it ran into; `error`: another end."""

Tier: TypeAlias = Literal["A", "B", "R", "none"]
"""A: namespaces, Landlock, seccomp, rlimits; B: that without namespaces; R: remote; none: no isolation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What holds programs apart from us: for people, and for the record of a run."""

    tier: Tier | None
    """None: nothing does, and no program is run."""
    open_doors: tuple[str, ...]
    """What stays open."""
    refusals: tuple[str, ...]
    """Why better tiers do not hold here."""

    def __str__(self) -> str:
        if self.tier is None:
            return f"none, programs are refused: {'; '.join(self.refusals)}"
        better = f" ({'; '.join(self.refusals)})" if self.refusals else ""
        return f"tier {self.tier}{better}; open: {'; '.join(self.open_doors)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended.  All of it is the program's own claim but `status` and `seconds`."""

    status: RunStatus
    """How it ended; `ok` is exit code 0."""
    stdout: str
    """What it wrote, up to the cap; undecodable bytes replaced."""
    stderr: str
    """What it complained of, up to the cap."""
    seconds: float
    """Wall time."""
    cpu_seconds: float = 0.0
    """CPU time, of all its threads."""
    exit_code: int | None = None
    """Its exit code, negative for a signal; None where we ended it."""
    open_doors: tuple[str, ...] = ()
    """What the sandbox could not shut during this run."""


class Opaque:
    """Stands for an object of the program that is no data.  Equal to nothing but itself."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind} object of the program>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one call gave.  Never an object of the program: values of exactly the builtin types."""

    status: RunStatus
    """`ok`: it returned; `error`: it raised, died, or gave what is no data; else the limit it ran into."""
    value: Any = None
    """What it returned; an `Opaque` stands for what is no data."""
    error: str = ""
    """What it raised: `ValueError: too small`; or how the program ended."""
    changed: Mapping[int, Any] = field(default_factory=dict)
    """Arguments that the call changed in place, by position, as they are now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a test file found."""

    passed: bool
    """Whether all of it ran, nothing was raised, and an assertion on the program was evaluated."""
    status: RunStatus
    """`ok`: the tests came to a result; else how the program, or the tests on its values, ended."""
    why: str = ""
    """What was raised, and by which line of the tests; empty where it passed."""
    self_reported: int = 0
    """Comparisons of two objects of the program with each other: such a test asks the accused."""
    is_empty: bool = False
    """Whether nothing was raised and nothing asserted: such tests prove nothing of any program."""


class Program(Protocol):
    """A program in its box, its functions ready to be called until its time is up."""

    def call(self, function: str, *arguments: Any, **named: Any) -> Reply:
        """Call `name` or `Class().method`; arguments are data.  Once it is dead every reply says so."""
        ...

    def call_each(self, function: str, arguments: Sequence[Sequence[Any]]) -> list[Reply]:
        """The same with each of several argument lists, sent all at once."""
        ...


class Sandbox(Protocol):
    """Runs Python programs apart from us.  SandboxError where the sandbox itself fails: that is no score.

    `timeout_s` is CPU time; `wall_s`, by default the same, is the wall time at which it is killed anyway.
    """

    @property
    def tier(self) -> Tier:
        """What holds programs here."""
        ...

    @property
    def open_doors(self) -> tuple[str, ...]:
        """What it cannot shut on this machine, one phrase a door."""
        ...

    def run(
        self,
        source: str,
        *,
        stdin: str = "",
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Outcome:
        """Run `source` as a Python program; it and what it started are gone when this returns."""
        ...

    def load(
        self, source: str, *, timeout_s: float = 5.0, memory_bytes: int = 2**29, wall_s: float | None = None
    ) -> AbstractContextManager[Program]:
        """Run `source` as a module and keep it for calls: the limits hold for all of them together."""
        ...

    def judge(
        self,
        source: str,
        tests: str,
        *,
        names: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Judgement:
        """Run the test file on the program `source`, each in a box of its own.

        The tests see what the program defines under its names, under those in `names` (theirs -> the
        program's) and as module `solution`; names of builtins and of the tests are never replaced.
        """
        ...
