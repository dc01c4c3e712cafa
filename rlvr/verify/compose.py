"""From verdicts to rewards: several verifiers make one verdict, a group of verdicts makes a ScoredGroup.

    score = sum(weight * paid) / sum(weight)        over all but the gates

`paid` is a verifier's score, but 0 where a gate is not `right`, where the first verifier has no answer or ran
out of time, and for a `bonus` where the first is not `right`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Literal

from rlvr.errors import VerifierError, near_miss
from rlvr.types import OVERLONG, Channel, Group, Role, ScoredGroup, Verdict
from rlvr.verify.pool import Pool, Spec

Overlong = Literal["keep", "mask", "soft"]


def compose(
    verdicts: Sequence[Verdict], weights: Sequence[float], names: Sequence[str], roles: Sequence[Role] = ()
) -> Verdict:
    """One verdict, `score` as above; without `roles` all are rewards, and any `error` makes the whole one.

    The first decides status and found.  Where it would have paid and a gate is not `right`, the status is
    `wrong`, or `timeout` if that is the gate's, and `why` is the gate's.
    """
    roles = roles or ["reward"] * len(verdicts)
    parts = {name: verdict.score for name, verdict in zip(names, verdicts, strict=True)}
    for name, verdict in zip(names, verdicts, strict=True):
        parts |= {f"{name}.{part}": value for part, value in verdict.parts.items()}
    seconds = sum(verdict.seconds for verdict in verdicts)
    for name, verdict in zip(names, verdicts, strict=True):
        if verdict.status == "error":
            return Verdict(
                score=0.0, status="error", why=f"{name}: {verdict.why}", parts=parts, seconds=seconds
            )
    first, status, why = verdicts[0], verdicts[0].status, verdicts[0].why
    closed = _closed(verdicts, roles)
    if closed is not None and first.score > 0:
        gate = verdicts[closed]
        status = "timeout" if gate.status == "timeout" else "wrong"
        why = f"gate {names[closed]}: {gate.why or gate.status}"
    total = sum(w for w, role in zip(weights, roles, strict=True) if role != "gate")
    mean = sum(w * p for w, p in zip(weights, paid(verdicts, roles), strict=True)) / total
    score = min(max(mean, 0.0), 1.0)
    return Verdict(score=score, status=status, found=first.found, why=why, parts=parts, seconds=seconds)


def paid(verdicts: Sequence[Verdict], roles: Sequence[Role]) -> list[float]:
    """What each verifier pays; see the top of this file.  Silence never pays, whatever the others give."""
    first = verdicts[0].status
    if first not in ("right", "wrong") or _closed(verdicts, roles) is not None:
        return [0.0] * len(verdicts)
    pays = {"reward": True, "gate": False, "bonus": first == "right"}
    return [v.score if pays[role] else 0.0 for v, role in zip(verdicts, roles, strict=True)]


def _closed(verdicts: Sequence[Verdict], roles: Sequence[Role]) -> int | None:
    """The first gate that is not right."""
    gates = (i for i, role in enumerate(roles) if role == "gate" and verdicts[i].status != "right")
    return next(gates, None)


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
        rows = [[future.result() for future in row] for row in self._futures]
        return self._scorer.scored(self._group, self._specs, rows)


class Scorer:
    """Checks groups with every verifier of a recipe, or with the one that the problem names."""

    def __init__(
        self,
        pool: Pool,
        specs: Sequence[Spec],
        overlong: Overlong,
        overlong_buffer: int,
        max_tokens: int,
        *,
        is_separate: bool = False,
    ) -> None:
        """`specs` are the pool's, in its order; lengths are in tokens; `is_separate` keeps channels apart."""
        self._pool = pool
        self._specs = tuple(specs)
        self._names = _distinct([spec.name for spec in specs])
        self._overlong = overlong
        self._overlong_buffer = overlong_buffer
        self._max_tokens = max_tokens
        self._is_separate = is_separate

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

    def scored(
        self, group: Group, chosen: Sequence[int], verdicts: Sequence[Sequence[Verdict]]
    ) -> ScoredGroup:
        """The group with one verdict and reward a completion; `verdicts` holds each one's, by `chosen`."""
        whole = tuple(self.composed(chosen, row) for row in verdicts)
        lengths = [len(completion.token_ids) for completion in group.completions]
        rewards = tuple(map(self.reward, whole, lengths))
        channels = self._channels(chosen, verdicts, whole, lengths) if self._is_separate else ()
        return ScoredGroup(group=group, verdicts=whole, rewards=rewards, channels=channels)

    def composed(self, chosen: Sequence[int], verdicts: Sequence[Verdict]) -> Verdict:
        """One verdict of those of the chosen specs."""
        specs = [self._specs[index] for index in chosen]
        names = [self._names[index] for index in chosen]
        return compose(verdicts, [spec.weight for spec in specs], names, [spec.role for spec in specs])

    def reward(self, verdict: Verdict, length: int) -> float | None:
        """The score, less the soft overlong penalty where the recipe wants it; None for an `error`."""
        if verdict.status == "error":
            return None
        return verdict.score + self._penalty(length)

    def _penalty(self, length: int) -> float:
        if self._overlong != "soft":
            return 0.0
        return soft_overlong(length, self._max_tokens, self._overlong_buffer)

    def _channels(
        self,
        chosen: Sequence[int],
        verdicts: Sequence[Sequence[Verdict]],
        whole: Sequence[Verdict],
        lengths: Sequence[int],
    ) -> tuple[Channel, ...]:
        """What each verifier pays, gates left out, and the soft overlong penalty with the weight of all."""
        roles = [self._specs[index].role for index in chosen]
        is_known = [verdict.status != "error" for verdict in whole]
        rows = [paid(row, roles) for row in verdicts]
        channels = [
            Channel(
                name=self._names[index],
                weight=self._specs[index].weight,
                rewards=tuple(row[k] if known else None for row, known in zip(rows, is_known, strict=True)),
            )
            for k, index in enumerate(chosen)
            if roles[k] != "gate"
        ]
        if self._overlong == "soft":
            pairs = zip(lengths, is_known, strict=True)
            penalties = tuple(self._penalty(length) if known else None for length, known in pairs)
            weight = sum(channel.weight for channel in channels)
            channels.append(Channel(name=OVERLONG, weight=weight, rewards=penalties))
        return tuple(channels)

    def _chosen(self, group: Group) -> list[int]:
        """Every verifier; where the problem names its own, that one and the gates and bonuses."""
        wanted = group.problem.verifier
        if wanted is None:
            return list(range(len(self._specs)))
        names = [spec.name for spec in self._specs if spec.role == "reward"]
        if wanted not in names:
            raise VerifierError(
                f"problem {group.problem.id} asks for verifier `{wanted}`, which the recipe does not list"
                f" under `verifier` with the role reward{near_miss(wanted, names)}"
            )
        every = range(len(self._specs))
        own = next(i for i in every if self._specs[i].name == wanted and self._specs[i].role == "reward")
        return [own, *(i for i in every if self._specs[i].role != "reward")]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, a repeated one numbered: exact, exact#2."""
    return [name if (n := names[:i].count(name)) == 0 else f"{name}#{n + 1}" for i, name in enumerate(names)]
