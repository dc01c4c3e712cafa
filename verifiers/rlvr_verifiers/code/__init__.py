"""The `code` verifier: does the program in a completion pass the tests of its problem?

    completion --fences--> program --prelude--> with what it may take for granted --running--> results
    answer, meta --forms, asserts--> suite -------------------------------------------^

The program supplies values and nothing else; they are compared on our side, or by a judge in its own box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlvr.sandbox.api import Sandbox
from rlvr.verify.api import Problem, Verdict, verifier
from rlvr_verifiers.code.fences import Handed, find_program
from rlvr_verifiers.code.forms import NOTHING, suite_of
from rlvr_verifiers.code.prelude import behind_futures, with_imports
from rlvr_verifiers.code.reference import answered
from rlvr_verifiers.code.running import Limits, Result, run_suite
from rlvr_verifiers.code.suite import Suite
from rlvr_verifiers.code.trials import trials

__all__ = ["code"]

MOST_EXPLAINED = 50


def explain(
    completion: str, problem: Problem, sandbox: Sandbox, options: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The program taken, the form of the tests, and every test with what came of it."""
    suite = suite_of(problem)
    handed = find_program(completion, _top(suite.entry), bare=options["bare"])
    rows = [("taken", handed.rule), ("tests", f"{len(suite.tests)} as {suite.form}")]
    if handed.program is None:
        return rows
    program = _completed(handed.program, suite, options["add_imports"])
    rows += [("program", program), ("sandbox", f"tier {sandbox.tier}")]
    limits = Limits(cpu_s=options["cpu_s"], memory_bytes=options["memory_mib"] << 20)
    suite = answered(sandbox, suite, limits)
    results = run_suite(sandbox, program, suite, limits, every=True, tolerance=options["tolerance"])
    rows += [(f"test {result.number}", f"{result.status}: {_plain(result)}") for result in results]
    return rows[:MOST_EXPLAINED]


@verifier(explain=explain, trials=trials, timeout_s=60)
def code(
    completion: str,
    problem: Problem,
    sandbox: Sandbox,
    *,
    score: Literal["all", "fraction"] = "all",
    cpu_s: float = 6.0,
    memory_mib: int = 512,
    tolerance: float = 0.0,
    add_imports: bool = True,
    bare: bool = False,
) -> Verdict:
    """Right when the last fenced program passes all tests of the problem, run in the sandbox."""
    suite = suite_of(problem)
    handed = find_program(completion, _top(suite.entry), bare=bare)
    if handed.program is None:
        return Verdict(score=0.0, status="no_answer", why=handed.rule)
    program = _completed(handed.program, suite, add_imports)
    limits = Limits(cpu_s=cpu_s, memory_bytes=memory_mib << 20)
    suite = answered(sandbox, suite, limits)
    every = score == "fraction"
    results = list(run_suite(sandbox, program, suite, limits, every=every, tolerance=tolerance))
    return _verdict(results, suite, handed, every=every)


def _verdict(results: Sequence[Result], suite: Suite, handed: Handed, *, every: bool) -> Verdict:
    """All or nothing; or the share that passed, where any did.  ValueError where none asserts anything."""
    empty = [result for result in results if result.status == "error"]
    if len(empty) == len(results):
        raise ValueError(f"{NOTHING}: {empty[0]} (docs/code.md)")
    failed = next((result for result in results if result.status in ("wrong", "timeout")), None)
    asked = sum(result.self_reported for result in results)
    parts = {"self_reported": float(asked)} if asked else {}
    if failed is None:
        less = f"; {suite.left_out} inputs have no reference value" if suite.left_out else ""
        passes = "passes" if len(suite.tests) == 1 else "pass"
        why = f"{_tests(len(suite.tests))} {passes} ({suite.form}; {handed.rule}{less})"
        return Verdict(score=1.0, status="right", found=handed.program, why=why, parts=parts)
    passed = sum(result.status == "right" for result in results)
    if every:
        share = passed / (len(suite.tests) - len(empty))
        parts["passed"] = share
        if passed:
            why = f"{passed} of {_tests(len(suite.tests) - len(empty))} pass; {failed}"
            return Verdict(score=share, status="wrong", found=handed.program, why=why, parts=parts)
    return Verdict(score=0.0, status=failed.status, found=handed.program, why=str(failed), parts=parts)


def _tests(number: int) -> str:
    return f"{number} test{'' if number == 1 else 's'}"


def _completed(program: str, suite: Suite, add_imports: bool) -> str:
    """The program behind what the prompt has defined, with the imports that it lacks."""
    program = behind_futures(suite.preamble, program) if suite.preamble else program
    return with_imports(program) if add_imports else program


def _top(entry: str) -> str:
    """The name at the top of the program: `Solution` of `Solution().f`."""
    return entry.partition("(")[0].partition(".")[0]


def _plain(result: Result) -> str:
    return str(result).removeprefix(f"test {result.number}: ")
