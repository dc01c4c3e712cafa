"""What `rlvr verifier check` tries on a problem with tests: its own solution, and ones that solve nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlvr.verify.api import Problem
from rlvr_verifiers.code.asserts import asks_itself
from rlvr_verifiers.code.forms import prompt_of, statement_of, suite_of, whole_solution
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
    "none": "return None",
    "true": "return True",
    "zero": "return 0",
    "empty text": "return ''",
    "empty list": "return []",
    "nan": "return float('nan')",
    "echo": "return (given or tuple(named.values()) or (None,))[0]",
    "emptied": "held = [x for x in given if hasattr(x, 'clear') and not x.clear()]; return (*held, None)[0]",
    "exit": "import os; os._exit(0)",
    "system exit": "raise SystemExit(0)",
    "equal to all": "return Equal()",
}
PRINTING = {
    "none": "pass",
    "zero": "print(0)",
    "echo": "import sys\nsys.stdout.write(sys.stdin.read())",
    "nan": "print('nan')",
    "exit": "import os\nos._exit(0)",
}


def trials(problem: Problem) -> tuple[list[str], dict[str, str], list[str]]:
    """Completions of which one must be right, completions that must not be, and what looks weak."""
    suite = suite_of(problem)
    probes = _printing(suite) if isinstance(suite.tests[0], Printed) else _returning(suite)
    golds = [_fenced(_whole(gold, problem, suite)) for gold in _golds(problem)][:MOST_GOLDS]
    return golds, {name: _fenced(text) for name, text in probes.items()}, list(_remarks(problem, suite))


def _remarks(problem: Problem, suite: Suite) -> Iterator[str]:
    if asked := sum(asks_itself(test, suite.entry) for test in suite.tests):
        yield f"self_reported: {asked} comparisons have the program's own values on both sides"
    is_printed = any(isinstance(test, Printed) for test in suite.tests)
    if is_printed and (words := several(statement_of(problem))):
        yield f"several_answers: {words!r}: right programs may be taken for wrong"


def _printing(suite: Suite) -> dict[str, str]:
    first = next(test for test in suite.tests if isinstance(test, Printed))
    return PRINTING | {"constant": f"print({first.expected!r})"}


def _returning(suite: Suite) -> dict[str, str]:
    """A program a body, that defines all that the tests want."""
    names = sorted(wanted(suite)) or [suite.entry or "solution"]
    bodies = dict(BODIES)
    calls = (test for test in suite.tests if isinstance(test, Call) and not test.is_asked)
    constant = next((call for call in calls if call.claim != "near"), None)
    if constant is not None:
        expected = constant.expected[-1] if constant.claim == "json" else constant.expected
        bodies["constant"] = f"return {expected!r}"
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


def _whole(gold: str, problem: Problem, suite: Suite) -> str:
    """A gold that goes on where the prompt ends, behind its prompt."""
    is_body = suite.form in ("check function", "inputs for a reference")
    return whole_solution(gold, prompt_of(problem), suite.entry) if is_body else gold.replace("\r\n", "\n")


def _fenced(text: str) -> str:
    return f"~~~~~~~~python\n{text}\n~~~~~~~~\n"
