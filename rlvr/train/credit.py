"""Credit for the right steps without a critic: what a state is worth is asked of the policy itself.

A completion is cut where its steps end.  From the state at a cut, K continuations are sampled and checked as
whole completions.  A state's value is the mean reward of these and of the siblings that went through it, as
the prompt's is that of the group; a step's advantage is what the value changes by over it (VinePPO,
arXiv:2410.01679, which leaves the siblings out; SPO, arXiv:2505.23564).  Without the siblings, chance in a
state that they share moves the advantages of all of them up or down together.

Tokens are spent on groups whose rewards differ, first where the mean is nearest to the middle of the rewards.
Within a group nothing is chosen by its outcome: were only the states of right completions valued, luck would
be taken off their advantages and left on those of wrong ones, and what they begin with be blamed.  So
all siblings are cut alike, at each n-th step from the beginning, and n is halved while tokens last.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import blake2b
from itertools import accumulate, pairwise, product
from math import inf, log
from statistics import fmean

import numpy as np

from rlvr.algo.states import segment_ends
from rlvr.policy.parallel import ONE, World
from rlvr.problems.sampler import continuation_seed
from rlvr.recipe.schema_algorithm import STEPS, Algorithm
from rlvr.rollout.engine import Engine
from rlvr.train.batch import teaches
from rlvr.types import Completion, Group, Request, Sampling, ScoredGroup
from rlvr.verify.compose import Pending, Scorer

Progress = Callable[[str, int, int], None]
Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCredit:
    """Measures the values of states; a pure function of (weights, seed, step, groups)."""

    engine: Engine
    """Who continues."""
    scorer: Scorer
    """Who checks."""
    sampling: Sampling
    """How completions are drawn, and so continuations."""
    decode: Decode
    """Tokens to the text that a verifier sees."""
    ends: Callable[[Completion], list[int]]
    """Where steps end: completion tokens before each cut, rising, within the completion."""
    continuations: int
    """K: of each state."""
    tokens_share: float
    """Share of the step's sampled tokens that continuations may be; 1: every state is valued."""
    mask_truncated: bool
    """Whether truncated completions train nothing."""
    seed: int
    """`run.seed`."""
    world: World = ONE
    """The ranks, each of which continues and checks its share."""

    def of_step(
        self, groups: Sequence[ScoredGroup], kept: Sequence[ScoredGroup], step: int, progress: Progress
    ) -> tuple[list[ScoredGroup], list[ScoredGroup], dict[str, float]]:
        """What a step sampled and what of it trains, with values of states, and metrics."""
        sampled = sum(len(c.token_ids) for g in groups for c in g.group.completions)
        valued, metrics = self.value(kept, sampled, step, progress)
        # A group that is kept may have stored completions behind its own.
        states = {id(g.group.completions[0]): g.states for g in valued}
        with_states = [
            replace(g, states=states.get(id(g.group.completions[0]), ())[: len(g.rewards)]) for g in groups
        ]
        return with_states, valued, metrics

    def value(
        self, groups: Sequence[ScoredGroup], sampled: int, step: int, progress: Progress
    ) -> tuple[list[ScoredGroup], dict[str, float]]:
        """The groups with the states that could be paid for, and metrics; `sampled` tokens are spent already.

        The cost of a state is foreseen as K times the tokens from it to the end of the longest sibling.  It
        is asked for while that is left and, besides, the most that K continuations can be: so the share is
        kept, unless continuations on the whole grow longer than the longest completions.
        """
        budget = inf
        if self.tokens_share < 1:
            budget = sampled * self.tokens_share / (1 - self.tokens_share)
            budget -= self.continuations * self.sampling.max_tokens
        paths = [path for place, scored in enumerate(groups) for path in self._paths(place, scored)]
        spent = Spent()
        through: dict[bytes, list[float]] = {}
        for path in paths:
            for prefix in path.prefixes.values():
                through.setdefault(prefix, []).append(path.reward)
        values: dict[bytes, float | None] = {}
        while asked := self._affordable(paths, values, budget - spent.tokens):
            found = self._continued(groups, asked, step, progress, spent)
            values |= {
                prefix: fmean(known + through[prefix]) if known else None for prefix, known in found.items()
            }
        valued = list(groups)
        for place in sorted({path.place for path in paths}):
            mine = {path.sibling: path.states(values) for path in paths if path.place == place}
            states = tuple(mine.get(i, ()) for i in range(len(groups[place].rewards)))
            valued[place] = replace(groups[place], states=states if any(states) else ())
        return valued, {
            "credit/groups": float(sum(bool(g.states) for g in valued)),
            "credit/states": float(sum(value is not None for value in values.values())),
            "credit/continuations": float(spent.continuations),
            "credit/error": float(spent.errors),
            "credit/tokens": float(spent.tokens),
            "credit/tokens_share": spent.tokens / max(sampled + spent.tokens, 1),
        }

    def _paths(self, place: int, scored: ScoredGroup) -> list[Path]:
        """The completions of a group worth the cost: fresh ones that train, where scores differ."""
        if not teaches(scored, mask_truncated=self.mask_truncated):
            return []
        rewards = [r for r in scored.rewards if r is not None]
        start, middle = fmean(rewards), (min(rewards) + max(rewards)) / 2
        longest = max(len(c.token_ids) for c in scored.group.completions)
        return [
            Path.along(
                completion,
                self.ends(completion),
                place=place,
                sibling=i,
                reward=reward,
                start=start,
                middle=middle,
                longest=longest,
            )
            for i, (completion, reward) in enumerate(
                zip(scored.group.completions, scored.rewards, strict=True)
            )
            if i < len(scored.rewards) - scored.replayed
            and reward is not None
            and not (self.mask_truncated and completion.finish == "length")
        ]

    def _affordable(
        self, paths: Sequence[Path], values: dict[bytes, float | None], budget: float
    ) -> dict[bytes, tuple[Path, int]]:
        """The states to value next: prefix -> where it stands; siblings that share a prefix pay once."""
        groups: dict[int, list[Path]] = {}
        for path in paths:
            groups.setdefault(path.place, []).append(path)
        ordered = sorted(groups.values(), key=lambda group: abs(group[0].start - group[0].middle))
        most = max((len(path.prefixes) for path in paths), default=0)
        strides = [2**power for power in reversed(range(most.bit_length()))]
        asked: dict[bytes, tuple[Path, int]] = {}
        for stride, group in product(strides, ordered):
            new = {
                prefix: (path, cut)
                for path in group
                for cut, prefix in path.every(stride)
                if prefix not in values and prefix not in asked
            }
            cost = sum(self.continuations * max(path.longest - cut, 1) for path, cut in new.values())
            if cost > budget:
                break
            asked |= new
            budget -= cost
        # Along each completion, so that an engine finds prompts that begin alike side by side.
        return dict(
            sorted(asked.items(), key=lambda item: (item[1][0].place, item[1][0].sibling, item[1][1]))
        )

    def _continued(
        self,
        groups: Sequence[ScoredGroup],
        asked: dict[bytes, tuple[Path, int]],
        step: int,
        progress: Progress,
        spent: Spent,
    ) -> dict[bytes, list[float]]:
        """Continue from each state and check: the rewards of the continuations that could be checked."""
        shares = self.world.attempt(
            lambda: self._own(groups, self.world.own(asked.values()), step, progress), heard=True
        )
        found: dict[bytes, list[float]] = {}
        for prefix, one in zip(asked, self.world.merged(shares), strict=True):
            found[prefix] = [reward for reward in one.rewards if reward is not None]
            spent.tokens += one.tokens
            spent.continuations += len(one.rewards)
            spent.errors += len(one.rewards) - len(found[prefix])
        return found

    def _own(
        self,
        groups: Sequence[ScoredGroup],
        where: Sequence[tuple[Path, int]],
        step: int,
        progress: Progress,
    ) -> list[Continued]:
        """What continuing from this rank's share of the states gave and cost."""
        requests = [self._request(groups[path.place].group, path, cut, step) for path, cut in where]
        tokens = [0] * len(requests)
        pending: dict[int, Pending] = {}
        progress("credit", 0, len(requests))
        for index, group in self.engine.generate(requests, self.sampling):
            path, cut = where[index]
            tokens[index] = sum(len(c.token_ids) for c in group.completions)
            whole = self._whole(groups[path.place].group, path.token_ids[:cut], group)
            pending[index] = self.scorer.submit(whole, requests[index].seeds[0] % 2**32)
            progress("credit", len(pending), len(requests))
        return [
            Continued(tokens=tokens[index], rewards=pending[index].result().rewards)
            for index in range(len(requests))
        ]

    def _request(self, group: Group, path: Path, cut: int, step: int) -> Request:
        seeds = (
            continuation_seed(self.seed, step, path.place, path.sibling, cut, number)
            for number in range(self.continuations)
        )
        return Request(
            problem=group.problem,
            prompt_ids=(*group.prompt_ids, *path.token_ids[:cut]),
            seeds=tuple(seeds),
            max_tokens=self.sampling.max_tokens - cut,
        )

    def _whole(self, group: Group, prefix: tuple[int, ...], continued: Group) -> Group:
        """The continuations as the completions that a verifier would see."""
        wholes = [replace(c, token_ids=(*prefix, *c.token_ids)) for c in continued.completions]
        return replace(group, completions=tuple(replace(c, text=self.decode(c.token_ids)) for c in wholes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """The continuations of one state."""

    tokens: int
    """Sampled."""
    rewards: tuple[float | None, ...]
    """Of each; None where the check failed on our side."""


@dataclass(slots=True, kw_only=True)
class Spent:
    """What continuations have cost so far."""

    tokens: int = 0
    """Sampled."""
    continuations: int = 0
    """Of which there were so many."""
    errors: int = 0
    """Whose check failed on our side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One completion and the states on its way."""

    place: int
    """Of its group in the step."""
    sibling: int
    """Its place in the group."""
    token_ids: tuple[int, ...]
    """Its tokens."""
    reward: float
    """Its own."""
    start: float
    """Mean reward of its group."""
    middle: float
    """Halfway between the least and the greatest reward of its group."""
    longest: int
    """Tokens of the longest sibling."""
    prefixes: dict[int, bytes] = field(default_factory=dict)
    """Cut -> fingerprint of group and tokens before it."""

    @classmethod
    def along(
        cls,
        completion: Completion,
        cuts: Sequence[int],
        *,
        place: int,
        sibling: int,
        reward: float,
        start: float,
        middle: float,
        longest: int,
    ) -> Path:
        """The path of a completion with states at `cuts`."""
        ids = np.array(completion.token_ids, np.int64)
        seen, prefixes = blake2b(place.to_bytes(8, "little"), digest_size=16), {}
        for before, cut in pairwise([0, *cuts]):
            seen.update(ids[before:cut].tobytes())
            prefixes[cut] = seen.digest()
        return cls(
            place=place,
            sibling=sibling,
            reward=reward,
            token_ids=completion.token_ids,
            start=start,
            middle=middle,
            longest=longest,
            prefixes=prefixes,
        )

    def states(self, values: dict[bytes, float | None]) -> tuple[tuple[int, float], ...]:
        """The states whose value is known."""
        found = ((cut, values.get(prefix)) for cut, prefix in self.prefixes.items())
        return tuple((cut, value) for cut, value in found if value is not None)

    def every(self, stride: int) -> list[tuple[int, bytes]]:
        """Each `stride`-th cut with its prefix, counted from the beginning."""
        return list(self.prefixes.items())[stride - 1 :: stride]


def ends_of(spec: Algorithm, decode: Decode) -> Callable[[Completion], list[int]]:
    """Where the recipe says that steps end, in tokens before the cut."""
    if spec.credit == "step_mc":
        return step_ends(re.compile(STEPS.get(spec.credit_steps, spec.credit_steps)), decode)
    return partial(_segments, tokens=spec.segment_tokens, log_probability=log(spec.segment_probability))


def _segments(completion: Completion, *, tokens: int, log_probability: float) -> list[int]:
    return segment_ends(completion.logprobs, tokens=tokens, log_probability=log_probability)


def step_ends(rule: re.Pattern[str], decode: Decode) -> Callable[[Completion], list[int]]:
    """Cuts a completion behind the token with which a match of `rule` is complete.

    The sampled tokens are cut, no text is tokenised again.  An empty match, or one at the end of the text,
    ends no step.
    """
    piece = cache(lambda token: decode((token,)))

    def ends(completion: Completion) -> list[int]:
        ids, text = completion.token_ids, completion.text
        places = [match.end() for match in rule.finditer(text) if match.start() < match.end() < len(text)]
        pieces = [piece(token) for token in ids] if places else []
        if "".join(pieces) == text:
            lengths = list(accumulate(map(len, pieces)))
            cuts = {bisect_left(lengths, place) + 1 for place in places}
        else:  # a token may be less than a character: what do the tokens before a cut say together?
            cuts = set()
            for place in places:
                found = bisect_left(
                    range(len(ids)), place, lo=max(cuts, default=1), key=lambda cut: len(decode(ids[:cut]))
                )
                cuts.add(found)
        return sorted(cut for cut in cuts if cut < len(ids))

    return ends
