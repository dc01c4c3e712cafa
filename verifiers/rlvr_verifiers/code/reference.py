"""Asks a problem's reference solution what is expected, in a box like any program's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rlvr.sandbox.api import Opaque, Reply, Sandbox
from rlvr_verifiers.code.prelude import with_imports
from rlvr_verifiers.code.running import WALL, Limits, replies
from rlvr_verifiers.code.suite import Call, Suite

SHARE = 0.5
"""Of the limit on CPU time: what is tested may take twice as long as the reference."""
REMEMBERED = 8
ANSWERS: dict[int, list[Call | None]] = {}
"""What the last references gave, by a hash of all that was asked: siblings come one after another."""


def answered(sandbox: Sandbox, suite: Suite, limits: Limits) -> Suite:
    """The suite with what its reference gives where that is asked; inputs without a value are left out.

    ValueError where none is left: a fault of the problem.
    """
    asked = [test for test in suite.tests if isinstance(test, Call) and test.is_asked]
    if not asked:
        return suite
    key = hash((suite.reference, limits, repr(asked)))
    answers = ANSWERS.get(key) or _asked(sandbox, suite.reference, asked, limits)
    if key not in ANSWERS:
        while len(ANSWERS) >= REMEMBERED:
            ANSWERS.pop(next(iter(ANSWERS)), None)
        ANSWERS[key] = answers
    given = iter(answers)
    tests = [next(given) if isinstance(test, Call) and test.is_asked else test for test in suite.tests]
    kept = tuple(test for test in tests if test is not None)
    if not kept:
        raise ValueError("the problem's reference solution gives no value for any input")
    return replace(suite, tests=kept, left_out=len(tests) - len(kept))


def _asked(sandbox: Sandbox, source: str, calls: Sequence[Call], limits: Limits) -> list[Call | None]:
    cpu_s = SHARE * limits.cpu_s
    with sandbox.load(
        with_imports(source), timeout_s=cpu_s, wall_s=cpu_s * WALL, memory_bytes=limits.memory_bytes
    ) as loaded:
        return [_expecting(call, reply) for call, reply in zip(calls, replies(loaded, calls), strict=True)]


def _expecting(call: Call, reply: Reply) -> Call | None:
    """The call with what the reference returned; None where that is no data."""
    is_opaque = isinstance(reply.value, Opaque)
    if reply.status != "ok" or (is_opaque and call.claim != "true"):
        return None
    if call.claim != "true":
        return replace(call, expected=reply.value)
    is_true = is_opaque or bool(reply.value)
    return replace(call, claim="true" if is_true else "false", expected=is_true)
