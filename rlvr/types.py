"""The types that flow through the pipeline; every room speaks these and no room imports another.

problems -Problem-> rollout -Group-> verify -ScoredGroup-> algo, train/batch -Batch-> train/update
-StepReport-> runs
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import torch

Status: TypeAlias = Literal["right", "wrong", "no_answer", "timeout", "error"]
"""What became of a check. `error` is a fault of our side and takes the completion out of its group."""

Finish: TypeAlias = Literal["stop", "length"]
"""`stop`: the policy ended by itself; `length`: cut at the token limit."""

States: TypeAlias = tuple[tuple[int, float], ...]
"""States along a completion in order: (completion tokens before it, at least 1; its value in reward)."""
Role: TypeAlias = Literal["reward", "gate", "bonus"]
"""What a verifier among several is for: see `rlvr/verify/compose.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a chat."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str
    """The text of the turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to solve, and what its answer is checked against."""

    id: str
    """Unique in its source and stable between runs."""
    messages: tuple[Message, ...]
    """The prompt as chat turns, before the chat template."""
    answer: Any
    """What the verifier compares with (JSON-like); never shown to the model."""
    verifier: str | None = None
    """Name of the verifier to use, where the problem and not the recipe decides."""
    source: str = ""
    """Where it came from: `openai/gsm8k:train`, a file, `story:test`."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Other fields of the row (JSON-like), for verifiers and reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """A problem with a written-out solution, to imitate in the warm start."""

    problem: Problem
    """The problem solved."""
    solution: str
    """The assistant's text, without the end-of-turn token."""
    weight: float = 1.0
    """Relative weight of its tokens in the loss, > 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are drawn."""

    max_tokens: int
    """Tokens of a completion at most, its end token included."""
    temperature: float = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: float = 1.0
    """Nucleus mass kept; 1 keeps all."""
    top_k: int = 0
    """Most likely tokens kept; 0 keeps all."""
    stop_ids: tuple[int, ...] = ()
    """Token ids that end a completion; the one that did is kept in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt to be completed once for every seed."""

    problem: Problem
    """The problem asked."""
    prompt_ids: tuple[int, ...]
    """The prompt in tokens, chat template applied."""
    seeds: tuple[int, ...]
    """One 64-bit seed a completion: the same seed gives the same completion in any batch."""
    max_tokens: int | None = None
    """Tokens of a completion at most, where that is less than `Sampling.max_tokens`."""

    def limit(self, sampling: Sampling) -> int:
        """Tokens of a completion at most."""
        return sampling.max_tokens if self.max_tokens is None else min(self.max_tokens, sampling.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled answer."""

    token_ids: tuple[int, ...]
    """The sampled tokens [T], end token included."""
    logprobs: tuple[float, ...]
    """[T] log-probability of each token under the distribution drawn from (rollout policy mu), nats."""
    text: str
    """The tokens decoded, special tokens left out."""
    finish: Finish
    """Why it ended."""
    version: tuple[int, int] = (0, 0)
    """Least and greatest weight version over its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A problem and its G completions: siblings whose rewards are compared."""

    problem: Problem
    """The problem asked."""
    prompt_ids: tuple[int, ...]
    """The prompt in tokens."""
    completions: tuple[Completion, ...]
    """G completions in seed order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verifier found."""

    score: float
    """In [0, 1]; 0 unless `status` is `right` or `wrong`."""
    status: Status
    """`wrong` and `could not be checked` are not the same zero."""
    found: str | None = None
    """The answer that was extracted, as text."""
    why: str = ""
    """One line for a person: which rule decided, or what went wrong."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Scores of the parts it is composed of, by name."""
    seconds: float = 0.0
    """Wall time of the check."""


OVERLONG = "overlong penalty"
"""Name of the channel that is no verifier's: the soft penalty for length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One of several rewards of a group, for advantages that normalise each by itself."""

    name: str
    """Whose it is; the same in every group."""
    weight: float
    """Share in the advantage, > 0."""
    rewards: tuple[float | None, ...]
    """[G]; None where the verdict is `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroup:
    """A group with its verdicts and rewards."""

    group: Group
    """The completions."""
    verdicts: tuple[Verdict, ...]
    """[G] one a completion."""
    rewards: tuple[float | None, ...]
    """[G] after composing and shaping; None where the verdict is `error`: that completion trains nothing."""
    replayed: int = 0
    """So many of the last completions were drawn for an earlier step and stored."""
    greedy: ScoredGroup | None = None
    """The greedy completion of the same problem, checked likewise; None where none was asked for."""
    states: tuple[States, ...] = ()
    """[G] states within each completion whose value was measured (train/credit.py); empty where none was."""
    channels: tuple[Channel, ...] = ()
    """The rewards one by one, where they are not to be composed first (`algorithm.baseline: gdpo`)."""
    audits: tuple[Verdict | None, ...] = ()
    """[G] what the audit says, which trains nothing; None where it was not asked; empty without an audit."""

    @property
    def has_contrast(self) -> bool:
        """Whether the known scores differ, or the rewards of one channel: equal ones give no direction.

        Scores, not rewards: a soft penalty for length makes no lesson of a group that is right or wrong
        throughout (DAPO, arXiv:2503.14476 section 3.2).
        """
        pairs = zip(self.verdicts, self.rewards, strict=True)
        scores = tuple(None if reward is None else verdict.score for verdict, reward in pairs)
        columns = [channel.rewards for channel in self.channels if channel.name != OVERLONG] or [scores]
        return any(len({value for value in column if value is not None}) > 1 for column in columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The B sequences of one optimizer step, right-padded to T tokens, prompt and completion together."""

    ids_BT: torch.Tensor
    """int64 [B, T] token ids."""
    prompt_lengths_B: torch.Tensor
    """int64 [B] tokens of the prompt."""
    lengths_B: torch.Tensor
    """int64 [B] tokens of prompt and completion."""
    mask_BC: torch.Tensor
    """bool [B, C] completion tokens that count in the loss; C is the longest completion."""
    rollout_logprobs_BC: torch.Tensor
    """float32 [B, C] log mu: the engine's own."""
    advantages_BC: torch.Tensor
    """float32 [B, C]; 0 where the mask is False."""
    group_B: torch.Tensor
    """int64 [B] index of the group of each sequence."""
    replayed_B: torch.Tensor
    """bool [B] drawn for an earlier step and stored: its mu is an older policy."""
    pivot_BC: torch.Tensor | None = None
    """bool [B, C] tokens of pivot words, to be watched; None watches none."""
    update_B: torch.Tensor | None = None
    """int64 [B] number of the optimizer update each belongs to; None: equal numbers of groups, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step measured."""

    metrics: Mapping[str, float]
    """Values by registered name (rlvr/runs/metrics.py)."""
