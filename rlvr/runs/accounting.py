"""What can be counted from the scored groups alone: the accounting of a step, and its rewards and lengths.

    issued = scored (right + wrong) + no_answer + timeout + error

The greedy completion that a baseline asks for beside a group is issued, checked and counted as any other,
but has no part in rewards and in what is said of groups.

`truncated` is counted apart: a completion cut at the limit has one of these verdicts as well.  So is what a
judge said: a verifier that may ask one says in its part `judged` whether it did.

An audit is compared with training where both decided: agreement + false positives + false negatives = 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from rlvr.types import ScoredGroup

JUDGED = ".judged"
"""Ends the name of that part; before it stands the verifier's name."""

DECIDED = {"right", "wrong", "no_answer"}
"""Statuses that say something about the completion."""


def tally(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Metrics of all completions of a step, trained on or not; shares are of the completions issued."""
    everything = [*groups, *(g.greedy for g in groups if g.greedy)]
    completions = [c for g in everything for c in g.group.completions]
    if not completions:
        return {"verify/issued": 0.0}
    status: Counter[str] = Counter(v.status for g in everything for v in g.verdicts)
    lengths = [len(c.token_ids) for c in completions]
    cut = sum(c.finish == "length" for c in completions)
    issued = len(completions)
    return {
        **_rewards(groups),
        **_judged(everything, issued),
        **_audited(groups),
        "verify/issued": float(issued),
        "verify/scored": float(status["right"] + status["wrong"]),
        "verify/no_answer": float(status["no_answer"]),
        "verify/timeout": float(status["timeout"]),
        "verify/error": float(status["error"]),
        "verify/truncated": float(cut),
        "verify/right_share": status["right"] / issued,
        "verify/no_answer_share": status["no_answer"] / issued,
        "verify/timeout_share": status["timeout"] / issued,
        "verify/error_share": status["error"] / issued,
        "rollout/length_mean_tokens": fmean(lengths),
        "rollout/length_max_tokens": float(max(lengths)),
        "rollout/truncated_share": cut / issued,
        "rollout/tokens": float(sum(lengths)),
    }


def _rewards(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """Reward statistics, and the shares of groups that cannot teach."""
    rewards = [r for g in groups for r in g.rewards if r is not None]
    greedy = [r for g in groups if g.greedy for r in g.greedy.rewards if r is not None]
    verdicts = [{v.status == "right" for v in g.verdicts if v.status != "error"} for g in groups]
    return {
        "reward/mean": fmean(rewards) if rewards else float("nan"),
        "reward/std": pstdev(rewards) if rewards else float("nan"),
        **({"reward/greedy_mean": fmean(greedy)} if greedy else {}),
        "batch/zero_variance_share": sum(not g.has_contrast for g in groups) / len(groups),
        "batch/all_right_share": sum(v == {True} for v in verdicts) / len(groups),
        "batch/all_wrong_share": sum(v == {False} for v in verdicts) / len(groups),
    }


def _judged(groups: Sequence[ScoredGroup], issued: int) -> dict[str, float]:
    """Shares of the completions put to a judge and right by its word; nothing where none may be asked."""
    found = [
        (asked > 0, verdict.parts.get(name.removesuffix(JUDGED), 0.0) >= 1)
        for group in groups
        for verdict in group.verdicts
        for name, asked in verdict.parts.items()
        if name.endswith(JUDGED)
    ]
    if not found:
        return {}
    return {
        "verify/judged_share": sum(is_asked for is_asked, _ in found) / issued,
        "verify/judged_right_share": sum(is_asked and is_right for is_asked, is_right in found) / issued,
    }


def is_decided(status: str, audit_status: str) -> bool:
    """Whether training and audit can be compared: neither failed or ran out of time."""
    return {status, audit_status} <= DECIDED


def _audited(groups: Sequence[ScoredGroup]) -> dict[str, float]:
    """How the audit sees the completions that it was asked about; nothing where there is no audit."""
    pairs = [
        (verdict.status, audit.status)
        for group in groups
        if group.audits
        for verdict, audit in zip(group.verdicts, group.audits, strict=True)
        if audit is not None
    ]
    if not any(group.audits for group in groups):
        return {}
    both = [(mine == "right", its == "right") for mine, its in pairs if is_decided(mine, its)]
    found = {"audit/compared": float(len(both))}
    if pairs:
        found["audit/failed_share"] = sum(its not in DECIDED for _, its in pairs) / len(pairs)
    if both:
        found["audit/right_share"] = sum(its for _, its in both) / len(both)
        found["audit/agreement_share"] = sum(mine == its for mine, its in both) / len(both)
        found["audit/false_positive_share"] = sum(mine and not its for mine, its in both) / len(both)
        found["audit/false_negative_share"] = sum(its and not mine for mine, its in both) / len(both)
    return found
