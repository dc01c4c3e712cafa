"""The tests of a problem, once they are understood: what is called or fed, and what is expected of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Claim: TypeAlias = Literal["equal", "same", "true", "false", "near", "json", "set"]
"""`same`: `is` None, True, False; `near`: within a distance; `json`: one of several, as JSON has it; `set`:
the same members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose arguments and result are data: compared outside of every box."""

    function: str
    """`f` or `Solution().f`; `Solution().f` is also tried as `f` where `is_free`."""
    arguments: tuple[Any, ...] = ()
    """By position."""
    named: Mapping[str, Any] = field(default_factory=dict)
    """By name."""
    claim: Claim = "equal"
    """What must hold of the result."""
    expected: Any = True
    """What it is compared with."""
    distance: tuple[float, float] = (0.0, 0.0)
    """Of `near`: absolute, relative."""
    is_asked: bool = False
    """Whether the suite's reference says what is expected; the claim `true`: whether that is true or not."""
    is_free: bool = False
    """Whether `f` may be a function or a method of `Solution`: as the program has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A test in Python, for a judge's box."""

    setup: str
    """What comes before it: imports, helpers."""
    code: str
    """The test."""
    names: tuple[str, ...] = ()
    """Names of the program that hide builtins in the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A standard input and what must be printed for it."""

    stdin: str
    """What is fed."""
    expected: str
    """What must be printed."""
    is_caseless: bool = False
    """Whether capital and small letters are the same."""


Test: TypeAlias = Call | Judged | Printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """All tests of a problem."""

    form: str
    """In which form they were given."""
    tests: tuple[Test, ...]
    """At least one."""
    entry: str = ""
    """The function or class that the program must define, where it is known."""
    preamble: str = ""
    """What the prompt has defined already: put before the program."""
    reference: str = ""
    """A program that is right, run first for the calls that are `is_asked`."""
    left_out: int = 0
    """Inputs that the reference gave no data for: none tests them."""
    tolerance: float | None = None
    """For numbers, where the problem states one."""
