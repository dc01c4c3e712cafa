"""Test files of pytest: what `code` knows of it works as there, and what it does not know is an error."""

import math

import pytest
from rlvr_verifiers.code import code, pytest_stand_in
from rlvr_verifiers.code.forms import suite_of

from rlvr.types import Problem

NUMBERS = [0, 1, True, 0.1 + 0.2, 0.3, 1e-13, -1.0, 1.0000005, 1.00001, 1e300, 10**25, 1j, 1j + 1e-9]
NUMBERS += [
    math.inf,
    -math.inf,
    math.nan,
    None,
    "1",
    [1.0],
    (1.0,),
    [1.0 + 1e-9],
    {"a": 1.0},
    {"a": 1.0 + 1e-9},
]


@pytest.mark.parametrize(
    "limits", [{}, {"rel": 1e-3}, {"abs": 1e-3}, {"rel": 1e-9, "abs": 2.0}, {"nan_ok": True}]
)
def test_approx_says_what_pytests_own_says(limits):
    for expected in NUMBERS:
        if limits and (expected is None or isinstance(expected, str)):
            continue  # pytest wants a number where there are limits
        theirs, ours = pytest.approx(expected, **limits), pytest_stand_in.approx(expected, **limits)
        for got in NUMBERS:
            assert (got == ours) is bool(got == theirs), (got, expected)
            assert (got != ours) is bool(got != theirs), (got, expected)


def fenced(program):
    return f"```python\n{program}\n```"


def problem(tests):
    return Problem(id="p", messages=(), answer=tests, meta={})


GOOD = """
from typing import Iterator
import pytest
from pytest import approx as near, fixture

TABLE = [(2, 4), pytest.param(3, 9, id="three")]

@fixture
def base():
    return 2

@pytest.fixture()
def square(base) -> Iterator[int]:
    state.append("made")
    yield base * base
    state.append("gone")

@pytest.fixture(scope="module")
def once():
    state.append("once")
    return len(state)

state = []

@pytest.mark.parametrize("x, y", TABLE, ids=str)
@pytest.mark.parametrize("z", [1, 2])
def test_rows(x, y, z, base):
    assert f(x) * z == y * z
    assert base == 2

def test_fixtures(square, base, once, twice=2):
    assert state[-1] in ("made", "once")
    assert f(base) == square
    assert once == len([s for s in state if s == "once"]) + state.index("once")

def test_raises():
    with pytest.raises((TypeError, ValueError), match="negative") as caught:
        f(-1)
    assert caught.type is ValueError and "negative" in str(caught.value)
    pytest.raises(ValueError, f, -2)
    assert f(0.1) == near(0.01)

class TestPlain:
    def test_it(self):
        assert f(5) == 25
"""
PROGRAM = """
def f(x):
    if x < 0:
        raise ValueError("x is negative")
    return x * x
"""


def test_what_is_known_runs(sandbox):
    assert code(fenced(PROGRAM), problem(GOOD), sandbox).status == "right"


@pytest.mark.parametrize(
    ("was", "now", "why"),
    [
        ("x * x", "25 if x == 5 else x + 2", "f(x) * z == y * z: got 5, expected 9"),
        ("x * x", "x * x if x > 1 else 0", "got 0, expected about 0.01"),
        ("ValueError(", "KeyError(", "KeyError"),
        ("is negative", "is too small", "does not match"),
        ('raise ValueError("x is negative")', "return 0", "did not raise"),
        ("return x * x", "import os; os._exit(0)", ""),
    ],
)
def test_what_fails_fails(sandbox, was, now, why):
    verdict = code(fenced(PROGRAM.replace(was, now)), problem(GOOD), sandbox)
    assert verdict.status == "wrong"
    assert why in verdict.why


@pytest.mark.parametrize(
    ("tests", "named"),
    [
        ("import pytest\n@pytest.mark.skip\ndef test_a(): assert f(1)", "pytest.mark.skip"),
        ("from pytest import mark\n@mark.asyncio\nasync def test_a(): assert f(1)", "pytest.mark.asyncio"),
        ("import pytest\ndef test_a():\n    pytest.importorskip('numpy')", "pytest.importorskip"),
        (
            "import pytest\n@pytest.fixture(params=[1])\ndef a(): ...\ndef test_a(a): ...",
            "pytest.fixture(params=...)",
        ),
        (
            "import pytest as pt\ndef test_a(tmp_path):\n    assert pt.approx(1) == f(1)",
            "`tmp_path` of `test_a`",
        ),
        ("def test_a(capsys):\n    assert f(1)", "`capsys` of `test_a`"),
        ("import pytest\nclass TestA:\n    @pytest.fixture\n    def a(self): ...", "`TestA.a`"),
        ("import pytest\nN = 'x'\n@pytest.mark.parametrize(N, [1])\ndef test_a(x): ...", "no literals"),
        ("import pytest\ndef test_a():\n    yield pytest.approx(1)", "a test that yields"),
    ],
)
def test_what_is_not_known_is_an_error_that_names_it(tests, named):
    with pytest.raises(ValueError, match="not known here") as caught:
        suite_of(problem(tests))
    assert named in str(caught.value)


def test_each_test_function_counts_for_itself(sandbox):
    half = fenced(PROGRAM.replace("is negative", "is too small"))
    assert code(half, problem(GOOD.partition("class")[0]), sandbox, score="fraction").score == 2 / 3
