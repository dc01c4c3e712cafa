"""The sandbox inside verifier workers: its servers stay warm from check to check, and go with the worker."""

import os
import subprocess
import sys

import pytest

from rlvr.types import Message, Problem
from rlvr.verify.pool import Pool, Spec
from tests.checkout import ROOT
from tests.sandbox.traces import below, gone

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


@pytest.mark.parametrize(("completion", "status"), [("print(6 * 7)", "right"), ("print(6)", "wrong")])
def test_the_verifier_of_the_docs_runs(tmp_path, completion, status):
    page = (ROOT / "docs/sandbox.md").read_text(encoding="utf-8")
    (tmp_path / "prints.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    command = [sys.executable, "-m", "rlvr.cli.app", "verifier", "try", "./prints.py:prints"]
    given = ["--completion", completion, "--answer", "42"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == status
