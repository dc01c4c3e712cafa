# ruff: noqa: E501 - exact messages stand on one line
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.errors import RecipeError
from rlvr.recipe.document import dump
from rlvr.recipe.explain import expand, explain, json_schema
from rlvr.recipe.find import named
from rlvr.recipe.keys import KEYS
from rlvr.recipe.load import load
from rlvr.recipe.presets import PRESETS, SOURCES


def test_a_key_in_words() -> None:
    assert explain("sampling.group_size") == (
        "sampling.group_size\n"
        "  Completions a problem; advantages compare them.\n"
        "  takes    a whole number ≥ 2\n"
        "  default  8"
    )


@pytest.mark.parametrize(
    ("key", "piece"),
    [
        ("verifier.timeout", "a duration in seconds or as `5 s` (units: ms, s, min, h) > 0"),
        ("verifier.0.memory", "default  2147483648 (2 GiB)"),
        ("algorithm.gate", "one of `none`, `clip`, `cispo`"),
        ("algorithm.clip_high", "the preset's: default 0.28, grpo 0.2"),
        ("algorithm.preset", "lp_reg: Lp-Reg, arXiv:2510.03222"),
        (
            "algorithm.entropy",
            "the preset's: default off, skywork_or1 bonus, kl_cov kl_cov, clip_cov clip_cov",
        ),
        ("algorithm.aggregation", "`prompt_mean_token_mean`"),
        ("algorithm.m2_limit", "a number > 0 or null"),
        ("model.name", "text or null"),
        ("problems.source", "none: it must be given"),
        ("eval.top_p", "a number > 0 and ≤ 1"),
        ("optim.betas", "a list of 2, each a number ≥ 0 and ≤ 1"),
    ],
)
def test_what_it_takes_and_its_default(key: str, piece: str) -> None:
    assert piece in explain(key)


def test_a_section_lists_its_keys() -> None:
    told = explain("model.make")
    assert all(f"\n  {key.rpartition('.')[2]} " in told for key in KEYS if key.startswith("model.make."))
    assert all(f"  {key} " in explain() for key in KEYS if "." not in key)


def test_every_key_can_be_explained() -> None:
    assert all(explain(key).startswith(key) for key in KEYS)


def test_presets_with_what_each_sets_and_its_source() -> None:
    told = explain("algorithm.preset")
    assert set(SOURCES) == set(PRESETS)
    for name, row in PRESETS.items():
        assert f"  {name}: {SOURCES[name]}" in told
        assert all(f"    {leaf}: " in told for leaf in row)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("algorithm.clip_hgih", "did you mean `clip_high`?"),
        ("group_size", "did you mean `sampling.group_size`?"),
        ("smapling.group_size", "did you mean `sampling.group_size`?"),
        ("steps", "did you mean `warm_start.steps` or `run.steps`?"),
    ],
)
def test_an_unknown_key(key: str, near: str) -> None:
    with pytest.raises(RecipeError) as caught:
        explain(key)
    assert str(caught.value) == f"`{key}` is no key of a recipe; {near}"


def reloaded(folder: Path, text: str) -> Any:
    path = folder / "expanded.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path).recipe


@pytest.mark.parametrize("preset", PRESETS)
def test_an_expanded_recipe_loads_to_the_same(tmp_path: Path, preset: str) -> None:
    recipe = reloaded(
        tmp_path,
        f"""
model: {{make: {{layers: 2}}, lora: {{targets: [q_proj]}}}}
problems: {{source: story, options: {{kinds: [a, "1e-6", no], deep: {{x: 1e-6, y: .inf}}}}, prompt: "a\\nb: {{question}}\\n"}}
verifier: [math, {{name: exact, timeout: 200 ms, memory: 1 GiB, fold: true}}]
warm_start: {{steps: 3}}
algorithm: {{preset: {preset}}}
""",
    )
    text = expand(recipe)
    assert reloaded(tmp_path, text) == recipe
    assert yaml.safe_load(text)["algorithm"]["clip_high"] == recipe.algorithm.clip_high


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(PRESETS)),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.floats(min_value=1e-12, max_value=1e3, exclude_min=True),
    st.sampled_from(["no", "1e-6", "2024-01-01", "true", "null", "~", "1_0"]),
)
def test_any_value_survives_expansion(
    tmp_path_factory: pytest.TempPathFactory, preset: str, system: str, rate: float, trap: str
) -> None:
    folder = tmp_path_factory.mktemp("round")
    given_ = {
        "model": {"name": trap},
        "problems": {"source": trap, "system": system, "options": {"x": trap}},
        "algorithm": {"preset": preset},
        "optim": {"learning_rate": rate},
    }
    recipe = reloaded(folder, dump(given_))
    assert (recipe.problems.system, recipe.optim.learning_rate, recipe.model.name) == (system, rate, trap)
    assert reloaded(folder, expand(recipe)) == recipe


GOOD = [
    "model: x\nproblems: story\n",
    "model: {make: {}}\nproblems: {source: story}\nverifier: exact\n",
    "model: {name: null, make: {layers: 2}}\nproblems: story\nverifier: {name: math, timeout: 200 ms, memory: 2 GiB, tol: 1}\n",
    "model: x\nproblems: story\nverifier: [math, {name: exact, timeout: 3}]\nalgorithm: {preset: dapo, clip_high: 0.3}\n",
    "model: x\nproblems: story\nalgorithm: {}\nwarm_start: null\noptim: {betas: [0.9, 0.95]}\n",
]
BAD = [
    "model: x\n",
    "model: x\nproblems: story\nrun: {stepz: 3}\n",
    "model: {name: x, make: {}}\nproblems: story\n",
    "model: {dtype: float32}\nproblems: story\n",
    "model: x\nproblems: story\nverifier: {name: math, timeout: 5 parsec}\n",
    "model: x\nproblems: story\nverifier: []\n",
    "model: x\nproblems: story\nsampling: {group_size: 1}\n",
    "model: x\nproblems: story\nrun: {seed: true}\n",
    "model: x\nproblems: story\nalgorithm: {preset: grop}\n",
    "model: x\nproblems: story\nalgorithm: {kl: k4}\n",
]


def test_the_schema_agrees_with_the_loader(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed (the dev extra has it)"
    )
    from rlvr.recipe.document import parse

    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for text in GOOD:
        assert [error.message for error in validator.iter_errors(parse(text, str).value)] == []
        assert validator.is_valid(parse(expand(reloaded(tmp_path, text)), str).value)
    for text in BAD:
        assert not validator.is_valid(parse(text, str).value), text
        with pytest.raises(RecipeError):
            reloaded(tmp_path, text)
    for path in named().values():
        assert validator.is_valid(parse(path.read_text(encoding="utf-8"), str).value), path


def test_the_schema_says_what_the_keys_say() -> None:
    schema = json_schema()
    assert schema["$defs"]["SamplingKeys"]["properties"]["group_size"] == {
        "default": 8,
        "description": KEYS["sampling.group_size"].doc,
        "minimum": 2,
        "type": "integer",
    }
    assert schema["$defs"]["Algorithm"]["properties"]["preset"]["enum"] == list(PRESETS)
    assert "required" not in schema["$defs"]["Algorithm"]
    assert {"type": "string"} in schema["properties"]["model"]["anyOf"]
