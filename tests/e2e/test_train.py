"""Whole runs through the command line: every preset, adapters, broken verifiers, real data."""

import json
import os
import re
import shutil
from pathlib import Path
from statistics import fmean

import pytest
from transformers import AutoModelForCausalLM

from rlvr.policy import checkpoint
from rlvr.recipe.presets import PRESETS
from rlvr.runs.reader import read_metrics, read_rollouts, read_status
from tests.e2e.running import PLUGINS, REPO, checkpoints, here, leftovers, settings, small, train_rows
from tests.tiny import saved

DATA = Path(os.environ.get("RLVR_DATA_DIR") or REPO.parent / "shared" / "data")
GSM8K = REPO / "recipes" / "gsm8k.yaml"
STEPS_ONLY = {"warm_start": "null", "eval__benchmarks": "[]", "eval__every": 0, "optim__problems_per_step": 4}


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_trains_a_step(preset, tmp_path):
    changes = {"run__steps": 1, "algorithm__preset": preset, "algorithm__overlong_buffer": 8}
    if preset == "gdpo":  # two rewards: the verifier's and the one for length
        changes["algorithm__overlong"] = "soft"
    if (
        preset == "passk"
    ):  # one of its draws of 4 must fail: few of `coin`'s verdicts on a new model are wrong
        changes |= {"sampling__group_size": 12, "verifier": f"{PLUGINS}:one_in_five"}
    assert here(*small(tmp_path, **STEPS_ONLY | changes)) == 0
    run = tmp_path / "run"
    row = train_rows(run)[1]
    assert row["optim/grad_norm"] > 0
    assert row["optim/skipped"] == 0
    assert row["loss/pushed_share"] > 0
    assert row["verify/issued"] >= (20 if preset == "remax" else 16)
    before, after = (
        AutoModelForCausalLM.from_pretrained(run / "checkpoints" / name / "model").state_dict()
        for name in ("step-000000", "step-000001")
    )
    assert any((before[key] != after[key]).any() for key in before)
    assert (row["loss/kl_ref_nats"] == 0) or PRESETS[preset].get("kl", "off") != "off"
    assert ("credit/states" in row) == PRESETS[preset].get("credit", "").endswith("_mc")


@pytest.mark.slow
def test_remax_samples_and_counts_a_greedy_completion_a_problem(tmp_path):
    changes = {"run__steps": 2, "algorithm__preset": "remax", "optim__minibatches": 1}
    assert here(*small(tmp_path, **STEPS_ONLY | changes)) == 0
    run = tmp_path / "run"
    for step, row in train_rows(run).items():
        found = read_rollouts(run, step)
        assert row["verify/issued"] == len(found) == 4 * (4 + 1)
        assert row["rollout/tokens"] == sum(rollout.tokens for rollout in found)
        greedy = {rollout.problem_id: rollout for rollout in found if rollout.sibling == -1}
        siblings = [rollout for rollout in found if rollout.sibling >= 0]
        assert len(greedy) == 4
        assert len(siblings) == 16
        assert row["reward/greedy_mean"] == pytest.approx(fmean(r.reward for r in greedy.values()))
        assert row["reward/mean"] == pytest.approx(fmean(r.reward for r in siblings))
        assert row["batch/sequences"] == 16
        assert row["batch/tokens"] == sum(rollout.tokens for rollout in siblings)
        assert all(set(rollout.logprobs) == {0.0} for rollout in greedy.values())


@pytest.mark.slow
def test_a_refreshed_reference_resumes_as_it_was(tmp_path):
    """New after steps 2, 4 and 6; halves end between two of them, and just before one is written."""
    rule = {"algorithm__preset": "grpo", "algorithm__kl_refresh": 2, "optim__learning_rate": 1e-2}
    rule |= {"run__save_every": 1, "run__keep": 2}
    for name, steps in (("run", 6), ("halves", 3)):
        assert here(*small(tmp_path, **STEPS_ONLY | rule, run__steps=steps, run__name=name)) == 0
    halves = tmp_path / "halves"
    for steps in (4, 6):
        shutil.rmtree(halves / "reference-000004", ignore_errors=True)
        assert here("train", "--resume", halves, *settings(run__steps=steps)) == 0
    whole, resumed = (
        checkpoint.latest(tmp_path / name / "checkpoints", on_damage=pytest.fail)
        for name in ("run", "halves")
    )
    weights = "model.safetensors"
    assert (whole.model / weights).read_bytes() == (resumed.model / weights).read_bytes()
    rows, others = train_rows(tmp_path / "run"), train_rows(halves)
    kl = [row["loss/kl_ref_nats"] for row in rows.values()]
    assert kl == [row["loss/kl_ref_nats"] for row in others.values()]
    plain = {**rule, "algorithm__kl_refresh": "null", "run__name": "plain"}
    assert here(*small(tmp_path, **STEPS_ONLY | plain, run__steps=3)) == 0
    first = [row["loss/kl_ref_nats"] for row in train_rows(tmp_path / "plain").values()]
    assert kl[:2] == first[:2]
    assert 0 < kl[2] < first[2], "after step 2 the policy is its own reference"
    kept = {path.name for path in (tmp_path / "run").glob("reference*")}
    assert kept == {"reference-000004", "reference-000006"}, "what no checkpoint goes back to is deleted"


@pytest.mark.slow
def test_an_adaptive_bonus_resumes_where_it_stood(tmp_path):
    """Its weight is in the checkpoint: halves of a run are the whole, to the bit."""
    rule = {"algorithm__preset": "skywork_or1", "algorithm__entropy_target": 9.0, "run__save_every": 2}
    for name, steps in (("run", 4), ("halves", 2)):
        assert here(*small(tmp_path, **STEPS_ONLY | rule, run__steps=steps, run__name=name)) == 0
    halves = tmp_path / "halves"
    assert here("train", "--resume", halves, *settings(run__steps=4)) == 0
    whole, resumed = (
        checkpoint.latest(tmp_path / name / "checkpoints", on_damage=pytest.fail)
        for name in ("run", "halves")
    )
    assert whole.state == resumed.state
    assert whole.state["entropy_coef"] == pytest.approx(4 * 0.005)
    assert [row["loss/entropy_coef"] for row in train_rows(halves).values()] == pytest.approx(
        [0.005, 0.01, 0.015, 0.02]
    )
    weights = "model.safetensors"
    assert (whole.model / weights).read_bytes() == (resumed.model / weights).read_bytes()
    shutil.rmtree(halves)
    plain = {**rule, "algorithm__entropy": "off"}
    assert here(*small(tmp_path, **STEPS_ONLY | plain, run__steps=4, run__name="halves")) == 0
    other = checkpoint.latest(halves / "checkpoints", on_damage=pytest.fail)
    assert (whole.model / weights).read_bytes() != (other.model / weights).read_bytes(), "it did nothing"


@pytest.mark.parametrize(
    ("plugin", "status"), [("raises", "error"), ("hangs", "timeout"), ("exits", "error")]
)
def test_a_broken_verifier_is_counted_and_pays_nothing(plugin, status, tmp_path):
    broken = {"verifier": f"{{name: '{PLUGINS}:{plugin}', timeout: 200 ms}}", "run__verify_workers": 2}
    sizes = {"run__steps": 2, "optim__problems_per_step": 2, "sampling__group_size": 2}
    arguments = small(tmp_path, **STEPS_ONLY | {"optim__minibatches": 1} | sizes | broken)
    assert here(*arguments) == 0
    run = tmp_path / "run"
    rows = train_rows(run)
    assert sorted(rows) == [1, 2]
    for step, row in rows.items():
        assert row["verify/issued"] == row[f"verify/{status}"] == 4
        assert row["verify/scored"] == 0
        found = read_rollouts(run, step)
        assert {rollout.status for rollout in found} == {status}
        assert {rollout.reward for rollout in found} == ({None} if status == "error" else {0.0})
    first, last = (run / "checkpoints" / name / "model" / "model.safetensors" for name in checkpoints(run))
    assert first.read_bytes() == last.read_bytes(), "it learned from nothing"


def test_a_budget_of_tokens_ends_a_run_and_may_be_raised(tmp_path):
    changes = STEPS_ONLY | {"run__steps": 50, "run__save_every": 0}
    assert here(*small(tmp_path, **changes, run__tokens=1, run__name="halves")) == 0
    halves = tmp_path / "halves"
    assert sorted(train_rows(halves)) == [1]
    assert checkpoints(halves)[-1] == "step-000001", "the last step is saved"
    assert re.fullmatch(r"\d+ tokens sampled of run.tokens = 1", read_status(halves).outcome)
    assert here("train", "--resume", halves, *settings(run__tokens=1200)) == 0
    assert here(*small(tmp_path, **changes, run__tokens=1200)) == 0
    whole, resumed = (train_rows(tmp_path / name) for name in ("run", "halves"))
    sampled = [row["rollout/tokens"] for row in whole.values()]
    assert sum(sampled[:-1]) < 1200 <= sum(sampled)
    assert [row["rollout/tokens"] for row in resumed.values()] == sampled
    last = f"checkpoints/step-{len(sampled):06d}/model/model.safetensors"
    assert (tmp_path / "run" / last).read_bytes() == (halves / last).read_bytes()


def test_continuations_count_in_the_budget(tmp_path):
    changes = STEPS_ONLY | {"run__steps": 50, "run__save_every": 0, "algorithm__credit": "step_mc"}
    assert here(*small(tmp_path, **changes, run__tokens=1500)) == 0
    sampled = [row["rollout/tokens"] + row["credit/tokens"] for row in train_rows(tmp_path / "run").values()]
    assert sum(sampled[:-1]) < 1500 <= sum(sampled)
    assert sum(row["credit/tokens"] for row in train_rows(tmp_path / "run").values()) > 0


@pytest.mark.slow
def test_an_adapter_trains_resumes_and_loads(tmp_path, capsys):
    model = saved(tmp_path / "model", "story")
    changes = {"model": f"{{name: {model}, lora: {{rank: 4}}}}", "run__save_every": 1}
    for name, steps in (("run", 2), ("halves", 1)):
        assert here(*small(tmp_path, **STEPS_ONLY | changes, run__steps=steps, run__name=name)) == 0
    halves = tmp_path / "halves"
    assert here("train", "--resume", halves, *settings(run__steps=2)) == 0
    assert sorted(train_rows(halves)) == [1, 2]
    whole, resumed = (
        checkpoint.latest(tmp_path / name / "checkpoints", on_damage=pytest.fail)
        for name in ("run", "halves")
    )
    assert whole.path.name == resumed.path.name == "step-000002"
    adapter = (whole.model / "adapter_model.safetensors").read_bytes()
    assert adapter == (resumed.model / "adapter_model.safetensors").read_bytes()
    first = tmp_path / "run" / "checkpoints" / "step-000000" / "model" / "adapter_model.safetensors"
    assert adapter != first.read_bytes(), "the adapter did not learn"
    assert not (whole.model / "model.safetensors").exists(), "the frozen weights were saved too"
    assert AutoModelForCausalLM.from_pretrained(whole.model).active_adapters()
    capsys.readouterr()
    arguments = ["-b", "story", "--limit", "4", "--max-tokens", "8", "--json", "--workers", "1"]
    assert here("eval", halves, *arguments, "--out", tmp_path / "out") == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["n"] == 4


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "gsm8k").is_dir(), reason="needs GSM8K in ../shared/data or RLVR_DATA_DIR")
def test_gsm8k_trains_and_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RLVR_DATA_DIR", str(DATA))
    model = saved(tmp_path / "model", "bytes", context=4096)
    changes = {
        "model": model,
        "sampling__group_size": 4,
        "sampling__max_tokens": 48,
        "optim__problems_per_step": 4,
        "optim__warmup_steps": 0,
        "eval__limit": 4,
        "run__steps": 3,
        "run__threads": 1,
        "run__verify_workers": 1,
        "run__dir": tmp_path,
        "run__name": "run",
    }
    assert here("train", GSM8K, *settings(**changes)) == 0
    run = tmp_path / "run"
    rows = train_rows(run)
    assert sorted(rows) == [1, 2, 3]
    assert [row["verify/issued"] for row in rows.values()] == [16, 16, 16]
    assert [row["verify/error"] for row in rows.values()] == [0, 0, 0]
    asked = [rollout for step in rows for rollout in read_rollouts(run, step)]
    assert len({rollout.problem_id for rollout in asked}) == 12
    assert all("boxed" in rollout.question for rollout in asked)
    assert {rollout.source for rollout in asked} == {"openai/gsm8k:train"}
    assert all(re.fullmatch(r'"-?[\d,.]+"', rollout.answer) for rollout in asked)
    assert [row.step for row in read_metrics(run) if row.kind == "eval"] == [0, 3]
    assert leftovers(run) == []
    capsys.readouterr()
    out = tmp_path / "out"
    options = ["-b", "gsm8k", "--limit", 20, "--max-tokens", 32, "--workers", 1, "--json", "--out", out]
    assert here("eval", run, *options) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["benchmark"], result["n"], result["complete"]) == ("gsm8k", 20, True)
    shares = result["shares"]
    assert 0 <= shares["truncated"] <= 1
    records = [json.loads(line) for line in (out / "gsm8k.jsonl").read_text().splitlines()]
    assert [len(record["completions"]) for record in records if "completions" in record] == [1] * 20
