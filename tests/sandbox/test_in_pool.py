"""The sandbox inside verifier workers: its servers stay warm from check to check, and go with the worker."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.local import LocalSandbox
from rlvr.types import Message, Problem
from rlvr.verify.pool import Pool, Spec
from tests.checkout import ROOT
from tests.sandbox.traces import below, gone, mounts

PLUGIN = """
import os, subprocess
from rlvr import Verdict, verifier

@verifier
def kept(completion: str, sandbox) -> Verdict:
    out = sandbox.run("print(6 * 7)").stdout
    subprocess.Popen(["sleep", "600"])
    return Verdict(score=1.0, status="right", found=f"{out.strip()} {sorted(sandbox.kept_pids)}")
"""


def test_servers_stay_warm_and_what_a_plugin_starts_does_not(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    problem = Problem(id="p", messages=(Message(role="user", content="?"),), answer=None)
    with Pool([Spec(name="./plugin.py:kept", base_dir=tmp_path, timeout_s=20)], workers=1) as pool:
        found = [pool.submit(0, problem, "").result(60).found for _ in range(3)]
        family = below(os.getpid())
        assert len(set(found)) == 1, "the same server"
        assert found[0].startswith("42 [")
    assert gone(family, within_s=2.0)


OWNER = """
import sys
from rlvr.types import Message, Problem
from rlvr.verify.pool import Pool, Spec
sandbox = f"rlvr.sandbox.local:LocalSandbox {sys.argv[1]}"
pool = Pool([Spec(name="rlvr_verifiers.code:code")], workers=2, sandbox=sandbox)
asked = Problem(id="p", messages=(Message(role="user", content="?"),), answer=["assert [f(1)] == [2]"])
for body in ("while True: pass", "import time; time.sleep(600)"):
    pool.submit(0, asked, f"```python\\ndef f(x):\\n    {body}\\n```")
print("ready", flush=True)
sys.stdin.read()
"""
RUNNING = {"A": 15, "B": 11}
"""A keeper; of each worker itself, two servers (in A two processes each), the program and its judge."""


@pytest.mark.parametrize("tier", ["A", "B"])
def test_nothing_of_a_pool_outlives_its_killed_owner(tmp_path, tier):
    """A trainer is killed while programs run: no process, folder, socket or mount is left."""
    with LocalSandbox(tier) as made:
        try:
            assert made.tier == tier
        except SandboxError as error:
            pytest.skip(f"this machine has no tier {tier}: {error}")
    before = mounts()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", OWNER, tier], env=environment, **pipes) as owner:
        try:
            assert owner.stdout.readline() == b"ready\n"
            deadline, family = time.monotonic() + 16, {}
            while len(family) < RUNNING[tier]:
                assert time.monotonic() < deadline, family
                time.sleep(0.05)
                family = below(owner.pid)
            assert list(tmp_path.iterdir())
        finally:
            owner.kill()
    assert gone(family, within_s=1.0)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/net/unix").read_text(errors="replace")
    assert mounts() == before


@pytest.mark.parametrize(("completion", "status"), [("print(6 * 7)", "right"), ("print(6)", "wrong")])
def test_the_verifier_of_the_docs_runs(tmp_path, completion, status):
    page = (ROOT / "docs/sandbox.md").read_text(encoding="utf-8")
    (tmp_path / "prints.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    command = [sys.executable, "-m", "rlvr.cli.app", "verifier", "try", "./prints.py:prints"]
    given = ["--completion", completion, "--answer", "42"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == status
