"""The local sandbox: every way to end has its status, and nothing is left behind."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rlvr.sandbox.api import Sandbox
from rlvr.sandbox.local import OUTPUT_BYTES, LocalSandbox

SANDBOX: Sandbox = LocalSandbox()


def left_behind():
    return sorted(Path(tempfile.gettempdir()).glob("rlvr-sandbox-*"))


@pytest.fixture(autouse=True)
def tidy():
    before = left_behind()
    yield
    assert left_behind() == before


def test_a_program_reads_stdin_and_writes_stdout():
    outcome = SANDBOX.run(
        "import sys\nprint(sys.stdin.read().upper())\nsys.stderr.write('é')", stdin="süß\x00"
    )
    assert (outcome.status, outcome.stdout, outcome.stderr, outcome.exit_code) == ("ok", "SÜSS\x00\n", "é", 0)
    assert 0 < outcome.seconds < 5


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("raise ValueError('no')", "error"),
        ("import os; os._exit(3)", "error"),
        ("def f(:", "error"),
        ("x = '\x00'", "error"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "error"),
        ("x = bytearray(2**31)", "memory"),
        ("x = []\nwhile True: x.append(bytearray(2**20))", "memory"),
        ("while True: print('x' * 10**6)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 10**6)", "output"),
        ("import sys; sys.exit(0)", "ok"),
    ],
)
def test_each_end_has_its_status(source, status):
    outcome = SANDBOX.run(source, timeout_s=10, memory_bytes=2**28)
    assert outcome.status == status, outcome
    assert len(outcome.stdout) <= OUTPUT_BYTES


@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "import signal, time\nfor s in range(1, 32):\n  try: signal.signal(s, 1)\n  except OSError: pass\n"
        "time.sleep(600)",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
        "import os, time\nos.close(0), os.close(1), os.close(2)\ntime.sleep(600)",
    ],
)
def test_a_program_that_does_not_end_is_killed_in_time(source):
    started = time.monotonic()
    outcome = SANDBOX.run(source, timeout_s=0.5)
    assert (outcome.status, outcome.exit_code) == ("timeout", None)
    assert time.monotonic() - started < 1.5


def test_a_forked_child_neither_delays_the_end_nor_outlives_it():
    started = time.monotonic()
    source = "import os, time\npid = os.fork()\nif pid: print(pid)\nelse: time.sleep(600)"
    outcome = SANDBOX.run(source, timeout_s=10)
    assert outcome.status == "ok"
    assert time.monotonic() - started < 5
    child = Path(f"/proc/{outcome.stdout.strip()}/stat")
    deadline = time.monotonic() + 5
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the forked child is still running"
        time.sleep(0.02)


def test_nothing_is_inherited(monkeypatch):
    monkeypatch.setenv("RLVR_TEST_SECRET", "hunter2")
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    source = (
        "import os, sys\nprint(sorted(os.environ), sorted(os.listdir('/proc/self/fd')))\n"
        "print(os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'], os.getsid(0) == os.getpid())\n"
        "print(sys.flags.isolated, sys.flags.no_site, {'ctypes', 'resource'} & set(sys.modules))"
    )
    outcome = SANDBOX.run(source)
    os.close(reader)
    os.close(writer)
    first, second, third = outcome.stdout.splitlines()
    assert "RLVR_TEST_SECRET" not in first
    variables, fds = (json.loads(part.replace("'", '"') + "]") for part in first.split("]")[:2])
    assert set(variables) <= {"HOME", "TMPDIR", "LC_CTYPE"}  # the last is Python's own doing
    assert fds == ["0", "1", "2", "3"]  # the last is the listing itself
    assert (second, third) == ("True True", "1 1 set()")


def test_deep_folders_are_removed_too():
    source = "import os\nfor _ in range(1100):\n    os.mkdir('d')\n    os.chdir('d')\nprint('deep')"
    assert SANDBOX.run(source, timeout_s=20).stdout == "deep\n"


def test_limits_hold_and_cannot_be_lifted():
    names = ("AS", "CORE", "FSIZE", "NOFILE")
    source = f"import resource as r\nfor n in {names}: print(r.getrlimit(getattr(r, 'RLIMIT_' + n)))"
    outcome = SANDBOX.run(source, memory_bytes=2**29)
    expected = [2**29, 0, OUTPUT_BYTES, 64]
    assert outcome.stdout.splitlines() == [str((n, n)) for n in expected]


def test_open_doors_are_named():
    doors = SANDBOX.run("pass").open_doors
    assert doors == SANDBOX.open_doors
    assert any(door.startswith("network") for door in doors)
    assert any(door.startswith("file system") for door in doors)
    assert any(door.startswith("root") for door in doors) == (os.geteuid() == 0)
    assert sys.platform == "linux"
