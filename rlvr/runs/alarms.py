"""When a number needs a person: each rule reads one row and answers in plain words, or with None.

A rule is `(row, name) -> sentence | None`: `name` is the metric in the row that carries the rule, a value is
None where it was not a finite number.  Its docstring says when it fires; the sentence says what to try.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

Values: TypeAlias = Mapping[str, float | None]
Alarm: TypeAlias = Callable[[Values, str], str | None]
FEW = 3.5
"""Fewer disagreements than the next whole number are no reason for an alarm."""


ENTROPY_LOW, ENTROPY_HIGH, PIVOTS_LOW, PIVOTS_HIGH = 0.3, 2.0, 0.5, 3.0
"""Of the run's start: where entropy and pivot words call for a person.  Ours, uncalibrated."""
SOLVED = 0.9
"""Share of right completions from which on nothing needs exploring."""
RECOVERED = 1.5
"""The guard rests again at so many times the low marks."""


def percent(share: float) -> str:
    """A share for people: `97 %`, `1.3 %`."""
    return f"{100 * share:.0f} %" if share == 0 or share >= 0.0995 else f"{100 * share:.2g} %"


def not_finite(row: Values, name: str) -> str | None:
    """The value is not a finite number."""
    if row[name] is None:
        return (
            f"{name} is not a finite number: lower optim.learning_rate, or look at the rewards of this step"
        )
    return None


def no_reward(row: Values, name: str) -> str | None:
    """The mean reward is not finite, or it is not above 0 for a reason that shows in the same row."""
    reward = row[name]
    if reward is None:
        return "no completion has a reward: every check ended in `error`, see verify/error_share"
    if reward > 0:
        return None
    found = f"reward is {reward:.2g} because"
    if _value(row, "rollout/truncated_share") > 0.5:
        cut = percent(_value(row, "rollout/truncated_share"))
        return f"{found} {cut} of completions are cut at the limit: raise sampling.max_tokens"
    if _value(row, "verify/no_answer_share") > 0.5:
        lost = percent(_value(row, "verify/no_answer_share"))
        return (
            f"{found} the verifier finds no answer in {lost} of completions: "
            "let problems.prompt ask for the format that the verifier reads, or warm-start on it"
        )
    if _value(row, "verify/right_share", 1.0) == 0:
        return f"{found} no completion is right: use easier problems, or warm-start the model"
    return None


def truncated(row: Values, name: str) -> str | None:
    """More than a fifth of the completions are cut at the limit, and the reward's alarm does not say so."""
    share = _value(row, name)
    if share <= 0.2 or (share > 0.5 and _value(row, "reward/mean", 1.0) <= 0):
        return None
    return f"{percent(share)} of completions are cut at the limit: raise sampling.max_tokens"


def eval_truncated(row: Values, name: str) -> str | None:
    """More than a fifth of a benchmark's completions are cut at the limit."""
    share = _value(row, name)
    if share <= 0.2:
        return None
    return f"{_benchmark(name)}: {percent(share)} of completions are cut at the limit: raise eval.max_tokens"


def errors(row: Values, name: str) -> str | None:
    """More than 1 % of the checks failed on our side."""
    share = _value(row, name)
    if share <= 0.01:
        return None
    where = f"{_benchmark(name)}: " if name.startswith("eval/") else ""
    return (
        f"{where}the verifier itself failed on {percent(share)} of completions, which count for nothing: "
        "read `why` with `rlvr runs show RUN --completions 5`"
    )


def timeouts(row: Values, name: str) -> str | None:
    """More than 5 % of the checks ran out of time."""
    share = _value(row, name)
    if share <= 0.05:
        return None
    return f"{percent(share)} of checks ran out of time and scored 0: raise verifier.timeout"


def audit_failed(row: Values, name: str) -> str | None:
    """More than 5 % of the audit's checks failed or ran out of time."""
    share = _value(row, name)
    if share <= 0.05:
        return None
    return (
        f"the audit failed or ran out of time on {percent(share)} of its checks, which count for nothing: "
        "raise audit.timeout, or try it with `rlvr verifier try`"
    )


def audit_waits(row: Values, name: str) -> str | None:
    """More than 10 % of the step is spent waiting for the audit."""
    step = _value(row, "time/step_s")
    if step == 0 or _value(row, name) <= 0.1 * step:
        return None
    waited = percent(_value(row, name) / step)
    return (
        f"{waited} of the step is spent waiting for the audit: lower audit.share or raise run.verify_workers"
    )


def overpaid(row: Values, name: str) -> str | None:
    """The audit calls wrong 4 and more than 10 % of what training pays for, beyond 3 standard errors."""
    compared, refused = _value(row, "audit/compared"), _value(row, name)
    paid = _value(row, "audit/right_share") + refused - _value(row, "audit/false_negative_share")
    if refused * compared < FEW or lower_bound(refused * compared, paid * compared) <= 0.1:
        return None
    return (
        f"the audit calls wrong {percent(refused / paid)} of the completions that training calls right "
        f"({refused * compared:.0f} of {paid * compared:.0f}): read them with `rlvr runs show RUN "
        "--disagreements 5`; where the audit is right, mend the verifier or add a gate"
    )


def underpaid(row: Values, name: str) -> str | None:
    """Training calls wrong 4 and more than 10 % of what the audit calls right, likewise."""
    compared, missed = _value(row, "audit/compared"), _value(row, name)
    right = _value(row, "audit/right_share")
    if missed * compared < FEW or lower_bound(missed * compared, right * compared) <= 0.1:
        return None
    return (
        f"training calls wrong {percent(missed / right)} of the completions that the audit calls right "
        f"({missed * compared:.0f} of {right * compared:.0f}): read them with `rlvr runs show RUN "
        "--disagreements 5`; where the audit is right, the verifier or its gate is too strict"
    )


def lower_bound(hits: float, trials: float, errors: float = 3.0) -> float:
    """Wilson's lower bound of a share, so many standard errors down; 0 without trials."""
    if trials <= 0:
        return 0.0
    share, unit = hits / trials, errors**2 / trials
    middle = share + unit / 2
    return (middle - errors * math.sqrt((share * (1 - share) + unit / 4) / trials)) / (1 + unit)


def zero_variance(row: Values, name: str) -> str | None:
    """More than 80 % of the groups have equal scores and teach nothing."""
    share = _value(row, name)
    if share <= 0.8 or row.get("reward/mean", 0.0) is None:  # without one reward another alarm stands
        return None
    right, wrong = _value(row, "batch/all_right_share"), _value(row, "batch/all_wrong_share")
    if right > wrong:
        advice = f"{percent(right)} are all right: use harder problems"
    elif wrong > right:
        advice = f"{percent(wrong)} are all wrong: use easier problems or a larger sampling.group_size"
    else:
        advice = "raise sampling.group_size"
    return f"{percent(share)} of groups have equal scores and teach nothing; {advice}"


def underfilled(row: Values, name: str) -> str | None:
    """Dynamic sampling reached its cap with less than half of the batch filled."""
    share = _value(row, name, 1.0)
    if share >= 0.5:
        return None
    if _value(row, "rollout/truncated_share") > 0.5:
        advice = "most completions are cut at the limit: raise sampling.max_tokens"
    else:
        advice = "raise it, or ask problems that are sometimes solved (problems.curriculum)"
    return f"the batch is only {percent(share)} full at the cap of algorithm.oversample: {advice}"


def stale_replay(row: Values, name: str) -> str | None:
    """Importance weights leave less than a tenth of the stored tokens effective."""
    share = _value(row, name, 1.0)
    if share >= 0.1:
        return None
    return f"only {percent(share)} of the replayed tokens are effective: lower sampling.replay.max_age"


def nothing_left(row: Values, name: str) -> str | None:
    """Problems are retired, and none is left to be asked but those that wait."""
    if not _value(row, name) or _value(row, "problems/active", 1.0) or _value(row, "problems/unseen"):
        return None
    return "every problem is retired or outside problems.curriculum.band: add harder ones, or widen the band"


def mismatch(row: Values, name: str) -> str | None:
    """Engine and trainer disagree by more than 0.01 nats a token, or 0.1 where old weights drew."""
    value, lag = _value(row, name), _value(row, "rollout/lag_max")
    if value <= (0.1 if lag else 0.01):
        return None
    if lag:
        return (
            f"the weights that sampled, up to {lag:.0f} version(s) old, are far from today's ({value:.2g} "
            "nats a token): lower sampling.max_lag or optim.learning_rate"
        )
    return (
        f"engine and trainer disagree on the sampled tokens ({value:.2g} nats a token): "
        "are the newest weights loaded, in the same dtype and with the same temperature?"
    )


def few_effective(row: Values, name: str) -> str | None:
    """Importance weights leave less than half of the tokens effective."""
    share = _value(row, name, 1.0)
    if share >= 0.5:
        return None
    return (
        f"importance weights leave only {percent(share)} of the tokens effective: the policy is no longer "
        "what sampled them; lower optim.minibatches or sampling.max_lag"
    )


def clipped(row: Values, name: str) -> str | None:
    """More than 30 % of the tokens are outside the clip range."""
    share = _value(row, name)
    if share <= 0.3:
        return None
    return (
        f"{name}: {percent(share)} of tokens are clipped and teach nothing: the policy moves far in a "
        "step; lower optim.learning_rate or optim.minibatches"
    )


def collapsed(row: Values, name: str) -> str | None:
    """Entropy below 0.01 nats while less than 90 % is right: nothing is tried any more."""
    right = _value(row, "verify/right_share", 1.0)
    if _value(row, name, 1.0) >= 0.01 or right >= SOLVED:
        return None
    return (
        f"entropy is {_value(row, name):.2g} nats and only {percent(right)} is right: the policy tries "
        "nothing new; lower optim.learning_rate or raise algorithm.clip_high"
    )


def starving(row: Values) -> str | None:
    """What the policy unlearns: entropy or pivot words are far below the run's start, and not all is right.

    For `algorithm.entropy_when: alarm` this arms the guard.
    """
    if _value(row, "verify/right_share", 0.0) >= SOLVED:
        return None
    entropy, pivots = _value(row, "policy/entropy_vs_start", 1.0), _value(row, "pivot/rate_vs_start", 1.0)
    if pivots < PIVOTS_LOW:
        return f"pivot words are down to {percent(pivots)} of the run's start"
    if entropy < ENTROPY_LOW:
        return f"entropy is down to {percent(entropy)} of the run's start"
    return None


def fed(row: Values) -> bool:
    """Whether entropy and pivot words are well above what `starving` calls low: the guard may rest."""
    entropy, pivots = _value(row, "policy/entropy_vs_start", 1.0), _value(row, "pivot/rate_vs_start", 1.0)
    return entropy >= RECOVERED * ENTROPY_LOW and pivots >= RECOVERED * PIVOTS_LOW


def entropy_moved(row: Values, name: str) -> str | None:
    """Entropy below 30 % of the run's start while less than 90 % is right, or above twice as rewards fall."""
    ratio = _value(row, name, 1.0)
    if ratio < ENTROPY_LOW and (what := starving({**row, "pivot/rate_vs_start": None})):
        return f"{what}, and only {_right(row)} is right: {_feed(row)}"
    if ratio > ENTROPY_HIGH and _value(row, "reward/slope") < 0:
        return (
            f"entropy is {ratio:.1f} times that of the run's start while rewards fall: the policy falls "
            "apart; lower optim.learning_rate, or algorithm.entropy_coef where a guard is on"
        )
    return None


def pivots_moved(row: Values, name: str) -> str | None:
    """Pivot words below half the start's rate while less than 90 % is right, or above three times that."""
    ratio = _value(row, name, 1.0)
    if ratio < PIVOTS_LOW and (what := starving(row)):
        return f"{what}, and only {_right(row)} is right: it stops turning round; {_feed(row)}"
    if ratio > PIVOTS_HIGH:
        return (
            f"pivot words are {ratio:.1f} times as frequent as at the run's start: read some completions "
            "(`rlvr runs show`); if they are filler, look for what rewards them"
        )
    return None


def _right(row: Values) -> str:
    return percent(_value(row, "verify/right_share"))


def _feed(row: Values) -> str:
    if row.get("loss/guard"):
        return "the guard is on; if it goes on falling, lower optim.learning_rate"
    return "lower optim.learning_rate, raise algorithm.clip_high, or set algorithm.entropy: lp_reg"


def skipped(row: Values, name: str) -> str | None:
    """An update was left out since its gradients were not finite."""
    count = _value(row, name)
    if count == 0:
        return None
    return f"{count:.0f} update(s) skipped since gradients were not finite: lower optim.learning_rate"


def prompts_too_long(row: Values, name: str) -> str | None:
    """A problem was skipped since its prompt does not fit the context."""
    count = _value(row, name)
    if count == 0:
        return None
    return (
        f"{count:.0f} problem(s) skipped since the prompt does not fit the context: "
        "use shorter prompts or a smaller sampling.max_tokens"
    )


def open_carry(row: Values, name: str) -> str | None:
    """Groups begun and groups carried in are not all accounted for."""
    begun = _value(row, "rollout/groups_asked") + _value(row, "rollout/groups_carried_in")
    ended = _value(row, "rollout/groups_taken") + _value(row, name)
    if begun == ended:
        return None
    return f"{begun:.0f} groups were on their way and {ended:.0f} are accounted for: please report this"


def open_accounting(row: Values, name: str) -> str | None:
    """Scored + no answer + timeout + error is not what was issued."""
    parts = ("verify/scored", "verify/no_answer", "verify/timeout", "verify/error")
    if any(row.get(part) is None for part in parts):
        return None
    issued, found = _value(row, name), sum(_value(row, part) for part in parts)
    if issued == found:
        return None
    return f"the accounting does not close: {issued:.0f} completions issued, {found:.0f} accounted for"


def _value(row: Values, name: str, missing: float = 0.0) -> float:
    value = row.get(name)
    return missing if value is None else value


def _benchmark(name: str) -> str:
    return name.removeprefix("eval/").rpartition("/")[0]
