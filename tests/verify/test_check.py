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
