"""Training and measuring on problems whose answers are programs, up to the words in the viewer."""

import json

import pytest

from rlvr.runs.reader import read_rollouts
from tests.e2e.running import REPO, here, leftovers, settings, train_rows
from tests.tiny import saved

SHARED = REPO.parent / "shared" / "data"
PROGRAM = "```python\ndef f(x): return x*2\n```"
ROWS = [
    {"q": "double", "test_list": ["assert f(2) == 4", "assert f(3) == 6"], "solution": PROGRAM},
    {"q": "square", "test_list": ["assert f(2) == 4", "assert f(3) == 9"], "solution": PROGRAM},
]
RECIPE = """\
model: {make: {hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, head_dim: 16, mlp_size: 48, context: 256}}
problems: {source: rows.jsonl, question: "{q}", answer: "{test_list}"}
verifier: {name: "rlvr_verifiers.code:code", timeout: 60 s}
warm_start: {problems: {source: rows.jsonl, question: "{q}"}, steps: 60, batch_size: 4, learning_rate: 1e-2}
sampling: {group_size: 2, max_tokens: 64, temperature: 0.01}
optim: {learning_rate: 1e-5, problems_per_step: 2}
eval: {benchmarks: [./rows.jsonl], temperature: 0}
run: {steps: 2, dir: made, name: run, threads: 1, verify_workers: 1}
"""


def test_a_model_that_writes_one_program_is_trained_measured_and_told_what_failed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "r.yaml").write_text(RECIPE)
    assert here("train", "r.yaml") == 0, capsys.readouterr().err
    run = tmp_path / "made" / "run"
    rows = train_rows(run)
    assert sorted(rows) == [1, 2]
    for step, row in rows.items():
        assert (row["verify/issued"], row["verify/right_share"], row["verify/error"]) == (4, 0.5, 0)
        found = {
            (rollout.question.strip(), rollout.status, rollout.reward) for rollout in read_rollouts(run, step)
        }
        assert found == {("double", "right", 1.0), ("square", "wrong", 0.0)}
    assert leftovers(run) == []
    capsys.readouterr()
    assert here("runs", "show", run, "--completions", 4) == 0
    shown = capsys.readouterr().out
    assert "test 2: f(3): got 6, expected 9" in shown
    assert "2 tests pass (asserts; the last block of Python)" in shown
    asked = ("-b", "rows.jsonl", "--max-tokens", 64, "--temperature", 0, "--json", "--workers", 1)
    assert here("eval", run, *asked) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["n"], result["shares"]["right"], result["shares"]["wrong"]) == (2, 0.5, 0.5)


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "mbpp").is_dir(), reason="needs MBPP in ../shared/data")
def test_the_recipe_trains_and_is_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RLVR_DATA_DIR", str(SHARED))
    changes = {
        "model": saved(tmp_path / "model", "bytes", context=4096),
        "sampling__group_size": 2,
        "sampling__max_tokens": 16,
        "optim__problems_per_step": 2,
        "optim__warmup_steps": 0,
        "eval__limit": 2,
        "run__steps": 2,
        "run__threads": 1,
        "run__verify_workers": 1,
        "run__dir": tmp_path,
        "run__name": "run",
    }
    assert here("train", REPO / "recipes" / "code.yaml", *settings(**changes)) == 0
    rows = train_rows(tmp_path / "run")
    assert [row["verify/no_answer"] for row in rows.values()] == [4, 4]
    asked = [rollout for step in rows for rollout in read_rollouts(tmp_path / "run", step)]
    assert all("For example: assert " in rollout.question for rollout in asked)
    capsys.readouterr()
    asked = ("-b", "humaneval,mbpp", "--limit", 2, "--max-tokens", 16, "--json", "--out", tmp_path / "out")
    assert here("eval", tmp_path / "run", *asked, "--workers", 1) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [(r["benchmark"], r["n"], r["shares"]["no_answer"]) for r in results] == [
        ("humaneval", 2, 1.0),
        ("mbpp", 2, 1.0),
    ]
