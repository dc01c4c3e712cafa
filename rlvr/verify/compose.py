"""From verdicts to rewards: several verifiers make one verdict, a group of verdicts makes a ScoredGroup."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Literal

from rlvr.errors import VerifierError, near_miss
from rlvr.types import Group, ScoredGroup, Verdict
from rlvr.verify.pool import Pool, Spec

Overlong = Literal["keep", "mask", "soft"]


def compose(verdicts: Sequence[Verdict], weights: Sequence[float], names: Sequence[str]) -> Verdict:
    """The weighted mean of the scores; the first decides status and found, any `error` makes the whole one.

    The score is 0 where the first is `no_answer` or `timeout`, whatever the others give: silence never pays.
    """
    parts = {name: verdict.score for name, verdict in zip(names, verdicts, strict=True)}
    for name, verdict in zip(names, verdicts, strict=True):
        parts |= {f"{name}.{part}": value for part, value in verdict.parts.items()}
    seconds = sum(verdict.seconds for verdict in verdicts)
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict.status == "error":
            return Verdict(
                score=0.0, status="error", why=f"{name}: {verdict.why}", parts=parts, seconds=seconds
            )
    first = verdicts[0]
    mean = sum(w * v.score for w, v in zip(weights, verdicts, strict=True)) / sum(weights)
    score = min(max(mean, 0.0), 1.0) if first.status in ("right", "wrong") else 0.0
    return Verdict(
        score=score, status=first.status, found=first.found, why=first.why, parts=parts, seconds=seconds
    )


def soft_overlong(length: int, limit: int, buffer: int) -> float:
    """The penalty in [-1, 0] for a length near the limit, in tokens (DAPO, arXiv:2503.14476 eq. 13)."""
    return -min(max((length - (limit - buffer)) / buffer, 0.0), 1.0)


class Pending:
    """A group whose checks are under way."""

    def __init__(
        self, scorer: Scorer, group: Group, specs: Sequence[int], futures: list[list[Future[Verdict]]]
    ) -> None:
        self._scorer = scorer
        self._group = group
        self._specs = specs
        self._futures = futures

    def done(self) -> bool:
        """Whether `result` would return at once."""
        return all(future.done() for row in self._futures for future in row)

    def result(self) -> ScoredGroup:
        """Wait for every check and compose them."""
        verdicts = tuple(
            self._scorer.composed(self._specs, [future.result() for future in row]) for row in self._futures
        )
        lengths = [len(completion.token_ids) for completion in self._group.completions]
        rewards = tuple(map(self._scorer.reward, verdicts, lengths))
        return ScoredGroup(group=self._group, verdicts=verdicts, rewards=rewards)


class Scorer:
    """Checks groups with every verifier of a recipe, or with the one that the problem names."""

    def __init__(
        self, pool: Pool, specs: Sequence[Spec], overlong: Overlong, overlong_buffer: int, max_tokens: int
    ) -> None:
        """`specs` are the pool's, in its order; lengths are in tokens."""
        self._pool = pool
        self._specs = tuple(specs)
        self._names = _distinct([spec.name for spec in specs])
        self._overlong = overlong
        self._overlong_buffer = overlong_buffer
        self._max_tokens = max_tokens

    @property
    def runs_programs(self) -> bool:
        """Whether a verifier asks for a sandbox."""
        return "sandbox" in self._pool.wants

    def submit(self, group: Group, seed: int = 0) -> Pending:
        """Start every check of the group; completion i is checked with seed + i."""
        chosen = self._chosen(group)
        futures = [
            [self._pool.submit(index, group.problem, completion.text, seed + i) for index in chosen]
            for i, completion in enumerate(group.completions)
        ]
        return Pending(self, group, chosen, futures)

    def composed(self, chosen: Sequence[int], verdicts: Sequence[Verdict]) -> Verdict:
        """One verdict of those of the chosen specs."""
        weights = [self._specs[index].weight for index in chosen]
        return compose(verdicts, weights, [self._names[index] for index in chosen])

    def reward(self, verdict: Verdict, length: int) -> float | None:
        """The score, less the soft overlong penalty where the recipe wants it; None for an `error`."""
        if verdict.status == "error":
            return None
        if self._overlong != "soft":
            return verdict.score
        return verdict.score + soft_overlong(length, self._max_tokens, self._overlong_buffer)

    def _chosen(self, group: Group) -> list[int]:
        wanted = group.problem.verifier
        if wanted is None:
            return list(range(len(self._specs)))
        names = [spec.name for spec in self._specs]
        if wanted not in names:
            raise VerifierError(
                f"problem {group.problem.id} asks for verifier `{wanted}`, which the recipe does not list"
                f" under `verifier`{near_miss(wanted, names)}"
            )
        return [names.index(wanted)]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a repeated one numbered: exact, exact#2."""
    return [name if (n := names[:i].count(name)) == 0 else f"{name}#{n + 1}" for i, name in enumerate(names)]
