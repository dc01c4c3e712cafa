"""The math verifier: what it extracts, what it calls equal, and what it must refuse."""

import json

import pytest
from rlvr_verifiers.extract import last_boxed
from rlvr_verifiers.math import math

from rlvr.types import Problem
from rlvr.verify.pool import Pool, Spec

EXTRACTED = [
    (r"so \boxed{5}", "5"),
    (r"\boxed{4} no, \boxed{5}", "5"),
    (r"\boxed{5} and \boxed{4", "5"),
    (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\boxed{\frac12}}", r"\frac12"),
    (r"\boxed{\boxed{5}+1}", r"\boxed{5}+1"),
    (r"{ \fbox { 7 }", "7"),
    (r"\\boxed{7}", "7"),
    (r"\boxed{", None),
    ("}}}", None),
    (r"\boxed{" * 10**5, None),
    (r"\boxed{" * 10**5 + "5" + "}" * 10**5, "5"),
]

# A completion is a bare box where it has no backslash-b of its own.
BOXED = [
    ("18", "18", "right"),
    ("18", 18, "right"),
    ("18.0", 18, "right"),
    ("0.5", 0.5, "right"),
    ("1,000", "1000", "right"),
    (r"1{,}000", "1000", "right"),
    (r"1\,000", "1000", "right"),
    ("1 000", "1000", "right"),
    (r"\$18", "18", "right"),
    ("18.", "18", "right"),
    (r"18 \text{ dollars}", "18", "right"),
    (r"\frac{1}{2}", "0.5", "right"),
    (r"\dfrac12", r"\frac{1}{2}", "right"),
    ("2/4", "1/2", "right"),
    ("-3/4", r"-\frac{3}{4}", "right"),
    (r"3 \times 10^{3}", "3000", "right"),
    (r"10\%", "0.1", "right"),
    (r"10\%", "10", "wrong"),
    (r"28\%", "28", "wrong"),
    ("10", r"10\%", "wrong"),
    (r"10\%", r"10\%", "right"),
    (r"x\%", "x", "wrong"),
    ("x=5", "5", "right"),
    ("2+3=5", "5", "right"),
    ("x=2+3=5", "5", "right"),
    ("8=7", "7", "wrong"),
    ("x=5=6", "6", "wrong"),
    ("=", "5", "wrong"),
    (r"\text{}", r"\text{}", "wrong"),
    (r"\text{}", "$", "wrong"),
    ("5, 6", "5", "wrong"),
    ("32, 349", "32349", "wrong"),
    ("1 2", "12", "wrong"),
    (r"5 \text{ or } 6", "5", "wrong"),
    (r"\text{not } 5", "5", "wrong"),
    ("5 or 6", "6", "wrong"),
    (r"5 \pm 1", "5", "wrong"),
    (r"5 \neq 6", "5", "wrong"),
    ("4√2 + 8", "8", "wrong"),
    ("2 + sqrt(3), 2 - sqrt(3)", "2", "wrong"),
    ("9, 18, 27, 36, ...", "36", "wrong"),
    ("1/2004!", "1/2006!", "wrong"),
    ("1/2^{99}", "1/2^{98}", "wrong"),
    ("0.0000001", "0.0000002", "wrong"),
    ("0.0", "10^{-9}", "wrong"),
    (r"40 \text{ cats},\ 50 \text{ dogs}", r"40 \text{ birds},\ 60 \text{ fish}", "wrong"),
    ("28", "0.28", "wrong"),
    ("2500", "25", "wrong"),
    ("-5", "5", "wrong"),
    ("(0,9)", "[0,9)", "wrong"),
    ("y=x", "-y=x", "wrong"),
    (r"\text{Evelyn}", "evelyn", "right"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})", "right"),
    (r"(\frac{\pi}{2}, 3)", r"(3,\frac{\pi}{2})", "wrong"),
    (r"\sqrt{8}", r"2\sqrt{2}", "right"),
    (r"x^2+2x+1", "(x+1)^2", "right"),
    (r"x^2+2x", "(x+1)^2", "wrong"),
    (r"\sin^2 x + \cos^2 x - 1", "0", "right"),
    (r"\frac{0}{0}", "5", "wrong"),
    ("1/0", "5", "wrong"),
    ("nan", "0", "wrong"),
    ("x", "5", "wrong"),
    ("7", ["6", "7"], "right"),
    ("8", ["6", "7"], "wrong"),
    ("72", "He sold 48+24 = 72.\n#### 72", "right"),
    ("5", r"thus $\boxed{5}$", "right"),
    ("9" * 2000, "7", "wrong"),
    ("9" * 2000, "9" * 2000, "right"),
]

TEXTS = [
    ("The answer is 18.", "18", "right"),
    ("The answer is 18. It was 17 before", "18", "right"),
    ("The answer is 3.5, I think", "3", "wrong"),
    ("Final answer: $\\frac{1}{2}$", "0.5", "right"),
    ("so\n#### 1,234", "1234", "right"),
    ("<answer>18</answer>", "18", "right"),
    ("18", "18", "no_answer"),
    ("I found 18 apples", "18", "no_answer"),
    (r"<think>\boxed{18}", "18", "no_answer"),
    (r"<think>\boxed{17}</think>\boxed{18}", "18", "right"),
    (r"<think>\boxed{18}</think>I give up", "18", "no_answer"),
    (r"<think>a</think><think>\boxed{18}", "18", "no_answer"),
    (r"\boxed{18} The answer is 17", "18", "right"),
    (r"\boxed{}", "18", "no_answer"),
    ("", "18", "no_answer"),
    ("\ud800\x00", "18", "no_answer"),
]


@pytest.mark.parametrize(("text", "found"), EXTRACTED, ids=range(len(EXTRACTED)))
def test_the_last_balanced_box_is_found(text, found):
    assert last_boxed(text) == found


@pytest.mark.parametrize(("found", "gold", "status"), BOXED, ids=range(len(BOXED)))
def test_boxed_answers(found, gold, status):
    verdict = math(f"so $\\boxed{{{found}}}$", gold)
    assert (verdict.status, verdict.score) == (status, float(status == "right")), verdict


@pytest.mark.parametrize(("text", "gold", "status"), TEXTS, ids=range(len(TEXTS)))
def test_whole_texts(text, gold, status):
    assert math(text, gold).status == status


def test_boxed_only_takes_nothing_else():
    assert math("The answer is 18. #### 18 <answer>18</answer>", "18", boxed_only=True).status == "no_answer"
    assert math(r"\boxed{18}", "18", boxed_only=True).status == "right"


@pytest.mark.parametrize("gold", [None, "", "  ", [], [None], True, {"a": 1}, float("nan"), float("inf")])
def test_an_unreadable_gold_is_our_fault(gold):
    with pytest.raises(ValueError, match="gold"):
        math(r"\boxed{5}", gold)


@pytest.fixture(scope="module")
def pool():
    with Pool([Spec(name="rlvr_verifiers.math:math", timeout_s=1.5)], workers=1) as made:
        yield made


def submit(pool, gold, completion):
    return pool.submit(0, Problem(id="m", messages=(), answer=gold), completion)


@pytest.mark.parametrize("bomb", ["9^{9^{9}}", "(10^9)!", "(" * 450 + "7" + ")" * 450])
def test_a_bomb_is_never_right_and_never_an_error(pool, bomb):
    assert submit(pool, "7", f"\\boxed{{{bomb}}}").result(60).status in ("timeout", "wrong")
    assert submit(pool, "7", r"\boxed{7}").result(60).status == "right"


def golds(pytestconfig, file, key):
    path = pytestconfig.rootpath.parent / "shared/data" / file
    if not path.exists():
        pytest.skip(f"no data: shared/data/{file} is not beside the repository")
    return [json.loads(line)[key] for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "key", "least"),
    [
        ("gsm8k/test.jsonl", "final_answer", 1.0),
        ("gsm8k/test.jsonl", "answer", 1.0),
        ("math500/test.jsonl", "answer", 0.99),
    ],
)
def test_golds_equal_themselves(pool, pytestconfig, file, key, least):
    answers = golds(pytestconfig, file, key)
    futures = [submit(pool, gold, gold if "####" in gold else f"\\boxed{{{gold}}}") for gold in answers]
    right = sum(future.result(120).status == "right" for future in futures)
    assert right >= least * len(answers)


@pytest.mark.slow
def test_solutions_reach_their_own_gold(pool, pytestconfig):
    answers = golds(pytestconfig, "math500/test.jsonl", "answer")
    solutions = golds(pytestconfig, "math500/test.jsonl", "solution")
    futures = [submit(pool, gold, text) for gold, text in zip(answers, solutions, strict=True)]
    missed = [
        gold for gold, future in zip(answers, futures, strict=True) if future.result(120).status != "right"
    ]
    assert len(missed) <= 5, missed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "key"), [("gsm8k/test.jsonl", "final_answer"), ("math500/test.jsonl", "answer")]
)
@pytest.mark.parametrize("spoil", ["{}+1", "-({})-7", "{}, 99"])
def test_spoilt_golds_are_refused(pool, pytestconfig, file, key, spoil):
    answers = golds(pytestconfig, file, key)[:150]
    futures = [submit(pool, gold, "\\boxed{" + spoil.replace("{}", gold) + "}") for gold in answers]
    accepted = [
        gold for gold, future in zip(answers, futures, strict=True) if future.result(120).status == "right"
    ]
    assert accepted == []
