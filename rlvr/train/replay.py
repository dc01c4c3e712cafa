"""Rare successes are kept, and stand in for the success that a later group of the same problem lacks.

A stored completion keeps the log-probabilities of the policy that drew it: to the loss mu stays mu, and the
recipe's correction weighs its tokens by pi_old / mu (or pi / mu).  It joins the group as one more sibling, so
baseline and scale are of G + 1 rewards.  That only successes are stored is a bias which no weight takes away
(ExGRPO, arXiv:2510.02245, lives with the same); hence the limits on share and age.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch

from rlvr.types import Completion, ScoredGroup, Verdict

RARE = 0.25
"""A success is rare where it is the only one, or where at most this share of its group is right."""
CAPACITY = 1024
"""Completions stored at most; the oldest go first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """A right completion, kept."""

    completion: Completion
    """As it was drawn, with the log-probabilities and the version of that moment."""
    score: float
    """Of its verdict."""
    reward: float
    """After shaping."""


Stored = Mapping[str, Success]
"""One success a problem, by `Problem.id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How many come back, and until when."""

    share: float
    """Of the groups of a step at most so many get one."""
    max_age: int
    """Steps since the weights that drew it, at most."""

    def join(self, groups: Sequence[ScoredGroup], stored: Stored, step: int, room: int) -> list[ScoredGroup]:
        """The groups; the first `room` that have no success, and one stored, with it as the last sibling.

        Where a problem is asked twice in a step, what is stored of it comes back once.
        """
        left, joined = dict(stored), []
        for group in groups:
            found = left.get(group.group.problem.id)
            if found is not None and room and self._is_young(found, step) and _right(group) == 0:
                group, room = _with(group, found), room - 1
                del left[group.group.problem.id]
            joined.append(group)
        return joined

    def after(self, stored: Stored, groups: Sequence[ScoredGroup], step: int) -> Stored:
        """What is stored when the groups of `step`, as they were sampled, are known.

        The newest rare success of a problem; nothing of one whose successes are no longer rare.
        """
        kept = {name: success for name, success in stored.items() if self._is_young(success, step + 1)}
        for group in groups:
            solved, known = _right(group), sum(r is not None for r in group.rewards)
            found = _best(group) if solved <= max(1, RARE * known) else None
            if solved:
                kept.pop(group.group.problem.id, None)
            if found is not None:
                kept[group.group.problem.id] = found
        return dict(list(kept.items())[-CAPACITY:])

    def _is_young(self, success: Success, step: int) -> bool:
        return step - success.completion.version[0] <= self.max_age


def ages(groups: Sequence[ScoredGroup], step: int) -> list[int]:
    """Age in steps of each stored completion among the groups."""
    return [
        step - completion.version[0]
        for group in groups
        for completion in group.group.completions[len(group.group.completions) - group.replayed :]
    ]


def metrics(kept: Sequence[ScoredGroup], stored: Stored, step: int) -> dict[str, float]:
    """How many groups of a step got a stored completion, how old those are, and how many are stored."""
    old = ages(kept, step)
    return {
        "batch/replayed_share": len(old) / max(len(kept), 1),
        "batch/replay_stored": float(len(stored)),
        **({"batch/replay_age_mean": fmean(old)} if old else {}),
    }


def to_state(stored: Stored) -> list[dict[str, Any]]:
    """The successes as tensors, texts and numbers, for a checkpoint; nothing is rounded."""
    return [
        {
            "problem": name,
            "token_ids": torch.tensor(success.completion.token_ids, dtype=torch.int32),
            "logprobs": torch.tensor(success.completion.logprobs, dtype=torch.float64),
            "text": success.completion.text,
            "version": list(success.completion.version),
            "score": success.score,
            "reward": success.reward,
        }
        for name, success in stored.items()
    ]


def from_state(rows: Sequence[Mapping[str, Any]]) -> Stored:
    """The inverse of `to_state`."""
    return {
        row["problem"]: Success(
            completion=Completion(
                token_ids=tuple(row["token_ids"].tolist()),
                logprobs=tuple(row["logprobs"].tolist()),
                text=row["text"],
                finish="stop",
                version=(row["version"][0], row["version"][1]),
            ),
            score=row["score"],
            reward=row["reward"],
        )
        for row in rows
    }


def _right(group: ScoredGroup) -> int:
    return sum(verdict.status == "right" for verdict in group.verdicts)


def _best(group: ScoredGroup) -> Success | None:
    """Of the right completions that ended by themselves the one of the highest mean log-probability.

    ExGRPO replays those of lowest entropy: they are the ones that luck explains least.
    """
    found = [
        Success(completion=completion, score=verdict.score, reward=reward)
        for completion, verdict, reward in zip(
            group.group.completions, group.verdicts, group.rewards, strict=True
        )
        if verdict.status == "right" and reward is not None and completion.finish == "stop"
    ]
    return max(found, key=lambda success: fmean(success.completion.logprobs), default=None)


def _with(group: ScoredGroup, success: Success) -> ScoredGroup:
    return replace(
        group,
        group=replace(group.group, completions=(*group.group.completions, success.completion)),
        verdicts=(*group.verdicts, Verdict(score=success.score, status="right", why="stored earlier")),
        rewards=(*group.rewards, success.reward),
        replayed=group.replayed + 1,
    )
