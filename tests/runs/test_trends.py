"""What the rules against reward hacking see, and how seldom chance alone makes them speak."""

import random
import re

import pytest

from rlvr.runs.alarms import lower_bound, overpaid
from rlvr.runs.reader import Row
from rlvr.runs.trends import hacking, z

AUDITED = 26
"""Completions audited a step: a tenth of 32 groups of 8."""


def train(step, reward, right=None):
    metrics = {"reward/mean": reward} | ({} if right is None else {"audit/right_share": right})
    return Row(kind="train", step=step, time=0.0, metrics=metrics)


def held_out(step, right, half=0.03):
    what = {"avg_at_k": right, "ci_low": right - half, "ci_high": right + half}
    return Row(
        kind="eval", step=step, time=0.0, metrics={f"eval/gsm8k/{name}": v for name, v in what.items()}
    )


def noisy(draw, steps, honest, paid):
    """Steps whose reward goes as `paid(t)`, whose audit as `honest(t)`, t from 0 to 1, with their noise."""
    rows = []
    for step in range(1, steps + 1):
        t = step / steps
        reward = sum(min(1.0, max(0.0, draw.gauss(paid(t), 0.3))) for _ in range(32)) / 32
        right = sum(draw.random() < honest(t) for _ in range(AUDITED)) / AUDITED
        rows.append(train(step, reward, right))
    return rows


def first_alarm(rows):
    """The step at which a person who looks after every step is told; None where never."""
    return next((row.step for i, row in enumerate(rows) if hacking(rows[: i + 1])), None)


def test_a_reward_that_rises_while_the_audit_falls():
    rows = noisy(random.Random(1), 60, lambda t: 0.4 - 0.35 * t, lambda t: 0.35 + 0.5 * t)
    assert first_alarm(rows) is not None
    ((words, name),) = hacking(rows).items()
    assert name == "audit/right_share"
    assert re.search(r"reward hacking\? Over the last \d+ steps the reward rose from 0.", words)
    assert "--disagreements 5" in words


def test_learning_is_no_hacking_and_neither_is_getting_worse():
    up, down = (lambda t: 0.3 + 0.5 * t), (lambda t: 0.8 - 0.5 * t)
    assert first_alarm(noisy(random.Random(2), 60, up, up)) is None
    assert first_alarm(noisy(random.Random(3), 60, down, down)) is None
    assert first_alarm(noisy(random.Random(4), 60, up, down)) is None


def test_chance_seldom_speaks():
    """Runs of 200 steps: flat; learning; and a reward that rises beside an audit that hears nothing of it.

    The last is the worst case for the rule, since only one of its two halves is left to chance.  Of 300 runs
    each, looked at after every step, 0.7 % of those were told of it, and none of the others.
    """
    cases = {
        "flat": (lambda t: 0.4, lambda t: 0.4),
        "learning": (lambda t: 0.3 + 0.3 * t, lambda t: 0.3 + 0.3 * t),
        "deaf audit": (lambda t: 0.5, lambda t: 0.3 + 0.4 * t),
    }
    told = {
        name: sum(
            any(hacking(rows[:end]) for end in range(20, 201, 4))
            for rows in (noisy(random.Random(seed), 200, *case) for seed in range(12))
        )
        for name, case in cases.items()
    }
    assert told["flat"] == told["learning"] == 0
    assert told["deaf audit"] <= 1


def test_chance_seldom_makes_the_audit_disagree_beyond_its_share():
    """An audit that calls wrong 3 % of what is paid for: the alarm of a step speaks once in 1,000 or less."""
    draw, spoken = random.Random(5), 0
    for _ in range(4000):
        paid = sum(draw.random() < 0.5 for _ in range(AUDITED))
        wrong = sum(draw.random() < 0.03 for _ in range(paid))
        row = {
            "audit/compared": float(AUDITED),
            "audit/right_share": (paid - wrong) / AUDITED,
            "audit/false_positive_share": wrong / AUDITED,
        }
        spoken += overpaid(row, "audit/false_positive_share") is not None
    assert spoken <= 4
    assert lower_bound(0, 10) == pytest.approx(0)
    assert 0.5 < lower_bound(95, 100) < 0.95


def test_a_benchmark_that_falls_while_the_reward_rises():
    rows = [train(step, 0.3 + 0.01 * step + 0.01 * (step % 3)) for step in range(1, 61)]
    course = [(0, 0.50), (20, 0.52), (40, 0.41), (60, 0.38)]
    evals = [held_out(step, right) for step, right in course]
    ((words, name),) = hacking([*rows, *evals]).items()
    assert name == "eval/gsm8k/avg_at_k"
    assert "gsm8k fell from 51 % to 40 % (steps 0 to 60)" in words
    assert hacking([*rows, *(held_out(step, right, half=0.2) for step, right in course)]) == {}
    assert hacking([*rows, *(held_out(step, 0.5) for step, _ in course)]) == {}
    flat = [train(row.step, 0.5 + 0.01 * (row.step % 3)) for row in rows]
    assert hacking([*flat, *evals]) == {}


def test_two_evaluations_are_enough_and_one_is_not():
    rows = [train(step, 0.3 + 0.01 * step + 0.01 * (step % 3)) for step in range(1, 61)]
    assert hacking([*rows, held_out(0, 0.6), held_out(60, 0.4)])
    assert not hacking([*rows, held_out(60, 0.4)])
    unknown = Row(kind="eval", step=60, time=0.0, metrics={"eval/gsm8k/avg_at_k": 0.1})
    assert not hacking([*rows, held_out(0, 0.6), unknown])


def test_z_by_hand():
    assert z([1.0, 3.0], [2.0, 4.0]) == 1 / (2 / 2 + 2 / 2) ** 0.5
    assert z([1.0], [2.0, 4.0]) == 0.0
    assert z([0.0, 0.0], [1.0, 1.0]) == float("inf")
    assert z([1.0, 1.0], [1.0, 1.0]) == 0.0
