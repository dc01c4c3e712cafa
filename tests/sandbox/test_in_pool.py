"""The sandbox inside verifier workers: its servers stay warm from check to check, and go with the worker."""

import os

from rlvr.types import Message, Problem
from rlvr.verify.pool import Pool, Spec
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
