"""Real processes: what a trainer leaves behind is cleared up, however the trainer ended."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.keeper import SESSION, Keeper, kill_below, note_session
from tests.checkout import ROOT
from tests.rollout.vllm_cases import processes

PATIENCE_S = 5.0
"""It takes a tenth of a second, but a busy machine may need more."""

# Says its pid, and those of children of its own, in one JSON line; then waits to be killed.
CHILD = """
import json, os, signal, subprocess, sys, time
from multiprocessing import shared_memory
kind, pids, memory = sys.argv[1], [os.getpid()], ""
if kind == "forks":
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    pids.append(pid)
if kind == "starts":
    pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)
if kind == "session":
    os.setsid()
if kind == "deaf":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
if kind == "memory":
    held = shared_memory.SharedMemory(create=True, size=4096)
    memory = held.name
print(json.dumps({"pids": pids, "memory": memory}), flush=True)
time.sleep(600)
"""

PARENT = """
import json, os, subprocess, sys, tempfile, time
from rlvr.keeper import Keeper
kind, parent, child = sys.argv[1:]
keeper = Keeper("kept-", parent)
scratch = tempfile.mkdtemp(dir=keeper.folder)
open(os.path.join(scratch, "litter"), "w").close()
started = subprocess.Popen(
    [sys.executable, "-c", child, kind], env={**os.environ, "TMPDIR": scratch}, stdout=subprocess.PIPE
)
said = json.loads(started.stdout.readline())
print(json.dumps({**said, "folder": keeper.folder, "keeper": keeper._process.pid}), flush=True)
time.sleep(600)
"""
KINDS = ["plain", "forks", "starts", "session", "deaf", "memory"]


def lives(pid):
    """Whether it runs still; one that is dead and waits for its parent to ask does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def ignores(pid, number):
    words = Path(f"/proc/{pid}/status").read_text().split()
    return bool(int(words[words.index("SigIgn:") + 1], 16) >> number - 1 & 1)


def comes_true(claim, within_s=PATIENCE_S):
    end = time.monotonic() + within_s
    while not claim() and time.monotonic() < end:
        time.sleep(0.02)
    return claim()


@pytest.fixture
def trainer(tmp_path):
    """Starts a process that keeps a folder with a child of some kind in it; what it said, and itself."""
    started, told = [], []

    def start(kind):
        process = subprocess.Popen(
            [sys.executable, "-c", PARENT, kind, str(tmp_path), CHILD],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        told.append(json.loads(process.stdout.readline()))
        return told[-1], process

    yield start
    for process, said in zip(started, told, strict=True):
        reap(process, said | {"pids": [*said["pids"], said["keeper"]]})


def memory(said):
    return Path("/dev/shm") / said["memory"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_trainer_leaves_nothing(trainer, kind):
    said, process = trainer(kind)
    assert all(lives(pid) for pid in (*said["pids"], said["keeper"]))
    assert os.listdir(said["folder"])
    assert kind != "memory" or memory(said).exists()
    process.send_signal(signal.SIGKILL)
    assert comes_true(lambda: not any(lives(pid) for pid in said["pids"]))
    assert comes_true(lambda: not Path(said["folder"]).exists())
    assert comes_true(lambda: not lives(said["keeper"]))
    assert kind != "memory" or not memory(said).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_trainer_that_a_signal_ends_leaves_nothing(trainer, number):
    said, process = trainer("plain")
    process.send_signal(number)
    assert comes_true(lambda: not any(lives(pid) for pid in (*said["pids"], said["keeper"])))
    assert not Path(said["folder"]).exists()


def test_the_keeper_does_not_hear_what_ends_the_trainer(trainer):
    """Ctrl-C goes to every process of the terminal; the keeper's work only begins then."""
    said, _ = trainer("plain")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    assert comes_true(lambda: all(ignores(said["keeper"], number) for number in numbers)), "it has started"
    for number in numbers:
        os.kill(said["keeper"], number)
    time.sleep(0.2)
    assert all(lives(pid) for pid in (*said["pids"], said["keeper"]))
    assert Path(said["folder"]).exists()


def reap(process, said):
    """Whatever the test found, nothing of it stays."""
    process.kill()
    process.wait()
    process.stdout.close()
    for pid in said["pids"]:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    if said["memory"]:
        memory(said).unlink(missing_ok=True)


def child_of(keeper, kind="plain", **more):
    """Starts one; with `TMPDIR` in the keeper's folder unless `more` has another environment for it."""
    scratch = Path(keeper.folder) / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, kind],
        stdout=subprocess.PIPE,
        text=True,
        **{"env": {**os.environ, "TMPDIR": str(scratch)}} | more,
    )
    return process, json.loads(process.stdout.readline())


@pytest.mark.parametrize("kind", KINDS)
def test_closing_clears_up_at_once(tmp_path, kind):
    keeper = Keeper("kept-", str(tmp_path))
    process, said = child_of(keeper, kind)
    try:
        keeper.close()
        assert comes_true(lambda: not any(lives(pid) for pid in said["pids"]))
        assert not Path(keeper.folder).exists()
        assert kind != "memory" or not memory(said).exists()
        assert keeper._process.poll() is not None, "it is no zombie either"
        keeper.close()
    finally:
        reap(process, said)


@pytest.mark.parametrize("kind", ["starts", "forks", "deaf", "memory"])
@pytest.mark.parametrize("is_dead", [False, True])
def test_a_noted_session_is_ended_whatever_its_environment_says(tmp_path, kind, is_dead):
    """As vLLM's processes write over theirs; and what was shared by one that is dead is released, too."""
    keeper = Keeper("kept-", str(tmp_path))
    process, said = child_of(keeper, kind, env={"PATH": os.environ["PATH"]}, start_new_session=True)
    try:
        note_session(f"{keeper.folder}/scratch", process.pid)
        if is_dead:
            process.kill()
            process.wait()
        keeper.close()
        assert comes_true(lambda: not any(lives(pid) for pid in said["pids"]))
        assert not Path(keeper.folder).exists()
        assert kind != "memory" or not memory(said).exists()
    finally:
        reap(process, said)


def test_a_file_that_is_only_called_a_session_is_no_trouble(tmp_path):
    keeper = Keeper("kept-", str(tmp_path))
    process, said = child_of(keeper)
    Path(keeper.folder, "scratch", SESSION).write_text("of somebody else\n")
    try:
        keeper.close()
        assert comes_true(lambda: process.poll() is not None)
        assert not Path(keeper.folder).exists()
    finally:
        reap(process, said)


def test_a_folder_that_is_gone_already_is_no_trouble(tmp_path):
    keeper = Keeper("kept-", str(tmp_path))
    os.rmdir(keeper.folder)
    keeper.close()
    assert keeper._process.returncode == 0


def test_processes_of_others_are_left_alone(tmp_path):
    """Another folder whose name begins alike, the folder itself, and a process that only mentions it."""
    folder = tmp_path / "kept-1"
    environments = {
        "longer": {"TMPDIR": f"{folder}2/scratch"},
        "elsewhere": {"TMPDIR": str(tmp_path)},
        "mentions": {"OTHER": f"TMPDIR={folder}/scratch"},
    }
    command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(600)"]
    others = [
        subprocess.Popen(command, env={**os.environ, **more}, stdout=subprocess.PIPE)
        for more in environments.values()
    ]
    try:
        for process in others:
            process.stdout.readline()
        kill_below(str(folder))
        assert [process.poll() for process in others] == [None] * len(others)
    finally:
        for process in others:
            process.kill()
            process.wait()
            process.stdout.close()


TRAINER = """
import os, sys
from rlvr.types import Sampling
from tests.rollout.asked import requests
from tests.rollout.vllm_cases import small, started

print("starting", flush=True)
engine = started(*small())
for turn in range(10**9):
    for index, group in engine.generate(requests(), Sampling(max_tokens=100)):
        if turn == 1 and index == 0:
            print("sampling", flush=True)
            if sys.argv[1] == "an exception":
                raise RuntimeError("broken on purpose")
            if sys.argv[1] == "exit":
                sys.exit(0)
"""
ENDS = {
    "SIGINT": (signal.SIGINT, "sampling", (1, -signal.SIGINT)),
    "SIGTERM": (signal.SIGTERM, "sampling", (-signal.SIGTERM,)),
    "SIGKILL": (signal.SIGKILL, "sampling", (-signal.SIGKILL,)),
    "SIGKILL while starting": (signal.SIGKILL, "starting", (-signal.SIGKILL,)),
    "an exception": (None, "sampling", (1,)),
    "exit": (None, "sampling", (0,)),
}


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("how", ENDS)
def test_a_trainer_with_vllm_leaves_no_process_and_no_folder(tmp_path, how):
    number, word, codes = ENDS[how]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    trainer = subprocess.Popen(
        [sys.executable, "-c", TRAINER, how],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert word in (line.strip() for line in iter(trainer.stdout.readline, ""))
        if word == "starting":
            assert comes_true(lambda: any(scratch.glob("rlvr-vllm-*/*/config.json")), 60)
        if number is not None:
            assert processes(str(scratch)), "itself and its keeper"
            trainer.send_signal(number)
        assert trainer.wait(60) in codes
    finally:
        trainer.kill()
        trainer.wait()
        trainer.stdout.close()
    assert comes_true(lambda: not processes(str(scratch)), 10), processes(str(scratch))
    assert [path.name for path in scratch.iterdir()] == []
