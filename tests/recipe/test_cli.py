# ruff: noqa: E501 - exact messages stand on one line
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rlvr.cli.recipe import app
from rlvr.errors import Interrupted, RecipeError, RunError
from rlvr.recipe.load import load

ROOT = Path(__file__).parents[2]
TEXT = "# A first run.\nmodel: x\nproblems: story\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "first.yaml"
    path.write_text(TEXT)
    return path


def rlvr(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlvr.cli.app", *arguments]
    paths = [str(ROOT), str(ROOT / "verifiers"), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "200", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)


def test_check_and_show(recipe: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(recipe), "--set", "eval.every=3"])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        "--set eval.every=3: `eval.every = 3` measures nothing: `eval.benchmarks` is empty (warning)",
        f"{recipe}: ok",
    ]
    shown = CliRunner().invoke(app, ["show", str(recipe), "--set", "run.steps=7"])
    recipe.write_text(shown.output)
    assert load(recipe).recipe.run.steps == 7


def test_list_shows_the_first_comment(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr.recipe.find.folder", lambda: recipe.parent)
    assert CliRunner().invoke(app, ["list"]).output == "first  A first run.\n"


def test_explain_and_schema() -> None:
    assert "a whole number ≥ 2" in CliRunner().invoke(app, ["explain", "sampling.group_size"]).output
    assert "What it practises on." in CliRunner().invoke(app, ["explain"]).output
    assert json.loads(CliRunner().invoke(app, ["schema"]).output)["title"] == "rlvr recipe"


def test_a_bad_recipe_is_a_message_and_exit_2(recipe: Path) -> None:
    recipe.write_text(TEXT + "algorithm:\n  clip_hgih: 0.3\n")
    done = rlvr("recipe", "check", str(recipe))
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr == f"{recipe}:5: `algorithm.clip_hgih` is no key of a recipe; did you mean `clip_high`?\n"
    )


def test_debug_shows_the_traceback(recipe: Path) -> None:
    recipe.write_text("")
    for done in (
        rlvr("--debug", "recipe", "check", str(recipe)),
        rlvr("recipe", "check", str(recipe), RLVR_DEBUG="1"),
    ):
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith(f"{recipe}:1: the file is empty")


def test_help_and_recipe_check_import_nothing_heavy(recipe: Path) -> None:
    code = (
        "import sys\nfrom rlvr.cli.app import answer, app\n"
        f"codes = [answer(app, ['--help']), answer(app, ['recipe', 'check', {str(recipe)!r}])]\n"
        "heavy = {'torch', 'transformers', 'vllm', 'datasets', 'matplotlib', 'sympy', 'pandas'} & set(sys.modules)\n"
        "print('\\nRESULT', codes, sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1:] == ["RESULT [0, 0] []"], done.stderr
    assert all(command in done.stdout for command in ("train", "eval", "recipe", "verifier", "runs"))


def test_version_and_usage() -> None:
    assert rlvr("--version").stdout.startswith("rlvr ")
    wrong = rlvr("recipe", "chekc")
    assert wrong.returncode == 2
    assert "chekc" in wrong.stderr


def test_a_reader_who_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m rlvr.cli.app recipe schema | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[1] in ("0", "1", "141")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RecipeError("a.yaml:1: no"), 2, "a.yaml:1: no\n"),
        (RunError("locked"), 3, "locked\n"),
        (Interrupted(15), 143, "stopped by signal 15\n"),
        (Interrupted(2), 130, "stopped by signal 2\n"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Exit(5), 5, ""),
        (ZeroDivisionError("x\ny"), 70, "internal error: ZeroDivisionError: x; run again with `rlvr --debug ...` for the traceback\n"),
    ],
)  # fmt: skip
def test_exit_codes(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rlvr.cli.app import answer

    monkeypatch.delenv("RLVR_DEBUG", raising=False)
    failing = typer.Typer(pretty_exceptions_enable=False)
    failing.command()(raising(error))
    assert answer(failing, []) == code
    assert capsys.readouterr().err == message


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command
