"""What `rlvr verifier check` tries on a problem with tests: its own solution, and ones that solve nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlvr.verify.api import Problem
from rlvr_verifiers.code.asserts import asks_itself
from rlvr_verifiers.code.fences import blocks, find_program
from rlvr_verifiers.code.forms import prompt_of, statement_of, suite_of, whole_solution
from rlvr_verifiers.code.prelude import parsed
from rlvr_verifiers.code.running import wanted
from rlvr_verifiers.code.statement import several
from rlvr_verifiers.code.suite import Call, Printed, Suite

GOLD_FIELDS = ("canonical_solution", "gold", "code", "solution", "solutions", "reference_solution")
PYTHON_3 = 3
"""As the rows of code_contests number languages."""
MOST_GOLDS = 3
EQUAL_TO_ALL = """class Equal(int):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __hash__(self): return 0
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    def __iter__(self): return iter(())
"""
BODIES = {
    "none: always returns None": "return None",
    "true: always returns True": "return True",
    "zero: always returns 0": "return 0",
    "empty text: always returns ''": "return ''",
    "empty list: always returns []": "return []",
    "nan: always returns NaN": "return float('nan')",
    "echo: returns its argument": "return (given or tuple(named.values()) or (None,))[0]",
    "emptied: empties its argument and returns it": (
        "held = [x for x in given if hasattr(x, 'clear') and not x.clear()]; return (*held, None)[0]"
    ),
    "exit: ends the process with code 0": "import os; os._exit(0)",
    "system exit: raises SystemExit(0)": "raise SystemExit(0)",
    "equal to all: returns an object equal to everything": "return Equal()",
}
PRINTING = {
    "none: prints nothing": "pass",
    "zero: always prints 0": "print(0)",
    "echo: prints its input": "import sys\nsys.stdout.write(sys.stdin.read())",
    "nan: always prints nan": "print('nan')",
    "exit: ends the process with code 0": "import os\nos._exit(0)",
}
SHOWN = 60
"""Characters of a constant."""


def trials(problem: Problem) -> tuple[list[str], dict[str, str], list[str]]:
    """Completions of which one must be right, completions that must not be, and what looks weak."""
    suite = suite_of(problem)
    probes = _printing(suite) if isinstance(suite.tests[0], Printed) else _returning(suite)
    golds = [_fenced(_whole(_bare(gold, suite), problem, suite)) for gold in _golds(problem)][:MOST_GOLDS]
    return golds, {name: _fenced(text) for name, text in probes.items()}, list(_remarks(problem, suite))


def _remarks(problem: Problem, suite: Suite) -> Iterator[str]:
    if asked := sum(asks_itself(test, suite.entry) for test in suite.tests):
        sides = "values of the program on both sides of a comparison"
        yield f"self_reported: {sides} ({asked}): compare with values of the tests"
    is_printed = any(isinstance(test, Printed) for test in suite.tests)
    if is_printed and (words := several(statement_of(problem))):
        yield f"several_answers: {words!r}: right programs may be taken for wrong: leave the row out"


def _printing(suite: Suite) -> dict[str, str]:
    first = next(test for test in suite.tests if isinstance(test, Printed))
    said = _shortened(first.expected.strip())
    return PRINTING | {f"constant: always prints what test 1 expects, {said}": f"print({first.expected!r})"}


def _returning(suite: Suite) -> dict[str, str]:
    """A program a body, that defines all that the tests want."""
    names = sorted(wanted(suite)) or [suite.entry or "solution"]
    bodies = dict(BODIES)
    calls = (test for test in suite.tests if isinstance(test, Call) and not test.is_asked)
    constant = next((call for call in calls if call.claim != "near"), None)
    if constant is not None:
        expected = constant.expected[-1] if constant.claim == "json" else constant.expected
        bodies[f"constant: always returns an expected value, {_shortened(expected)}"] = f"return {expected!r}"
    programs = {label: "".join(_defined(name, body) for name in names) for label, body in bodies.items()}
    return {label: EQUAL_TO_ALL + text for label, text in programs.items()}


def _defined(name: str, body: str) -> str:
    owner, _, method = name.partition("().")
    if method:
        return f"class {owner}:\n    def {method}(self, *given, **named):\n        {body}\n"
    if name == "Solution":  # whichever method the tests call
        any_method = "def __getattr__(self, name):\n        return _any"
        return f"def _any(*given, **named):\n    {body}\nclass Solution:\n    {any_method}\n"
    return f"def {name}(*given, **named):\n    {body}\n"


def _golds(problem: Problem) -> list[str]:
    """The solutions that the row itself holds."""
    for name in GOLD_FIELDS:
        value: Any = problem.meta.get(name)
        if isinstance(value, Mapping) and "solution" in value:
            languages = value.get("language") or [PYTHON_3] * len(value["solution"])
            pairs = zip(languages, value["solution"], strict=True)
            value = [text for language, text in pairs if language == PYTHON_3]
        texts = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        if golds := [text for text in texts if isinstance(text, str) and text.strip()]:
            return golds
    return []


def _bare(gold: str, suite: Suite) -> str:
    """The program of a gold in fences, as of a completion; all of it where it is Python as it stands."""
    if not blocks(gold) or parsed(gold) or parsed(f"def body():\n{gold}"):
        return gold
    return find_program(gold, suite.entry.partition("(")[0]).program or gold


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _whole(gold: str, problem: Problem, suite: Suite) -> str:
    """A gold that goes on where the prompt ends, behind its prompt."""
    is_body = suite.form in ("check function", "inputs for a reference")
    return whole_solution(gold, prompt_of(problem), suite.entry) if is_body else gold.replace("\r\n", "\n")


def _fenced(text: str) -> str:
    return f"~~~~~~~~python\n{text}\n~~~~~~~~\n"
