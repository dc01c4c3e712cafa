"""Tests that assert nothing: whatever the program does, they would pass it."""

import pytest
from rlvr_verifiers.code import code

from rlvr.types import Problem


def problem(answer, **meta):
    return Problem(id="p", messages=(), answer=answer, meta=meta)


def fenced(program):
    return f"```python\n{program}\n```"


EMPTY = [
    "def f(x):\n    return x + 1",
    "x = 1",
    "f(1)\nprint(f(2))",
    "def check(candidate):\n    pass",
    "def check(candidate):\n    candidate(1)\n    assert True",
    "def test_it():\n    f(1)",
    "def never():\n    assert f(1) == 2",
    "if __name__ == '__main__':\n    assert f(1) == 2",
    "assert 1 == 1",
    "def g(x): return x\nassert g(1) == 1",
    "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): f(1)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertTrue(True)",
]


@pytest.mark.parametrize("tests", EMPTY)
@pytest.mark.parametrize("score", ["all", "fraction"])
@pytest.mark.parametrize("body", ["return x + 1", "return []", "pass"])
def test_tests_that_assert_nothing_are_no_tests(sandbox, tests, score, body):
    with pytest.raises(ValueError, match="prove nothing: the tests assert nothing of the program"):
        code(fenced(f"def f(x):\n    {body}"), problem(tests, entry_point="f"), sandbox, score=score)


ASSERTING = [
    "if f(1) != 2:\n    raise AssertionError('no')",
    "if f(1) == 2:\n    pass\nelse:\n    assert False",
    "import sys\nif not f(1) == 2: sys.exit(1)",
    "try:\n    f('a')\nexcept TypeError:\n    pass\nelse:\n    raise AssertionError",
    "import pytest\ndef test_it():\n    with pytest.raises(TypeError):\n        f('a')",
    "import pytest\ndef test_it():\n    if f(1) != 2:\n        pytest.fail('no')",
    "def same(a, b):\n    assert a == b\ndef test_it():\n    same(f(1), 2)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_it(self): self.assertEqual(f(1), 2)",
    "for n in (1, 2):\n    match f(n):\n        case m if m == n + 1: pass\n        case _: raise ValueError",
]


@pytest.mark.parametrize("tests", ASSERTING)
def test_whatever_can_fail_is_an_assertion(sandbox, tests):
    assert code(fenced("def f(x): return x + 1"), problem(tests), sandbox).status == "right"
    assert code(fenced("def f(x): return 0"), problem(tests), sandbox).status == "wrong"


def test_a_program_that_keeps_the_tests_from_asserting_is_wrong(sandbox):
    tests = "for got in f(1):\n    assert got == 1"
    found = code(fenced("def f(x): return []"), problem(tests), sandbox)
    assert (found.status, found.why) == ("wrong", "no assertion of the tests was come to")
    assert code(fenced("def f(x): return [1]"), problem(tests), sandbox).status == "right"


def test_a_test_that_asserts_nothing_is_no_part_of_the_fraction(sandbox):
    tests = ["f(1)", "assert f(1) == 2", "assert f(2) == g"]
    given = problem(tests, test_setup_code="g = 3")
    assert code(fenced("def f(x): return x + 1"), given, sandbox, score="fraction").score == 1
    assert code(fenced("def f(x): return 2"), given, sandbox, score="fraction").score == 0.5
    assert code(fenced("def f(x): return 0"), given, sandbox, score="fraction").score == 0


LISTED = {"test_list": ["assert f(1) == 2"]}
PAIRS = {"inputs": ["1\n"], "outputs": ["1\n"]}


@pytest.mark.parametrize("answer", ["add", "", "It adds one.", "def f(x):\n    return x", ["add"], 3, {}])
def test_an_answer_that_holds_no_tests_leaves_them_to_the_meta(sandbox, answer):
    given = problem(answer, **LISTED)
    assert code(fenced("def f(x): return x + 1"), given, sandbox).status == "right"
    assert code(fenced("def f(x): return x"), given, sandbox).status == "wrong"
    assert code(fenced("print(input())"), problem(answer, **PAIRS), sandbox).status == "right"
    assert code(fenced("print(2)"), problem(answer, **PAIRS), sandbox).status == "wrong"


@pytest.mark.parametrize("answer", ["assert f(1) == 3", ["assert f(1) == 3"], {"test": "assert f(1) == 3"}])
def test_an_answer_that_holds_tests_comes_before_the_meta(sandbox, answer):
    assert code(fenced("def f(x): return x + 2"), problem(answer, **LISTED), sandbox).status == "right"
    assert code(fenced("def f(x): return x + 1"), problem(answer, **LISTED), sandbox).status == "wrong"


def test_an_answer_in_words_without_tests_anywhere_is_an_error():
    with pytest.raises(ValueError, match="are no Python"):
        code(fenced("x = 1"), problem("It adds one."), None)
