# ruff: noqa: E501 - exact messages stand on one line
from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.check import check
from rlvr.recipe.explain import expand
from rlvr.recipe.load import load
from rlvr.recipe.presets import PRESETS

HEAD = "model: some/model\nproblems: story\n"


def checked(folder: Path, text: str, *settings: str) -> list[str]:
    path = folder / "a.yaml"
    path.write_text(text)
    return [line.replace(f"{folder}/", "") for line in check(load(path, settings))]


def refused(folder: Path, text: str, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        checked(folder, text, *settings)
    return str(caught.value).replace(f"{folder}/", "").replace(f"{folder}", "HERE").split("\n")


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            "optim:\n  problems_per_step: 30\n  minibatches: 4",
            "a.yaml:5: `optim.problems_per_step = 30` does not divide into `optim.minibatches = 4` equal parts; "
            "set problems_per_step to 28 or 32, or minibatches to 3 or 5",
        ),
        (
            "optim:\n  problems_per_step: 3\n  minibatches: 4",
            "a.yaml:5: `optim.problems_per_step = 3` does not divide into `optim.minibatches = 4` equal parts; "
            "set problems_per_step to 4, or minibatches to 1 or 3",
        ),
        (
            "optim: {problems_per_step: 7, minibatches: 2}",
            "a.yaml:3: `optim.problems_per_step = 7` does not divide into `optim.minibatches = 2` equal parts; "
            "set problems_per_step to 6 or 8, or minibatches to 1 or 7",
        ),
        (
            "algorithm:\n  overlong: soft\nsampling:\n  max_tokens: 64",
            "a.yaml:6: `algorithm.overlong_buffer = 64` leaves no length free of penalty within "
            "`sampling.max_tokens = 64`; set overlong_buffer below 64, for example 16",
        ),
        (
            "algorithm:\n  preset: dapo\n  zero_variance: keep",
            "a.yaml:5: `algorithm.oversample = 3.0` replaces groups that were dropped, but `zero_variance = keep` drops "
            "none; set zero_variance to drop, or oversample to 1",
        ),
        (
            "algorithm:\n  ratio_base: rollout",
            "a.yaml:4: `algorithm.ratio_base = rollout` already corrects for the engine; `correction = token_truncate` "
            "would count it twice; set correction to none, or ratio_base to old",
        ),
        (
            "algorithm:\n  correction: token_mask\n  correction_low: 2",
            "a.yaml:5: `algorithm.correction_low = 2.0` is not below `correction_high = 2.0`: every token would be "
            "dropped; set for example 0.5 and 2",
        ),
        (
            "algorithm:\n  kl_coef: 1e-3",
            "a.yaml:4: `algorithm.kl_coef = 0.001` has no effect while `kl = off`; set kl to k2 or k3, or kl_coef to 0",
        ),
        (
            "algorithm:\n  preset: grpo\n  kl: off",
            "a.yaml:5: `algorithm.kl_coef = 0.04` has no effect while `kl = off`; set kl to k2 or k3, or kl_coef to 0",
        ),
        (
            "algorithm:\n  kl: k2",
            "a.yaml:4: `algorithm.kl = k2` keeps a second model for a penalty of weight `kl_coef = 0`; set kl to off, or "
            "kl_coef above 0, for example 0.01",
        ),
        (
            "algorithm:\n  preset: rloo\n  gate: clip",
            "a.yaml:5: `algorithm.ratio_level = none` makes every ratio 1, and `gate = clip` never acts; set gate to none, "
            "or ratio_level to token",
        ),
        (
            "algorithm:\n  gate: vespo",
            "a.yaml:4: `algorithm.ratio_level = token` is not what `gate = vespo` is defined on; set ratio_level to "
            "sequence_product, or another gate",
        ),
        (
            "algorithm:\n  preset: dppo\n  ratio_level: sequence",
            "a.yaml:5: `algorithm.ratio_level = sequence` is not what `gate = dppo_tv` is defined on; set ratio_level to "
            "token, or another gate",
        ),
        (
            "sampling: {group_size: 2}\nalgorithm: {baseline: pass_at_2, scale: none}",
            "a.yaml:3: `algorithm.baseline = pass_at_2` draws 2 of `sampling.group_size = 2` completions: no two draws to "
            "compare; set a larger group_size",
        ),
        (
            "algorithm:\n  preset: w_reinforce\n  scale: group_std",
            "a.yaml:5: `algorithm.baseline = signed` yields advantages of a scale of its own; `scale = group_std` would "
            "undo it; set scale to none",
        ),
        (
            "algorithm:\n  baseline: optimal_token",
            "a.yaml:4: `algorithm.scale = group_std` is of sequences, and `baseline = optimal_token` is of tokens; set scale "
            "to none or token_whiten",
        ),
        (
            "algorithm:\n  entropy: bonus\n  entropy_coef: 0",
            "a.yaml:5: `algorithm.entropy = bonus` of `entropy_coef = 0` does nothing without an entropy_target; set "
            "entropy_coef above 0, for example 0.001, or an entropy_target, for example 0.2",
        ),
        (
            "algorithm:\n  baseline: rl_zvp",
            "a.yaml:4: `algorithm.zero_variance = drop` drops the very groups that `baseline = rl_zvp` learns from; set "
            "zero_variance to keep, or baseline to group_mean",
        ),
        (
            "algorithm:\n  preset: rl_zvp\n  scale: token_whiten",
            "a.yaml:5: `algorithm.scale = token_whiten` would move the entropy advantages of `baseline = rl_zvp`; set scale "
            "to group_std",
        ),
        (
            "algorithm:\n  correction: geo_mask\n  correction_low: 2",
            "a.yaml:5: `algorithm.correction_low = 2.0` is not below `correction_high = 2.0`: every token would be "
            "dropped; set for example 0.98 and 1.02",
        ),
        (
            "algorithm:\n  entropy: clip_cov\n  cov_low: 9",
            "a.yaml:5: `algorithm.cov_low = 9.0` is not below `cov_high = 5.0`: no covariance lies between; set for "
            "example 1 and 5",
        ),
        (
            "sampling:\n  replay: {}\noptim:\n  problems_per_step: 4",
            "a.yaml:6: `sampling.replay.share = 0.125` of `optim.problems_per_step = 4` is not one group; set share to 0.25 or "
            "more",
        ),
        (
            "sampling: {replay: {share: 0.5}}\nalgorithm:\n  correction: geo_mask\n  correction_low: 0.9",
            "a.yaml:5: `sampling.replay` trains on completions of older weights, and `algorithm.correction = geo_mask` drops "
            "but does not weigh; set correction to token_truncate, or ratio_base to rollout with a gate; presets that do: "
            "default, areal, prorl_v2, scalerl, dppo, prime_rl",
        ),
        (
            "sampling:\n  replay: {}\nalgorithm: {preset: scalerl, gate: none, ratio_level: none}",
            "a.yaml:5: `sampling.replay` needs tokens weighed by pi / mu, and `algorithm.ratio_level = none` takes every "
            "ratio for 1; set ratio_level to token",
        ),
        (
            "warm_start:\n  problems: {source: ./rows.jsonl, curriculum: {}}",
            "a.yaml:4: `warm_start.problems.curriculum` has no success rates to go by: the warm start samples nothing; set it "
            "under `problems`",
        ),
        (
            "algorithm:\n  preset: vineppo\n  baseline: none",
            "a.yaml:5: `algorithm.baseline = none` is no value of the prompt, where `credit = step_mc` begins; set baseline "
            "to leave_one_out or group_mean",
        ),
        (
            "algorithm:\n  credit: segment_mc\n  scale: batch_whiten",
            "a.yaml:5: `algorithm.scale = batch_whiten` moves the advantages of whole completions, and `credit = segment_mc` "
            "has none; set scale to none, group_std, batch_std or token_whiten",
        ),
        ("verifier: ./mine.py:close", "a.yaml:3: `verifier.name`: mine.py does not exist; choose from: a.yaml, rows.jsonl"),
        ("eval:\n  benchmarks:\n    - gsm8k\n    - row.jsonl", "a.yaml:6: `eval.benchmarks.1`: row.jsonl does not exist; "
         "did you mean `rows.jsonl`?"),
        ("data_dir: rowz.jsonl", "a.yaml:3: `data_dir`: rowz.jsonl does not exist; did you mean `rows.jsonl`?"),
        ("data_dir: rows.jsonl", "a.yaml:3: `data_dir`: rows.jsonl is a file, not a folder"),
        ("warm_start:\n  problems:\n    source: ./rows.json", "a.yaml:5: `warm_start.problems.source`: rows.json does not exist; "
         "did you mean `rows.jsonl`?"),
    ],
)  # fmt: skip
def test_one_contradiction(tmp_path: Path, lines: str, fault: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    assert refused(tmp_path, f"{HEAD}{lines}\n") == [fault]


def test_an_adapter_has_no_reference_to_refresh(tmp_path: Path) -> None:
    text = "model:\n  name: some/model\n  lora: {rank: 4}\nproblems: story\nalgorithm:\n  preset: r1_zero\n"
    assert refused(tmp_path, text) == [
        "a.yaml:6: `algorithm.kl_refresh = 400` cannot be with `model.lora`: the reference is the model without its "
        "adapter; set kl_refresh to null"
    ]
    assert checked(tmp_path, f"{text}  kl_refresh: null\n") == []


def test_a_model_that_cannot_be_made(tmp_path: Path) -> None:
    text = """\
model:
  make:
    heads: 6
    kv_heads: 4
    head_dim: 31
    context: 128
problems: story
sampling: {max_tokens: 128}
eval: {max_tokens: 200}
"""
    assert refused(tmp_path, text) == [
        "a.yaml:4: `model.make.kv_heads = 4` does not divide `heads = 6`; set kv_heads to 1 or 2 or 3 or 6",
        "a.yaml:5: `model.make.head_dim = 31` is odd, and rotary positions turn pairs of numbers; set 30 or 32",
        "a.yaml:8: `sampling.max_tokens = 128` and a prompt of at least 1 token make 129, more than the 128 of "
        "model.make.context; set sampling.max_tokens to 127 less the longest prompt, or model.make.context to 129 plus "
        "the longest prompt",
        "a.yaml:9: `eval.max_tokens = 200` and a prompt of at least 1 token make 201, more than the 128 of "
        "model.make.context; set eval.max_tokens to 127 less the longest prompt, or model.make.context to 201 plus "
        "the longest prompt",
    ]


def test_the_context_is_to_blame_where_max_tokens_is_not_given(tmp_path: Path) -> None:
    [fault] = refused(tmp_path, "model:\n  make:\n    context: 512\nproblems: story\n")
    assert fault.startswith(
        "a.yaml:3: `sampling.max_tokens = 512` and a prompt of at least 1 token make 513, more than the 512"
    )
    assert checked(tmp_path, "model: {make: {context: 513}}\nproblems: story\n") == []


@pytest.mark.parametrize(
    "config", [{"max_position_embeddings": 100}, {"text_config": {"max_position_embeddings": 100}}]
)
def test_the_context_of_a_local_model(tmp_path: Path, config: dict[str, object]) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    text = "model: ./tiny\nproblems: story\nsampling: {max_tokens: 100}\n"
    assert refused(tmp_path, text) == [
        "a.yaml:3: `sampling.max_tokens = 100` and a prompt of at least 1 token make 101, more than the 100 of "
        "max_position_embeddings in tiny/config.json; set sampling.max_tokens to 99 less the longest prompt"
    ]
    assert checked(tmp_path, text.replace("100", "99")) == []


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert refused(tmp_path, "model: ./tniy\nproblems: story\n") == [
        "a.yaml:1: model: tniy does not exist; the folder HERE holds no model (a folder with config.json)"
    ]
    assert refused(tmp_path, "model: ./tiny\nproblems: story\n") == [
        "a.yaml:1: model: tiny holds no config.json, so no transformers model; give its folder"
    ]
    (tmp_path / "tiny" / "config.json").write_text('{"max_')
    assert refused(tmp_path, "model: ./tiny\nproblems: story\n") == [
        "a.yaml:1: model: tiny/config.json is not JSON; is the download complete?"
    ]
    assert refused(tmp_path, "model: ./no/such\nproblems: story\n") == [
        "a.yaml:1: model: no/such does not exist: there is no folder no"
    ]


def test_a_warm_start_on_rows_needs_solutions(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    warm = "model: x\nproblems: {source: SOURCE}\nwarm_start: {steps: 3}\n"
    for source in ("rows.jsonl", "openai/gsm8k"):
        [fault] = refused(tmp_path, warm.replace("SOURCE", source))
        assert fault.startswith(
            f"a.yaml:3: `warm_start` needs worked solutions, and `problems.source = {source}` is no"
        )
    assert checked(tmp_path, warm.replace("SOURCE", "story")) == []
    assert checked(tmp_path, HEAD + "warm_start: {problems: {source: rows.jsonl}}\n") == []


def test_all_come_together_and_a_setting_is_named(tmp_path: Path) -> None:
    text = HEAD + "algorithm: {kl: k2}\noptim: {problems_per_step: 8}\nverifier: ./a.py:f\n"
    got = refused(tmp_path, text, "optim.minibatches=3")
    places = [fault.split(": ")[0] for fault in got]
    assert places == ["a.yaml:3", "a.yaml:5", "--set optim.minibatches=3"]


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (
            "optim: {micro_batch_tokens: 512}",
            "a.yaml:3: `optim.micro_batch_tokens = 512` is less than one sequence of `sampling.max_tokens = 512`: the "
            "longest go one by one, up to 256 passes an update",
        ),
        ("eval: {every: 5}", "a.yaml:3: `eval.every = 5` measures nothing: `eval.benchmarks` is empty"),
        (
            "run: {steps: 10}\noptim: {warmup_steps: 10}",
            "a.yaml:4: `optim.warmup_steps = 10` is not less than `run.steps = 10`: the learning rate never reaches its peak",
        ),
        (
            "algorithm: {preset: reinforce, zero_variance: drop}",
            "a.yaml:3: `algorithm.zero_variance = drop` leaves out groups whose scores are all equal, from which "
            "`baseline = none` would learn; set zero_variance to keep",
        ),
        (
            "algorithm: {entropy: bonus}",
            "a.yaml:3: `algorithm.entropy_coef = 1.0` is much for an entropy bonus: the policy may go random; 0.001 is usual",
        ),
        (
            "algorithm: {preset: passk}\nsampling: {group_size: 6}",
            "a.yaml:4: `algorithm.baseline = pass_at_4` learns from groups with at least 4 wrong completions alone, of "
            "`sampling.group_size = 6`: few have them; use 16 or so",
        ),
        (
            "algorithm: {preset: dapo, lp_reg_kappa: 0.1}",
            "a.yaml:3: `algorithm.lp_reg_kappa` is not read: it needs `entropy = lp_reg or lp_reg_pivots`, "
            "which is off",
        ),
        (
            "algorithm: {preset: cispo, clip_high: 0.3}",
            "a.yaml:3: `algorithm.clip_high` is not read: it needs `gate = clip or gmpo`, which is cispo",
        ),
        (
            "sandbox: {kind: piston}",
            "a.yaml:3: `sandbox.kind` is not read: it needs `sandbox.remote`, the address of an executor",
        ),
    ],
)
def test_one_warning(tmp_path: Path, lines: str, warning: str) -> None:
    assert checked(tmp_path, f"{HEAD}{lines}\n") == [warning]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_passes_and_so_does_its_expansion(tmp_path: Path, preset: str) -> None:
    text = f"{HEAD}verifier: [math, exact]\nalgorithm: {{preset: {preset}}}\n"
    assert checked(tmp_path, text) == []
    assert checked(tmp_path, expand(load(tmp_path / "a.yaml").recipe)) == []


REPLAYABLE = {"default", "areal", "prorl_v2", "scalerl", "dppo", "prime_rl", "vespo", "rlvr_default"}
"""Presets whose loss weighs a token by what became of the policy that drew it."""


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"gdpo"}))  # which takes no replay at all: see above
def test_replay_is_refused_where_nothing_weighs_old_tokens(tmp_path: Path, preset: str) -> None:
    text = f"{HEAD}sampling: {{replay: {{}}}}\nalgorithm: {{preset: {preset}}}\n"
    if preset in REPLAYABLE:
        assert checked(tmp_path, text) == []
        return
    [fault] = refused(tmp_path, text)
    assert fault.startswith("a.yaml:3: `sampling.replay` ")
    mended = text.replace("}}\nalgorithm: {", "}}\nalgorithm: {correction: token_truncate, ")
    if preset != "topr":
        assert checked(tmp_path, mended) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{band: [0.9, 0.1]}", "band = [0.9, 0.1] is empty; write [low, high], such as [0.1, 0.9]"),
        (
            "{band: [0.5, 1], retire_at: 0.5}",
            "retire_at = 0.5 retires all of band = [0.5, 1]; set it above 0.5",
        ),
        ("{revisit: 1}", "must be a number ≥ 0 and < 1"),
        ("{retire: 0.9}", "did you mean `retire_at`?"),
        ("{visits: 0}", "must be a whole number ≥ 1"),
    ],
)
def test_a_curriculum_that_cannot_be(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        checked(tmp_path, f"model: x\nproblems:\n  source: story\n  curriculum: {given}\n")
    assert str(caught.value).startswith(f"{tmp_path}/a.yaml:4: ")
    assert words in str(caught.value)
