"""(completion, answer, status) of every verifier that comes with us; every bug becomes a row."""

import pytest
from rlvr_verifiers.choice import choice
from rlvr_verifiers.countdown import countdown, evaluate
from rlvr_verifiers.exact import exact
from rlvr_verifiers.numeric import numeric
from rlvr_verifiers.story import story

from rlvr.types import Problem

LONG = "x" * 10**6

EXACT = [
    ("thinking\nParis", "Paris", {}, "right"),
    ("Paris\n\n  \n", "Paris", {}, "right"),
    ("<answer> Paris </answer> and more", "Paris", {}, "right"),
    ("<answer>Rome</answer>\n<answer>Paris</answer>", "Paris", {}, "right"),
    ("<answer>Paris</answer>\n<answer>Rome</answer>", "Paris", {}, "wrong"),
    ("New   York", "New York", {}, "right"),
    ("New   York", "New York", {"ignore_spaces": False}, "wrong"),
    ("paris", "Paris", {}, "wrong"),
    ("paris", "Paris", {"ignore_case": True}, "right"),
    ("Paris is nice", "Paris", {}, "wrong"),
    ("7", 7, {}, "right"),
    ("<think>Paris", "Paris", {}, "no_answer"),
    ("<think>Rome</think>Paris", "Paris", {}, "right"),
    ("", "Paris", {}, "no_answer"),
    ("\n \n", "Paris", {}, "no_answer"),
    ("\ud800", "Paris", {}, "wrong"),
]

NUMERIC = [
    ("so it is 1,234.5", 1234.5, {}, "right"),
    ("first 3 then 4", 4, {}, "right"),
    ("first 3 then 4", 3, {}, "wrong"),
    (r"\boxed{3} of 10", 3, {}, "right"),
    ("#### 72\nbye 5", "72", {}, "right"),
    ("<answer>$1,000</answer> 7", 1000, {}, "right"),
    (r"\boxed{\frac{1}{4}}", 0.25, {}, "right"),
    ("it is -5", -5, {}, "right"),
    ("10-5", 5, {}, "right"),
    ("3.1416", 3.14159, {}, "wrong"),
    ("3.1416", 3.14159, {"tolerance": 1e-3}, "right"),
    ("1010", 1000, {"relative": 0.01}, "right"),
    ("1011", 1000, {"relative": 0.01}, "wrong"),
    ("50%", 0.5, {}, "right"),
    ("50%", 50, {}, "wrong"),
    ("1e3", 1000, {}, "right"),
    ("1e999", 1000, {}, "no_answer"),
    ("nan", 0, {}, "no_answer"),
    ("inf", 0, {}, "no_answer"),
    ("1,2345", 5, {}, "wrong"),
    ("9007199254740993", 9007199254740992, {"tolerance": 0.5}, "wrong"),
    ("9" * 10**5, 9, {}, "no_answer"),
    ("<think>4", 4, {}, "no_answer"),
    ("", 4, {}, "no_answer"),
]

CHOICE = [
    ("Answer: B", "B", {}, "right"),
    ("answer: (B).", "B", {}, "right"),
    ("**Answer:** x\nThe answer is **C**", "C", {}, "right"),
    ("Answer: A\nAnswer: B", "B", {}, "right"),
    ("Answer: A\nAnswer: B", "A", {}, "wrong"),
    ("Answer: A dog", "A", {}, "no_answer"),
    (r"\boxed{B}", "B", {}, "right"),
    (r"\boxed{\text{(C)}}", "C", {}, "right"),
    ("(A) or (B)? I take (B)", "(B)", {}, "right"),
    ("B", "B", {}, "right"),
    ("b", "b", {}, "no_answer"),
    ("Because", "B", {}, "no_answer"),
    ("Answer: Blue", "B", {}, "no_answer"),
    ("Answer: E", "E", {"letters": "ABCDE"}, "right"),
    ("Answer: E", "A", {"letters": "ABCD"}, "no_answer"),
    ("<think>(B)</think>(C)", "B", {}, "wrong"),
    ("<think>(B)", "B", {}, "no_answer"),
]

GAME = {"nums": [47, 68, 67], "target": 46}
COUNTDOWN = [
    ("<answer>((47 + 67) - 68)</answer>", GAME, {}, "right"),
    ("<answer>47 + 67 - 68 = 46</answer>", GAME, {}, "right"),
    ("47+67=114\n47 + 67 − 68", GAME, {}, "right"),
    ("47+67-68 = 46", GAME, {}, "no_answer"),
    ("<answer>46</answer>", GAME, {}, "wrong"),
    ("<answer>47+67-68+0*1</answer>", GAME, {}, "wrong"),
    ("<answer>47+67-68+68-68</answer>", GAME, {}, "wrong"),
    ("<answer>68-47</answer>", {"nums": [68, 47, 1], "target": 21}, {}, "right"),
    ("<answer>68-47</answer>", {"nums": [68, 47, 1], "target": 21}, {"use_all": True}, "wrong"),
    ("<answer>4/2/0</answer>", {"nums": [4, 2, 0], "target": 2}, {}, "wrong"),
    ("<answer>1/3*3</answer>", {"nums": [1, 3, 3], "target": 1}, {}, "right"),
    ("<answer>8-3-2</answer>", {"nums": [8, 3, 2], "target": 3}, {}, "right"),
    ("<answer>2+3*4</answer>", {"nums": [2, 3, 4], "target": 14}, {}, "right"),
    ("<answer>9**9**9</answer>", {"nums": [9, 9, 9], "target": 1}, {}, "wrong"),
    ("<answer>9//2</answer>", {"nums": [9, 2], "target": 4}, {}, "wrong"),
    ("<answer>__import__('os')</answer>", GAME, {}, "wrong"),
    ("<answer>4 7 + 67 - 68</answer>", GAME, {}, "wrong"),
    ("<answer>4.0*2</answer>", {"nums": [4, 2], "target": 8}, {}, "wrong"),
    ("<answer>1e3</answer>", {"nums": [1, 3], "target": 1000}, {}, "wrong"),
    ("<answer>(47+67</answer>", GAME, {}, "wrong"),
    ("<answer></answer>", GAME, {}, "no_answer"),
    ("<answer>" + "(" * 10**5 + "</answer>", GAME, {}, "wrong"),
    ("<answer>" + "9" * 10**5 + "</answer>", GAME, {}, "wrong"),
    ("<answer>1</answer><answer>47+67-68</answer>", GAME, {}, "right"),
    ("I do not know", GAME, {}, "no_answer"),
    ("<think>47+67-68", GAME, {}, "no_answer"),
    ("", GAME, {}, "no_answer"),
]

STORY = [
    ("<think>Ana:6. Fay:6-2=4.</think><answer>4", 4, {}, "right"),
    ("<think>Ana:6.</think><answer>4</answer>", "4", {}, "right"),
    ("<think></think><answer> 11 ", 11, {}, "right"),
    ("<think></think><answer>-3", -3, {}, "right"),
    ("<think></think><answer>12", 11, {}, "wrong"),
    ("<think></think><answer>1 1", 11, {}, "wrong"),
    ("<think></think><answer>11.0", 11, {}, "wrong"),
    ("<think></think><answer>5 or 11", 11, {}, "wrong"),
    ("<think></think><answer>", 11, {}, "wrong"),
    ("<think></think><answer>4<answer>11", 11, {}, "right"),
    ("<think></think><answer>11</answer>12", 11, {}, "wrong"),
    ("<answer>11", 11, {}, "wrong"),
    ("<think></think></think><answer>11", 11, {}, "wrong"),
    ("<think><answer>11</think>", 11, {}, "wrong"),
    ("<think>11</think>11", 11, {}, "no_answer"),
    ("<think></think><answer>" + "1" * 10**5, 11, {}, "wrong"),
    ("<think></think><answer>١١", 11, {}, "wrong"),
    ("", 11, {}, "no_answer"),
]

TABLES = {exact: EXACT, numeric: NUMERIC, choice: CHOICE, story: STORY}
ROWS = [(verifier, *row) for verifier, rows in TABLES.items() for row in rows]


@pytest.mark.parametrize(
    ("verifier", "completion", "answer", "options", "status"), ROWS, ids=range(len(ROWS))
)
def test_the_table(verifier, completion, answer, options, status):
    verdict = verifier(completion, answer, **options)
    assert (verdict.status, verdict.score) == (status, float(status == "right")), verdict


@pytest.mark.parametrize(("completion", "task", "options", "status"), COUNTDOWN, ids=range(len(COUNTDOWN)))
@pytest.mark.parametrize("place", ["answer", "meta"])
def test_countdown(completion, task, options, status, place):
    answer, meta = (task, {}) if place == "answer" else (None, task)
    problem = Problem(id="c", messages=(), answer=answer, meta=meta)
    verdict = countdown(completion, answer, problem, **options)
    assert (verdict.status, verdict.score) == (status, float(status == "right")), verdict


def test_countdown_arithmetic_is_exact():
    assert evaluate("1/3 + 1/3 + 1/3") == (1, [1, 3, 1, 3, 1, 3])
    assert evaluate("2*(3+4)*5")[0] == 70
    assert evaluate("7 - 2 - 1")[0] == 4


@pytest.mark.parametrize(
    ("verifier", "gold"),
    [
        (exact, ""),
        (exact, "  "),
        (numeric, "many"),
        (numeric, None),
        (numeric, True),
        (choice, "Z"),
        (choice, ""),
        (story, "x"),
    ],
)
def test_an_unreadable_gold_is_our_fault(verifier, gold):
    with pytest.raises((ValueError, TypeError)):
        verifier("<think></think><answer>(A)", gold)


def test_a_countdown_without_numbers_is_our_fault():
    with pytest.raises(ValueError, match="nums"):
        countdown("<answer>1</answer>", None, Problem(id="c", messages=(), answer=None))


@pytest.mark.parametrize("verifier", list(TABLES), ids=lambda v: v.name)
@pytest.mark.parametrize(
    "text", [LONG, "<answer>" * 10**5, r"\boxed{" * 10**5, "1," * 10**5, " " * 10**6, "answer" * 10**5]
)
def test_a_megabyte_is_read_in_one_pass(verifier, text):
    assert verifier(text, {"choice": "A"}.get(verifier.name, "7")).status in ("wrong", "no_answer")
