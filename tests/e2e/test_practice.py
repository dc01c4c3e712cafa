"""Curriculum and replay in whole runs: killed and taken up again, they go on as if nothing had been."""

import signal

import pytest
import torch

from rlvr.policy import checkpoint
from rlvr.runs.reader import read_rollouts
from tests.e2e.running import PLUGINS, checkpoints, here, in_phase, running, small, train_rows
from tests.e2e.test_resume import check_same

SMALL = {
    "verifier": f"{PLUGINS}:one_in_five",
    "problems": "{source: story, limit: 24}",
    "problems.curriculum": "{band: [0.05, 1], retire_at: 0.5, revisit: 0.2, visits: 1}",
    "sampling.replay": "{share: 0.5, max_age: 4}",
    "algorithm.oversample": 2.0,
    "optim.learning_rate": 1e-3,
}


def practising(folder, **changes):
    """The small quickstart over a few problems that come back, with replay."""
    return small(folder, **{key.replace(".", "__"): value for key, value in SMALL.items()} | changes)


def remembered(run):
    """The memory of the newest checkpoint."""
    return checkpoint.latest(run / "checkpoints", on_damage=pytest.fail).memory()


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.slow
def test_kills_change_nothing_of_what_is_asked_and_replayed(tmp_path):
    whole, run = tmp_path / "whole" / "run", tmp_path / "run"
    whole.parent.mkdir()
    assert here(*practising(whole.parent)) == 0
    rows = train_rows(whole)
    assert sum(row["batch/replayed_share"] > 0 for row in rows.values()) >= 2, "nothing came back"
    assert all(row["batch/replay_weight_mean"] > 0 for row in rows.values() if row["batch/replayed_share"])
    assert any(abs(row.get("batch/replay_weight_mean", 1.0) - 1) > 1e-3 for row in rows.values())
    assert rows[6]["problems/retired"] > 0
    assert rows[6]["problems/outside"] > 0
    assert any(row["problems/revisited_share"] > 0 for row in rows.values())
    moments = [
        (practising(tmp_path), lambda: "step-000002" in checkpoints(run)),
        (["train", "--resume", run], in_phase(run, "sample", 3)),
        (["train", "--resume", run], in_phase(run, "save", 4)),
        (["train", "--resume", run], in_phase(run, "update", 4)),
    ]
    for arguments, moment in moments:
        with running(tmp_path, *arguments) as process:
            process.until(moment)
            assert process.ends(signal.SIGKILL) == -signal.SIGKILL
    assert here("train", "--resume", run) == 0
    check_same(run, whole)
    assert equal(remembered(run), remembered(whole))
    assert remembered(run)["stored"]


@pytest.mark.slow
def test_the_record_holds_what_was_sampled_and_the_counts_follow_from_it(tmp_path):
    """A stored completion is trained on, not sampled: it is in no record and in no accounting."""
    run = tmp_path / "run"
    assert here(*practising(tmp_path, warm_start="null", eval__benchmarks="[]", eval__every=0)) == 0
    seen = {}
    for step, row in train_rows(run).items():
        rollouts = read_rollouts(run, step)
        assert row["verify/issued"] == len(rollouts)
        asked = {}
        for rollout in rollouts:
            assert (rollout.version_min, rollout.version_max) == (step - 1, step - 1)
            asked.setdefault((rollout.problem_id, rollout.question), []).append(rollout.status == "right")
        for (name, _), right in asked.items():
            for start in range(0, len(right), 4):
                seen.setdefault(name, []).append(sum(right[start : start + 4]) / 4)
        assert row["problems/unseen"] == 24 - len(seen)
        weights = {name: [0.5**age for age in range(len(rates))][::-1] for name, rates in seen.items()}
        rates = [
            sum(w * r for w, r in zip(weights[name], rates, strict=True)) / sum(weights[name])
            for name, rates in seen.items()
        ]
        assert row["problems/retired"] == sum(r >= 0.5 for r in rates)
        assert row["problems/rate_mean"] == pytest.approx(sum(rates) / len(rates))


def test_an_endless_source_is_refused_with_the_key_to_set(tmp_path, capsys):
    for key, value in (("problems", "{source: story, curriculum: {}}"), ("sampling__replay", "{}")):
        assert here(*small(tmp_path, **{key: value})) == 2
        said = capsys.readouterr().err
        assert "never asks one twice; set problems.limit, for example 10000" in said
        assert not (tmp_path / "run").exists()
