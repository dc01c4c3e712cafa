"""A run that was killed or stopped, however often, ends as if it had not been; nothing is left behind."""

import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch

from rlvr.errors import EngineError
from rlvr.policy import checkpoint
from rlvr.rollout.hf import HfEngine
from rlvr.runs.reader import read_manifest, read_metrics, read_rollouts, read_status, rollout_steps
from tests.e2e.running import checkpoints, here, in_phase, leftovers, running, settings, small, status

pytestmark = pytest.mark.slow

CLOCKED = ("time/", "tokens_per_s", "memory/")
"""Parts of names of metrics that depend on the clock."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from beginning to end in one go, with its checks."""
    folder = tmp_path_factory.mktemp("whole")
    with running(folder, *small(folder)) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
        assert "Traceback" not in process.said()
    run = folder / "run"
    assert leftovers(run) == []
    assert read_status(run).state == "finished"
    assert checkpoints(run)[-1] == "step-000006"
    steps = [row for row in read_metrics(run) if row.kind == "train"]
    assert all(row.metrics["optim/grad_norm"] > 0 for row in steps), (
        "nothing was learned: equality is no proof"
    )
    assert len({row.metrics["reward/mean"] for row in steps}) > 1
    return run


def numbers(run):
    """(kind, step, metrics) of every row in order; of the warm start the place alone, since it averages."""
    return [
        (row.kind, row.step, None if row.kind == "warm_start" else {
            name: value for name, value in row.metrics.items() if not any(part in name for part in CLOCKED)
        })
        for row in read_metrics(run)
    ]  # fmt: skip


def check_same(run, whole):
    """Everything that does not depend on the clock is equal, the weights to the last bit."""
    ours, theirs = (checkpoint.latest(place / "checkpoints", on_damage=pytest.fail) for place in (run, whole))
    assert dict(ours.state) == dict(theirs.state)
    for file in ("model/model.safetensors", "model/config.json", "model/tokenizer.json"):
        assert (ours.path / file).read_bytes() == (theirs.path / file).read_bytes(), file
    for a, b in zip(ours.optimizer_states(), theirs.optimizer_states(), strict=True):
        assert a["state"].keys() == b["state"].keys()
        for key, tensors in a["state"].items():
            assert all(torch.equal(tensors[name], b["state"][key][name]) for name in tensors)
    assert numbers(run) == numbers(whole)
    assert len({(kind, step) for kind, step, _ in numbers(run)}) == len(numbers(run))
    assert rollout_steps(run) == rollout_steps(whole) == [1, 2, 3, 4, 5, 6]
    for step in rollout_steps(run):
        rows, expected = (
            [replace(row, seconds=0.0) for row in read_rollouts(place, step)] for place in (run, whole)
        )
        assert rows == expected
    for file in (whole / "evals").iterdir():
        assert (run / "evals" / file.name).read_bytes() == file.read_bytes(), file.name
    assert len(list((run / "evals").iterdir())) == len(list((whole / "evals").iterdir())) > 0
    assert read_status(run).state == "finished"
    assert leftovers(run) == []


def test_kills_at_any_moment_change_nothing(whole, tmp_path):
    run = tmp_path / "run"
    moments = [
        (small(tmp_path), lambda: "warm-000012" in checkpoints(run)),
        (["train", "--resume", run], in_phase(run, "sample", 1)),
        (["train", "--resume", run], lambda: "step-000002" in checkpoints(run)),
        (["train", "--resume", run], in_phase(run, "eval", 4)),
        (["train", "--resume", run], in_phase(run, "save", 6)),
    ]
    for arguments, moment in moments:
        with running(tmp_path, *arguments) as process:
            process.until(moment)
            assert process.ends(signal.SIGKILL) == -signal.SIGKILL
            process.check_nothing_runs()
        assert read_status(run).state == "dead"
        assert "step-000006" not in checkpoints(run) or arguments is moments[-1][0]
    with running(tmp_path, "train", "--resume", run) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
    assert len(read_manifest(run).resumes) == 5
    check_same(run, whole)


@pytest.mark.parametrize(
    ("number", "phase", "step"), [(signal.SIGINT, "sample", 2), (signal.SIGTERM, "eval", 2)]
)
def test_a_signal_stops_cleanly_and_the_rest_can_follow(whole, tmp_path, number, phase, step):
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, run__save_every=0)) as process:
        process.until(in_phase(run, phase, step))
        assert process.ends(number) == 128 + number
        process.check_nothing_runs()
        assert process.scratch_files() == []
        said = process.said()
    done = status(run)["step"]
    assert 2 <= done < 6
    assert f"stopped after step {done}; continue with: rlvr train --resume {run}" in said
    assert said.count("stopped") == 1
    assert "Traceback" not in said
    assert checkpoints(run)[-1] == f"step-{done:06d}", "the last finished step is not saved"
    assert leftovers(run) == []
    assert read_status(run).state == "stopped"
    with running(tmp_path, "train", "--resume", run) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
    assert len(read_manifest(run).resumes) == 1
    check_same(run, whole)


def test_ctrl_c_in_the_warm_start(tmp_path):
    """Nothing of the loop is done yet: what the warm start saved is there to go on from."""
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, warm_start__steps=2000)) as process:
        process.until(lambda: "warm-000006" in checkpoints(run))
        assert process.ends(signal.SIGINT) == 130
        process.check_nothing_runs()
        assert process.scratch_files() == []
        assert f"continue with: rlvr train --resume {run}" in process.said()
        assert "Traceback" not in process.said()
    assert leftovers(run) == []
    assert all(name.startswith("warm-") for name in checkpoints(run))


def test_ctrl_c_while_things_are_loaded(tmp_path):
    """Before there is a run there is nothing to save: no folder, no traceback."""
    with running(tmp_path, *small(tmp_path)) as process:
        process.until(lambda: any("libtorch" in line for line in maps(process)))
        assert process.ends(signal.SIGINT) == 130
        process.check_nothing_runs()
        assert process.scratch_files() == []
        assert "Traceback" not in process.said(), process.said()
    assert not (tmp_path / "run").exists()


def maps(process):
    """The files that the process has mapped: it is importing torch once libtorch is among them."""
    with open(f"/proc/{process.popen.pid}/maps") as file:
        return file.readlines()


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    """The first waits for the update to be whole, here 1,024 micro-batches; the second does not."""
    run = tmp_path / "run"
    long_update = {
        "warm_start": "null",
        "optim__problems_per_step": 256,
        "optim__minibatches": 1,
        "optim__micro_batch_tokens": 33,
        "eval__benchmarks": "[]",
        "eval__every": 0,
    }
    with running(tmp_path, *small(tmp_path, **long_update)) as process:
        process.until(in_phase(run, "update"))
        process.popen.send_signal(signal.SIGINT)
        time.sleep(0.5)  # the first signal must have been heard and must not have ended it
        assert process.popen.poll() is None
        started = time.monotonic()
        assert process.ends(signal.SIGINT) == -signal.SIGINT
        assert time.monotonic() - started < 1.0
        process.check_nothing_runs()
    assert leftovers(run) == []


def test_a_killed_trainer_leaves_no_process_and_no_file(tmp_path):
    """Its verifier is busy for ten minutes, and there is nobody left to end it."""
    run = tmp_path / "run"
    plugins = small(tmp_path)
    hanging = [part.replace(":coin", ":hangs") for part in plugins]
    with running(tmp_path, *hanging, *settings(warm_start="null", run__verify_workers=2)) as process:
        process.until(in_phase(run, "verify"))
        workers = [pid for pid in process.descendants() if pid != process.popen.pid]
        assert len(workers) >= 2
        process.ends(signal.SIGKILL)
        process.check_nothing_runs()
        assert process.scratch_files() == []


def test_a_damaged_checkpoint_is_said_and_passed_over(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    weights = run / "checkpoints" / "step-000006" / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with running(tmp_path, "train", "--resume", run) as process:
        assert process.ends() == 0, process.said()
        assert (
            "step-000006 is damaged (model/model.safetensors has changed); an older one is used"
            in process.said()
        )
    assert any("is damaged" in note for note in read_manifest(run).fallbacks)
    check_same(run, whole)


def test_a_run_with_its_optimizer_in_host_memory_is_the_same_after_a_kill_too(whole, tmp_path):
    with running(tmp_path, *small(tmp_path, optim__offload="true")) as process:
        process.until(in_phase(tmp_path / "run", "sample", 3))
        assert process.ends(signal.SIGKILL) == -signal.SIGKILL
        process.check_nothing_runs()
    assert here("train", "--resume", tmp_path / "run") == 0
    check_same(tmp_path / "run", whole)


def test_a_run_whose_steps_were_valued_by_continuations_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    credit = {
        "algorithm__credit": "segment_mc",
        "algorithm__segment_probability": 1,
        "algorithm__credit_tokens_share": 0.8,
        "warm_start": "null",
        "run__save_every": 1,
    }
    assert here(*small(tmp_path, **credit, run__name="whole")) == 0
    with running(tmp_path, *small(tmp_path, **credit)) as process:
        process.until(in_phase(tmp_path / "run", "credit", 3))
        assert process.ends(signal.SIGKILL) == -signal.SIGKILL
        process.check_nothing_runs()
    assert here("train", "--resume", tmp_path / "run") == 0
    check_same(tmp_path / "run", tmp_path / "whole")
    rows = [row.metrics for row in read_metrics(tmp_path / "run") if row.kind == "train"]
    assert all(0 < row["credit/tokens_share"] <= 0.8 for row in rows)
    assert any(row.states != "[]" for row in read_rollouts(tmp_path / "run", 4))


def test_a_step_whose_weights_the_engine_does_not_take_is_not_done_twice(whole, tmp_path, monkeypatch):
    taken = HfEngine.load_weights

    def refuses_the_third(engine, model, version):
        if version == 3:
            raise EngineError("it did not take them")
        taken(engine, model, version)

    monkeypatch.setattr(HfEngine, "load_weights", refuses_the_third)
    assert here(*small(tmp_path)) == 2
    monkeypatch.undo()
    assert checkpoints(tmp_path / "run")[-1] == "step-000003"
    assert here("train", "--resume", tmp_path / "run") == 0
    check_same(tmp_path / "run", whole)
