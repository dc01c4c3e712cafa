# ruff: noqa: E501 - exact messages stand on one line
from __future__ import annotations

from pathlib import Path

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.load import Loaded, load

FILE = """\
model: {name: x, dtype: bfloat16}
problems: {source: gsm8k.jsonl, split: test}
verifier: {name: math, tolerance: 1}
eval: {benchmarks: [gsm8k, math500]}
"""
TWO = FILE.replace("{name: math, tolerance: 1}", "[math, {name: exact, weight: 2}]")


def loaded(folder: Path, *settings: str, text: str = FILE) -> Loaded:
    path = folder / "a.yaml"
    path.write_text(text)
    return load(path, settings)


def fault(folder: Path, *settings: str, text: str = FILE) -> str:
    with pytest.raises(RecipeError) as caught:
        loaded(folder, *settings, text=text)
    return str(caught.value)


def test_values_follow_the_rules_of_yaml(tmp_path: Path) -> None:
    settings = [
        "optim.learning_rate=1e-5",
        "algorithm.kl=off",
        "run.name=no",
        "optim.betas=[0.8, 0.9]",
        "model.lora={rank: 4}",
    ]
    recipe = loaded(tmp_path, *settings).recipe
    assert recipe.optim.learning_rate == 1e-5
    assert recipe.algorithm.kl == "off"
    assert recipe.run.name == "no"
    assert recipe.optim.betas == (0.8, 0.9)
    assert recipe.model.lora is not None
    assert recipe.model.lora.rank == 4


def test_the_last_wins_and_an_equals_sign_may_be_in_the_value(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "run.seed=1", "run.seed=2", "problems.answer_after=a=b").recipe
    assert recipe.run.seed == 2
    assert recipe.problems.answer_after == "a=b"


def test_a_short_form_replaces_the_section(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "model=other/name", "problems=countdown").recipe
    assert (recipe.model.name, recipe.model.dtype) == ("other/name", "float32")
    assert (recipe.problems.source, recipe.problems.split) == ("countdown", "train")


def test_keys_go_into_a_short_form(tmp_path: Path) -> None:
    got = loaded(
        tmp_path,
        "model.dtype=bfloat16",
        "verifier.timeout=1 s",
        text="model: x\nproblems: story\nverifier: exact\n",
    )
    assert (got.recipe.model.name, got.recipe.model.dtype) == ("x", "bfloat16")
    assert [(v.name, v.timeout) for v in got.recipe.verifier] == [("exact", 1.0)]
    assert got.place("model.name").endswith("a.yaml:1")
    assert got.place("model.dtype") == "--set model.dtype=bfloat16"


def test_an_audit_is_named_or_written_out(tmp_path: Path) -> None:
    text = "model: x\nproblems: story\naudit: exact\n"
    audit = loaded(tmp_path, "audit.share=0.5", "audit.strip=false", text=text).recipe.audit
    assert (audit.name, audit.share, audit.timeout) == ("exact", 0.5, None)
    assert (audit.verifier.name, audit.verifier.model_extra) == ("exact", {"strip": False})
    assert loaded(tmp_path, "audit=null", text=text).recipe.audit is None


def test_the_only_verifier_needs_no_index(tmp_path: Path) -> None:
    assert loaded(tmp_path, "verifier.tolerance=2").recipe.verifier[0].model_extra == {"tolerance": 2}
    none = loaded(tmp_path, "verifier.tolerance=2", text="model: x\nproblems: story\n")
    assert [(v.name, v.model_extra) for v in none.recipe.verifier] == [("math", {"tolerance": 2})]


def test_one_of_several_verifiers(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "verifier.1.name=choice", "verifier.0.tolerance=3", text=TWO).recipe
    assert [(v.name, v.weight) for v in recipe.verifier] == [("math", 1.0), ("choice", 2.0)]
    assert recipe.verifier[0].model_extra == {"tolerance": 3}
    assert fault(tmp_path, "verifier.tolerance=3", text=TWO) == (
        "--set verifier.tolerance=3: there are 2 verifiers; say which, from `verifier.0.tolerance` to `verifier.1.tolerance`"
    )


def test_entries_of_lists(tmp_path: Path) -> None:
    assert loaded(tmp_path, "eval.benchmarks.1=aime24").recipe.eval.benchmarks == ["gsm8k", "aime24"]
    assert fault(tmp_path, "eval.benchmarks.2=aime24") == (
        "--set eval.benchmarks.2=aime24: `eval.benchmarks` has the entries 0 to 1; `2` is none of them"
    )


@pytest.mark.parametrize(
    ("value", "path"),
    [("key", "HERE/key"), ("../key", "HERE/../key"), ("/etc/key", "/etc/key"), ("~/key", "~/key")],
)
def test_the_file_of_a_key_is_looked_for_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, path: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert loaded(tmp_path, f"vllm.key_file={value}").recipe.vllm.key_file == path.replace("HERE", str(here))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("algorithm.clip_hgih=0.3", "`algorithm.clip_hgih` is no key of a recipe; did you mean `clip_high`?"),
        ("lr=1e-6", "`lr` is no key of a recipe; did you mean `optim.learning_rate`?"),
        ("sampling.group_size=1", "`sampling.group_size = 1`: must be a whole number ≥ 2 (advantages compare siblings); the default is 8"),
        ("run.steps=", "`run.steps` is empty: must be a whole number ≥ 0; the default is 100"),
        ("run.steps", "write it as KEY=VALUE, for example `--set run.steps=10`"),
        ("=3", "write it as KEY=VALUE, for example `--set run.steps=10`"),
        ("run..steps=3", "write it as KEY=VALUE, for example `--set run.steps=10`"),
        ("model.name.x=3", "`model.name` holds no keys; set `model.name` itself"),
        ("run.seed=[", "not valid YAML: expected the node content, but found '<stream end>'"),
        ("run={seed: 1, seed: 2}", "`seed` is given twice, first on line 1; keep one of them"),
    ],
)  # fmt: skip
def test_faults_name_the_setting(tmp_path: Path, setting: str, message: str) -> None:
    assert fault(tmp_path, setting) == f"--set {setting}: {message}"


def test_paths_typed_are_relative_to_where_they_are_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    got = loaded(
        tmp_path,
        "model=./tiny",
        "eval.benchmarks=[gsm8k, mine.jsonl]",
        "data_dir=data",
        "verifier.name=./v.py:f",
    )
    assert got.recipe.model.name == str(here / "tiny")
    assert got.recipe.eval.benchmarks == ["gsm8k", str(here / "mine.jsonl")]
    assert got.recipe.data_dir == str(here / "data")
    assert got.recipe.verifier[0].name == f"{here}/v.py:f"
    assert got.resolve(got.recipe.problems.source) == tmp_path / "gsm8k.jsonl"


def test_an_alias_in_the_file_is_not_changed_twice(tmp_path: Path) -> None:
    text = "model: x\nproblems: &p {source: story}\nwarm_start: {problems: *p}\n"
    recipe = loaded(tmp_path, "problems.split=test", text=text).recipe
    assert recipe.warm_start is not None
    assert recipe.warm_start.problems is not None
    assert (recipe.problems.split, recipe.warm_start.problems.split) == ("test", "train")
