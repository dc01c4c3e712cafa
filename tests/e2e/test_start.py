"""Looking before spending: a hopeless start is refused and can be overruled; `--probe` trains nothing."""

import json

import pytest

from rlvr.runs.reader import read_manifest, rollout_steps
from tests.e2e.running import PLUGINS, checkpoints, here, settings, small, train_rows
from tests.tiny import saved

HOPELESS = {
    "verifier": f"{PLUGINS}:nothing_right",
    "warm_start": "null",
    "eval__benchmarks": "[]",
    "eval__every": 0,
    "sampling__group_size": 8,
    "sampling__max_tokens": 2,
    "optim__problems_per_step": 8,
    "run__steps": 4,
    "run__save_every": 0,
}


def test_a_hopeless_start_is_refused_when_it_is_clear_and_may_be_overruled(tmp_path, capsys):
    run = tmp_path / "run"
    assert here(*small(tmp_path, **HOPELESS)) == 4
    said = capsys.readouterr().err
    assert "a hopeless start: all of the first 128 completions are cut at 2 tokens: raise" in said
    assert f"rlvr train --resume {run} --set run.hopeless=go_on" in said
    assert sorted(train_rows(run)) == [1, 2], "64 completions were not enough to say so"
    found = read_manifest(run).start
    assert (found["completions"], found["right_share"], found["zero_variance_share"]) == (128, 0, 1)
    assert found["verdict"].startswith("refused: all of the first 128")

    assert here("train", "--resume", run) == 4
    assert rollout_steps(run) == [1, 2], "refused anew without sampling"
    assert here("train", "--resume", run, *settings(run__hopeless="go_on")) == 0
    assert sorted(train_rows(run)) == [1, 2, 3, 4]
    manifest = read_manifest(run)
    assert manifest.start["verdict"].startswith("gone on nevertheless: all of the first 128")
    assert [
        note for note in manifest.fallbacks if note.startswith("run.hopeless go_on: all of the first 128")
    ]
    assert checkpoints(run)[-1] == "step-000004"
    assert here("train", "--resume", run, *settings(run__steps=5)) == 0, "decided once"


def test_a_start_with_hope_is_in_the_manifest_after_the_first_step_and_stays(tmp_path, capsys):
    run = tmp_path / "run"
    changes = HOPELESS | {"verifier": f"{PLUGINS}:coin", "run__steps": 1}
    assert here(*small(tmp_path, **changes)) == 0
    found, row = read_manifest(run).start, train_rows(run)[1]
    assert found["verdict"] == "there is something to learn from"
    assert found["completions"] == row["verify/issued"] == 64
    assert found["right_share"] == row["verify/right_share"]
    assert found["ci_low"] < found["right_share"] < found["ci_high"]
    assert found["expected_tokens"] == row["rollout/tokens"]
    assert here("train", "--resume", run, *settings(run__steps=2)) == 0
    assert read_manifest(run).start == found
    capsys.readouterr()
    assert here("runs", "show", run) == 0
    assert "64 completions of 8 problems" in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def recipe(tmp_path):
    """A recipe over a file of sums, for a random model of bytes."""
    rows = [{"question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "sums.yaml"
    path.write_text(
        f"model: {saved(tmp_path / 'model', 'bytes', context=512)}\n"
        "problems: {source: ./sums.jsonl, prompt: boxed}\n"
        f"verifier: '{PLUGINS}:coin'\n"
        "sampling: {group_size: 4, max_tokens: 4}\n"
        "optim: {problems_per_step: 6}\n"
        "eval: {benchmarks: [./sums.jsonl]}\n"
        f"run: {{steps: 10, threads: 1, verify_workers: 1, dir: {tmp_path / 'runs'}}}\n"
    )
    return path


def test_a_probe_compares_prompts_and_foretells_the_cost(recipe, tmp_path, capsys):
    assert here("train", recipe, "--probe") == 0
    said = capsys.readouterr().out
    table = {line.split()[0]: line.split()[1:] for line in said.splitlines()[1:4]}
    assert sorted(table) == ["answer_tag", "boxed", "plain"]
    assert next(iter(table)) == "boxed", "the recipe's own comes first"
    rates = [float(cells[0].rstrip("%")) for cells in table.values()]
    assert all(0 < rate < 100 for rate in rates)
    assert "the recipe's prompt: 12 problems x 4 completions, the other prompts 12 problems x 2" in said
    assert "cost of 10 steps x 6 problems x 4 completions: about 0.000" in said
    assert "hopeless" not in said
    assert not (tmp_path / "runs").exists()


def test_a_probe_refuses_a_hopeless_start_too(recipe, capsys):
    rows = [{"question": f"{i}+{i}?", "answer": str(2 * i)} for i in range(64)]
    (recipe.parent / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    changes = {"verifier": f"{PLUGINS}:nothing_right", "sampling__group_size": 8, "sampling__max_tokens": 1}
    assert here("train", recipe, "--probe", *settings(**changes)) == 4
    told = capsys.readouterr()
    assert "0.0% [0.0, 5.7]" in told.out, "the numbers are shown all the same"
    assert "a hopeless start: " in told.err
    assert here("train", recipe, "--probe", *settings(**changes, run__hopeless="go_on")) == 0
    assert "run.hopeless says go_on" in capsys.readouterr().out


def test_a_probe_before_a_warm_start_judges_nothing(tmp_path, capsys):
    arguments = small(tmp_path, verifier=f"{PLUGINS}:nothing_right", sampling__max_tokens=1)
    assert here(*arguments, "--probe") == 0
    said = capsys.readouterr().out
    assert "the model before its warm start; the run looks again after it" in said
    assert said.splitlines()[1].startswith("plain ")
    assert "the other prompts" not in said, "story writes its own"


def test_a_probe_is_of_a_recipe(recipe, capsys):
    assert here("train", "--resume", "last", "--probe") == 2
    assert "give it the recipe, without --resume" in capsys.readouterr().err
    assert here("train", recipe, "--probe", *settings(sampling__max_tokens=500)) == 2
    assert "none of the first 12 prompts leaves room" in capsys.readouterr().err
