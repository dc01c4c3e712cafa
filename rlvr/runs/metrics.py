"""The register of metrics: every number a run records, with unit, meaning, good direction, range and alarm.

Names are `room/what[_unit]`.  A name that is not here cannot be written (`metric` raises), so no two places
spell the same number differently.  Its healthy range is its line in healthy.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlvr.errors import RunError, near_miss
from rlvr.runs import alarms as rules
from rlvr.runs.alarms import Alarm, Values
from rlvr.runs.healthy import HEALTHY, Healthy

Better: TypeAlias = Literal["up", "down", "neither"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number that a run records."""

    name: str
    """`room/what[_unit]`; `eval/*/what` stands for every benchmark."""
    unit: str
    """`share` is in [0, 1]; `count`, `tokens`, `nats`, `s`, ... as said."""
    meaning: str
    """One line for a person."""
    better: Better
    """The good direction."""
    healthy: Healthy
    """Where it lies in a healthy run, and who says so: its line in healthy.py."""
    alarm: Alarm | None = None
    """The rule that says when a person should look, and what to try."""


def metric(name: str) -> Metric:
    """The registered metric called `name`; raises RunError with the near miss where there is none."""
    found = find(name)
    if found is None:
        raise RunError(
            f"`{name}` is no registered metric; register it in rlvr/runs/metrics.py{near_miss(name, METRICS)}"
        )
    return found


def find(name: str) -> Metric | None:
    """The metric called `name`, or None; `eval/BENCHMARK/what` is a row of every benchmark."""
    if name not in METRICS and name.startswith("eval/") and name.count("/") >= 2:
        name = f"eval/*/{name.rpartition('/')[2]}"
    return METRICS.get(name)


def alarms(row: Values) -> list[str]:
    """What is wrong in this row, in plain words and with what to try; unknown names are passed over."""
    return list(rung(row))


def rung(row: Values) -> dict[str, str]:
    """The same, each with the name of the metric whose alarm it is."""
    said: dict[str, str] = {}
    for name in row:
        known = find(name)
        words = known.alarm(row, name) if known and known.alarm else None
        if words:
            said.setdefault(words, name)
    return said


def unhealthy(row: Values) -> list[str]:
    """Names of the values outside their healthy range; unknown names are passed over."""
    return [
        name
        for name, value in row.items()
        if value is not None and (known := find(name)) and not known.healthy.holds(value)
    ]


def _row(name: str, unit: str, better: Better, meaning: str, alarm: Alarm | None = None) -> Metric:
    assert name in HEALTHY, f"{name} has no line in rlvr/runs/healthy.py: add its healthy range"
    healthy = Healthy(*HEALTHY[name])
    return Metric(name=name, unit=unit, meaning=meaning, better=better, healthy=healthy, alarm=alarm)


def _register(rows: Iterable[Metric]) -> dict[str, Metric]:
    table: dict[str, Metric] = {}
    for row in rows:
        assert row.name not in table, f"{row.name} is registered twice"
        table[row.name] = row
    return table


MFU = (
    ("sample", "sampling, where the engine shares the trainer's device"),
    ("logprobs", "old and reference log-probabilities"),
    ("update", "forward and backward; nothing computed again counts"),
    ("step", "the whole step: sampling, log-probabilities and update"),
)
"""Phases whose work is known (rlvr/policy/flops.py)."""
MEMORY = (
    ("sample", "it samples"),
    ("verify", "it waits for verifiers"),
    ("credit", "it asks for continuations"),
    ("wait", "it waits for groups sampled ahead"),
    ("logprobs", "it computes old and reference log-probabilities"),
    ("update", "it learns"),
    ("sync", "it hands over weights"),
    ("audit", "it waits for the audit"),
    ("eval", "it evaluates"),
    ("save", "it saves"),
    ("other", "it does all else"),
)
"""Phases of a step: tensors on the GPU, or the process's resident memory without one."""

METRICS = _register(
    [
        _row(
            "reward/mean",
            "reward",
            "up",
            "mean reward of the completions that have one, but the greedy ones of a baseline",
            rules.no_reward,
        ),
        _row(
            "reward/greedy_mean", "reward", "up", "mean reward of the greedy completions (`greedy` baseline)"
        ),
        _row("reward/slope", "reward", "up", "change of the mean reward a step, over 20 steps"),
        _row("reward/std", "reward", "neither", "its standard deviation over the step"),
        _row("verify/right_share", "share", "up", "completions judged right, of all issued, greedy ones too"),
        _row("verify/no_answer_share", "share", "down", "completions without an answer to check"),
        _row("verify/timeout_share", "share", "down", "checks that ran out of time", rules.timeouts),
        _row("verify/error_share", "share", "down", "checks that failed on our side", rules.errors),
        _row(
            "verify/judged_share",
            "share",
            "neither",
            "completions that no rule decided and a judge was asked",
        ),
        _row("verify/judged_right_share", "share", "neither", "completions right by a judge's word alone"),
        _row("verify/issued", "count", "neither", "completions sent to be checked", rules.open_accounting),
        _row("verify/scored", "count", "up", "completions judged right or wrong"),
        _row("verify/no_answer", "count", "down", "completions without an answer to check"),
        _row("verify/timeout", "count", "down", "checks that ran out of time"),
        _row("verify/error", "count", "down", "checks that failed on our side; they train nothing"),
        _row("audit/compared", "count", "neither", "completions that training and audit both judged"),
        _row(
            "audit/failed_share",
            "share",
            "down",
            "audit checks that failed or ran out of time: they count for nothing",
            rules.audit_failed,
        ),
        _row("audit/right_share", "share", "up", "right for the audit, of those compared"),
        _row("audit/agreement_share", "share", "up", "both right or both not, of those compared"),
        _row(
            "audit/false_positive_share",
            "share",
            "down",
            "right for training and wrong for the audit, of those compared",
            rules.overpaid,
        ),
        _row(
            "audit/false_negative_share",
            "share",
            "down",
            "right for the audit and wrong for training, of those compared",
            rules.underpaid,
        ),
        _row("verify/truncated", "count", "down", "completions cut at the limit, whatever their verdict"),
        _row("rollout/length_mean_tokens", "tokens", "neither", "mean length of a completion"),
        _row("rollout/length_max_tokens", "tokens", "neither", "longest completion"),
        _row("rollout/truncated_share", "share", "down", "completions cut at the limit", rules.truncated),
        _row("rollout/tokens", "tokens", "neither", "tokens sampled"),
        _row("rollout/tokens_per_s", "tokens/s", "up", "tokens sampled a second of sampling"),
        _row(
            "rollout/prompts_too_long",
            "count",
            "down",
            "problems skipped since their prompt does not fit the context",
            rules.prompts_too_long,
        ),
        _row("rollout/lag_mean", "versions", "down", "how old the weights that sampled were, oldest token"),
        _row("rollout/lag_max", "versions", "down", "the same of the oldest completion"),
        _row(
            "rollout/mixed_share", "share", "neither", "completions sampled by more than one weight version"
        ),
        _row("rollout/groups_asked", "count", "neither", "groups begun in this step (sampling.carry)"),
        _row("rollout/groups_carried_in", "count", "neither", "groups that the step before had begun"),
        _row("rollout/groups_taken", "count", "neither", "groups scored for this step"),
        _row(
            "rollout/groups_carried_out",
            "count",
            "neither",
            "groups begun that join a later step",
            rules.open_carry,
        ),
        _row("batch/groups", "count", "neither", "groups that the step trained on"),
        _row(
            "batch/zero_variance_share",
            "share",
            "down",
            "sampled groups whose scores are all equal",
            rules.zero_variance,
        ),
        _row("batch/dropped_groups", "count", "down", "groups sampled and not trained on"),
        _row("batch/dropped_tokens_share", "share", "down", "sampled tokens not trained on: their price"),
        _row(
            "batch/filled_share",
            "share",
            "up",
            "groups trained on, of those asked for, where dynamic sampling fills up (oversample > 1)",
            rules.underfilled,
        ),
        _row("batch/replayed_share", "share", "neither", "groups trained on that got a stored completion"),
        _row("batch/replay_stored", "count", "neither", "rare right completions kept for later"),
        _row("batch/replay_age_mean", "steps", "down", "age of the stored completions trained on"),
        _row("batch/replay_weight_mean", "ratio", "neither", "mean of old over stored probability, uncut"),
        _row(
            "batch/replay_ess_share",
            "share",
            "up",
            "effective share of the stored completions' tokens",
            rules.stale_replay,
        ),
        _row("problems/active", "count", "neither", "problems in the band of the curriculum, or not judged"),
        _row("problems/unseen", "count", "neither", "problems never asked"),
        _row("problems/outside", "count", "neither", "problems outside the band: they wait"),
        _row("problems/retired", "count", "neither", "problems solved: they wait", rules.nothing_left),
        _row("problems/rate_mean", "share", "up", "mean success rate of the problems seen"),
        _row("problems/revisited_share", "share", "neither", "groups of the step that came from the waiting"),
        _row("batch/all_right_share", "share", "neither", "sampled groups that are right throughout"),
        _row("batch/all_wrong_share", "share", "down", "sampled groups without a right completion"),
        _row("batch/sequences", "count", "neither", "sequences that the step trained on"),
        _row("batch/tokens", "tokens", "neither", "completion tokens that the step trained on"),
        _row("credit/groups", "count", "neither", "groups with states valued by continuations"),
        _row("credit/states", "count", "neither", "states valued; siblings on one prefix share one"),
        _row("credit/continuations", "count", "neither", "continuations sampled and checked"),
        _row("credit/error", "count", "down", "continuations whose check failed on our side; none counts"),
        _row("credit/tokens", "tokens", "neither", "tokens of continuations, beside `rollout/tokens`"),
        _row("credit/tokens_share", "share", "neither", "continuations' share of all tokens sampled"),
        _row(
            "policy/entropy_nats", "nats", "neither", "mean entropy of the next-token choice", rules.collapsed
        ),
        _row(
            "policy/entropy_vs_start",
            "ratio",
            "neither",
            "entropy, smoothed, over that of the run's first steps",
            rules.entropy_moved,
        ),
        _row("policy/entropy_slope_nats", "nats", "neither", "change of the entropy a step, over 20 steps"),
        _row(
            "policy/rare_share",
            "share",
            "neither",
            "tokens sampled at a probability below 0.1 that are no noise",
        ),
        _row("pivot/words", "count", "neither", "pivot words (wait, but, instead, ...) in all completions"),
        _row("pivot/rate", "per 1000 tokens", "neither", "pivot words per 1000 tokens"),
        _row(
            "pivot/rate_vs_start",
            "ratio",
            "neither",
            "that rate, smoothed, over that of the run's first steps",
            rules.pivots_moved,
        ),
        _row(
            "pivot/probability", "share", "neither", "mean probability of a pivot word where it was sampled"
        ),
        _row(
            "pivot/pushed_down_share", "share", "neither", "tokens of pivot words that the update makes rarer"
        ),
        _row(
            "pivot/push_ratio",
            "ratio",
            "neither",
            "how hard those tokens are pushed down, over the average token",
        ),
        _row(
            "policy/mismatch_kl_nats",
            "nats",
            "down",
            "k3 estimate of KL between the trainer's old and the engine's log-probabilities",
            rules.mismatch,
        ),
        _row("policy/mismatch_max_nats", "nats", "down", "greatest such difference on one token"),
        _row(
            "policy/ess_share", "share", "up", "effective share of the weighted tokens", rules.few_effective
        ),
        _row("loss/surrogate", "loss", "neither", "the objective's value", rules.not_finite),
        _row("loss/ratio_mean", "ratio", "neither", "mean of current over old probability; 1 on policy"),
        _row("loss/clip_low_share", "share", "down", "tokens stopped by the lower clip", rules.clipped),
        _row("loss/clip_high_share", "share", "down", "tokens stopped by the upper clip", rules.clipped),
        _row("loss/pushed_share", "share", "neither", "tokens that the loss pushes up or down at all"),
        _row("loss/entropy_coef", "weight", "neither", "weight of the entropy bonus from the next step on"),
        _row("loss/guard", "share", "neither", "1 where the entropy guard was part of the loss, 0 where not"),
        _row("loss/approx_kl_nats", "nats", "down", "k3 estimate of KL from old to current policy"),
        _row("loss/kl_ref_nats", "nats", "down", "penalised KL towards the starting model"),
        _row("optim/grad_norm", "norm", "neither", "gradient norm before clipping", rules.not_finite),
        _row("optim/learning_rate", "rate", "neither", "learning rate of the step"),
        _row("optim/skipped", "count", "down", "updates left out: gradients not finite", rules.skipped),
        _row("time/sample_s", "s", "down", "sampling completions, where that is done in turns (max_lag 0)"),
        _row("time/verify_s", "s", "down", "waiting for verifiers after the last completion, likewise"),
        _row("time/credit_s", "s", "down", "sampling and checking continuations, likewise"),
        _row("time/wait_s", "s", "down", "waiting for groups sampled ahead (max_lag > 0)"),
        _row("time/logprobs_s", "s", "down", "old and reference log-probabilities"),
        _row("time/update_s", "s", "down", "forward, backward and optimizer"),
        _row("time/sync_s", "s", "down", "handing over the weights that the step made"),
        _row("time/audit_s", "s", "down", "waiting for the audit at the end of a step", rules.audit_waits),
        _row("time/eval_s", "s", "down", "held-out evaluation before the step"),
        _row("time/save_s", "s", "down", "writing checkpoint and reference before the step"),
        _row(
            "time/other_s", "s", "down", "all else: packing, counting, writing the record of the step before"
        ),
        _row("time/step_s", "s", "down", "from the end of the step before to the end of this one: their sum"),
        _row(
            "time/ahead_sample_s", "s", "down", "sampling these completions beside the trainer (max_lag > 0)"
        ),
        _row("time/ahead_verify_s", "s", "down", "waiting for their verdicts, likewise"),
        _row("time/ahead_credit_s", "s", "down", "sampling and checking their continuations, likewise"),
        _row("time/step_tokens_per_s", "tokens/s", "up", "tokens sampled a second of the whole step"),
        _row("time/logprobs_tokens_per_s", "tokens/s", "up", "completion tokens read a second of that phase"),
        _row("time/update_tokens_per_s", "tokens/s", "up", "completion tokens learned from, likewise"),
        *(
            _row(f"time/{phase}_mfu_share", "share", "up", f"model FLOPs utilisation of {what}")
            for phase, what in MFU
        ),
        *(
            _row(f"memory/{phase}_bytes", "bytes", "down", f"peak memory of the trainer while {what}")
            for phase, what in MEMORY
        ),
        _row("warm_start/loss_nats", "nats", "down", "cross-entropy of a solution's token", rules.not_finite),
        _row("warm_start/learning_rate", "rate", "neither", "learning rate of the warm start"),
        _row("warm_start/tokens_per_s", "tokens/s", "up", "tokens learned from a second"),
        _row("eval/*/avg_at_k", "share", "up", "mean accuracy over problems and samples"),
        _row("eval/*/greedy", "share", "up", "accuracy at temperature 0"),
        _row("eval/*/pass_at_k", "share", "up", "problems with a right one among k, unbiased"),
        _row("eval/*/maj_at_k", "share", "up", "accuracy of the majority answer of k"),
        _row("eval/*/ci_low", "share", "up", "lower end of the 95 % interval of avg_at_k"),
        _row("eval/*/ci_high", "share", "up", "upper end of the 95 % interval of avg_at_k"),
        _row("eval/*/truncated_share", "share", "down", "completions cut at the limit", rules.eval_truncated),
        _row("eval/*/no_answer_share", "share", "down", "completions without an answer to check"),
        _row("eval/*/timeout_share", "share", "down", "checks that ran out of time"),
        _row("eval/*/error_share", "share", "down", "checks that failed on our side", rules.errors),
        _row("eval/*/length_mean_tokens", "tokens", "neither", "mean length of a completion"),
        _row("eval/*/problems", "count", "neither", "problems asked"),
        _row("eval/*/samples", "count", "neither", "completions a problem (k)"),
    ]
)
