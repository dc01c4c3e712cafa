"""Executors over HTTP: what they say becomes our statuses, and a fault of theirs is no score."""

import pytest

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.remote import RemoteSandbox
from rlvr.types import Message, Problem
from rlvr.verify.pool import Pool, Spec
from tests.sandbox.executor import executor


@pytest.fixture(scope="module")
def url():
    with executor() as address:
        yield address


@pytest.fixture(params=["sandboxfusion", "piston"])
def sandbox(request, url):
    return RemoteSandbox(url, request.param)


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("print(input().upper())", "ok"),
        ("raise ValueError", "error"),
        ("raise MemoryError", "memory"),
        ("while True: pass", "timeout"),
    ],
)
def test_each_end_has_its_status(sandbox, source, status):
    outcome = sandbox.run(source, stdin="hi\n", timeout_s=0.7 if status == "timeout" else 10)
    assert outcome.status == status
    assert outcome.stdout == ("HI\n" if status == "ok" else "")
    assert sandbox.tier == "R"
    assert outcome.open_doors == sandbox.open_doors


def test_calls_give_values(sandbox):
    source = (
        "print('noise')\ndef f(x): return x, {x: [1]}\nclass S:\n    def g(self, x): return x + 1\n"
        "def h(): raise KeyError('k')\ndef q(): import os; os._exit(0)"
    )
    with sandbox.load(source, timeout_s=10) as program:
        assert [reply.value for reply in program.call_each("f", [[1], ["a"]])] == [
            (1, {1: [1]}),
            ("a", {"a": [1]}),
        ]
        assert program.call("S().g", 2).value == 3
        assert program.call("h").error == "KeyError: 'k'"
        assert [reply.status for reply in program.call_each("q", [[], []])] == ["error", "error"]
        assert program.call("nothing").status == "error"
    with sandbox.load("def f(:", timeout_s=10) as program:
        assert [reply.error[:11] for reply in program.call_each("f", [[], []])] == ["SyntaxError"] * 2


def test_a_pool_offers_it(url, tmp_path):
    (tmp_path / "plugin.py").write_text(
        "from rlvr import verifier\n\n@verifier\ndef remote(completion: str, sandbox) -> bool:\n"
        "    return sandbox.tier == 'R' and sandbox.run(completion, timeout_s=10).stdout == '42\\n'\n"
    )
    problem = Problem(id="p", messages=(Message(role="user", content="?"),), answer=None)
    specs = [Spec(name="./plugin.py:remote", base_dir=tmp_path, timeout_s=30)]
    with Pool(specs, 1, sandbox=f"rlvr.sandbox.remote:RemoteSandbox {url} piston") as pool:
        assert pool.submit(0, problem, "print(6 * 7)").result(60).status == "right"


def test_a_fault_of_the_executor_is_no_score(sandbox, url):
    with pytest.raises(SandboxError, match="no answer"):
        sandbox.run("BREAK")
    with pytest.raises(SandboxError, match="no answer"):
        RemoteSandbox("http://127.0.0.1:9").run("pass")
    with pytest.raises(SandboxError, match="no pod"):
        RemoteSandbox(url).run("FAULT = 1")
    with pytest.raises(SandboxError, match="need a box"):
        sandbox.judge("", "")
