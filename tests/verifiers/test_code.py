"""The `code` verifier: which program is taken, which forms of tests are known, what each end is called."""

import json

import pytest
from rlvr_verifiers.code import code
from rlvr_verifiers.code.asserts import data
from rlvr_verifiers.code.compare import as_json, same_output, same_value, shown
from rlvr_verifiers.code.fences import find_program
from rlvr_verifiers.code.forms import suite_of
from rlvr_verifiers.code.prelude import with_imports
from rlvr_verifiers.code.suite import Call, Judged, Printed

from rlvr.sandbox.api import SandboxError
from rlvr.types import Message, Problem


def problem(answer=None, prompt="", **meta):
    return Problem(id="p", messages=(Message(role="user", content=prompt),), answer=answer, meta=meta)


def fenced(program, tag="python"):
    return f"Here it is.\n```{tag}\n{program}\n```\nThat is all."


FENCES = [
    ("```python\nx = 1\n```", "x = 1"),
    ("```\nx = 1\n```", "x = 1"),
    ("```Python3\nx = 1\n```", "x = 1"),
    ("``` py title=a.py\nx = 1\n```", "x = 1"),
    ("```{.python}\nx = 1\n```", "x = 1"),
    ("~~~python\nx = 1\n~~~", "x = 1"),
    ("```python\r\nx = 1\r\n```\r\n", "x = 1"),
    ("```python\nx = 1\n```\n```python\nx = 2\n```", "x = 2"),
    ("```python\nx = 1\n```\nIt prints\n```\n1\n```", "x = 1"),
    ("```python\nx = 1\n```\n```bash\npython a.py\n```", "x = 1"),
    ("```text\nno\n```\n```\nx = 1\n```", "x = 1"),
    ("```cpp\nint x;\n```", None),
    ("x = 1", None),
    ("", None),
    ("```python\n```", None),
    ("```python\n  \n```", None),
    ("```python\nx = 1\n```\n```python\n```", None),
    ("```python\nx = 1", "x = 1"),
    ("```python\nx = 1```", "x = 1"),
    ("```python\nx = 1\n```\n```python\nx = 2", "x = 2"),
    ("1. So:\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y"),
    ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''"),
    ("<think>```python\nx = 0\n```</think>```python\nx = 1\n```", None),
    ("<think>\n```python\nx = 0\n```\n</think>\n```python\nx = 1\n```", "x = 1"),
    ("<think>\n```python\nx = 0\n```\n", None),
    ("```python\nx = 1\n```<|im_end|>\n```python\nx = 2\n```", "x = 1"),
    ("say `x = 1` or ```x = 2``` inline", None),
]


@pytest.mark.parametrize(("completion", "program"), FENCES)
def test_the_last_block_of_python_is_taken(completion, program):
    if "</think>```" in completion:  # behind thinking it begins the text, and so a line
        program = "x = 1"
    assert find_program(completion).program == program


def test_the_last_block_that_defines_what_is_asked_for_is_taken():
    text = "```python\ndef f(): return 1\n```\n```python\ndef f(): return 2\n```\n```python\nprint(f())\n```"
    assert find_program(text, "f").program == "def f(): return 2"
    assert find_program(text).program == "print(f())"
    assert find_program(text, "g").program == "print(f())"


def test_a_text_without_fences_is_a_program_only_where_that_is_wanted():
    assert find_program("x = 1", bare=True).program == "x = 1"
    assert find_program(" \n", bare=True).program is None


CHECK = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(x=3) == 9\n"
PYTEST = """
from solution import f
def test_a():
    assert f(2) == 4
def test_b():
    assert f(3) == 9
"""
LCB = [{"input": "2", "output": "4", "testtype": "functional"}, {"input": "3", "output": "9"}]
PAIRS = [{"input": "2\n", "output": "4\n"}, {"input": "3", "output": "9"}]
IO = {"inputs": ["2\n", "3\n"], "outputs": ["4\n", "9\n"]}
APPS = {"inputs": [[2], [3]], "outputs": [[4], 9], "fn_name": "f"}
FORMS = [
    ("HumanEval", problem(test=CHECK, entry_point="f"), Call),
    ("HumanEval, in the answer", problem(CHECK, entry_point="f"), Call),
    ("LeetCode", problem(tests={"functional": CHECK + "check(Solution().f)"}), Call),
    ("LeetCodeDataset", problem(test=CHECK, entry_point="Solution().f"), Call),
    ("MBPP", problem(test_list=["assert f(2) == 4", "assert f(3) == 9"]), Call),
    ("MBPP, in the answer", problem(["assert f(2) == 4", "assert f(x=3) == 9"]), Call),
    ("MBPP, set up", problem(test_list=["assert f(n) == 4"], test_setup_code="n = 2"), Judged),
    ("asserts", problem("assert f(2) == 4\nassert f(3) == 9"), Call),
    ("pytest", problem(PYTEST), Judged),
    (
        "unittest",
        problem("import unittest\nclass T(unittest.TestCase):\n def test(self): assert f(2) == 4"),
        Judged,
    ),
    ("APPS, calls", problem(input_output=json.dumps(APPS)), Call),
    ("APPS", problem(input_output=json.dumps(IO)), Printed),
    ("code_contests", problem(public_tests={"input": ["2"], "output": ["4"]}, private_tests=PAIRS), Printed),
    ("codeforces", problem(tests=PAIRS), Printed),
    ("codeforces, in the answer", problem(json.dumps(PAIRS)), Printed),
    ("LiveCodeBench", problem(public_test_cases=json.dumps(LCB[:1]), metadata='{"func_name": "f"}'), Call),
    ("LiveCodeBench, stdin", problem(private_test_cases=json.dumps(PAIRS)), Printed),
]
FUNCTION = "def f(x): return x * x\n"
METHOD = "class Solution:\n    def f(self, x): return x * x\n"
READER = "print(int(input()) ** 2)"


@pytest.mark.parametrize(("name", "given", "kind"), FORMS, ids=[name for name, *_ in FORMS])
def test_forms(sandbox, name, given, kind):
    suite = suite_of(given)
    assert {type(test) for test in suite.tests} == {kind}
    solution = READER if kind is Printed else METHOD if name.startswith("LeetCode") else FUNCTION
    verdict = code(fenced(solution), given, sandbox)
    assert (verdict.status, verdict.score) == ("right", 1.0), verdict.why
    wrong = code(fenced(solution.replace("x * x", "x + 3").replace("** 2", "+ 3")), given, sandbox)
    assert (wrong.status, wrong.score) == ("wrong", 0.0)
    if kind is Call and name.startswith("APPS"):
        assert code(fenced(METHOD), given, sandbox).status == "right"


def test_other_asserts_on_data_are_compared_outside_too(sandbox):
    lines = [
        "assert f(2)",
        "assert not f(0)",
        "assert f(None) is None",
        "assert abs(f(2) - 8 / 2) < 1e-6",
        "assert math.isclose(f(3), 9.0001, rel_tol=0.001)",
        "assert 16 == f(4)",
        "assert f(int) == int",
    ]
    given = problem(test_list=lines)
    assert all(isinstance(test, Call) for test in suite_of(given).tests)
    program = "def f(x): return x * x if isinstance(x, int) else x"
    assert code(fenced(program), given, sandbox).status == "right"
    assert "f(2)" in code(fenced("def f(x): return float('nan')"), given, sandbox).why + "f(2)"
    for value in ("float('nan')", "1", "0", "None", "object()"):
        assert code(fenced(f"def f(x): return {value}"), given, sandbox).status == "wrong"


def test_helpers_of_the_prompt_serve_the_tests_and_the_program(sandbox):
    prompt = "import math\n\ndef double(x):\n    return 2 * x\n\ndef f(x: int):\n    '''Four times.'''\n"
    test = "def check(candidate):\n    for i in range(5):\n        assert candidate(i) == double(double(i))\n"
    given = problem(prompt=prompt, test=test, entry_point="f")
    assert code(fenced("def f(x): return double(double(x))"), given, sandbox).status == "right"
    lying = "def double(x): return 0\ndef f(x): return 0"
    assert code(fenced(lying), given, sandbox).status == "wrong"


def test_parametrized_tests_run_each_row(sandbox):
    pytest_file = """
import pytest
@pytest.mark.parametrize('x, y', [(2, 4), pytest.param(3, 9)])
def test_f(x, y):
    assert f(x) == y
def test_raises():
    with pytest.raises(TypeError):
        f()
"""
    assert code(fenced(FUNCTION), problem(pytest_file), sandbox).status == "right"
    verdict = code(fenced("def f(x): return 4"), problem(pytest_file), sandbox)
    assert verdict.status == "wrong"
    assert "f(x) == y: got 4, expected 9" in verdict.why


ENDS = [
    ("def f(x): return x", "wrong", "test 1: f(2): got 2, expected 4"),
    ("def f(x):\n    while True: pass", "timeout", "f(2)"),
    ("def f(x): return bytearray(2**33)", "wrong", "Memory"),
    ("def f(x): raise ValueError('no')", "wrong", "ValueError: no"),
    ("def f(x):\n    import os; os._exit(0)", "wrong", "it ended before"),
    ("def f(x: return", "wrong", "SyntaxError"),
    ("def g(x): return 4", "wrong", "no `f`"),
    ("import sys; sys.exit(0)", "wrong", ""),
]


@pytest.mark.parametrize(("program", "status", "why"), ENDS)
def test_each_end_of_a_function_has_its_status(sandbox, program, status, why):
    verdict = code(fenced(program), problem(["assert f(2) == 4"]), sandbox, cpu_s=0.5)
    assert (verdict.status, verdict.score) == (status, 0.0)
    assert why in verdict.why


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("print(4)", "right"),
        ("print(4, end=' \\n\\n')", "right"),
        ("print(4); import sys; sys.exit(0)", "right"),
        ("print(4); print(5)", "wrong"),
        ("print(' 4')", "wrong"),
        ("print(4); raise SystemExit(3)", "wrong"),
        ("import sys; sys.exit(0)", "wrong"),
        ("while True: pass", "timeout"),
        ("while True: print('x' * 10**6)", "wrong"),
        ("x = bytearray(2**33)", "wrong"),
    ],
)
def test_each_end_of_a_program_has_its_status(sandbox, program, status):
    verdict = code(fenced(program), problem({"inputs": ["2"], "outputs": ["4"]}), sandbox, cpu_s=0.5)
    assert verdict.status == status, verdict.why


def test_no_program_is_no_answer_and_a_fault_of_ours_is_raised():
    class Broken:
        def load(self, *_, **__):
            raise SandboxError("lost")

    given = problem(["assert f(2) == 4"])
    assert code("4", given, Broken()).status == "no_answer"
    with pytest.raises(SandboxError):
        code(fenced(FUNCTION), given, Broken())


@pytest.mark.parametrize(
    "given",
    [
        problem(),
        problem("assert f(2 == 4"),
        problem({"inputs": ["1"], "outputs": []}),
        problem(tests=[{"input": "1"}]),
        problem(private_test_cases="eJxrYJmqyAABPWYRJaB5AGsmBMI="),
    ],
)
def test_tests_that_nobody_understands_are_an_error_of_the_problem(given):
    with pytest.raises(ValueError, match=r"test|output"):
        suite_of(given)


def test_fraction_counts_tests_and_a_timeout_scores_nothing_by_itself(sandbox):
    given = problem(
        ["assert f(2) == 4", "assert f(3) == 9", "assert sorted([f(1)]) == [1]", "assert f(4) == 0"]
    )
    verdict = code(fenced(FUNCTION), given, sandbox, score="fraction")
    assert (verdict.status, verdict.score, verdict.parts) == ("wrong", 0.75, {"passed": 0.75})
    assert code(fenced(FUNCTION), given, sandbox).score == 0.0
    pairs = problem(PAIRS)
    slow = "x = int(input())\nwhile x == 3: pass\nprint(x * x)"
    assert code(fenced(slow), pairs, sandbox, score="fraction", cpu_s=0.5).score == 0.5
    stuck = code(fenced("while True: pass"), pairs, sandbox, score="fraction", cpu_s=0.5)
    assert (stuck.status, stuck.score) == ("timeout", 0.0)


def test_a_builtins_name_is_the_programs_where_it_is_what_is_tested(sandbox):
    given = problem(["assert sum(10, 15) == 6", "assert [sum(4, 6)] == [3]"])
    assert code(fenced("def sum(a, b): return 6 if a == 10 else 3"), given, sandbox).status == "right"


def test_tests_that_compare_the_programs_own_objects_prove_nothing(sandbox):
    given = problem("def test():\n    assert f(1) == f(1)\n")
    verdict = code(fenced("class A: pass\na = A()\ndef f(x): return a"), given, sandbox)
    assert (verdict.status, verdict.parts) == ("wrong", {"self_reported": 1.0})


def test_liars_stay_wrong(sandbox):
    equal = "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(*x): return E()"
    for given in (problem(["assert f(2) == 4"]), problem("def test_f():\n    y = f(2)\n    assert y == 4\n")):
        assert code(fenced(equal), given, sandbox).status == "wrong"


def test_missing_imports_are_added_and_nothing_else(sandbox):
    assert (
        with_imports("x: List[int] = [math.pi]")
        == "from typing import List\nimport math\nx: List[int] = [math.pi]"
    )
    assert with_imports("math = 1\nprint(math)") == "math = 1\nprint(math)"
    future = with_imports("'''doc'''\nfrom __future__ import annotations\nprint(deque())")
    assert future.index("__future__") < future.index("from collections import deque")
    assert with_imports("def f(:") == "def f(:"
    for deep in ("-" * 10**5 + "1", "a" + ".a" * 10**5, "(" * 10**5):
        assert with_imports(deep) == deep
    given = problem(["assert f([3, 1]) == 1"])
    program = fenced("def f(x: List[int]): heapify(x); return heappop(x)")
    assert code(program, given, sandbox).status == "right"
    assert code(program, given, sandbox, add_imports=False).status == "wrong"


def test_values_are_compared_as_python_does_and_nearly_only_where_stated(sandbox):
    assert same_value(1, 1.0)
    assert not same_value((1,), [1])
    assert not same_value(0.1 + 0.2, 0.3)
    assert same_value([{"a": 0.1 + 0.2}], [{"a": 0.3}], 1e-6)
    assert not same_value("0.3", 0.3, 1e-6)
    assert not same_value(True, 1.0000001, 1e-3)
    assert not same_value(float("nan"), 0.3, 1e9)
    assert not same_value(5.0, float("inf"), 1e-6)
    assert as_json((1, {2: (3,)})) == [1, {"2": [3]}]
    third = fenced("def f(x): return 1 / 3")
    lines = ["assert f(1) == 0.33333"]
    assert code(third, problem(lines), sandbox).status == "wrong"
    assert code(third, problem(lines, tolerance=1e-3), sandbox).status == "right"
    assert code(third, problem(lines), sandbox, tolerance=1e-3).status == "right"
    assert code(third, problem(lines, tolerance=1e-9), sandbox, tolerance=1e-3).status == "wrong"


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "is_same"),
    [
        ("1 2 \n3\n", "1 2\n3", 0, True),
        ("1 2\r\n3", "1 2\n3\n\n", 0, True),
        ("1\n2", "1", 0, False),
        ("1", "1\n2", 0, False),
        ("1  2", "1 2", 0, False),
        ("\n1", "1", 0, False),
        ("", "", 0, True),
        ("0.333333", "0.333334", 0, False),
        ("x 0.333333\n1", "x 0.333334\n1", 1e-5, True),
        ("0.3 0.3", "0.3\n0.3", 1e-5, False),
        ("nan", "0.3", 1e9, False),
        ("yes", "YES", 1e-5, False),
    ],
)
def test_printed_text_is_compared_whole(got, expected, tolerance, is_same):
    assert same_output(got, expected, tolerance) is is_same


def test_what_is_shown_is_short():
    assert len(shown("x" * 10**6)) < 200
    assert "many digits" in shown(10**5000)


@pytest.mark.parametrize(
    "text", ["__import__('os')", "f(1)", "x", "10 ** 10", "[x for x in y]", "'a' * 10**9"]
)
def test_data_is_never_evaluated(text):
    import ast

    with pytest.raises(ValueError):  # noqa: PT011 - each is of our own class
        data(ast.parse(text, mode="eval").body)


def test_explain_shows_the_program_and_every_test(sandbox):
    options = {"cpu_s": 1.0, "memory_mib": 256, "tolerance": 0.0, "add_imports": True, "bare": False}
    given = problem(["assert f(2) == 4", "assert f(3) == 8"])
    rows = dict(code.explain(fenced(FUNCTION), given, sandbox, options))
    assert rows["taken"] == "the last block of Python"
    assert rows["test 1"].startswith("right: f(2)")
    assert rows["test 2"] == "wrong: f(3): got 9, expected 8"
