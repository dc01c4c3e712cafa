"""`rlvr verifier check`: golds that fail, probes that pass and tests that ask the program are found."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from rlvr.cli.verifier import app
from rlvr.errors import ProblemsError, VerifierError
from tests.checkout import ROOT

CODE = "rlvr_verifiers.code:code"


@pytest.fixture
def checked(tmp_path, monkeypatch):
    def check(name, rows, *more):
        monkeypatch.chdir(tmp_path)
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
        return CliRunner().invoke(app, ["check", name, "--file", "rows.jsonl", "--workers", "1", *more])

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
    assert result.output == "1 row: 1 gold right, 0 not\n"


def test_what_is_wrong_is_named_and_exits_with_1(checked):
    bad = {**GOOD, "task_id": "bad", "code": "def f(x): return x"}
    weak = {"task_id": "weak", "test_list": ["assert f(2) == 4"], "code": "def f(x): return 4"}
    own = {"task_id": "own", "tests": "def test():\n    assert [f(2)] == [f(2)]\n    assert [f(2)] == [4]\n"}
    none = {"task_id": "none", "prompt": "?"}
    result = checked(CODE, [GOOD, bad, weak, own, none])
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "rows.jsonl:2 (bad): its gold is judged wrong: test 1: f(2): got 2, expected 4",
        "rows.jsonl:3 (weak): passed by `constant`: always returns an expected value, 4",
        "rows.jsonl:4 (own): self_reported: values of the program on both sides of a comparison (1):"
        " compare with values of the tests",
        "rows.jsonl:5 (none): nothing can be tried: no tests in a form that `code` knows (docs/code.md);"
        " fields: task_id, prompt",
        "5 rows: 2 golds right, 1 not, 1 row without one; 1 row that cannot be tried",
        "gold not right: 1 row (mend the gold or the tests, or drop the row): rows.jsonl:2",
        "without a gold: 1 row (probes alone were tried): rows.jsonl:4",
        "passed by `constant`: 1 row (add a test that it fails, or drop the row): rows.jsonl:3",
        "self_reported: 1 row: rows.jsonl:4",
    ]


def test_bad_rows_are_all_named_and_the_others_tried(checked):
    torn = {**GOOD, "messages": "hello"}
    result = checked(CODE, ["{", GOOD, "[1]", torn, {**GOOD, "code": "def f(x):\n    return 0\n"}])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].startswith("rows.jsonl:1: is not JSON: Expecting property name")
    assert lines[1] == "rows.jsonl:3: is a list, not an object with fields: mend the row or drop it"
    assert lines[2].startswith("rows.jsonl:4: `messages` is a list of {role, content}")
    assert lines[3].startswith(
        "rows.jsonl:5 (good): its gold is judged wrong: test 1: f(2): got 0, expected 4"
    )
    assert lines[4] == "5 rows: 1 gold right, 1 not; 3 rows that cannot be read"


@pytest.mark.parametrize(
    "gold", ["```python\ndef f(x): return x * x\n```", "It is:\n~~~\ndef f(x): return x * x\n~~~"]
)
def test_a_gold_in_fences_is_read_as_its_block(checked, gold):
    assert checked(CODE, [{**GOOD, "code": gold}]).output == "1 row: 1 gold right, 0 not\n"


def test_fences_in_a_gold_that_is_python_are_a_part_of_it(checked):
    row = {
        "task_id": "body",
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9",
        "canonical_solution": '    """As in\n\n    ```python\n    0\n    ```\n    """\n    return x * x\n',
    }
    assert checked(CODE, [row]).output == "1 row: 1 gold right, 0 not\n"


def test_limits_and_faults_of_golds_are_told_in_sentences(checked):
    endless = {**GOOD, "code": "def f(x):\n    while True: pass"}
    raising = {**GOOD, "code": "def f(x): raise ValueError('too small')"}
    leaving = {**GOOD, "code": "import os\ndef f(x): os._exit(0)"}
    lines = checked(CODE, [endless, raising, leaving], "--option", "cpu_s=0.5").output.splitlines()
    assert lines[0].endswith(
        "its gold is out of time: test 1: f(2): it was killed at its time limit, expected 4"
    )
    assert lines[1].endswith("judged wrong: test 1: f(2): it raised ValueError: too small, expected 4")
    assert lines[2].endswith("judged wrong: test 1: f(2): it ended before it answered, expected 4")


def test_the_answer_may_be_a_template_and_must_be_in_some_row(checked):
    rows = [{"question": "?", "solution": {"final": "42"}}, {"question": "?", "solution": {"final": "43"}}]
    math = "rlvr_verifiers.math:math"
    assert checked(math, rows, "--answer", "{solution.final}").exit_code == 0
    assert checked(math, rows, "--answer", "solution.final").exit_code == 0
    result = checked(math, rows, "--answer", "solutoin")
    assert isinstance(result.exception, VerifierError)
    assert str(result.exception) == (
        "--answer solutoin: no row of rows.jsonl has it: no field `solutoin`; did you mean `solution`?"
        " (the row has: question, solution)"
    )
    assert "names no field" in str(checked(math, rows, "--answer", "{}").exception)
    some = checked(math, [*rows, {"question": "?"}], "--answer", "solution.final")
    assert some.exit_code == 1
    assert "rows.jsonl:3: no field `solution.final`" in some.output


SLOW = """
import os, time
from rlvr import verifier

@verifier(trials=lambda problem: ([problem.answer], {}, []), timeout_s=60)
def slow(completion: str, answer: str) -> bool:
    if completion == "never":
        time.sleep(60)
    return True
"""


def begun(tmp_path, **streams):
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "rows.jsonl").write_text('{"answer": "now"}\n{"answer": "never"}\n{"answer": "now"}\n')
    program = (
        "import sys\nfrom rlvr.cli import verifier_check\nfrom rlvr.cli.app import answer, app\n"
        "verifier_check.TELLING_S = 0.2\nsys.exit(answer(app, sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "verifier", "check", "./slow.py:slow", "--file", "rows.jsonl"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [*command, "--workers", "2"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        **streams,
    )


def test_ctrl_c_says_what_was_checked(tmp_path):
    """And at a terminal, how far it was before that."""
    ours, theirs = pty.openpty()
    process = begun(tmp_path, stderr=theirs)
    os.close(theirs)
    said = b""
    while b"1 of 3 rows checked" not in said:
        said += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    said += os.read(ours, 10000)
    os.close(ours)
    assert process.returncode == 130
    assert out == "1 row: 1 gold right, 0 not\n"
    assert said.decode().splitlines()[-1] == "stopped: 1 of 3 rows checked"
    assert "Traceback" not in said.decode()


def test_no_progress_is_written_to_a_pipe(tmp_path):
    process = begun(tmp_path, stderr=subprocess.PIPE)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1].count("\n") == 1


def test_every_row_of_mbpp_plus_is_read(checked):
    data = ROOT / ".." / "shared" / "data" / "mbppplus" / "test.jsonl"
    if not data.exists():
        pytest.skip("needs mbppplus in ../shared/data")
    [row] = [line for line in data.read_text(encoding="utf-8").splitlines() if "-Infinity" in line]
    assert checked(CODE, [row]).output == "1 row: 1 gold right, 0 not\n"


def test_tests_that_assert_nothing_are_found_where_no_gold_is_given(checked):
    result = checked(CODE, [{"task_id": "empty", "answer": "def never():\n    assert f(1) == 2"}])
    assert result.exit_code == 1
    assert (
        "rows.jsonl:1 (empty): nothing can be tried: ValueError: the problem's tests prove nothing"
        in result.output
    )


def test_nan_exits_and_echoes_are_tried_and_other_remarks_are_counted_by_their_label(checked):
    rows = [
        {"task_id": "nan", "tests": "def test():\n    assert not abs(f(2) - 4) > 1e-6\n"},
        {"task_id": "echo", "test_list": ["assert f('a') == 'a'", "assert f('b') == 'b'"]},
        {"task_id": "exit", "tests": [{"input": "x", "output": ""}, {"input": "y", "output": ""}]},
        {"task_id": "any", "problem": "If there are several answers, print any.", "tests": READS},
        {"task_id": "judged", "problem": "Guess.", "tests": READS, "generated_checker": "print(1)"},
    ]
    output = checked(CODE, rows).output
    assert "rows.jsonl:1 (nan): passed by `nan`: always returns NaN\n" in output
    assert "rows.jsonl:2 (echo): passed by `echo`: returns its argument\n" in output
    assert (
        "rows.jsonl:3 (exit): passed by `none`: prints nothing; `exit`: ends the process with code 0;"
        " `constant`: always prints what test 1 expects, ''\n" in output
    )
    assert (
        "(any): several_answers: 'several answers, print any': right programs may be taken for wrong"
        in output
    )
    assert "(judged): nothing can be tried: `generated_checker` judges this problem" in output
    assert "\npassed by any: 3 rows: rows.jsonl:1, 2, 3\nseveral_answers: 1 row: rows.jsonl:4\n" in output


def test_other_verifiers_have_their_answer_as_gold(checked):
    rows = [{"question": "How many?", "answer": "42"}, {"question": "Is it 7? Is \\boxed{7}.", "answer": "7"}]
    result = checked("rlvr_verifiers.math:math", rows)
    assert result.exit_code == 1
    assert "rows.jsonl:2: passed by `echo`: repeats the question\n" in result.output
    assert "2 rows: 2 golds right, 0 not" in result.output
    renamed = [{"question": "How many?", "result": "42"}]
    assert checked("rlvr_verifiers.math:math", renamed, "--answer", "result").exit_code == 0
    assert (
        "it has no answer; name its field with --answer (the row has: question, result)"
        in checked("rlvr_verifiers.math:math", renamed).output
    )


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
        "rows.jsonl:1 (a): passed by `lower`\nrows.jsonl:1 (a): short: one word\n"
        "rows.jsonl:2 (b): nothing can be tried: it has no answer" in result.output
    )
    assert "short: 1 row: rows.jsonl:1" in result.output
    assert "lists and a dict of texts" in checked(f"{tmp_path}/own.py:numbers", [{"answer": "yes"}]).output
