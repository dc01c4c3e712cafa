"""The course of a run beside its start, against plain Python, and the guard that it arms."""

import random

import pytest

from rlvr.train.course import START_LIMIT, Course


def row(entropy=1.0, rate=20.0, words=30.0, right=0.5, reward=0.5):
    return {
        "policy/entropy_nats": entropy,
        "pivot/rate": rate,
        "pivot/words": words,
        "verify/right_share": right,
        "reward/mean": reward,
    }


def test_numbers_beside_the_start_are_the_plain_ones():
    rng = random.Random(0)
    entropies = [rng.uniform(0.1, 2.0) for _ in range(40)]
    course, smooth = Course([], when="always"), 0.0
    start = sum(entropies[:3]) / 3
    for step, entropy in enumerate(entropies, 1):
        found = course.follow(row(entropy))
        if step < 3:
            assert "policy/entropy_vs_start" not in found
            continue
        smooth = start if step == 3 else 0.8 * smooth + 0.2 * entropy
        assert found["policy/entropy_vs_start"] == pytest.approx(smooth / start)
        window = entropies[max(0, step - 20) : step]
        if step < 5:
            assert "policy/entropy_slope_nats" not in found
            continue
        n, xs = len(window), range(len(window))
        slope = (n * sum(x * y for x, y in zip(xs, window, strict=True)) - sum(xs) * sum(window)) / (
            n * sum(x * x for x in xs) - sum(xs) ** 2
        )
        assert found["policy/entropy_slope_nats"] == pytest.approx(slope)


def test_few_words_make_the_start_longer_and_too_few_make_none():
    course = Course([], when="always")
    found = [course.follow(row(words=12.0)) for _ in range(8)]
    assert ["pivot/rate_vs_start" in numbers for numbers in found] == [False] * 4 + [True] * 4
    poor = Course([], when="always")
    assert not any("pivot/rate_vs_start" in poor.follow(row(words=1.0)) for _ in range(10 * START_LIMIT))


@pytest.mark.parametrize("what", ["entropy", "rate"])
def test_the_guard_arms_low_and_rests_well_above(what):
    course = Course([row()] * 3, when="alarm")
    assert not course.armed
    seen = []
    for value in [0.1] * 12 + [1.0] * 12:
        scale = 1.0 if what == "entropy" else 20.0
        name = "policy/entropy_vs_start" if what == "entropy" else "pivot/rate_vs_start"
        seen.append((course.follow(row(**{what: value * scale}))[name], course.armed))
    low, recovered = (0.3, 0.45) if what == "entropy" else (0.5, 0.75)
    was = False
    for ratio, armed in seen:
        assert armed == (ratio < recovered if was else ratio < low)
        was = armed
    assert any(low < ratio < recovered and armed for ratio, armed in seen), "no hysteresis was seen"
    assert [armed for _, armed in seen].count(True) not in (0, len(seen))
    assert not course.armed


def test_below_the_start_the_guard_acts_until_the_rate_is_back():
    course = Course([row()] * 3, when="below_start")
    assert not course.armed
    for rate in [18.0, 10.0, 0.0, 0.0, 30.0, 19.0, 20.0]:
        course.follow(row(rate=rate))
        assert course.armed == (rate < 20)
    assert not Course([row()] * 3 + [row(rate=10.0, right=0.95)] * 3, when="below_start").armed
    assert Course([row()] * 3 + [row(entropy=0.01)] * 9, when="below_start").armed


def test_what_is_nearly_solved_needs_no_guard():
    solved = Course([row()] * 3 + [row(entropy=0.001, rate=0.0, right=0.95)] * 20, when="alarm")
    assert not solved.armed
    assert Course([row()] * 3 + [row(entropy=0.001, right=0.8)] * 20, when="alarm").armed


def test_a_replayed_course_goes_on_as_if_it_had_not_stopped():
    rng = random.Random(1)
    rows = [row(rng.uniform(0.05, 1), rng.uniform(1, 30), rng.randint(0, 40)) for _ in range(60)]
    for each in rows[20:35]:
        each["policy/entropy_nats"] *= 0.1
    rows[7]["policy/entropy_nats"] = None  # it was not a finite number
    del rows[9]["policy/entropy_nats"]  # nothing was learned in that step
    whole = Course([], when="alarm")
    told = [(whole.follow(each), whole.armed) for each in rows]
    assert {armed for _, armed in told} == {True, False}
    for cut in (1, 2, 8, 30, 59):
        again = Course(rows[:cut], when="alarm")
        assert again.armed == told[cut - 1][1]
        assert [(again.follow(each), again.armed) for each in rows[cut:]] == told[cut:]
