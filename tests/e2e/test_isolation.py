"""Runs that run programs: what holds those is found before the model loads, and is in every record."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import read_manifest
from tests.e2e.running import REPO, here
from tests.sandbox.executor import executor
from tests.tiny import saved

VERIFIERS = """
from rlvr import verifier


@verifier(explain=lambda completion, sandbox: [("tier", sandbox.tier)])
def ran(completion: str, sandbox) -> bool:
    return sandbox.run("print(6 * 7)").stdout == "42\\n"


@verifier
def plain(completion: str) -> bool:
    return "4" in completion
"""
RECIPE = """\
model: ./model
problems: {source: rows.jsonl, prompt: plain}
verifier: {name: "./v.py:ran", timeout: 30 s}
sampling: {group_size: 2, max_tokens: 4}
optim: {learning_rate: 1e-3, problems_per_step: 2}
eval: {benchmarks: [./held.jsonl]}
run: {steps: 1, dir: made, name: run, threads: 1, verify_workers: 1}
"""
LOUD = "WARNING: --unsafe-no-isolation"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture
def place(tmp_path, monkeypatch, capsys, model):
    """A folder with such a recipe: `said(*arguments)` is the exit code of `rlvr`, and all that it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RLVR_DATA_DIR", raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "v.py").write_text(VERIFIERS)
    (tmp_path / "r.yaml").write_text(RECIPE)
    for name in ("rows", "held"):
        (tmp_path / f"{name}.jsonl").write_text('{"question": "2+2?", "answer": "4"}\n' * 2)

    def said(*arguments):
        capsys.readouterr()
        code = here(*arguments)
        told = capsys.readouterr()
        return code, told.out + told.err

    return SimpleNamespace(path=tmp_path, said=said, folder=RunFolder(tmp_path / "made" / "run"))


def bare(folder, *arguments):
    """The same where the kernel refuses namespaces and Landlock."""
    path = os.pathsep.join([str(REPO), str(REPO / "verifiers")])
    done = subprocess.run(
        [sys.executable, str(REPO / "tests/sandbox/bare.py"), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def header(record):
    return json.loads(Path(record).read_text().splitlines()[0])["header"]


def test_a_run_and_its_evaluations_name_the_tier_and_what_it_leaves_open(place):
    code, said = place.said("train", "r.yaml")
    assert code == 0, said
    assert LOUD not in said
    held = read_manifest(place.folder).sandbox
    assert held.startswith(("tier A", "tier B"))
    assert "open: kernel" in held
    assert header(place.folder.eval_file(1, "held"))["sandbox"] == held
    assert held in " ".join(place.said("runs", "show", "made/run")[1].split())
    rows = [json.loads(line) for line in place.folder.metrics.read_text().splitlines()]
    assert [row["metrics"]["verify/right_share"] for row in rows if row["kind"] == "train"] == [1.0]


def test_a_run_that_runs_no_programs_tries_and_records_nothing(place):
    (place.path / "r.yaml").write_text(RECIPE.replace(":ran", ":plain"))
    code, said = bare(place.path, "train", "r.yaml", "--unsafe-no-isolation")
    assert code == 0, said
    assert LOUD not in said
    assert read_manifest(place.folder).sandbox == ""
    assert "sandbox" not in header(place.folder.eval_file(1, "held"))


def test_where_nothing_holds_programs_a_run_is_refused_before_its_model_loads(place):
    (place.path / "model").unlink()
    (place.path / "model").mkdir()
    (place.path / "model" / "config.json").write_text("{}")
    code, said = bare(place.path, "train", "r.yaml")
    assert code == 3
    for words in ("tier A: ", "tier B: ", "rlvr doctor", "sandbox: {remote:", "--unsafe-no-isolation"):
        assert words in said
    assert not place.folder.path.exists()
    asked = ("--problem-json", "p.json", "--completion", "x")
    (place.path / "p.json").write_text('{"answer": ""}')
    for command in (("eval", "model", "-b", "held.jsonl", "--verifier", "./v.py:ran"),
                    ("verifier", "try", "./v.py:ran", *asked),
                    ("verifier", "explain", "./v.py:ran", *asked)):  # fmt: skip
        code, said = bare(place.path, *command)
        assert code == 3
        assert "cannot hold them apart, so none is run" in said


def test_without_isolation_it_is_said_once_and_marked_for_good(place):
    code, said = bare(place.path, "train", "r.yaml", "--unsafe-no-isolation")
    assert code == 0, said
    assert said.count(LOUD) == 1
    marked = read_manifest(place.folder).sandbox
    assert marked.startswith("tier none; open: everything")
    assert header(place.folder.eval_file(1, "held"))["sandbox"] == marked
    # The flag is of one command: a resume asks for it again, or has walls.
    assert bare(place.path, "train", "--resume", "made/run", "--set", "run.steps=2")[0] == 3
    code, said = place.said("train", "--resume", "made/run", "--set", "run.steps=2")
    assert code == 0, said
    manifest = read_manifest(place.folder)
    assert manifest.sandbox.startswith(("tier A", "tier B"))
    (note,) = [note for note in manifest.fallbacks if "sandbox" in note]
    assert note.startswith(f"sandbox until step 1: {marked}; from there on: tier ")


def test_an_evaluation_names_what_held_its_programs(place):
    asked = ("eval", "model", "-b", "held.jsonl", "--verifier", "./v.py:ran", "--max-tokens", "4")
    code, said = place.said(*asked, "--out", "walls")
    assert code == 0, said
    assert header("walls/held.jsonl")["sandbox"].startswith(("tier A", "tier B"))
    assert "isolation" not in said
    code, said = place.said(*asked, "--out", "open", "--unsafe-no-isolation", "--workers", "1")
    assert code == 0, said
    assert said.count(LOUD) == 1
    assert "programs ran without isolation" in said
    (result,) = json.loads(Path("open/results.json").read_text())["results"]
    assert result["evidence"]["sandbox"].startswith("tier none")
    code, said = place.said(*asked, "--out", "open")
    assert code == 3
    assert "records another measurement (sandbox: tier none" in said


def test_an_executor_runs_the_programs_of_a_run_and_of_its_evaluation(place):
    with executor() as url:
        (place.path / "r.yaml").write_text(f"{RECIPE}sandbox: {{remote: '{url}', kind: piston}}\n")
        code, said = bare(place.path, "train", "r.yaml")
        assert code == 0, said
        assert read_manifest(place.folder).sandbox.startswith("tier R; ")
        assert header(place.folder.eval_file(1, "held"))["sandbox"].startswith("tier R; ")
        code, said = bare(place.path, "eval", "made/run", "-b", "held.jsonl", "--out", "own")
        assert code == 0, said
        assert header("own/held.jsonl")["sandbox"].startswith("tier R; ")
    with executor() as other:
        code, said = bare(place.path, "train", "--resume", "made/run", "--set", f"sandbox.remote={other}")
        assert code == 0, said
    code, said = place.said("train", "--resume", "made/run")
    assert code == 3
    assert f"no piston executor that runs Python answers at {other}" in said
    asked = ("eval", "model", "-b", "held.jsonl", "--verifier", "./v.py:ran", "--max-tokens", "4")
    with executor() as url:
        code, said = bare(place.path, *asked, "--out", "far", "--sandbox", url)
        assert code == 0, said
    assert header("far/held.jsonl")["sandbox"].startswith("tier R; ")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sandbox", "here:80"), "--sandbox here:80: must be an address such as http://"),
        (("--sandbox", "http://a:80", "--sandbox-kind", "pistn"), "must be sandboxfusion or piston"),
        (("--sandbox-kind", "piston"), "give its address, --sandbox URL"),
        (("--sandbox", "http://a:80", "--unsafe-no-isolation"), "drop one"),
    ],
)
def test_what_an_evaluation_is_told_of_an_executor_is_checked(place, options, words):
    code, said = place.said("eval", "model", "-b", "held.jsonl", "--verifier", "./v.py:ran", *options)
    assert (code, words in said) == (2, True), said


def test_a_verifier_is_tried_and_questioned_without_isolation_on_demand(place):
    asked = ("./v.py:ran", "--completion", "x", "--answer", "", "--timeout", "30 s", "--unsafe-no-isolation")
    for command in ("try", "explain"):
        code, said = bare(place.path, "verifier", command, *asked)
        assert code == 0, said
        assert said.count(LOUD) == 1
        assert "right" in said
    assert "none" in said
    code, said = place.said("verifier", "explain", *asked[:-1])
    assert (code, LOUD in said) == (0, False), said
    assert "tier" in said
