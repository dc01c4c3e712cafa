"""What a second attack found: wrong programs that passed weak tests unseen, honest ones that failed."""

import time

import pytest
from rlvr_verifiers.code import code
from rlvr_verifiers.code.fences import find_program

from tests.verifiers.test_code import CHECK, fenced, problem


@pytest.mark.parametrize(
    "line", ["```" + " " * 3000 + "`", "\t" * 3000 + "~~~" + " " * 3000 + "x`", "~" * 10**5 + "`"]
)
def test_a_long_line_does_not_hold_up_the_search_for_fences(line):
    started = time.process_time()
    assert find_program(f"{line}\n```python\nx = 1\n```").program == "x = 1"
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "first",
    [
        '"""Doc."""\nfrom __future__ import annotations',
        "# x\nfrom __future__ import (\n    annotations)",
        "from __future__ import annotations",
        '"""Lines\u2028of\x0cothers."""\nfrom __future__ import annotations',
    ],
)
def test_what_the_prompt_defines_stands_behind_future_imports(sandbox, first):
    prompt = 'from typing import List\ndef f(x):\n    """Square."""\n'
    asked = problem(test=CHECK, prompt=prompt, entry_point="f")
    verdict = code(fenced(f"{first}\ndef f(x: List) -> 'List': return x * x"), asked, sandbox)
    assert verdict.status == "right", verdict


def test_a_fraction_may_be_near(sandbox):
    asked = problem(test_list=["assert abs(f(3) - 0.3333333) < 1e-6"])
    program = "from fractions import Fraction\ndef f(n): return Fraction(1, n)"
    assert code(fenced(program), asked, sandbox).status == "right"
    assert code(fenced(program.replace("1, n", "1, n + 1")), asked, sandbox).status == "wrong"


@pytest.mark.parametrize(
    ("test", "program"),
    [
        ("assert f(1) == {(1, 2)}", "def f(n): return {1: [1]}.items()"),
        ("assert set(f(1)) == {(1, 2)}", "def f(n): return [[1]]"),
        ("assert abs(f(1) - 1j) < 1e-6", "def f(n): return 1"),
        ("assert abs(f(1) - 1j) < 1e-6", "def f(n): return True"),
        ("assert abs(f(1) - 0.5) < 1e-6", "def f(n): return 10**400"),
        ("assert f(1) == 1", "def f(n): return 10**20000"),
    ],
)
def test_a_comparison_that_raises_is_a_wrong_value_not_an_error_of_ours(sandbox, test, program):
    """An error would take the completion out of its group: nothing for a policy to aim at."""
    assert code(fenced(program), problem(test_list=[test]), sandbox).status == "wrong"


def test_complex_numbers_may_be_near(sandbox):
    asked = problem(test_list=["assert abs(f(1) - (1 + 0j)) < 1e-6", "assert abs(f(1j) - 1j) < 1e-6"])
    assert code(fenced("def f(x): return x"), asked, sandbox).status == "right"


def test_a_probe_empties_what_the_tests_compare_with(sandbox):
    asked = problem("def test_it():\n    x = [3, 1]\n    assert f(x) == sorted(x)\n")
    _, probes, _ = code.trials(asked)
    passing = [name for name, probe in probes.items() if code(probe, asked, sandbox).status == "right"]
    assert passing == ["emptied: empties its argument and returns it"]
