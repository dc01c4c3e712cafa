"""The same verdicts in each tier: walls of this machine, without namespaces, and an executor elsewhere."""

import pytest
from rlvr_verifiers.code import code

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.local import LocalSandbox
from rlvr.sandbox.remote import RemoteSandbox
from rlvr.types import Problem
from tests.sandbox.executor import executor


@pytest.fixture(scope="module", params=["A", "B", "sandboxfusion", "piston"])
def box(request):
    if len(request.param) > 1:
        with executor() as url:
            yield RemoteSandbox(url, request.param)
        return
    with LocalSandbox(request.param) as made:
        try:
            assert made.tier == request.param
        except SandboxError as error:
            pytest.skip(f"this machine has no tier {request.param}: {error}")
        yield made


CALLS = {"test_list": ["assert f(2) == 4", "assert f(x=3) == 9", "assert not f(0)"]}
PLUS = {
    "entry_point": "f",
    "prompt": "def f(x):\n",
    "canonical_solution": "    return x * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
    "base_input": [[2]],
    "plus_input": [[3], [0.5], [-4]],
}
PRINTED = {"inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
SOLUTION, READER = "def f(x): return x * x", "print(int(input()) ** 2)"
ENDS = [
    ("right", CALLS, SOLUTION, "3 tests pass"),
    ("wrong", CALLS, "def f(x): return x + 2", "test 2: f(x=3): got 5, expected 9"),
    ("wrong", CALLS, "def f(x): raise KeyError(x)", "KeyError: 2"),
    ("wrong", CALLS, "def f(x: return", "SyntaxError"),
    ("wrong", CALLS, "print(4)\nimport os; os._exit(0)", ""),
    ("timeout", CALLS, "def f(x):\n    while True: pass", "f(2)"),
    ("right", PLUS, SOLUTION, "4 tests pass"),
    ("wrong", PLUS, "def f(x): return x * x if x > 0 else 0", "f(-4): got 0, expected 16"),
    ("right", PRINTED, READER, "2 tests pass"),
    ("wrong", PRINTED, "print(4)", r"test 2: input '3\n': got '4\n', expected '9\n'"),
    ("timeout", PRINTED, "while True: pass", "killed at its time limit"),
]


@pytest.mark.parametrize(("status", "tests", "program", "why"), ENDS)
def test_a_program_ends_alike_in_every_tier(box, status, tests, program, why):
    given = Problem(id="p", messages=(), answer=None, meta=tests)
    verdict = code(f"```python\n{program}\n```", given, box, cpu_s=1.0)
    assert (verdict.status, why in verdict.why) == (status, True), verdict.why


def test_tests_that_need_a_judge_are_refused_elsewhere_and_never_a_score(box):
    given = Problem(id="p", messages=(), answer="def test():\n    y = f(2)\n    assert y == 4\n", meta={})
    if box.tier == "R":
        with pytest.raises(SandboxError, match="a remote executor has none"):
            code(f"```python\n{SOLUTION}\n```", given, box)
    else:
        assert code(f"```python\n{SOLUTION}\n```", given, box).status == "right"
