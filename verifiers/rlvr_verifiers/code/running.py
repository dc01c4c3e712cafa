"""Runs a program on the tests of its problem, in order: every verdict is made here, on what came out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

from rlvr.sandbox.api import Judgement, Opaque, Program, Reply, Sandbox
from rlvr.verify.api import Status
from rlvr_verifiers.code.asserts import lacking
from rlvr_verifiers.code.compare import as_json, same_output, same_value, shown
from rlvr_verifiers.code.prelude import with_imports
from rlvr_verifiers.code.suite import Call, Judged, Printed, Suite, Test

MOST_TIMEOUTS = 2
"""After so many tests that ran out of time the rest are not tried."""
WALL = 3.0
"""Wall time in CPU times: a machine may be busy."""
MARK = re.compile(r" \(line \d+: .*\)\Z", re.S)
ENDINGS = {
    "timeout": "it was killed at its time limit",
    "memory": "it ran out of memory",
    "output": "it wrote more than it may",
}
"""The limits that a program runs into."""
NUMBERS = (int, float, bool, Fraction, complex)
HAS_SOLUTION = re.compile(r"^class[ \t]+Solution\b", re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use."""

    cpu_s: float
    """CPU time: of each input, and of all calls together."""
    memory_bytes: int
    """Address space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one test."""

    number: int
    """From 1."""
    status: Status
    """`right`, `wrong` or `timeout`; `error`: it asserts nothing of the program, whatever that does."""
    given: str
    """What was called or fed."""
    got: str
    """What came, `got 3`, or how it ended, `it ran out of memory`."""
    expected: str
    """What should have come; empty where only a judge knows."""
    self_reported: int = 0
    """Comparisons of the program's own objects with each other, if the tests made such."""

    def __str__(self) -> str:
        wanted = f", expected {self.expected}" if self.expected else ""
        return f"test {self.number}: {self.given}: {self.got}{wanted}" if self.given else self.got


def run_suite(
    sandbox: Sandbox,
    program: str,
    suite: Suite,
    limits: Limits,
    *,
    every: bool = False,
    tolerance: float = 0.0,
) -> Iterator[Result]:
    """The results in order, up to the first failure; with `every`, all of them.  SandboxError: no result."""
    near = suite.tolerance if suite.tolerance is not None else tolerance
    timeouts = number = 0
    for kind, group in groupby(suite.tests, type):
        tests = list(group)
        runs = _runs(sandbox, program, tests, limits, near, every)
        for result in _numbered(runs, number):
            yield result
            timeouts += result.status == "timeout"
            if timeouts >= MOST_TIMEOUTS or (result.status in ("wrong", "timeout") and not every):
                return
        number += len(tests) if every or kind is not Judged else 1


def _runs(
    sandbox: Sandbox, program: str, tests: Sequence[Test], limits: Limits, near: float, every: bool
) -> Iterator[tuple[Status, str, str, str, int]]:
    calls = [test for test in tests if isinstance(test, Call)]
    judged = [test for test in tests if isinstance(test, Judged)]
    if calls:
        yield from _called(sandbox, program, calls, limits, near)
    for one in judged if every else _joined(judged):
        yield _judged(sandbox, program, one, limits)
    for test in tests:
        if isinstance(test, Printed):
            yield _printed(sandbox, program, test, limits, near)


def _numbered(runs: Iterator[tuple[Status, str, str, str, int]], before: int) -> Iterator[Result]:
    for number, (status, given, got, expected, asked) in enumerate(runs, start=before + 1):
        yield Result(
            number=number, status=status, given=given, got=got, expected=expected, self_reported=asked
        )


def _called(
    sandbox: Sandbox, program: str, calls: Sequence[Call], limits: Limits, near: float
) -> Iterator[tuple[Status, str, str, str, int]]:
    has_solution = HAS_SOLUTION.search(program) is not None
    with sandbox.load(
        program, timeout_s=limits.cpu_s, wall_s=limits.cpu_s * WALL, memory_bytes=limits.memory_bytes
    ) as loaded:
        for call, reply in zip(calls, replies(loaded, calls, has_solution), strict=True):
            is_right = reply.status == "ok" and holds(call, reply.value, near)
            got = f"got {shown(reply.value)}" if reply.status == "ok" else _ended(reply)
            yield _status(reply.status, is_right), shown_call(call), got, shown_expected(call), 0


def _ended(reply: Reply) -> str:
    """How a call without a value ended, in words: those of an exception begin with its class."""
    error = reply.error or ENDINGS.get(reply.status, "it gave no value")
    return f"it raised {error}" if error[0].isupper() else error


def replies(loaded: Program, calls: Sequence[Call], has_solution: bool = False) -> Iterator[Reply]:
    """One reply a call; where nothing is named, those of one function are asked for at once."""
    for (function, is_named), group in groupby(calls, lambda c: (_function(c, has_solution), bool(c.named))):
        several = list(group)
        if is_named:
            yield from (loaded.call(function, *call.arguments, **call.named) for call in several)
        else:
            yield from loaded.call_each(function, [call.arguments for call in several])


def _function(call: Call, has_solution: bool) -> str:
    return f"Solution().{call.function}" if call.is_free and has_solution else call.function


def holds(call: Call, value: Any, near: float) -> bool:
    """Whether the claim of a call holds of what it gave: a value of builtin types, or an `Opaque`.

    A comparison that raises, as of a dict's items that cannot be hashed with a set, holds of nothing.
    """
    with suppress(TypeError, ValueError, ArithmeticError, RecursionError):
        return _holds(call, value, near)
    return False


def _holds(call: Call, value: Any, near: float) -> bool:
    match call.claim:
        case "equal":
            return same_value(value, call.expected, near)
        case "same":
            return type(value) is type(call.expected) and bool(value == call.expected)
        case "near":
            return _is_within(value, call.expected, *call.distance)
        case "set":
            members = _members(value)
            return members is not None and members == _members(call.expected)
        case "json":
            given = as_json(value)
            return any(same_value(given, as_json(one), near) for one in call.expected)
        case _:
            is_true = isinstance(value, Opaque) or bool(
                value
            )  # an object is true; its `__bool__` is not asked
            return is_true is (call.claim == "true")


def _members(value: Any) -> set[Any] | None:
    """The members of a list or a set; None of what is neither."""
    return set(value) if isinstance(value, list | tuple | set | frozenset) else None


def _is_within(value: Any, expected: Any, absolute: float, relative: float) -> bool:
    if complex in (type(value), type(expected)):
        return type(value) in NUMBERS and bool(abs(value - expected) <= absolute)
    return type(value) in NUMBERS and math.isclose(value, expected, rel_tol=relative, abs_tol=absolute)


def _judged(
    sandbox: Sandbox, program: str, test: Judged, limits: Limits
) -> tuple[Status, str, str, str, int]:
    found: Judgement = sandbox.judge(
        program,
        with_imports(f"{test.setup}\n{test.code}"),
        names={name: name for name in test.names},
        timeout_s=limits.cpu_s,
        wall_s=limits.cpu_s * WALL,
        memory_bytes=limits.memory_bytes,
    )
    if found.is_empty:
        return "error", "", found.why, "", 0
    is_right = found.passed and not found.self_reported
    asked = "the test compares the program's own objects with each other" if found.self_reported else ""
    why = found.why.removeprefix("AssertionError: ")
    got = asked if found.passed else MARK.sub("", why) if ": got " in why else why
    return _status(found.status, is_right), "", got or "the tests hold", "", found.self_reported


def _printed(
    sandbox: Sandbox, program: str, test: Printed, limits: Limits, near: float
) -> tuple[Status, str, str, str, int]:
    outcome = sandbox.run(
        program,
        stdin=test.stdin,
        timeout_s=limits.cpu_s,
        wall_s=limits.cpu_s * WALL,
        memory_bytes=limits.memory_bytes,
    )
    texts = outcome.stdout, test.expected
    if test.is_caseless:
        texts = outcome.stdout.casefold(), test.expected.casefold()
    is_right = outcome.status == "ok" and same_output(*texts, near)
    got = f"got {shown(outcome.stdout)}"
    if outcome.status != "ok":
        last = (outcome.stderr.strip().splitlines() or [""])[-1][:200]
        failed = f"it failed with {last}" if last else f"it ended with exit code {outcome.exit_code}"
        got = ENDINGS.get(outcome.status, failed)
    return _status(outcome.status, is_right), f"input {shown(test.stdin)}", got, shown(test.expected), 0


def _joined(tests: Sequence[Judged]) -> list[Judged]:
    """Tests of one setup as one: a box each is dear where the first failure decides."""
    joined = []
    for (setup, names), group in groupby(tests, lambda test: (test.setup, test.names)):
        joined.append(Judged(setup=setup, code="".join(test.code for test in group), names=names))
    return joined


def _status(ended: str, is_right: bool) -> Status:
    return "right" if is_right else "timeout" if ended == "timeout" else "wrong"


def shown_call(call: Call) -> str:
    """A call for a person."""
    words = [*map(shown, call.arguments), *(f"{name}={shown(value)}" for name, value in call.named.items())]
    return f"{call.function}({', '.join(words)})"


def shown_expected(call: Call) -> str:
    """What was expected of it, for a person."""
    about = {"near": "about ", "true": "something true, as ", "false": "something false, as "}
    expected = call.expected[-1] if call.claim == "json" else call.expected
    return about.get(call.claim, "") + shown(expected)


def wanted(suite: Suite) -> set[str]:
    """The names that the tests want of the program, as `f` or `Solution().f`."""
    return {name for test in suite.tests for name in lacking(test)}
