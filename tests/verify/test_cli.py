"""`rlvr verifier`: what it writes runs, and what it tries runs under the limits of a real worker."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
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


EXPLAINING = """
import os
import subprocess
import sys
import time

from rlvr import Verdict, verifier


def how(completion, answer, problem, seed, *, depth):
    print("noise", flush=True)
    if completion == "hangs":
        while True:
            pass
    if completion == "starts another":
        with open("pid", "w") as file:
            file.write(str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid))
        time.sleep(600)
    if completion == "raises":
        raise KeyError("no such thing")
    if completion == "leaves":
        sys.exit(3)
    if completion == "dies":
        os._exit(3)
    if completion == "eats":
        return [("size", str(len(bytearray(2**31))))]
    if completion == "mumbles":
        return ["a", "b"]
    if completion == "says nothing":
        return []
    if completion == "rambles":
        return [("a" * 99, "b" * 10**6)] * 100
    rows = [("extracted", completion), ("a longer label", "line one\\nline two"), ("depth", f"{depth!r}")]
    return [*rows, ("hostile", "\\x1b[2Jx\\ud800"), ("meta", f"{problem.meta} {seed} {answer!r}")]


@verifier(explain=how)
def explaining(completion: str, answer: str, *, depth: float = 2, other: bool = False) -> Verdict:
    if completion == "hangs":
        time.sleep(60)
    if completion == "raises":
        raise ValueError("also broken")
    return Verdict(score=1.0, status="right", found="it\\x1b", why="as said", parts={"style": 0.5})
"""


def explain(completion, *more, gold="x"):
    Path("explaining.py").write_text(EXPLAINING)
    result = run("explain", "./explaining.py:explaining", "--gold", gold, "--completion", completion, *more)
    is_error = re.search(r"^verdict +error", result.output, re.MULTILINE)
    assert result.exit_code == (1 if is_error else 0), result.output
    return result.output.splitlines()


def test_explain_prints_what_the_verifier_says_and_the_verdict_aligned(folder):
    lines = explain("so it is", "--option", "depth=1", "--option", "other=true")
    verdict = lines.pop(7)
    assert re.fullmatch(r"verdict         right, score 1, \d+\.\d ms", verdict)
    assert lines == [
        "gold            x",
        "extracted       so it is",
        "a longer label  line one",
        "                line two",
        "depth           1.0",
        r"hostile         \x1b[2Jx\ud800",
        "meta            {} 0 'x'",
        r"found           it\x1b",
        "why             as said",
        "parts           style 0.5",
    ]
    assert "depth           2" in explain("so it is")


def test_explain_takes_a_file_and_a_problem(folder):
    Path("said.txt").write_text("from a file")
    Path("problem.json").write_text(json.dumps({"answer": 5, "meta": {"k": 1}}))
    Path("explaining.py").write_text(EXPLAINING)
    given = ["--file", "said.txt", "--problem-json", "problem.json"]
    output = run("explain", "./explaining.py:explaining", *given).output
    assert "from a file" in output
    assert "{'k': 1} 0 5" in output


@pytest.mark.parametrize(
    ("gold", "shown"),
    [
        ("x", "x"),
        ("1/2", "1/2"),
        ("5", "5"),
        ("0.50", "0.5 (a JSON float; for the text write '\"0.50\"')"),
        ("[1, 2]", "[1, 2] (a JSON list; for the text write '\"[1, 2]\"')"),
        ('"[1, 2]"', "[1, 2]"),
        ("[" * 10**5, "[" * 10**5),
    ],
    ids=lambda text: text[:9],
)
def test_explain_says_how_it_read_the_gold(folder, gold, shown):
    assert explain("a", gold=gold)[0].split(maxsplit=1) == ["gold", shown]


@pytest.mark.parametrize(
    ("completion", "said", "verdict"),
    [
        ("hangs", "none: it did not end within 0.4 s", "timeout"),
        ("raises", "none: KeyError: 'no such thing'", "error"),
        ("leaves", "none: SystemExit: 3", "right"),
        ("dies", "none: its process ended with exit code 3", "right"),
        ("eats", "none: MemoryError", "right"),
        ("mumbles", "none: TypeError: a is no (label, text) pair", "right"),
    ],
)
def test_an_explanation_that_fails_is_told_in_its_place(folder, completion, said, verdict):
    lines = explain(completion, "--timeout", "400 ms", "--memory", "1 GiB")
    assert lines[1].startswith(f"explanation  {said}")
    assert lines[2].startswith(f"verdict      {verdict}, score")


def test_a_killed_explanation_leaves_no_process_and_no_files(folder, monkeypatch):
    litter = folder / "litter"
    litter.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(litter))
    assert "did not end within 0.4 s" in explain("starts another", "--timeout", "400 ms")[1]
    pid = Path("pid").read_text()
    assert pid
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/exe").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}/exe").exists()
    assert list(litter.iterdir()) == []


def test_an_endless_explanation_is_cut(folder):
    lines = explain("rambles")
    assert len(lines) < 80
    assert max(map(len, lines)) < 2200
    assert any(line.startswith("...") and line.endswith("and 36 more") for line in lines)


def test_a_verifier_that_explains_nothing_says_so_after_its_verdict(folder):
    lines = run(
        "explain", STORY, "--gold", "4", "--completion", "<think></think><answer>5"
    ).output.splitlines()
    assert [line.split()[0] for line in lines] == ["gold", "verdict", "found", "verifier"]
    assert lines[1].startswith("verdict  wrong, score 0, ")
    assert lines[-1] == f"verifier `{STORY}` explains no more"
    assert explain("says nothing")[-1] == "verifier `./explaining.py:explaining` explains no more"


def test_bad_arguments_of_explain_are_explained(folder):
    Path("explaining.py").write_text(EXPLAINING)
    name = "./explaining.py:explaining"
    both = ["--completion", "a", "--gold", "x"]
    assert "give --completion and --answer" in refused("explain", name, "--gold", "x")
    assert "give --completion and --answer" in refused("explain", name, "--completion", "a")
    assert "give the completion once" in refused("explain", name, *both, "--file", "a.txt")
    assert "a.txt cannot be read" in refused("explain", name, "--gold", "x", "--file", "a.txt")
    assert "no option `dept`; did you mean `depth`" in refused("explain", name, *both, "--option", "dept=1")
    assert "`depth` = 'deep' is a str, not float" in refused("explain", name, *both, "--option", "depth=deep")
    assert "write KEY=VALUE" in refused("explain", name, *both, "--option", "depth")
    assert "no verifier `storry`" in refused("explain", "storry", *both)
    assert "5 parsecs" in refused("explain", name, *both, "--timeout", "5 parsecs")
    Path("problem.json").write_text("[1]")
    assert "a problem is a JSON object" in refused("explain", name, *both, "--problem-json", "problem.json")


def test_explain_of_a_check_that_failed_ends_with_1(folder):
    result = run("explain", "math", "--gold", "", "--completion", "7")
    assert result.exit_code == 1
    assert re.search(r"^verdict +error", result.output, re.MULTILINE)


def test_explain_loads_nothing_heavy(folder):
    Path("explaining.py").write_text(EXPLAINING)
    program = (
        "import sys\n"
        "from rlvr.cli.app import answer, app\n"
        "code = answer(app, sys.argv[1:])\n"
        "sys.exit(', '.join({'torch', 'transformers', 'vllm'} & set(sys.modules)) or code)"
    )
    arguments = ["verifier", "explain", "./explaining.py:explaining", "--gold", "x", "--completion", "a"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "verdict         right" in ran.stdout


def test_list_shows_the_registered_ones_with_their_options(tmp_path, monkeypatch):
    info = tmp_path / "shown-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shown\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rlvr.verifiers]\nshown = rlvr_verifiers.exact:exact\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = run("list").output
    assert "shown        Right when the `<answer>` tag" in listed
    assert "ignore_case: bool = False" in listed
