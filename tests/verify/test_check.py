"""`rlvr verifier check`: golds that fail, probes that pass and tests that ask the program are found."""

import json

import pytest
from typer.testing import CliRunner

from rlvr.cli.verifier import app
from rlvr.errors import ProblemsError

CODE = "rlvr_verifiers.code:code"


@pytest.fixture
def checked(tmp_path):
    def check(name, rows, *more):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return CliRunner().invoke(app, ["check", name, "--file", str(file), "--workers", "1", *more])

    return check


GOOD = {
    "task_id": "good",
    "test_list": ["assert f(2) == 4", "assert f(3) == 9"],
    "code": "def f(x): return x * x",
}
READS = [{"input": "2", "output": "4"}, {"input": "3", "output": "9"}]


def test_sound_rows_are_counted(checked):
    result = checked(CODE, [GOOD])
    assert result.exit_code == 0, result.output
    assert "1 rows: golds 1 right, 0 not, 0 rows without one; 0 rows that cannot be tried" in result.output


def test_what_is_wrong_is_named_and_exits_with_1(checked):
    bad = {**GOOD, "task_id": "bad", "code": "def f(x): return x"}
    weak = {"task_id": "weak", "test_list": ["assert f(2) == 4"], "code": "def f(x): return 4"}
    own = {"task_id": "own", "tests": "def test():\n    assert [f(2)] == [f(2)]\n    assert [f(2)] == [4]\n"}
    none = {"task_id": "none", "prompt": "?"}
    result = checked(CODE, [GOOD, bad, weak, own, none])
    assert result.exit_code == 1
    assert "bad: its gold is wrong: test 1: f(2): got 2, expected 4" in result.output
    assert "weak: passed by: constant" in result.output
    assert "own: self_reported: 1 comparisons" in result.output
    assert "none: nothing can be tried: no tests in a form" in result.output
    assert "5 rows: golds 2 right, 1 not, 1 rows without one; 1 rows that cannot be tried" in result.output
    assert "passed by `constant`: 1 rows: weak" in result.output
    assert "self_reported: 1 rows: own" in result.output


def test_tests_that_assert_nothing_are_found_where_no_gold_is_given(checked):
    result = checked(CODE, [{"task_id": "empty", "answer": "def never():\n    assert f(1) == 2"}])
    assert result.exit_code == 1
    assert "empty: nothing can be tried: ValueError: the problem's tests prove nothing" in result.output


def test_nan_exits_and_echoes_are_tried_and_other_remarks_are_counted_by_their_label(checked):
    rows = [
        {"task_id": "nan", "tests": "def test():\n    assert not abs(f(2) - 4) > 1e-6\n"},
        {"task_id": "echo", "test_list": ["assert f('a') == 'a'", "assert f('b') == 'b'"]},
        {"task_id": "exit", "tests": [{"input": "x", "output": ""}, {"input": "y", "output": ""}]},
        {"task_id": "any", "problem": "If there are several answers, print any.", "tests": READS},
        {"task_id": "judged", "problem": "Guess.", "tests": READS, "generated_checker": "print(1)"},
    ]
    output = checked(CODE, rows).output
    assert "nan: passed by: nan" in output
    assert "echo: passed by: echo\n" in output
    assert "exit: passed by: none, exit, constant" in output
    assert (
        "any: several_answers: 'several answers, print any': right programs may be taken for wrong" in output
    )
    assert "judged: nothing can be tried: `generated_checker` judges this problem" in output
    assert "several_answers: 1 rows: any" in output
    assert "self_reported: 0 rows" in output


def test_other_verifiers_have_their_answer_as_gold(checked):
    rows = [{"question": "How many?", "answer": "42"}, {"question": "Is it 7? Is \\boxed{7}.", "answer": "7"}]
    result = checked("rlvr_verifiers.math:math", rows)
    assert result.exit_code == 1
    assert "row 2: passed by: echo" in result.output
    assert "2 rows: golds 2 right" in result.output
    renamed = [{"question": "How many?", "result": "42"}]
    assert checked("rlvr_verifiers.math:math", renamed, "--answer", "result").exit_code == 0
    assert "--answer" in checked("rlvr_verifiers.math:math", renamed).output


def test_a_bad_file_is_refused(checked, tmp_path):
    assert isinstance(checked(CODE, []).exception, ProblemsError)
    (tmp_path / "no.jsonl").write_text("{\n")
    result = CliRunner().invoke(app, ["check", CODE, "--file", str(tmp_path / "no.jsonl")])
    assert "not JSON" in str(result.exception)


TRYING = """
from rlvr import verifier

def trials(problem):
    if problem.answer is None:
        raise ValueError("it has no answer")
    return [problem.answer.upper()], {"lower": problem.answer.lower()}, ["short: one word"]

@verifier(trials=trials)
def shouted(completion: str, answer: str) -> bool:
    return completion.upper() == answer.upper()

@verifier(trials=lambda problem: ([1], {}, []))
def numbers(completion: str) -> bool:
    return True
"""


def test_a_verifier_of_ones_own_says_what_to_try(checked, tmp_path):
    (tmp_path / "own.py").write_text(TRYING)
    result = checked(f"{tmp_path}/own.py:shouted", [{"id": "a", "answer": "yes"}, {"id": "b"}])
    assert result.exit_code == 1
    assert (
        "a: passed by: lower\na: short: one word\nb: nothing can be tried: it has no answer" in result.output
    )
    assert "short: 1 rows: a" in result.output
    assert "lists and a dict of texts" in checked(f"{tmp_path}/own.py:numbers", [{"answer": "yes"}]).output
