# ruff: noqa: E501 - exact messages stand on one line
"""What can be known of a recipe without its model is said by `rlvr recipe check`, with its line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlvr.cli.examine import examine
from rlvr.errors import RecipeError
from rlvr.recipe.load import load

RECIPE = """\
model: some/model
problems:
  source: rows.jsonl
  question: "{q}"
  answer: "{a}"
  prompt: plain
verifier:
  name: exact
  ignore_case: true
eval:
  benchmarks: [story, held_out.jsonl]
"""
ROW = {"q": "2+2?", "a": "4"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RLVR_DATA_DIR", raising=False)
    for name in ("rows.jsonl", "held_out.jsonl"):
        (tmp_path / name).write_text(json.dumps(ROW) + "\n")
    return tmp_path


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "a.yaml").write_text(text)
    return folder / "a.yaml"


def refused(folder: Path, *changes: tuple[str, str]) -> str:
    with pytest.raises(RecipeError) as caught:
        examine(load(written(folder, *changes)))
    return str(caught.value).replace(f"{folder}/", "")


def test_what_works_is_let_through(folder: Path) -> None:
    assert examine(load(written(folder))) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: exact", "name: exakt", "a.yaml:8: there is no verifier `exakt`; did you mean `exact`?"),
        (
            "ignore_case: true",
            "ignore_cas: true",
            "a.yaml:9: verifier `exact` has no option `ignore_cas`; did you mean `ignore_case`?",
        ),
        ("ignore_case: true", "ignore_case: 3", "a.yaml:9: verifier `exact`: option `ignore_case` = 3 is"),
        ("prompt: plain", "prompt: hello", "a.yaml:6: prompt `hello`: neither a known prompt"),
        ('"{q}"', '"{question}"', "a.yaml:4: `problems.question = {question}`: rows.jsonl:1: no field"),
        ('"{a}"', '"{b}"', "a.yaml:5: `problems.answer = {b}`: rows.jsonl:1: no field `b` (the row has: q, a)"),
        ('"{a}"', "a", "a.yaml:5: problems.answer = `a` names no field of the row"),
        ("[story,", "[storu,", "a.yaml:11: `eval.benchmarks`: `storu` is no benchmark"),
        ("  prompt: plain", "  options: {x: 1}", "a.yaml:6: problems.options: only a generator"),
    ],
)  # fmt: skip
def test_a_name_that_nothing_answers_to(folder: Path, old: str, new: str, said: str) -> None:
    assert refused(folder, (old, new)).startswith(said)


def test_all_of_them_come_together(folder: Path) -> None:
    said = refused(folder, ("name: exact", "name: exakt"), ('"{a}"', '"{b}"'), ("[story", "[storu"))
    assert [line.partition(": ")[0] for line in said.splitlines()] == ["a.yaml:5", "a.yaml:8", "a.yaml:11"]


def test_hub_data_is_judged_by_its_keys_and_a_local_copy_by_its_rows(folder: Path) -> None:
    hub = ("source: rows.jsonl", "source: some/set")
    assert examine(load(written(folder, hub))) == []
    assert refused(folder, hub, ('"{a}"', "a")).startswith("a.yaml:5: problems.answer = `a` names no field")
    (folder / "data" / "set").mkdir(parents=True)
    (folder / "data" / "set" / "train.jsonl").write_text('{"q": "2+2?", "b": "4"}\n')
    copy = ("held_out.jsonl]", "held_out.jsonl]\ndata_dir: data")
    assert refused(folder, hub, copy).startswith("a.yaml:5: `problems.answer = {a}`: ")


def test_a_benchmarks_file_is_asked_as_the_problems_are(folder: Path) -> None:
    (folder / "held_out.jsonl").write_text('{"q": "2+2?", "gold": "4"}\n')
    said = refused(folder)
    assert said.startswith(
        "a.yaml:11: `eval.benchmarks` is asked as `problems` are: `problems.answer = {a}`: "
    )
    assert "held_out.jsonl:1: no field `a` (the row has: q, gold)" in said


@pytest.mark.parametrize(
    ("section", "place"),
    [
        (
            'warm_start: {problems: {source: rows.jsonl, question: "{q}"},\n  solution: "{sol}"}',
            "a.yaml:13: ",
        ),
        ('warm_start: {problems: {source: rows.jsonl, question: "{q}"},\n  solution: sol}', "a.yaml:13: "),
        ("warm_start: {problems: {source: rows.jsonl,\n  question: nothing}}", "a.yaml:13: "),
        ("audit: {\n  name: exakt}", "a.yaml:13: there is no verifier `exakt`"),
    ],
)
def test_the_warm_start_and_the_audit(folder: Path, section: str, place: str) -> None:
    assert refused(folder, ("held_out.jsonl]", f"held_out.jsonl]\n{section}")).startswith(place)


def test_a_verifier_of_ones_own_is_found_beside_the_recipe_and_loaded_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ("name: exact", "name: ./own.py:own")
    plugin = (
        "from rlvr import verifier\n\n\n@verifier\ndef own(completion: str, *, ignore_case: bool) -> bool:\n"
    )
    (folder / "own.py").write_text(f"{plugin}    return True\n")
    monkeypatch.chdir("/")
    assert examine(load(written(folder, own))) == []
    assert "own" not in sys.modules
    (folder / "own.py").write_text(f"import os\n\nos._exit(0)\n{plugin}    return True\n")
    assert refused(folder, own).startswith("a.yaml:8: a verifier ended its worker while it was loaded")


def test_train_says_it_before_anything_heavy_is_imported(folder: Path) -> None:
    path = written(folder, ("name: exact", "name: exakt"))
    program = (
        "import sys\nfrom rlvr.cli.app import answer, app\n"
        f"code = answer(app, ['train', {str(path)!r}])\n"
        "print(code, sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "2 []\n", done.stderr
    assert done.stderr.startswith(f"{path}:8: there is no verifier `exakt`; did you mean `exact`?")
