"""The sandbox of this machine in each tier: every way to end has its status, and nothing is left behind."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.client import ForkServer, Run
from rlvr.sandbox.local import LocalSandbox, imports_heavy
from rlvr.sandbox.walls import OUTPUT_BYTES
from tests.sandbox.traces import below, descriptors, gone


def test_a_program_reads_stdin_and_writes_stdout(sandbox):
    outcome = sandbox.run(
        "import sys\nprint(sys.stdin.read().upper())\nsys.stderr.write('é')", stdin="süß\x00"
    )
    assert (outcome.status, outcome.stdout, outcome.stderr, outcome.exit_code) == ("ok", "SÜSS\x00\n", "é", 0)
    assert 0 < outcome.seconds < 5
    assert 0 < outcome.cpu_seconds < 5


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
        ("with open('f', 'wb') as f:\n    while True: f.write(b'x' * 10**6)", "output"),
        ("import sys; sys.exit(0)", "ok"),
        ("import sys; sys.exit('gone')", "error"),
        ("import atexit, os; atexit.register(os._exit, 7)", "error"),
    ],
)
def test_each_end_has_its_status(sandbox, source, status):
    if "'f'" in source and sandbox.tier != "A":
        pytest.skip("only tier A has a scratch folder")
    outcome = sandbox.run(source, timeout_s=10, memory_bytes=2**28)
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
def test_a_program_that_does_not_end_is_killed_in_time(sandbox, source):
    started = time.monotonic()
    outcome = sandbox.run(source, timeout_s=0.5)
    assert (outcome.status, outcome.exit_code) == ("timeout", None)
    assert time.monotonic() - started < 1.0


def test_cpu_time_ends_a_program_before_the_wall_does_and_waiting_does_not_count(sandbox):
    outcome = sandbox.run("while True: pass", timeout_s=0.3, wall_s=30)
    assert outcome.status == "timeout"
    assert 0.25 < outcome.cpu_seconds < 1
    assert outcome.seconds < 15
    assert sandbox.run("import time; time.sleep(0.6)", timeout_s=0.3, wall_s=30).status == "ok"
    burn = "import hashlib, threading\nd = b'x' * 2**20\ndef f():\n  while True: hashlib.sha256(d)\n"
    burn += "for _ in range(4): threading.Thread(target=f).start()"
    assert sandbox.run(burn, timeout_s=0.3, wall_s=30).cpu_seconds < 1.5


@pytest.mark.parametrize(
    "source",
    [
        "print(42)\nexit()",
        "print(42)\nquit(0)",
        "out = open(1, 'w')\nout.write('42\\n')",
        "import io\nout = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'42\\n')",
        "import io, sys\nout, sys.stdout = sys.stdout, io.StringIO()\nout.write('42\\n')",
        "import io, sys\nsys.stdout.write('42\\n')\nsys.stdout = io.StringIO()",
        "\ufeffprint(42)",
        "outs = [open(1, 'w')]\nouts[0].write('42\\n')",
        "class A:\n    def __del__(self): print(X)\nX = 42\na = A()\na.itself = a",
        "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 42)",
        "import sys\nprint(42, flush=True)\ndel sys.stdout",
        "import sys\nclass Out:\n    write = sys.stdout.write\n    flush = sys.stdout.flush\n"
        "sys.stdout = Out()\nprint(42)",
    ],
)
def test_what_honest_programs_do_works(sandbox, source):
    outcome = sandbox.run(source)
    assert (outcome.status, outcome.stdout) == ("ok", "42\n"), outcome


def test_more_stack_may_be_asked_for(sandbox):
    stack = "import resource as r\nr.setrlimit(r.RLIMIT_STACK, r.getrlimit(r.RLIMIT_STACK))\nprint(42)"
    assert sandbox.run(stack).stdout == "42\n"


def test_threads_are_waited_for_and_their_output_is_whole(sandbox):
    source = "import threading, time\ndef f():\n  time.sleep(0.1); print('late')\n"
    source += "threading.Thread(target=f).start()"
    assert sandbox.run(source).stdout == "late\n"


def test_nothing_is_inherited(sandbox, monkeypatch):
    monkeypatch.setenv("RLVR_TEST_SECRET", "hunter2")
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    source = (
        "import os, sys\nprint('RLVR_TEST_SECRET' in os.environ)\n"
        "print(os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'], os.getpgrp() == os.getpid())\n"
        "def is_open(fd):\n  try: os.fstat(fd)\n  except OSError: return False\n  return True\n"
        "print([fd for fd in range(1024) if is_open(fd)], sys.argv, __name__)"
    )
    outcome = sandbox.run(source)
    os.close(reader)
    os.close(writer)
    assert outcome.stdout.splitlines() == ["False", "True True", "[0, 1, 2] ['main.py'] __main__"]


def test_what_a_program_leaves_is_gone_for_the_next(sandbox):
    if sandbox.tier == "none":
        pytest.skip("without walls nothing is wiped")
    leave = "import os\nprint(os.listdir(), os.getcwd() == os.environ['HOME'])\nfor n in 'ab': open(n, 'w')"
    if sandbox.tier == "A":
        # What the library lies in cannot be a link to the scratch folder.
        has_tmp = Path("/tmp") not in Path(sys.prefix).parents
        temporary = f"import os, tempfile\nopen(os.path.join({'/tmp' if has_tmp else '/box'!r}, 'x'), 'w')\n"
        temporary += "print(os.path.isfile('x'), tempfile.mkdtemp())"
        assert sandbox.run(temporary).stdout.startswith("True /box/")
    seen = [sandbox.run(leave).stdout for _ in range(3)]
    assert set(seen) == ({"[] True\n"} if sandbox.tier == "A" else {""})
    source = f"def f():\n    {leave.splitlines()[2]}\n    return 1\n"
    tests = "import os\nf()\nassert os.listdir() == []\n"
    assert sandbox.tier == "B" or sandbox.judge(source, tests).passed, "each box has its own folder"


def test_runs_are_repeatable_and_random_numbers_are_not(sandbox):
    order = "print(list({'a', 'b', 'c', 'd', 'e', 'f'}))"
    assert sandbox.run(order).stdout == sandbox.run(order).stdout
    drawn = "import random; print(random.random())"
    assert sandbox.run(drawn).stdout != sandbox.run(drawn).stdout


def test_limits_hold_and_cannot_be_lifted(sandbox):
    names = ("CORE", "FSIZE", "NOFILE")
    source = f"import resource as r\nfor n in {names}: print(r.getrlimit(getattr(r, 'RLIMIT_' + n)))\n"
    outcome = sandbox.run(source, memory_bytes=2**29)
    # Of a core: 0 is no file, but the machine's handler may get it through a pipe; 1 is neither.
    assert outcome.stdout.splitlines() == [str((n, n)) for n in (1, OUTPUT_BYTES, 64)]
    memory = "import resource as r\nprint(r.getrlimit(r.RLIMIT_AS)[1])"
    assert 2**29 <= int(sandbox.run(memory, memory_bytes=2**29).stdout) < 2**30


def test_an_error_shows_the_program_and_nothing_of_ours(sandbox):
    stderr = sandbox.run("def f():\n    return 1 / 0\nf()").stderr
    assert "return 1 / 0" in stderr
    assert 'File "main.py", line 3' in stderr
    assert "rlvr" not in stderr


def test_threads_share_one_sandbox(sandbox):
    found = {}

    def work(n):
        found[n] = [sandbox.run(f"print({n * k})").stdout for k in range(5)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: [f"{n * k}\n" for k in range(5)] for n in range(4)}


def test_a_lost_server_is_an_error_of_ours_and_replaced(sandbox):
    sandbox.run("pass")
    before = descriptors(os.getpid())
    family = below(os.getpid())
    for pid in sandbox.kept_pids:
        os.kill(pid, 9)
    assert gone({pid: family[pid] for pid in sandbox.kept_pids}, within_s=5.0)
    assert sandbox.run("print(1)").stdout == "1\n"
    assert descriptors(os.getpid()) <= before + 2


def test_a_server_lost_in_a_run_is_no_score(sandbox):
    def kill():
        time.sleep(0.3)
        for pid in sandbox.kept_pids:
            os.kill(pid, 9)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SandboxError):
        sandbox.run("import time; time.sleep(60)", timeout_s=60)
    killer.join()
    assert sandbox.run("print(1)").stdout == "1\n"


def test_a_kill_from_outside_is_no_score_and_no_program_can_feign_it(sandbox):
    if sandbox.tier == "none":
        pytest.skip("without walls a program can do it")
    feigned = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    assert sandbox.run(feigned).exit_code == 1
    feigned = "import signal, threading\nsignal.pthread_kill(threading.get_ident(), 9)"
    assert sandbox.run(feigned).exit_code == 1

    def kill():
        time.sleep(0.3)
        for pid in sandbox.kept_pids:
            for one in below(pid):
                if not below(one):  # the program, or the first process of a server that has none now
                    os.kill(one, 9)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SandboxError, match="killed from outside"):
        sandbox.run("import time; time.sleep(60)", timeout_s=60)
    killer.join()


def test_an_interrupt_in_a_run_does_not_reach_the_next(sandbox):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            sandbox.run("import time; time.sleep(60)", timeout_s=60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert sandbox.run("print(1)").stdout == "1\n"


@pytest.mark.parametrize(("owner", "name"), [(ForkServer, "start"), (Run, "_left")])
def test_an_interrupt_at_a_bad_moment_does_not_reach_the_next(sandbox, monkeypatch, owner, name):
    before = getattr(owner, name)

    def interrupted(self, *rest):
        value = before(self, *rest)
        if owner is ForkServer or self._over:
            monkeypatch.setattr(owner, name, before)
            raise KeyboardInterrupt
        return value

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run("import time; time.sleep(0.3); print('first')")
    for n in range(3):
        assert sandbox.run(f"import time; time.sleep(0.1); print({n})").stdout == f"{n}\n"


def test_heavy_imports_are_found_in_linear_time():
    assert imports_heavy("import os\n  import numpy as np")
    assert imports_heavy("from sympy.abc import x")
    assert not imports_heavy("print('numpy')\nimport os, numpyro\nimportnumpy")
    started = time.monotonic()
    assert not imports_heavy(("import" + " " * 10**6 + "x\n") * 2 + "\t \n" * 10**5)
    assert time.monotonic() - started < 1


FRESH = """
import gc, linecache, random, signal, sys
print(__name__, sys.modules["__main__"].__file__, gc.isenabled(), sorted(linecache.cache))
print(random.random(), signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.parametrize("heavy", ["", "import numpy, sympy\n"])
def test_a_program_finds_nothing_of_what_ran_before_it(sandbox, heavy):
    (named, first), (again, second) = (sandbox.run(heavy + FRESH).stdout.splitlines() for _ in range(2))
    assert named == again == "__main__ main.py True ['main.py']"
    assert first.split()[0] != second.split()[0], "each has random numbers of its own"
    if sandbox.tier == "none":
        assert first.endswith(" set()"), "programs may start others, and hear of their ends"


def test_runs_leak_no_descriptors(sandbox):
    sandbox.run("pass")
    before = descriptors(os.getpid())
    for _ in range(5):
        sandbox.run("pass")
        sandbox.run("while True: pass", timeout_s=0.01)
        with sandbox.load("def f(): return 1") as program:
            program.call("f")
    assert descriptors(os.getpid()) == before


def test_programs_may_import_heavy_packages(sandbox):
    pytest.importorskip("sympy")
    source = "import numpy as np, sympy\nprint(int(np.ones(3).sum()), sympy.sqrt(8))\n"
    source += "def f(): return np.ones(2), np.int64(3)"
    assert sandbox.run(source, timeout_s=20).stdout == "3 2*sqrt(2)\n"
    with sandbox.load(source, timeout_s=20) as program:
        assert program.call("f").value == ([1.0, 1.0], 3)


def test_a_program_ends_when_its_threads_have(sandbox):
    source = "import threading, time\ndef late():\n    time.sleep(0.1)\n    print('late')\n"
    source += "threading.Thread(target=late).start()\n"
    assert sandbox.run(source).stdout == "late\n"
    main = "import threading\nprint(threading.active_count(), threading.current_thread().name)"
    assert sandbox.run(main).stdout == "1 MainThread\n"


def test_open_doors_are_named(sandbox):
    outcome = sandbox.run("pass")
    assert outcome.open_doors == sandbox.open_doors
    starts = {"A": "kernel", "B": "kernel", "none": "everything"}
    assert sandbox.open_doors[0].startswith(starts[sandbox.tier])
    assert sys.platform == "linux"


def test_where_nothing_holds_nothing_runs(monkeypatch):
    monkeypatch.setattr("rlvr.sandbox.local._found_open", lambda server: ["network"])
    with (
        LocalSandbox() as made,
        pytest.raises(SandboxError, match=r"tier A: .*tier B: a program could network"),
    ):
        made.run("pass")
