"""Inputs for a reference solution (HumanEval+, MBPP+), and what a contest's statement says of its answers."""

import pytest
from rlvr_verifiers.code import code
from rlvr_verifiers.code.evalplus import as_in
from rlvr_verifiers.code.forms import suite_of
from rlvr_verifiers.code.statement import precision, several

from rlvr.sandbox.api import SandboxError
from rlvr.types import Message, Problem


def plus(answer=None, **changed):
    row = {
        "entry_point": "f",
        "prompt": "import math\n\ndef twice(x):\n    return 2 * x\n\ndef f(t):\n    '''Sum.'''\n",
        "canonical_solution": "    return float(sum(twice(x) for x in t)) / 3\n",
        "test": "def check(candidate):\n    assert candidate((3, 3)) == 4.0\n",
        "base_input": [[[3, 3]]],
        "plus_input": [[[1]], [[]], [[0.1, 0.2]]],
    }
    return Problem(id="p", messages=(), answer=answer, meta=row | changed)


def fenced(program):
    return f"```python\n{program}\n```"


RIGHT = "def f(t):\n    assert type(t) is tuple\n    return sum(twice(x) / 3 for x in t)"


def test_the_reference_says_what_is_expected_and_the_row_which_types(sandbox):
    suite = suite_of(plus())
    assert [test.is_asked for test in suite.tests] == [False, True, True, True]
    assert [test.arguments for test in suite.tests] == [((3, 3),), ((1,),), ((),), ((0.1, 0.2),)]
    verdict = code(fenced(RIGHT), plus(), sandbox)
    assert (verdict.status, verdict.why[:12]) == ("right", "4 tests pass"), verdict.why
    wrong = code(fenced("def f(t): return 4.0 if len(t) == 2 else 2 * t[0] / 3"), plus(), sandbox)
    assert "f(()): it raised IndexError" in wrong.why
    assert "expected 0.0" in wrong.why
    assert code(fenced("def f(t): return 4.0"), plus(), sandbox, score="fraction").score == 0.25


def test_inputs_without_a_value_of_the_reference_are_left_out_and_told(sandbox):
    given = plus(canonical_solution="    return float(2 * sum(t)) / len(t)\n")
    verdict = code(fenced("def f(t): return 2 * sum(t) / len(t)"), given, sandbox)
    assert verdict.status == "wrong"  # 6.0 where the row's own assert says 4.0
    given = plus(canonical_solution="    return 2 * sum(t) / len(t) / 1.5\n")
    verdict = code(fenced("def f(t): return 2 * sum(t) / len(t) / 1.5"), given, sandbox)
    assert (verdict.status, "1 inputs have no reference value" in verdict.why) == ("right", True), verdict.why
    broken = plus(canonical_solution="    return undefined\n", test="")
    with pytest.raises(ValueError, match="gives no value for any input"):
        code(fenced(RIGHT), broken, sandbox)


def test_a_fault_of_the_sandbox_is_not_the_references():
    class Broken:
        def load(self, *_, **__):
            raise SandboxError("lost")

    with pytest.raises(SandboxError):
        code(fenced(RIGHT), plus(), Broken())


def test_large_inputs_come_as_the_answer_and_are_missed_where_they_do_not(sandbox):
    row = plus().meta
    without = {name: value for name, value in row.items() if name != "plus_input"}
    with pytest.raises(ValueError, match="`plus_input` is missing"):
        suite_of(Problem(id="p", messages=(), answer=None, meta=without))
    assert len(suite_of(Problem(id="p", messages=(), answer=row["plus_input"], meta=without)).tests) == 4


def test_sets_and_truth_are_compared_as_the_row_compares_them(sandbox):
    row = {"prompt": "", "entry_point": "f", "base_input": [[2]], "plus_input": [[3]]}
    as_set = {
        **row,
        "assertion": "assert set(f(2)) == set([0, 1])",
        "canonical_solution": "def f(n): return list(range(n))",
    }
    given = Problem(id="p", messages=(), answer=None, meta=as_set)
    assert code(fenced("def f(n): return tuple(reversed(range(n)))"), given, sandbox).status == "right"
    assert code(fenced("def f(n): return [0, 1]"), given, sandbox).status == "wrong"
    assert code(fenced("def f(n): return n"), given, sandbox).status == "wrong"
    match = {
        **row,
        "assertion": "assert f(2)",
        "canonical_solution": "import re\ndef f(n): return re.match('2', str(n))",
    }
    given = Problem(id="p", messages=(), answer=None, meta=match)
    assert code(fenced("def f(n): return n == 2"), given, sandbox).status == "right"
    assert code(fenced("def f(n): return True"), given, sandbox).status == "wrong"


@pytest.mark.parametrize(
    ("value", "patterns", "made"),
    [
        ([1, [2, 3]], [(1, 2)], (1, (2, 3))),
        ([[1], [2]], [[(1,)]], [(1,), (2,)]),
        ([[1], []], [[{1, 2}, {}]], [{1}, set()]),
        ({"1": [2]}, [{3: (4,)}], {1: (2,)}),
        ("1j", [1, 4], 1j),
        ("2", [1j], 2 + 0j),
        ("0.5", [1], 0.5),
        ("2", ["a"], "2"),
        ("x", [1], "x"),
        ([1], [], [1]),
    ],
)  # fmt: skip
def test_types_that_json_has_lost_are_those_of_the_asserts(value, patterns, made):
    assert repr(as_in(value, patterns)) == repr(made)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("its absolute or relative error does not exceed 10^{-4}.", 1e-4),
        ("if the relative or absolute error does not exceed $10^{-6}$. Formally,", 1e-6),
        ("The absolute difference between your solution and ours shouldn't exceed 10^-6;", 1e-6),
        ("an absolute value of at most 10^{-3}. Print the error.", None),
        ("1 <= n <= 10^{6}", None),
    ],
)
def test_the_precision_that_a_statement_allows(text, allowed):
    assert precision(text) == allowed


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("If there are multiple answers, print any of them.", "multiple answers, print any"),
        ("Output any valid coloring.", "Output any valid"),
        ("This is an interactive problem.", "interactive problem"),
        ("You may choose any of them to pay with.", ""),
        ("In one move, swap any two letters. Print the number of moves.", ""),
    ],
)
def test_statements_that_take_several_answers(text, words):
    assert several(text) == words


def test_printed_answers_are_compared_as_the_statement_says(sandbox):
    tests = {"inputs": ["1"], "outputs": ["YES 0.333333 7\n"]}
    said = "Print YES or NO in any case. An absolute error of at most 10^{-5} is accepted."
    for text, program, status in [
        (said, "print('yes 0.333334 7')", "right"),
        (said, "print('yes 0.3334 7')", "wrong"),
        (said, "print('yes 0.333334 7.000001')", "right"),
        (said, "print('yes 1/3 7')", "wrong"),
        ("Print YES or NO.", "print('yes 0.333333 7')", "wrong"),
        ("Print YES or NO.", "print('YES 0.333334 7')", "wrong"),
    ]:
        asked = Problem(id="p", messages=(Message(role="user", content=text),), answer=tests)
        assert code(fenced(program), asked, sandbox).status == status, (text, program)
    large = Problem(
        id="p",
        messages=(Message(role="user", content=said),),
        answer={"inputs": [""], "outputs": ["10000000"]},
    )
    assert code(fenced("print(10000001)"), large, sandbox).status == "wrong"  # no floats


@pytest.mark.parametrize("field", ["checker", "generated_checker", "interaction_format"])
def test_a_problem_with_a_checker_is_an_error_and_not_wrong(field):
    row = {"tests": [{"input": "1", "output": "1"}]}
    assert suite_of(Problem(id="p", messages=(), answer=None, meta=row | {field: None})).tests
    with pytest.raises(ValueError, match=f"`{field}` judges this problem"):
        suite_of(Problem(id="p", messages=(), answer=None, meta=row | {field: "print(1)"}))
