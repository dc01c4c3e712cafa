"""Verdicts become rewards: hand-worked means, the paper's penalty, and errors that never pay."""

from dataclasses import replace
from pathlib import Path

import pytest

from rlvr.errors import VerifierError
from rlvr.types import Completion, Group, Problem, Verdict
from rlvr.verify.compose import Scorer, compose, soft_overlong
from rlvr.verify.pool import Pool, Spec

HERE = Path(__file__).parent
SPECS = [
    Spec(name="./hostile.py:fair", base_dir=HERE, weight=3.0),
    Spec(name="./hostile.py:returns", base_dir=HERE),
]


def verdict(score, status="right", **more):
    return Verdict(score=score, status=status, **more)


def test_the_score_is_the_weighted_mean_and_the_first_decides():
    first = verdict(1.0, found="7", why="same", seconds=1.0)
    second = verdict(0.5, "wrong", parts={"tags": 0.5}, seconds=2.0)
    whole = compose([first, second], [3.0, 1.0], ["math", "format"])
    assert whole.score == pytest.approx((3 * 1.0 + 1 * 0.5) / 4)
    assert (whole.status, whole.found, whole.why, whole.seconds) == ("right", "7", "same", 3.0)
    assert whole.parts == {"math": 1.0, "format": 0.5, "format.tags": 0.5}
    assert compose([second, first], [1.0, 1.0], ["a", "b"]).status == "wrong"


@pytest.mark.parametrize("order", [0, 1])
def test_one_error_makes_the_whole_an_error(order):
    verdicts = [verdict(1.0), verdict(0.0, "error", why="gold unreadable")]
    names = ["good", "bad"]
    whole = compose(verdicts[:: -1 if order else 1], [1, 1], names[:: -1 if order else 1])
    assert (whole.status, whole.score, whole.why) == ("error", 0.0, "bad: gold unreadable")


@pytest.mark.parametrize("status", ["no_answer", "timeout"])
def test_silence_never_pays(status):
    assert compose([verdict(0.0, status), verdict(1.0)], [1, 1], ["a", "b"]).score == 0
    assert compose([verdict(1.0), verdict(0.0, status)], [1, 1], ["a", "b"]).score == 0.5


@pytest.mark.parametrize(
    ("length", "penalty"), [(6, 0.0), (7, -0.25), (8, -0.5), (10, -1.0), (99, -1.0), (0, 0.0)]
)
def test_soft_overlong_by_hand(length, penalty):
    assert soft_overlong(length, limit=10, buffer=4) == penalty


@pytest.mark.parametrize(
    ("length", "penalty"), [(16384, 0.0), (16385, -1 / 4096), (18432, -0.5), (20480, -1.0), (20481, -1.0)]
)
def test_soft_overlong_equals_the_golden_values(length, penalty):
    """DAPO's own setting: at most 20480 tokens, the last 4096 of them penalised."""
    assert soft_overlong(length, 20480, 4096) == penalty


def group(texts, lengths=None, verifier=None):
    lengths = lengths or [1] * len(texts)
    completions = tuple(
        Completion(token_ids=(0,) * n, logprobs=(0.0,) * n, text=text, finish="stop")
        for text, n in zip(texts, lengths, strict=True)
    )
    problem = Problem(id="p", messages=(), answer="one", verifier=verifier)
    return Group(problem=problem, prompt_ids=(), completions=completions)


@pytest.fixture(scope="module")
def pool():
    with Pool(SPECS, workers=1) as made:
        yield made


def test_a_group_is_scored_with_every_verifier(pool):
    scorer = Scorer(pool, SPECS, "keep", 4, 10)
    scored = scorer.submit(group(["one", "half", "zero", "nan"], [1, 1, 1, 10])).result()
    # fair weighs 3 and accepts "one"; returns weighs 1 and gives 1, 0.5, 0 and an error.
    assert scored.rewards == (1.0, 0.125, 0.0, None)
    assert [v.status for v in scored.verdicts] == ["right", "wrong", "wrong", "error"]


def test_the_soft_penalty_is_added_and_may_be_negative(pool):
    scorer = Scorer(pool, SPECS, "soft", 4, 10)
    scored = scorer.submit(group(["one", "zero", "zero", "nan"], [8, 10, 6, 10])).result()
    assert scored.rewards == (0.5, -1.0, 0.0, None)
    assert [v.score for v in scored.verdicts] == [1.0, 0.0, 0.0, 0.0]


def test_the_problem_may_name_its_verifier(pool):
    scorer = Scorer(pool, SPECS, "keep", 4, 10)
    scored = scorer.submit(group(["half"], verifier="./hostile.py:returns")).result()
    assert scored.rewards == (0.5,)
    with pytest.raises(VerifierError, match="did you mean"):
        scorer.submit(group(["half"], verifier="./hostile.py:return"))


def test_a_verifier_listed_twice_keeps_both_parts(pool):
    scorer = Scorer(pool, [SPECS[0], SPECS[0]], "keep", 4, 10)
    name = SPECS[0].name
    assert set(scorer.composed([0, 1], [verdict(1.0), verdict(0.0)]).parts) == {name, f"{name}#2"}


def test_a_gate_pays_nothing_and_lets_nothing_through():
    roles, names = ["reward", "reward", "gate"], ["math", "short", "format"]
    open_ = compose([verdict(1.0), verdict(0.5, "wrong"), verdict(1.0)], [3.0, 1.0, 9.0], names, roles)
    assert (open_.status, open_.score) == ("right", pytest.approx((3 * 1.0 + 0.5) / 4))
    closed = [verdict(1.0, found="7", why="same"), verdict(0.5, "wrong"), verdict(0.9, "wrong", why="no tag")]
    whole = compose(closed, [3.0, 1.0, 1.0], names, roles)
    assert (whole.status, whole.score, whole.found) == ("wrong", 0.0, "7")
    assert whole.why == "gate format: no tag"
    assert whole.parts == {"math": 1.0, "short": 0.5, "format": 0.9}


@pytest.mark.parametrize(
    ("first", "gate", "status", "why"),
    [
        (verdict(1.0, why="same"), verdict(0.0, "timeout"), "timeout", "gate format: timeout"),
        (verdict(1.0, why="same"), verdict(0.0, "no_answer"), "wrong", "gate format: no_answer"),
        (verdict(1.0, why="same"), verdict(0.0, "error", why="lost"), "error", "format: lost"),
        (verdict(0.0, "wrong", why="7 is not 8"), verdict(0.0, "wrong"), "wrong", "7 is not 8"),
        (verdict(0.0, "no_answer", why="none"), verdict(1.0), "no_answer", "none"),
    ],
)
def test_what_becomes_of_a_verdict_behind_a_closed_gate(first, gate, status, why):
    whole = compose([first, gate], [1, 1], ["math", "format"], ["reward", "gate"])
    assert (whole.status, whole.why, whole.score) == (status, why, 0.0)


def test_a_bonus_is_paid_where_the_first_is_right():
    roles, names = ["reward", "bonus"], ["math", "format"]
    scores = {
        (right, tagged): compose(
            [verdict(float(right), "right" if right else "wrong"), verdict(float(tagged))],
            [3, 1],
            names,
            roles,
        ).score
        for right in (True, False)
        for tagged in (True, False)
    }
    assert scores == {(True, True): 1.0, (True, False): 0.75, (False, True): 0.0, (False, False): 0.0}


@pytest.mark.parametrize(("role", "teaches"), [("reward", True), ("bonus", False), ("gate", False)])
@pytest.mark.parametrize("is_separate", [False, True])
def test_an_unsolved_group_teaches_the_format_only_where_it_is_an_additive_reward(
    pool, role, teaches, is_separate
):
    """Nobody is right, and the second verifier pays one of them: a gate or a bonus lets none learn."""
    specs = [SPECS[0], replace(SPECS[1], role=role)]
    scorer = Scorer(pool, specs, "keep", 4, 10, is_separate=is_separate)
    assert scorer.submit(group(["half", "zero"])).result().has_contrast is teaches


def test_channels_hold_what_each_verifier_pays(pool):
    specs = [SPECS[0], replace(SPECS[1], role="bonus")]
    texts = ["one", "half", "nan"]
    scored = Scorer(pool, specs, "soft", 4, 10, is_separate=True).submit(group(texts, [1, 8, 1])).result()
    assert [(c.name, c.weight, c.rewards) for c in scored.channels] == [
        ("./hostile.py:fair", 3.0, (1.0, 0.0, None)),
        ("./hostile.py:returns", 1.0, (1.0, 0.0, None)),
        ("overlong penalty", 4.0, (0.0, -0.5, None)),
    ]
    assert scored.rewards == (1.0, -0.5, None)
    gated = Scorer(pool, [SPECS[0], replace(SPECS[1], role="gate")], "keep", 4, 10, is_separate=True)
    assert [c.rewards for c in gated.submit(group(texts)).result().channels] == [(1.0, 0.0, None)]
    assert Scorer(pool, specs, "soft", 4, 10).submit(group(texts)).result().channels == ()


def test_gates_hold_for_a_problem_that_names_its_verifier(pool):
    """It is checked by that verifier and by the gate: `returns` is right, `fair` is not."""
    specs = [replace(SPECS[0], role="gate"), SPECS[1]]
    scorer = Scorer(pool, specs, "keep", 4, 10)
    scored = scorer.submit(group(["one", "half"], verifier=SPECS[1].name)).result()
    assert scored.rewards == (1.0, 0.0)
    with pytest.raises(VerifierError, match="does not list under `verifier` with the role reward"):
        scorer.submit(group(["one"], verifier=SPECS[0].name))
