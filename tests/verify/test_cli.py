"""`rlvr verifier`: what it writes runs, and what it tries runs under the limits of a real worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlvr.cli.verifier import app
from rlvr.errors import VerifierError

HOSTILE = Path(__file__).parent / "hostile.py"
STORY = "rlvr_verifiers.story:story"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments):
    result = run(*arguments)
    assert isinstance(result.exception, VerifierError), result.output
    return str(result.exception)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mode", ["importlib", "prepend"])
def test_a_new_verifier_passes_its_own_test(folder, mode):
    assert run("new", "capital").exit_code == 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", f"--import-mode={mode}", "test_capital.py"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout
    tried = run("try", "./capital.py:capital", "--completion", "It is Paris.", "--answer", "paris")
    assert (tried.exit_code, "right" in tried.output) == (0, True)


def test_new_overwrites_nothing(folder):
    (folder / "test_mine.py").write_text("precious")
    assert "test_mine.py exists" in refused("new", "mine")
    assert not (folder / "mine.py").exists()
    assert (folder / "test_mine.py").read_text() == "precious"


@pytest.mark.parametrize("name", ["two words", "1st", "class", "../up", "a.b"])
def test_new_wants_a_python_name(folder, name):
    assert "no Python name" in refused("new", name)
    assert list(folder.iterdir()) == []


def test_try_takes_options_and_a_problem(folder):
    problem = folder / "problem.json"
    problem.write_text(json.dumps({"answer": None, "meta": {"nums": [3, 4, 5], "target": 7}}))
    name = "rlvr_verifiers.countdown:countdown"
    given = ["try", name, "--problem-json", problem, "--completion", "<answer>3+4</answer>"]
    assert "right" in run(*given).output
    assert "5 is not used" in run(*given, "--option", "use_all=true").output
    assert "did you mean `use_all`" in refused(*given, "--option", "use_al=true")
    assert "write KEY=VALUE" in refused(*given, "--option", "use_all")


def test_try_checks_a_file_of_rows(folder):
    rows = [
        {"completion": "<think></think><answer>4", "answer": 4, "status": "right"},
        {"completion": "4", "answer": 4, "status": "no_answer"},
    ]
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert run("try", STORY, "--file", "rows.jsonl").exit_code == 0
    rows[1]["status"] = "right"
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    missed = run("try", STORY, "--file", "rows.jsonl")
    assert missed.exit_code == 1
    assert "EXPECTED right" in missed.output.splitlines()[1]


def test_try_kills_what_hangs_and_shows_what_breaks():
    hung = run(
        "try", f"{HOSTILE}:misbehaves", "--completion", "sleep", "--answer", "x", "--timeout", "300 ms"
    )
    assert "timeout" in hung.output
    assert "within 0.3 s" in hung.output
    broken = run("try", f"{HOSTILE}:misbehaves", "--completion", "raise_value_error", "--answer", "x")
    assert broken.exit_code == 1
    assert "the gold is unreadable" in broken.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no rows"),
        ('{"completion": "a", "answer": 1}\nnot json', "rows.jsonl:2: not JSON"),
        ('{"completion": "a"}', "rows.jsonl:1: a row needs"),
        ('{"completion": 3, "answer": 1}', "rows.jsonl:1: a row needs"),
        ('{"completion": "a", "answer": 1, "status": "rihgt"}', "rows.jsonl:1: status `rihgt`"),
        ('{"completion": "a", "answer": 1, "messages": [1]}', "row 1: `messages`"),
    ],
)
def test_bad_rows_are_named(folder, text, said):
    Path("rows.jsonl").write_text(text)
    assert said in refused("try", STORY, "--file", "rows.jsonl")


def test_bad_arguments_are_explained(folder):
    assert "give --completion" in refused("try", STORY)
    assert "cannot be read" in refused("try", STORY, "--file", "absent.jsonl")
    assert "5 parsecs" in refused(
        "try", STORY, "--completion", "a", "--answer", "1", "--timeout", "5 parsecs"
    )
    assert "no verifier `storry`" in refused("try", "storry", "--completion", "a", "--answer", "1")


def test_list_shows_the_registered_ones_with_their_options(tmp_path, monkeypatch):
    info = tmp_path / "shown-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shown\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlvr.verifiers]\nshown = rlvr_verifiers.exact:exact\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = run("list").output
    assert "shown        Right when the `<answer>` tag" in listed
    assert "ignore_case: bool = False" in listed
