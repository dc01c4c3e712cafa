"""Where a metric lies in a healthy run, one line a metric: lowest, highest, and who says so.

None leaves that side open.  Both None: there is no fixed range, and the words say what to compare with.
Ranges are for reading (`rlvr runs show` marks what lies outside); what needs a person is in alarms.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

OURS = "ours, uncalibrated"
TASK = "no fixed range: the task decides; compare with the run's first steps"
SETTINGS = "no fixed range: model, machine and recipe decide"
EXACT = "by definition"

Line: TypeAlias = tuple[float | None, float | None, str]


@dataclass(frozen=True, slots=True)
class Healthy:
    """The range of a metric in a healthy run."""

    low: float | None
    """Lowest healthy value, in the metric's unit; None: open."""
    high: float | None
    """Highest healthy value; None: open."""
    source: str
    """A paper, a trainer's documentation, `ours, uncalibrated`; or why there is no range."""

    def holds(self, value: float) -> bool:
        """Whether the value lies inside."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def range(self) -> str:
        """`0.3 to 1`, `at most 0.05`; empty where there is no fixed range."""
        if self.low is None:
            return "" if self.high is None else f"at most {self.high:g}"
        if self.high is None:
            return f"at least {self.low:g}"
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g} to {self.high:g}"


HEALTHY: dict[str, Line] = {
    "reward/mean": (None, None, TASK),
    "reward/greedy_mean": (None, None, TASK),
    "reward/slope": (None, None, TASK),
    "reward/std": (None, None, TASK),
    "verify/right_share": (0.05, None, f"{OURS}; below, few groups have a contrast to learn from"),
    "verify/no_answer_share": (None, 0.1, OURS),
    "verify/timeout_share": (None, 0.01, OURS),
    "verify/error_share": (None, 0.01, OURS),
    "verify/judged_share": (None, None, TASK),
    "verify/judged_right_share": (None, None, TASK),
    "verify/issued": (None, None, SETTINGS),
    "verify/scored": (None, None, SETTINGS),
    "verify/no_answer": (None, None, "read verify/no_answer_share"),
    "verify/timeout": (None, None, "read verify/timeout_share"),
    "verify/error": (None, None, "read verify/error_share"),
    "audit/compared": (None, None, SETTINGS),
    "audit/failed_share": (None, 0.05, OURS),
    "audit/right_share": (None, None, TASK),
    "audit/agreement_share": (0.9, None, OURS),
    "audit/false_positive_share": (None, 0.05, f"{OURS}; a growing one is reward hacking (docs/rewards.md)"),
    "audit/false_negative_share": (None, 0.1, OURS),
    "verify/truncated": (None, None, "read rollout/truncated_share"),
    "rollout/length_mean_tokens": (None, None, TASK),
    "rollout/length_max_tokens": (None, None, TASK),
    "rollout/truncated_share": (None, 0.05, "AReaL's documentation"),
    "rollout/tokens": (None, None, SETTINGS),
    "rollout/tokens_per_s": (None, None, SETTINGS),
    "rollout/prompts_too_long": (None, 0, OURS),
    "rollout/lag_mean": (None, 8, "AReaL (arXiv:2505.24298) and prime-rl drop what is older"),
    "rollout/lag_max": (None, 8, "AReaL (arXiv:2505.24298) and prime-rl drop what is older"),
    "rollout/mixed_share": (None, None, SETTINGS),
    "rollout/groups_asked": (None, None, SETTINGS),
    "rollout/groups_carried_in": (None, None, SETTINGS),
    "rollout/groups_taken": (None, None, SETTINGS),
    "rollout/groups_carried_out": (None, None, "at most sampling.carry x optim.problems_per_step"),
    "batch/groups": (1, None, "without groups there is no update"),
    "batch/zero_variance_share": (None, 0.6, f"{OURS}; DAPO (arXiv:2503.14476) drops such groups"),
    "batch/dropped_groups": (None, None, "read batch/zero_variance_share"),
    "batch/dropped_tokens_share": (None, 0.5, OURS),
    "batch/filled_share": (0.5, None, f"{OURS}; below, raise algorithm.oversample"),
    "batch/replayed_share": (None, None, SETTINGS),
    "batch/replay_stored": (None, None, TASK),
    "batch/replay_age_mean": (None, None, SETTINGS),
    "batch/replay_weight_mean": (None, None, "1 where the stored completions are as likely as they were"),
    "batch/replay_ess_share": (0.2, None, OURS),
    "problems/active": (None, None, TASK),
    "problems/unseen": (None, None, TASK),
    "problems/outside": (None, None, TASK),
    "problems/retired": (None, None, TASK),
    "problems/rate_mean": (None, None, TASK),
    "problems/revisited_share": (None, None, SETTINGS),
    "batch/all_right_share": (None, 0.6, OURS),
    "batch/all_wrong_share": (None, 0.6, OURS),
    "batch/sequences": (None, None, SETTINGS),
    "batch/tokens": (None, None, SETTINGS),
    "credit/groups": (None, None, "read batch/zero_variance_share"),
    "credit/states": (None, None, SETTINGS),
    "credit/continuations": (None, None, SETTINGS),
    "credit/error": (None, 0, OURS),
    "credit/tokens": (None, None, SETTINGS),
    "credit/tokens_share": (None, None, "at most algorithm.credit_tokens_share"),
    "policy/entropy_nats": (0.01, None, f"{OURS}; Skywork-OR1 (arXiv:2505.22312) holds 0.2 on math"),
    "policy/entropy_vs_start": (
        0.3,
        2,
        f"{OURS}; arXiv:2505.22617 saw 73 % spent in the first 200 of 2400 steps",
    ),
    "policy/entropy_slope_nats": (None, None, "no fixed range: read policy/entropy_vs_start"),
    "policy/rare_share": (None, None, TASK),
    "pivot/words": (None, None, "read pivot/rate"),
    "pivot/rate": (None, None, TASK),
    "pivot/rate_vs_start": (0.5, 3, OURS),
    "pivot/probability": (None, None, TASK),
    "pivot/pushed_down_share": (None, None, TASK),
    "pivot/push_ratio": (None, None, "no fixed range: rare words are pushed harder; its growth tells"),
    "policy/mismatch_kl_nats": (None, 1e-3, "NeMo-RL's documentation"),
    "policy/mismatch_max_nats": (None, None, SETTINGS),
    "policy/ess_share": (0.5, 1, f"{OURS}; verl's documentation asks for 0.3"),
    "loss/surrogate": (None, None, "its height says nothing: it is near 0 by construction"),
    "loss/ratio_mean": (0.9, 1.1, "AReaL's documentation: very close to 1; the width is ours"),
    "loss/clip_low_share": (None, 0.05, f"{OURS}; with a sequence ratio (gspo) 0.1 to 0.2 is normal"),
    "loss/clip_high_share": (None, 0.05, f"{OURS}; with a sequence ratio (gspo) 0.1 to 0.2 is normal"),
    "loss/pushed_share": (None, None, SETTINGS),
    "loss/entropy_coef": (None, None, SETTINGS),
    "loss/guard": (None, None, SETTINGS),
    "loss/approx_kl_nats": (None, 0.1, OURS),
    "loss/kl_ref_nats": (None, None, "no fixed range: a sudden rise is a collapse or a hack"),
    "optim/grad_norm": (None, None, "no fixed range: ten times its usual value is a warning"),
    "optim/learning_rate": (None, None, SETTINGS),
    "optim/skipped": (None, 0, EXACT),
    "time/sample_s": (None, None, SETTINGS),
    "time/verify_s": (None, None, SETTINGS),
    "time/credit_s": (None, None, SETTINGS),
    "time/wait_s": (None, None, SETTINGS),
    "time/logprobs_s": (None, None, SETTINGS),
    "time/update_s": (None, None, SETTINGS),
    "time/sync_s": (None, None, SETTINGS),
    "time/audit_s": (None, None, SETTINGS),
    "time/eval_s": (None, None, SETTINGS),
    "time/save_s": (None, None, SETTINGS),
    "time/other_s": (None, None, "read its share of time/step_s: `rlvr runs show`"),
    "time/step_s": (None, None, SETTINGS),
    "time/ahead_sample_s": (None, None, "beside the step: what of it is not hidden is time/wait_s"),
    "time/ahead_verify_s": (None, None, "beside the step: what of it is not hidden is time/wait_s"),
    "time/ahead_credit_s": (None, None, "beside the step: what of it is not hidden is time/wait_s"),
    "time/step_tokens_per_s": (None, None, SETTINGS),
    "time/logprobs_tokens_per_s": (None, None, SETTINGS),
    "time/update_tokens_per_s": (None, None, SETTINGS),
    "time/sample_mfu_share": (None, None, SETTINGS),
    "time/logprobs_mfu_share": (None, None, SETTINGS),
    "time/update_mfu_share": (None, None, f"{SETTINGS}; PaLM (arXiv:2204.02311) trained at 0.46"),
    "time/step_mfu_share": (None, None, SETTINGS),
    "memory/sample_bytes": (None, None, SETTINGS),
    "memory/verify_bytes": (None, None, SETTINGS),
    "memory/credit_bytes": (None, None, SETTINGS),
    "memory/wait_bytes": (None, None, SETTINGS),
    "memory/logprobs_bytes": (None, None, SETTINGS),
    "memory/update_bytes": (None, None, SETTINGS),
    "memory/sync_bytes": (None, None, SETTINGS),
    "memory/audit_bytes": (None, None, SETTINGS),
    "memory/eval_bytes": (None, None, SETTINGS),
    "memory/save_bytes": (None, None, SETTINGS),
    "memory/other_bytes": (None, None, SETTINGS),
    "warm_start/loss_nats": (None, None, TASK),
    "warm_start/learning_rate": (None, None, SETTINGS),
    "warm_start/tokens_per_s": (None, None, SETTINGS),
    "eval/*/avg_at_k": (None, None, TASK),
    "eval/*/greedy": (None, None, TASK),
    "eval/*/pass_at_k": (None, None, TASK),
    "eval/*/maj_at_k": (None, None, TASK),
    "eval/*/ci_low": (None, None, TASK),
    "eval/*/ci_high": (None, None, TASK),
    "eval/*/truncated_share": (None, 0.05, "AReaL's documentation"),
    "eval/*/no_answer_share": (None, 0.1, OURS),
    "eval/*/timeout_share": (None, 0.01, OURS),
    "eval/*/error_share": (None, 0.01, OURS),
    "eval/*/length_mean_tokens": (None, None, TASK),
    "eval/*/problems": (None, None, SETTINGS),
    "eval/*/samples": (None, None, SETTINGS),
}
