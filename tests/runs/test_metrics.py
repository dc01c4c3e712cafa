import re
from dataclasses import replace

import pytest

from rlvr.errors import RunError
from rlvr.runs.accounting import tally
from rlvr.runs.healthy import HEALTHY, Healthy
from rlvr.runs.metrics import METRICS, alarms, metric, rung, unhealthy
from rlvr.types import Verdict
from tests.runs.made import scored


def test_every_metric_is_named_and_explained():
    for name, row in METRICS.items():
        assert re.fullmatch(r"[a-z_]+/(\*/)?[a-z_]+", name)
        assert row.name == name
        assert row.unit
        assert len(row.meaning) > 8
        assert row.alarm is None or row.alarm.__doc__
        suffix = re.search(r"_(nats|s|share|tokens)$", name)
        if suffix and not name.endswith("per_s"):
            assert row.unit == suffix[1]


def test_every_metric_has_a_healthy_range_or_says_why_not():
    assert sorted(HEALTHY) == sorted(METRICS), "one line a metric, and none of another"
    for name, row in METRICS.items():
        low, high, source = HEALTHY[name]
        assert row.healthy == Healthy(low, high, source)
        assert len(source) > 8, name
        assert low is None or high is None or low <= high, name
        if row.unit == "share":
            assert all(end is None or 0 <= end <= 1 for end in (low, high)), name


@pytest.mark.parametrize(
    ("healthy", "words", "inside", "outside"),
    [
        (Healthy(None, 0.05, "x"), "at most 0.05", [-1, 0, 0.05], [0.051]),
        (Healthy(0.3, 1, "x"), "0.3 to 1", [0.3, 1], [0.29, 1.01]),
        (Healthy(2, None, "x"), "at least 2", [2, 1e9], [1.9]),
        (Healthy(0, 0, "x"), "0", [0], [1, -1]),
        (Healthy(None, None, "x"), "", [-1e9, 1e9], []),
    ],
)
def test_a_range_says_what_lies_inside(healthy, words, inside, outside):
    assert healthy.range == words
    assert all(healthy.holds(value) for value in inside)
    assert not any(healthy.holds(value) for value in outside)


def test_unknown_name_is_an_error_with_the_near_miss():
    with pytest.raises(RunError, match=r"`reward/meen` is no registered metric.*did you mean `reward/mean`"):
        metric("reward/meen")
    assert metric("eval/my/own.jsonl/avg_at_k") is METRICS["eval/*/avg_at_k"]
    with pytest.raises(RunError, match="no registered metric"):
        metric("eval/gsm8k/avg_at_kk")


def test_accounting_closes_and_truncated_is_counted_apart():
    groups = [
        scored("a", [("right", "stop", 4), ("wrong", "length", 10), ("no_answer", "length", 10)]),
        scored("b", [("timeout", "stop", 6), ("error", "stop", 5), ("wrong", "stop", 1)]),
    ]
    numbers = tally(groups)
    parts = [numbers[f"verify/{what}"] for what in ("scored", "no_answer", "timeout", "error")]
    assert parts == [3, 1, 1, 1]
    assert numbers["verify/issued"] == sum(parts) == 6
    assert numbers["verify/truncated"] == 2
    assert numbers["rollout/truncated_share"] == 2 / 6
    assert numbers["rollout/tokens"] == 36
    assert numbers["rollout/length_mean_tokens"] == 6
    assert numbers["rollout/length_max_tokens"] == 10
    assert numbers["reward/mean"] == 1 / 5  # the error has no reward
    assert numbers["batch/all_wrong_share"] == 1 / 2
    assert numbers["batch/zero_variance_share"] == 1 / 2
    assert all(metric(name) for name in numbers)
    assert not [words for words in alarms(numbers) if "accounting" in words]
    assert [
        words for words in alarms({**numbers, "verify/issued": 7.0}) if "7 completions issued, 6" in words
    ]


def test_what_a_judge_said_is_counted_apart():
    group = scored(
        "a", [("right", "stop", 4), ("right", "stop", 4), ("wrong", "stop", 4), ("wrong", "stop", 4)]
    )
    plain = tally([group])
    assert not [name for name in plain if "judged" in name]
    asked = [(1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]
    verdicts = tuple(
        replace(verdict, parts={"math_judge": score, "math_judge.judged": judged})
        for verdict, (score, judged) in zip(group.verdicts, asked, strict=True)
    )
    numbers = tally([replace(group, verdicts=verdicts)])
    assert numbers.pop("verify/judged_share") == 2 / 4
    assert numbers.pop("verify/judged_right_share") == 1 / 4
    assert numbers == plain
    assert metric("verify/judged_share").unit == metric("verify/judged_right_share").unit == "share"


def audit(*statuses):
    return tuple(s and Verdict(score=float(s == "right"), status=s, why=f"audit {s}") for s in statuses)


def test_an_audit_is_compared_where_both_decided():
    one = scored(
        "a", [("right", "stop", 4), ("right", "stop", 4), ("wrong", "stop", 4), ("error", "stop", 4)]
    )
    two = scored(
        "b", [("no_answer", "stop", 4), ("right", "stop", 4), ("wrong", "stop", 4), ("right", "stop", 4)]
    )
    plain = tally([one, two])
    assert not [name for name in plain if name.startswith("audit/")]
    groups = [
        replace(one, audits=audit("right", "wrong", "right", "right")),
        replace(two, audits=audit("wrong", "timeout", None, "no_answer")),
    ]
    numbers = tally(groups)
    assert {name: numbers.pop(name) for name in list(numbers) if name.startswith("audit/")} == {
        "audit/compared": 5,  # not the error of training, not the timeout of the audit
        "audit/failed_share": 1 / 7,
        "audit/right_share": 2 / 5,
        "audit/agreement_share": 2 / 5,
        "audit/false_positive_share": 2 / 5,
        "audit/false_negative_share": 1 / 5,
    }
    assert numbers == plain
    nobody = tally([replace(one, audits=audit(None, None, None, None))])
    assert nobody["audit/compared"] == 0
    assert "audit/agreement_share" not in nobody


def test_a_step_without_completions_is_counted_too():
    assert tally([]) == {"verify/issued": 0.0}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            {"reward/mean": 0.0, "rollout/truncated_share": 0.97},
            "reward is 0 because 97 % of completions are cut at the limit: raise sampling.max_tokens",
        ),
        (
            {"reward/mean": -0.9, "rollout/truncated_share": 0.99},
            "reward is -0.9 because 99 % of completions are cut at the limit: raise sampling.max_tokens",
        ),
        ({"reward/mean": -0.1, "rollout/truncated_share": 0.3}, "30 % of completions are cut"),
        ({"reward/mean": 0.0, "verify/no_answer_share": 0.8}, "finds no answer in 80 %"),
        ({"reward/mean": 0.0, "verify/right_share": 0.0}, "no completion is right"),
        ({"reward/mean": 0.5, "rollout/truncated_share": 0.3}, "30 % of completions are cut"),
        ({"reward/mean": None}, "no completion has a reward"),
        ({"verify/error_share": 0.013}, "failed on 1.3 %"),
        ({"verify/timeout_share": 0.06}, "ran out of time"),
        ({"batch/zero_variance_share": 0.9, "batch/all_right_share": 0.85}, "85 % are all right: use harder"),
        ({"batch/zero_variance_share": 0.9, "batch/all_wrong_share": 0.9}, "use easier problems"),
        ({"policy/mismatch_kl_nats": 0.2}, "engine and trainer disagree"),
        ({"policy/ess_share": 0.3}, "only 30 %"),
        ({"policy/entropy_nats": 0.001, "verify/right_share": 0.4}, "tries nothing new"),
        (
            {"policy/entropy_vs_start": 0.2, "verify/right_share": 0.4},
            "entropy is down to 20 % of the run's start, and only 40 % is right",
        ),
        (
            {"policy/entropy_vs_start": 0.2, "verify/right_share": 0.4, "loss/guard": 1.0},
            "is right: the guard is on; if it goes on falling, lower optim.learning_rate",
        ),
        (
            {"policy/entropy_vs_start": 2.5, "reward/slope": -0.01},
            "2.5 times that of the run's start while rewards",
        ),
        (
            {"pivot/rate_vs_start": 0.4, "verify/right_share": 0.4},
            "pivot words are down to 40 % of the run's start, and only 40 % is right",
        ),
        ({"pivot/rate_vs_start": 3.4}, "3.4 times as frequent"),
        ({"loss/clip_high_share": 0.4}, "loss/clip_high_share: 40 %"),
        ({"optim/grad_norm": None}, "optim/grad_norm is not a finite number"),
        ({"optim/skipped": 1.0}, "1 update(s) skipped"),
        ({"rollout/prompts_too_long": 2.0}, "does not fit the context"),
        ({"batch/filled_share": 0.3}, "the batch is only 30 % full at the cap"),
        ({"batch/replay_ess_share": 0.02}, "only 2 % of the replayed tokens are effective"),
        (
            {"problems/retired": 9.0, "problems/active": 0.0, "problems/unseen": 0.0},
            "every problem is retired or outside",
        ),
        (
            {
                "audit/compared": 26.0,
                "audit/right_share": 6 / 26,
                "audit/false_positive_share": 10 / 26,
                "audit/false_negative_share": 1 / 26,
            },
            "the audit calls wrong 67 % of the completions that training calls right (10 of 15)",
        ),
        (
            {"audit/compared": 26.0, "audit/right_share": 12 / 26, "audit/false_negative_share": 8 / 26},
            "training calls wrong 67 % of the completions that the audit calls right (8 of 12)",
        ),
        ({"audit/failed_share": 0.06}, "the audit failed or ran out of time on 6 % of its checks"),
        ({"time/audit_s": 1.5, "time/step_s": 10.0}, "15 % of the step is spent waiting for the audit"),
        ({"eval/gsm8k/error_share": 0.02}, "gsm8k: the verifier itself failed on 2 %"),
        ({"eval/gsm8k/truncated_share": 0.5}, "gsm8k: 50 % of completions are cut"),
    ],
)
def test_alarms_say_what_and_what_to_do(row, words):
    said = alarms(row)
    assert len(said) == 1
    assert words in said[0]
    (name,) = rung(row).values()
    assert row[name] is None or not metric(name).healthy.range or unhealthy({name: row[name]}) == [name]


def test_a_healthy_row_is_quiet():
    healthy = {name: 0.0 for name, row in METRICS.items() if row.better == "down" and "*" not in name}
    healthy |= {
        "reward/mean": 0.5,
        "verify/right_share": 0.5,
        "policy/entropy_nats": 0.4,
        "policy/ess_share": 1.0,
    }
    assert alarms(healthy) == []
    assert (
        alarms({"policy/entropy_vs_start": 0.1, "pivot/rate_vs_start": 0.1, "verify/right_share": 0.9}) == []
    )
    assert alarms({"policy/entropy_vs_start": 2.5, "reward/slope": 0.01}) == []
    assert alarms({"reward/mean": 0.0}) == []
    assert alarms({"problems/retired": 9.0, "problems/active": 0.0, "problems/unseen": 1.0}) == []
    assert alarms({"some/stranger": None}) == []
