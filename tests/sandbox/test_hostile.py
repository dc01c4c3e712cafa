"""Hostile programs in every tier: none passes, reaches out or stays; an honest one passes after each."""

import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.local import LocalSandbox
from tests.sandbox.hostile_cases import CONTROL, EXPECTED, OURS, SHARED, THEIRS
from tests.sandbox.traces import below, descriptors, gone, mounts

pytestmark = pytest.mark.xdist_group("hostile")  # one port and one set of files, which the programs know
PLACES = [Path("/tmp", "rlvr_marker"), Path("/var/tmp", "rlvr_marker")]
VICTIM, SECRET = Path("/tmp", "rlvr_marker_victim"), Path("/tmp", "rlvr_secret")
PORT = 47613
LOCK = Path(tempfile.gettempdir(), "rlvr_hostile_tests.lock")
SHORT_S, LONG_S = 1.0, 5.0
"""Of a program that may run into its limit, and of one that must come to an end by itself."""
LATE_S = 0.5
CASES = [*OURS, *THEIRS] or [None]
TESTS = "".join(f"assert solve({given}) == {expected}\n" for given, expected in EXPECTED.items())
HONEST = "def solve(n):\n    return {1: 1049, 2: 2063, 3: 4099}[n]\n"


@pytest.fixture(scope="module", params=["A", pytest.param("B", marks=pytest.mark.slow)])
def sandbox(request):
    made = LocalSandbox(request.param)
    try:
        assert made.tier == request.param
    except SandboxError as error:
        pytest.skip(f"this machine has no tier {request.param}: {error}")
    before = descriptors(os.getpid()), mounts()
    with made:
        yield made
        left = below(os.getpid())
    assert gone(left, within_s=1.0), "processes of the sandbox are left"
    assert mounts() == before[1]


@pytest.fixture(scope="module")
def listener():
    """Counts who calls, on the port that the shared programs know."""
    calls = []
    with open(LOCK, "w") as lock, socket.socket() as server:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run of these tests has the port
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", PORT))
        server.listen()

        def accept():
            while True:
                try:
                    calls.append(server.accept()[1])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield calls
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def bait(listener):
    """What must stay as it is, and what must stay unread."""
    os.environ["RLVR_BAIT"] = "S3CR3T-" + "ENV-0815"
    made = [path for path in (*PLACES, SECRET) if not path.exists()]
    for path in made:
        path.mkdir()
    VICTIM.write_text("unchanged")
    VICTIM.chmod(0o640)
    (SECRET / "key").write_text("S3CR3T-FILE")
    yield lambda: (*(seen(p) for p in (*PLACES, VICTIM, SECRET, SECRET / "key")), litter(), len(listener))
    del os.environ["RLVR_BAIT"]
    VICTIM.unlink()
    (SECRET / "key").unlink()
    for path in made:
        path.rmdir()


def seen(path):
    about = path.stat()
    inside = sorted(os.listdir(path)) if path.is_dir() else path.read_text()
    return (str(path), inside, about.st_mode, about.st_uid, about.st_mtime_ns)


def litter():
    places = [Path.cwd(), Path("/"), Path("/var/tmp"), Path("/dev/shm"), Path(tempfile.gettempdir())]
    return [str(place) for place in places if (place / "rlvr_pwned").exists()]


def shared_or_skip(case):
    if case is None:
        pytest.skip(f"no hostile programs found; {SHARED} is not there")
    return case


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name if case else "none")
def test_a_hostile_program_gains_nothing(case, sandbox, bait):
    before = bait()
    started = time.monotonic()
    ended = ATTEMPTS[shared_or_skip(case).kind](sandbox, case)
    took = time.monotonic() - started
    assert set(ended) <= case.ends, (case.must_hold, ended)
    assert took < len(ended) * (timeout_s(case) + LATE_S) + 1, f"ended after {took:.1f} s"
    assert bait() == before, case.must_hold
    assert_an_honest_program_passes(sandbox)


def timeout_s(case):
    return SHORT_S if "timeout" in case.ends else LONG_S


def called(sandbox, case):
    """As a verifier does: calls, compared here; and the same tests in a judge's box."""
    with sandbox.load(case.source, timeout_s=timeout_s(case)) as program:
        replies = program.call_each("solve", [[given] for given in EXPECTED])
    wrong = [r for r, e in zip(replies, EXPECTED.values(), strict=True) if r.status != "ok" or r.value != e]
    assert wrong, case.must_hold
    judged = sandbox.judge(case.source, TESTS, timeout_s=timeout_s(case))
    assert not judged.passed, case.must_hold
    return [wrong[0].status, judged.status]


def ran(sandbox, case):
    if case.name in ("own_leave_behind", "own_hidden_folders"):
        sandbox.run(case.source)
    outcome = sandbox.run(case.source, timeout_s=timeout_s(case), memory_bytes=2**29)
    assert "LEAK" not in outcome.stdout, (case.must_hold, outcome.stdout)
    assert "S3CR3T" not in outcome.stdout + outcome.stderr
    assert outcome.stdout != "1049\n"
    return [outcome.status]


ATTEMPTS = {"function": called, "stdio": ran}


def assert_an_honest_program_passes(sandbox):
    outcome = sandbox.run("import json\nprint(json.dumps(sum(map(int, input().split()))))", stdin="1 2 3")
    assert (outcome.status, outcome.stdout) == ("ok", "6\n"), outcome
    with sandbox.load(HONEST) as program:
        assert [program.call("solve", given).value for given in EXPECTED] == list(EXPECTED.values())
    assert sandbox.judge(HONEST, TESTS).passed


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in (*OURS, *THEIRS)
        if case.kind == "stdio" and (case.is_harmless or case.name in CONTROL)
    ],
    ids=lambda case: case.name,
)
def test_without_walls_the_same_checks_bite(case, bait):
    """Only programs that do no harm are let loose; those that look for a way out must be seen to find it."""
    with LocalSandbox("none") as unsafe:
        outcome = unsafe.run(case.source, timeout_s=10)
    is_flagged = "LEAK" in outcome.stdout or outcome.status not in case.ends or "S3CR3T" in outcome.stdout
    assert is_flagged == (case.name not in ("own_abort", "own_exit_zero_early", "own_bad_bytes_out"))


OWNER = """
import sys, time
from rlvr.sandbox.local import LocalSandbox
box = LocalSandbox(sys.argv[1])
box.tier
print("ready", flush=True)
box.run(sys.argv[2], timeout_s=600)
"""


@pytest.mark.parametrize("tier", ["A", "B"])
@pytest.mark.parametrize("program", ["import time; time.sleep(600)", "while True: pass"])
def test_nothing_outlives_a_killed_owner(tier, program):
    with LocalSandbox(tier) as made:
        try:
            assert made.tier == tier
        except SandboxError as error:
            pytest.skip(f"this machine has no tier {tier}: {error}")
    command = [sys.executable, "-c", OWNER, tier, program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        try:
            assert owner.stdout.readline() == b"ready\n"
            deadline = time.monotonic() + 20
            while len(below(owner.pid)) < (3 if tier == "A" else 2):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            family = below(owner.pid)
        finally:
            owner.kill()
    assert gone(family, within_s=1.0)
