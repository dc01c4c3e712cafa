"""No hostile verifier becomes a reward, stops the pool or outlives it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from rlvr.errors import VerifierError
from rlvr.types import Message, Problem
from rlvr.verify.lineage import children
from rlvr.verify.pool import Pool, Spec

HERE = Path(__file__).parent


def spec(name, **more):
    return Spec(name=f"./hostile.py:{name}", base_dir=HERE, **{"timeout_s": 20.0, **more})


FAIR, RETURNS, PATIENT, HASTY, TIGHT = range(5)
SPECS = [
    spec("fair"),
    spec("returns"),
    spec("misbehaves"),
    spec("misbehaves", timeout_s=0.4),
    spec("misbehaves", memory_bytes=2**28),
]


def problem(answer="yes", **more):
    return Problem(id="p1", messages=(Message(role="user", content="?"),), answer=answer, **more)


@pytest.fixture(scope="module")
def pool():
    with Pool(SPECS, workers=1) as made:
        yield made


def check(pool, index, completion, answer="yes"):
    return pool.submit(index, problem(answer), completion).result(60)


def still_fair(pool):
    return check(pool, FAIR, "yes").status == "right" and check(pool, FAIR, "no").status == "wrong"


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_until(claim, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def descendants(pid):
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]


def left_over(pool):
    """Processes below this one that are neither workers nor keepers."""
    expected = set(pool.worker_pids())
    below = [pid for pid in descendants(os.getpid()) if pid not in expected]
    return [pid for pid in below if b"keeper.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("nan", "returned nan"),
        ("inf", "returned inf"),
        ("two", "returned 2.0"),
        ("negative", "returned -0.1"),
        ("none", "returned None"),
        ("text", "returned a str"),
        ("numpy-like", "LooksLikeANumber"),
        ("nan verdict", "score is nan"),
        ("odd status", "'correct'"),
        ("paid timeout", "only right and wrong score"),
        ("odd found", "`found`"),
        ("odd parts", "part 'a'"),
    ],
)
def test_an_unusable_result_is_an_error(pool, returned, said):
    verdict = check(pool, RETURNS, returned)
    assert (verdict.status, verdict.score) == ("error", 0.0)
    assert said in verdict.why
    assert "`returns`" in verdict.why


@pytest.mark.parametrize(
    ("returned", "status", "score"), [("half", "wrong", 0.5), ("one", "right", 1.0), ("zero", "wrong", 0.0)]
)
def test_bools_and_floats_become_verdicts(pool, returned, status, score):
    verdict = check(pool, RETURNS, returned)
    assert (verdict.status, verdict.score) == (status, score)
    assert verdict.seconds > 0


def test_long_texts_are_shortened(pool):
    verdict = check(pool, RETURNS, "long")
    assert (len(verdict.found), len(verdict.why)) == (500, 500)


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("raise_value_error", "ValueError: the gold is unreadable"),
        ("raise_broken", "BrokenError"),
        ("sys_exit", "SystemExit: 0"),
        ("exit_at_once", "exit code 0"),
        ("segfault", "SIGSEGV"),
        ("close_everything", "exit code 1"),
        ("write_everywhere", "answer"),
    ],
)
def test_a_broken_verifier_is_an_error(pool, behaviour, said):
    verdict = check(pool, PATIENT, behaviour)
    assert (verdict.status, verdict.score) == ("error", 0.0)
    assert said in verdict.why
    assert still_fair(pool)


def test_an_exception_names_its_line_in_the_plugin(pool):
    line = next(
        i for i, text in enumerate((HERE / "hostile.py").read_text().splitlines(), 1) if "unreadable" in text
    )
    assert f"hostile.py:{line}" in check(pool, PATIENT, "raise_value_error").why


@pytest.mark.parametrize(
    "behaviour", ["spin", "sleep", "ignore_sigterm", "stop_self", "hang_with_children", "fork_and_hang"]
)
def test_a_hanging_verifier_is_killed_with_all_it_started(pool, behaviour):
    started = time.monotonic()
    verdict = check(pool, HASTY, behaviour)
    assert (verdict.status, verdict.score) == ("timeout", 0.0)
    assert time.monotonic() - started < 5
    assert still_fair(pool)
    assert wait_until(lambda: left_over(pool) == [])


def test_a_memory_bomb_is_an_error(pool):
    verdict = check(pool, TIGHT, "eat_memory")
    assert verdict.status == "error"
    assert "MemoryError" in verdict.why
    assert still_fair(pool)


def test_the_memory_limit_is_each_specs_own(pool):
    assert check(pool, PATIENT, "print_much").status == "right"
    assert still_fair(pool)


@pytest.mark.parametrize(
    "behaviour",
    [
        "fork_and_answer_in_both",
        "fork_and_raise_in_child",
        "leave_a_child",
        "leave_a_session",
        "leave_a_program",
    ],
)
def test_a_fork_never_answers_and_is_not_left_behind(pool, behaviour):
    verdict = check(pool, PATIENT, behaviour)
    assert verdict.status == "right"
    [worker] = pool.worker_pids()
    assert children(worker) == []
    assert still_fair(pool)
    assert pool.worker_pids() == [worker]


def test_a_worker_lost_between_two_checks_costs_no_completion(pool):
    assert still_fair(pool)
    [worker] = pool.worker_pids()
    os.kill(worker, signal.SIGKILL)
    assert wait_until(lambda: is_gone(worker))
    assert still_fair(pool)


@pytest.mark.parametrize(
    "text", ["é☃", "a\x00b", "\ud800 lone", "\udc80", '"quoted"\n', "x" * 10**6], ids=range(6)
)
def test_any_text_arrives_as_it_is(pool, text):
    assert check(pool, FAIR, text, answer=text).status == "right"
    assert check(pool, FAIR, text + " ", answer=text).status == "wrong"


def test_an_answer_that_is_not_json_like_is_an_error(pool):
    verdict = check(pool, FAIR, "yes", answer={1, 2})
    assert verdict.status == "error"
    assert "not JSON-like" in verdict.why


def test_many_checks_on_two_workers_each_get_their_own_verdict():
    with Pool([spec("fair")], workers=2) as pool:
        futures = [pool.submit(0, problem(str(i % 7)), str(i % 3)) for i in range(500)]
        got = [future.result(60).status == "right" for future in futures]
    assert got == [i % 7 == i % 3 for i in range(500)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (spec("fare"), "did you mean `fair`"),
        (spec("fair", options={"x": 1}), "no option `x`"),
        (Spec(name="./absent.py:fair", base_dir=HERE), "no file"),
    ],
)
def test_load_errors_surface_when_the_pool_is_made(bad, said):
    before = descendants(os.getpid())
    with pytest.raises(VerifierError, match=said):
        Pool([spec("fair"), bad], workers=2)
    assert descendants(os.getpid()) == before


def test_a_plugin_that_exits_while_it_is_loaded_is_a_load_error(tmp_path):
    (tmp_path / "gone.py").write_text("import os\nos._exit(3)\n")
    with pytest.raises(VerifierError, match="exit code 3"):
        Pool([Spec(name="./gone.py:v", base_dir=tmp_path)], workers=1)


def test_close_ends_hanging_checks_at_once_and_cancels_the_rest():
    pool = Pool([spec("misbehaves", timeout_s=600)], workers=1)
    running = pool.submit(0, problem(), "hang_with_children")
    waiting = pool.submit(0, problem(), "raise_value_error")
    [worker] = pool.worker_pids()
    assert wait_until(lambda: len(children(worker)) == 2)
    below = [worker, *descendants(worker)]
    started = time.monotonic()
    pool.close()
    pool.close()
    assert time.monotonic() - started < 5
    assert running.result(1).status == "error"
    with pytest.raises(CancelledError):
        waiting.result(1)
    assert wait_until(lambda: all(map(is_gone, below)))
    with pytest.raises(VerifierError, match="closed"):
        pool.submit(0, problem(), "x")


OWNER = """
import json, sys, time
from rlvr.types import Problem
from rlvr.verify.pool import Pool, Spec
pool = Pool([Spec(name="./hostile.py:misbehaves", base_dir=sys.argv[1], timeout_s=600)], workers=2)
problem = Problem(id="p", messages=(), answer="")
pool.submit(0, problem, sys.argv[2])
pool.submit(0, problem, sys.argv[2])
print(json.dumps(pool.worker_pids()), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("behaviour", ["spin", "fork_and_hang"])
def test_nothing_outlives_a_killed_parent(behaviour, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", OWNER, str(HERE), behaviour]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        try:
            workers = json.loads(owner.stdout.readline())
            wanted = 2 if behaviour == "fork_and_hang" else 0
            assert wait_until(lambda: sum(len(children(worker)) for worker in workers) == wanted)
            below = descendants(owner.pid)
            assert len(below) == 3 + wanted, "two workers and the keeper"
        finally:
            owner.kill()
    assert wait_until(lambda: all(map(is_gone, below)))
    assert wait_until(lambda: list(tmp_path.iterdir()) == [])


def test_a_killed_check_leaves_no_temporary_files(tmp_path, monkeypatch):
    (tmp_path / "plugin.py").write_text(
        "import tempfile\nfrom rlvr import verifier\n\n@verifier\n"
        "def stuck(completion: str, sandbox) -> bool:\n    tempfile.mkdtemp(prefix='litter-')\n"
        "    return sandbox.run('import time; time.sleep(600)', timeout_s=600).status == 'ok'\n"
    )
    litter = tmp_path / "litter"
    litter.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(litter))
    with Pool([Spec(name="./plugin.py:stuck", base_dir=tmp_path, timeout_s=1)], workers=1) as pool:
        waiting = pool.submit(0, problem(), "x")
        assert wait_until(lambda: list(litter.glob("*/*/litter-*")))
        assert waiting.result(60).status == "timeout"
    assert list(litter.iterdir()) == []


def test_a_worker_loads_neither_torch_nor_transformers(tmp_path):
    (tmp_path / "seen.py").write_text(
        "import sys\nfrom rlvr import verifier\n\n@verifier\ndef seen(completion: str) -> bool:\n"
        "    return not {'torch', 'transformers', 'multiprocessing'} & set(sys.modules)\n"
    )
    with Pool([Spec(name="./seen.py:seen", base_dir=tmp_path)], workers=1) as pool:
        assert check(pool, 0, "").status == "right"


def test_a_verifier_gets_all_that_it_asks_for(tmp_path):
    (tmp_path / "asks.py").write_text(
        "from rlvr import Verdict, verifier\n\n@verifier\n"
        "def asks(seed: int, problem, sandbox, completion: str, answer, *, extra: float = 0.0) -> Verdict:\n"
        "    out = sandbox.run('print(6 * 7)', timeout_s=10).stdout.strip()\n"
        "    asked = problem.messages[0].content\n"
        "    found = [seed, problem.id, asked, problem.meta['k'], completion, answer, extra, out]\n"
        "    return Verdict(score=1.0, status='right', found=repr(found))\n"
    )
    with Pool(
        [Spec(name="./asks.py:asks", base_dir=tmp_path, options={"extra": 2}, timeout_s=20)], workers=1
    ) as pool:
        verdict = pool.submit(0, problem([1], meta={"k": "v"}), "c", seed=5).result(60)
    assert verdict.found == repr([5, "p1", "?", "v", "c", [1], 2.0, "42"])
