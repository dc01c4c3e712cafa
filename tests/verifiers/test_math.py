"""The math verifier: what it calls equal, what it refuses, and that nothing written in an answer can hurt."""

import json
import os
import resource
import subprocess
import sys
import threading
import time

import pytest
from rlvr_verifiers.math import Conventions, decide, math

from rlvr.types import Problem
from rlvr.verify.pool import Pool, Spec
from tests.verifiers.math_hostile import BOMBS, INJECTIONS
from tests.verifiers.math_tables import DIFFERENT, SAME

OPTIONS = [
    ({"percent": "either"}, "10", r"10\%", True),
    ({"percent": "either"}, r"10\%", "10", True),
    ({"percent": "either"}, "11", r"10\%", False),
    ({"unit": "required"}, "10", r"10\text{ cm}", False),
    ({"unit": "required"}, "10 cm", r"10\text{ cm}", True),
    ({"unit": "required"}, "10", "10", True),
    ({"convert": False}, "100 cm", "1 m", False),
    ({"convert": False}, "100 cm", "100 cm", True),
    ({"convert": False}, r"180^\circ", r"\pi", False),
    ({"tolerance": 0.01}, "3.14", r"\pi", True),
    ({"tolerance": 0.01}, "3.2", r"\pi", False),
    ({"tolerance": 0.01}, "(0.33, 2)", r"(\frac13, 2)", True),
    ({"tolerance": 0.01}, "1001", "1000", True),
    ({"ordered": True}, "2, 1", "1, 2", False),
    ({"ordered": True}, r"\{2,1\}", r"\{1,2\}", True),
    ({"scaled": False}, "2x = 4", "x = 2", False),
    ({"scaled": False}, "4 = 2x", "2x = 4", True),
    ({"labels": False}, "x = 5", "5", False),
    ({"labels": False}, "5", "x = 5", False),
    ({"unsolved": True}, "x^2 > 4", r"x < -2 \text{ or } x > 2", True),
    ({"unsolved": True}, "x^2 > 5", r"x < -2 \text{ or } x > 2", False),
    ({"unsolved": True}, "x^2 = 4", r"x = 2 \text{ or } x = -2", True),
    ({"choice": False}, "B", "(B) 5", False),
    ({"decimal_comma": False}, "2,5", "2.5", False),
]  # fmt: skip


def flat(table):
    return [
        pytest.param(found, gold, id=f"{kind}: {found} | {gold}")
        for kind, rows in table.items()
        for found, gold in rows
    ]


@pytest.mark.parametrize(("found", "gold"), flat(SAME))
def test_the_same_answer(found, gold):
    decision = decide(gold, found)
    assert decision.equal is True, decision


@pytest.mark.parametrize(("found", "gold"), flat(DIFFERENT))
def test_another_answer(found, gold):
    decision = decide(gold, found)
    assert decision.equal is not True, decision


@pytest.mark.parametrize(("options", "found", "gold", "is_equal"), OPTIONS)
def test_conventions_can_be_set(options, found, gold, is_equal):
    assert (decide(gold, found, Conventions(**options)).equal is True) == is_equal
    assert (math(f"\\boxed{{{found}}}", gold, **options).status == "right") == is_equal


WHOLE = [
    ("The answer is 18.", "18", "right", "said"),
    (r"so \boxed{17}, no: \boxed{18}", "18", "right", "boxed"),
    (r"$\boxed{1}$ and $\boxed{2}$", "2, 1", "right", "boxes"),
    (r"$\boxed{1}$ and $\boxed{2}$", "2", "wrong", "boxes"),
    ("48+24 = 72\n#### 72", "72", "right", "hashes"),
    ("<answer>18</answer>", "18", "right", "tag"),
    ("18", "18", "right", "whole"),
    (r"$\frac{1}{2}$", "0.5", "right", "whole"),
    ("I found 18 apples", "18", "no_answer", "no marked answer"),
    ("I give up", "18", "no_answer", "no marked answer"),
    (r"<think>\boxed{18}</think>I give up", "18", "no_answer", "no marked answer"),
    (r"<think>\boxed{18}", "18", "no_answer", "thinking never ended"),
    (r"\boxed{}", "18", "no_answer", "empty box"),
    ("", "18", "no_answer", "no marked answer"),
    ("\ud800\x00", "18", "no_answer", "no marked answer"),
    (r"\boxed{18} The answer is 17", "18", "right", "boxed"),
    (r"\boxed{\[ \boxed{18} \]}", "18", "right", "boxed"),
]


@pytest.mark.parametrize(("text", "gold", "status", "rule"), WHOLE)
def test_the_verdict_tells_rule_and_test(text, gold, status, rule):
    verdict = math(text, gold)
    assert (verdict.status, verdict.score) == (status, float(status == "right"))
    assert rule in verdict.why


def test_boxed_only_takes_nothing_else():
    assert math("The answer is 18. #### 18 <answer>18</answer>", "18", boxed_only=True).status == "no_answer"
    assert math("18", "18", boxed_only=True).status == "no_answer"
    assert math(r"\boxed{18}", "18", boxed_only=True).status == "right"


@pytest.mark.parametrize("gold", [None, "", "  ", [], [None], True, {"a": 1}, float("nan"), float("inf")])
def test_an_unreadable_gold_is_our_fault(gold):
    with pytest.raises(ValueError, match="gold"):
        math(r"\boxed{5}", gold)


@pytest.mark.parametrize("gold", ["18", 18, 18.0, [17, 18], r"thus $\boxed{18}$", "6*3 = 18\n#### 18"])
def test_golds_come_in_many_forms(gold):
    assert math(r"\boxed{18}", gold).status == "right"
    assert math(r"\boxed{19}", gold).status == "wrong"


def test_an_undecided_comparison_says_so():
    assert math(r"\boxed{\text{the one on the left of the door}}", "5").why.startswith("cannot decide")
    assert decide("9^{9^{9^9}}", "7").equal is None


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("gold", ["7", "x+1", r"\text{yes}", "(1,2)"])
def test_code_in_an_answer_is_only_text(text, gold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    assert decide(gold, text).equal is not True
    assert math(f"\\boxed{{{text}}}", gold).status != "right"
    assert list(tmp_path.iterdir()) == []
    assert set(sys.modules) - before == set()


def test_nothing_here_evaluates_names():
    """No module of the verifier mentions what runs text; sympy is never imported."""
    from rlvr_verifiers import math as package

    folder = os.path.dirname(package.__file__)
    for name in os.listdir(folder):
        if name.endswith(".py"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                source = file.read()
            for word in (
                "eval(",
                "exec(",
                "sympify",
                "parse_expr",
                "__import__",
                "getattr(mp, value",
                "import sympy",
            ):
                assert word not in source, (name, word)


GOLDS = ["7", "x^2+1", r"(-\infty, 3]"]


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: f"{bomb[:24]}...{len(bomb)}")
def test_a_bomb_is_decided_at_once(bomb):
    for gold in GOLDS:
        start = time.process_time()
        assert decide(gold, bomb).equal is not True
        assert math(bomb, gold).status in ("wrong", "no_answer")
        assert math(f"\\boxed{{{bomb}}}", gold).status in ("wrong", "no_answer")
        assert time.process_time() - start < 2.0
    start = time.process_time()
    decide(bomb, bomb)
    assert time.process_time() - start < 2.0


MEMORY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, 512 * 2**20))
from rlvr_verifiers.math import math
import json
for bomb in json.load(sys.stdin):
    for text in (bomb, "\\\\boxed{" + bomb + "}"):
        assert math(text, "x^2+1").status in ("wrong", "no_answer"), bomb[:40]
print("done", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_bombs_fit_in_half_a_gibibyte():
    ended = subprocess.run(
        [sys.executable, "-c", MEMORY],
        input=json.dumps(BOMBS),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.stdout.startswith("done"), ended.stderr[-2000:]


def test_any_thread_may_ask_and_gets_the_same():
    rows = [(gold, found) for table in (SAME, DIFFERENT) for rows in table.values() for found, gold in rows]
    alone = [decide(gold, found) for gold, found in rows]
    seen = {}

    def ask(number):
        order = rows if number % 2 else rows[::-1]
        made = {row: decide(*row) for row in order}
        seen[number] = [made[row] for row in rows]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen[number] == alone for number in range(4))


HASHED = """
import json, sys
from rlvr_verifiers.math import decide
print(json.dumps([decide(gold, found).equal for gold, found in json.load(sys.stdin)]))
"""


def test_the_hash_seed_changes_no_verdict():
    rows = [(gold, found) for table in (SAME, DIFFERENT) for rows in table.values() for found, gold in rows]
    outputs = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", HASHED]
        asked = json.dumps(rows)
        outputs.add(
            subprocess.run(command, input=asked, stdout=-1, text=True, check=True, env=environment).stdout
        )
    assert len(outputs) == 1


def test_a_bomb_in_the_pool_is_a_verdict_in_time():
    with Pool([Spec(name="rlvr_verifiers.math:math", timeout_s=5)], workers=1) as pool:
        for bomb in ("9^{9^{9}}", "(10^9)!", "7"):
            future = pool.submit(0, Problem(id="m", messages=(), answer="7"), f"\\boxed{{{bomb}}}")
            assert future.result(60).status == ("right" if bomb == "7" else "wrong")


def test_memory_is_limited_by_nobody_else():
    """The tests above do not run under a limit left behind."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] in (
        resource.RLIM_INFINITY,
        resource.getrlimit(resource.RLIMIT_AS)[1],
    )
