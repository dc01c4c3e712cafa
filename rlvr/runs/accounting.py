"""What can be counted from the scored groups alone: the accounting of a step, and its rewards and lengths.

    issued = scored (right + wrong) + no_answer + timeout + error

The greedy completion that a baseline asks for beside a group is issued, checked and counted as any other,
but has no part in rewards and in what is said of groups.

`truncated` is counted apart: a completion cut at the limit has one of these verdicts as well.  So is what a
judge said: a verifier that may ask one says in its part `judged` whether it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from rlvr.types import ScoredGroup

JUDGED = ".judged"
"""Ends the name of that part; before it stands the verifier's name."""


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
    scores = [{v.score for v in g.verdicts if v.status != "error"} for g in groups]
    greedy = [r for g in groups if g.greedy for r in g.greedy.rewards if r is not None]
    verdicts = [{v.status == "right" for v in g.verdicts if v.status != "error"} for g in groups]
    return {
        "reward/mean": fmean(rewards) if rewards else float("nan"),
        "reward/std": pstdev(rewards) if rewards else float("nan"),
        **({"reward/greedy_mean": fmean(greedy)} if greedy else {}),
        "batch/zero_variance_share": sum(len(group) <= 1 for group in scores) / len(groups),
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
