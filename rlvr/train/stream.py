"""The first three rooms of the pipeline in a row: problems -> completions -> verdicts, one step at a time.

Checking overlaps with sampling: a group goes to the verifiers the moment its last completion has ended.
`Feed` (feed.py) runs the stream ahead of the trainer, or in turns with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from rlvr.errors import ProblemsError
from rlvr.policy.parallel import ONE, World
from rlvr.problems.curriculum import Wants
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import Sampler, completion_seed
from rlvr.rollout.engine import Engine
from rlvr.train.batch import teaches
from rlvr.train.carry import Carry, flow_metrics
from rlvr.train.clock import Clock, Lap, Meter
from rlvr.train.credit import StepCredit
from rlvr.train.memory import BLANK, Asked, Memory, Practice
from rlvr.types import Problem, Request, Sampling, ScoredGroup
from rlvr.verify.audit import Auditor
from rlvr.verify.compose import Pending, Scorer

Progress = Callable[[str, int, int], None]

TOO_LONG_IN_A_ROW = 1000
"""So many problems that do not fit the context, one after the other, end the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What one step draws from the stream."""

    groups: list[ScoredGroup]
    """Everything sampled, in the order of the problems."""
    kept: list[ScoredGroup]
    """What the step trains on."""
    cursor: int
    """Where the next step's problems begin."""
    memory: Memory = BLANK
    """What is known of the problems by then."""
    metrics: dict[str, float]
    """Speed, prices and skipped prompts."""
    lap: Lap = field(default_factory=Lap)
    """Where the time went while they were drawn."""
    carried: tuple[int, ...] = ()
    """Serials of the problems that were asked and belong to the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Draws scored groups; a pure function of (weights, seed, step, cursor, memory)."""

    sampler: Sampler
    """Problems in order."""
    renderer: Renderer
    """Problems to tokens."""
    engine: Engine
    """Tokens to completions."""
    scorer: Scorer
    """Completions to rewards."""
    sampling: Sampling
    """How to draw."""
    group_size: int
    """Completions a problem."""
    drop_zero_variance: bool
    """Keep only groups that teach."""
    oversample: float
    """Sample up to this many times the groups asked for while too few are kept."""
    seed: int
    """`run.seed`."""
    mask_truncated: bool = False
    """Truncated completions are out of the loss."""
    practice: Practice = field(default_factory=Practice)
    """What comes back."""
    greedy: bool = False
    """One greedy completion beside each group, for a baseline."""
    credit: StepCredit | None = None
    """Who measures the values of states within completions, where the method asks for them."""
    world: World = ONE
    """The ranks, each of which draws and checks its share."""
    auditor: Auditor | None = None
    """Who checks a sample of the completions a second time, without a say in what is trained."""
    carry: Carry | None = None
    """What outlives a step; None: each waits for all that it asked."""
    last: int = -1
    """The step that carries nothing over."""
    meter: Meter | None = None
    """Of memory, where nothing else goes on while it draws."""

    def take(self, count: int, step: int, cursor: int, progress: Progress, memory: Memory = BLANK) -> Taken:
        """`count` groups for `step` from problem `cursor` on (fewer kept where zero variance is dropped).

        Dynamic sampling goes on until `count` groups teach, or `count * oversample` are sampled; each round
        asks for as many as the share that taught so far lets expect to be needed, since a round costs the
        time of its longest completion; what teaches beyond `count` is left out.
        """
        self.sampler.cursor = cursor
        wants = self.practice.wants(self.seed, memory)
        groups: list[ScoredGroup] = []
        kept: list[ScoredGroup] = []
        indices: list[int] = []
        unfit: list[int] = []
        clock, asked = Clock(self.meter), 0
        carried_in = len(self.carry.again or self.carry.serials) if self.carry else 0
        limit = max(count, int(count * self.oversample + 1e-9))
        while not groups or (len(kept) < count and len(groups) < limit and self.drop_zero_variance):
            short = count - len(kept)
            expected = ceil(short * max(len(groups), 1) / max(len(kept), 1))
            wanted = min(expected, limit - len(groups))
            if self.carry is None:
                requests, serials, skipped = self._requests(wanted, step, wants)
                new = self._sample_and_verify(requests, clock, progress)
            else:
                more, skipped = self._ask(self.carry, wanted, step, wants)
                asked += more
                found = self._scored_first(self.carry, wanted, step, clock, progress)
                new, serials = [scored for _, scored in found], [serial for serial, _ in found]
            groups, unfit = groups + new, unfit + skipped
            indices += map(self.sampler.index, serials)
            kept = self._kept(groups, memory, step, count)
        done = Asked(groups=groups, indices=indices, unfit=unfit)
        after = self.practice.after(memory, done, step)
        spent: dict[str, float] = {}
        if self.credit is not None:
            with clock.phase("credit"):
                groups, kept, spent = self.credit.of_step(groups, kept, step, progress)
        lap = clock.lap()
        return Taken(
            groups=groups,
            kept=kept,
            cursor=self.sampler.cursor,
            memory=after,
            lap=lap,
            carried=self.carry.serials if self.carry else (),
            metrics=self._metrics(groups, kept, count, lap.seconds["sample"])
            | spent
            | {"rollout/prompts_too_long": float(len(unfit))}
            | (flow_metrics(asked, carried_in, len(groups), len(self.carry.serials)) if self.carry else {})
            | self.practice.metrics(memory, after, done, kept, step),
        )

    def _kept(
        self, groups: Sequence[ScoredGroup], memory: Memory, step: int, count: int
    ) -> list[ScoredGroup]:
        """The first `count` groups that the step trains on, with what is replayed in them."""
        joined = self.practice.join(groups, memory, step, count)
        keeps_all = not self.drop_zero_variance
        return [g for g in joined if keeps_all or teaches(g, mask_truncated=self.mask_truncated)][:count]

    def _metrics(
        self,
        groups: Sequence[ScoredGroup],
        kept: Sequence[ScoredGroup],
        count: int,
        sample_s: float,
    ) -> dict[str, float]:
        """Speed; what was sampled and not trained on, the price of dropping; how full the batch is."""
        tokens = sum(len(c.token_ids) for g in groups for c in g.group.completions)
        beside = sum(len(c.token_ids) for g in groups if g.greedy for c in g.greedy.group.completions)
        used = sum(
            len(completion.token_ids)
            for g in kept
            for completion, reward in list(zip(g.group.completions, g.rewards, strict=True))[
                : len(g.rewards) - g.replayed
            ]
            if reward is not None and not (self.mask_truncated and completion.finish == "length")
        )
        return {
            "rollout/tokens_per_s": (tokens + beside) / max(sample_s, 1e-9),
            "batch/groups": float(len(kept)),
            "batch/dropped_groups": float(len(groups) - len(kept)),
            "batch/dropped_tokens_share": 1 - used / max(tokens + beside, 1),
            **({"batch/filled_share": len(kept) / count} if self.oversample > 1 else {}),
        }

    def _requests(
        self, count: int, step: int, wants: Wants | None
    ) -> tuple[list[Request], list[int], list[int]]:
        """The next `count` problems that fit the context, their serials, and the indices of others."""
        requests: list[Request] = []
        serials: list[int] = []
        skipped: list[int] = []
        in_a_row = 0
        while len(requests) < count:
            for serial, problem in self.sampler.take(count - len(requests), wants):
                ids = self.renderer.render(problem)
                if self.renderer.fits(ids, self.sampling.max_tokens):
                    requests.append(self._request(serial, problem, ids, step))
                    serials.append(serial)
                    in_a_row = 0
                    continue
                skipped.append(self.sampler.index(serial))
                in_a_row += 1
                if in_a_row >= TOO_LONG_IN_A_ROW or in_a_row == self.sampler.source.size:
                    raise ProblemsError(
                        f"{in_a_row} problems in a row do not fit: the last prompt has {len(ids)} tokens, "
                        f"sampling.max_tokens = {self.sampling.max_tokens} and the model's context is "
                        f"{self.renderer.context}; lower sampling.max_tokens or use a model with a longer "
                        "context."
                    )
        return requests, serials, skipped

    def _ask(self, carry: Carry, wanted: int, step: int, wants: Wants | None) -> tuple[int, list[int]]:
        """Have so many groups on their way that `wanted` may be taken and the rest carried over.

        Each rank takes and carries its share, so what is new goes to those that have fewer on their way.
        Returns how many are new, and the indices of problems that do not fit the context.
        """
        world, again = self.world, carry.again
        if again:
            carry.again = ()
            problems = [(serial, self.sampler.source[self.sampler.index(serial)]) for serial in again]
            asked = [self._request(serial, p, self.renderer.render(p), step) for serial, p in problems]
            # Of an earlier step: it is waited for, and not carried once more.
            carry.ask(world.own(again), world.own(asked), step - 1)
            carry.left = [world.own(again, rank) for rank in range(world.count)]
        spare = 0 if step == self.last else carry.most
        short = [
            len(world.own(range(wanted), rank)) + len(world.own(range(spare), rank)) - len(left)
            for rank, left in enumerate(carry.left)
        ]
        requests, serials, skipped = self._requests(sum(short), step, wants)
        begin, end = sum(short[: world.rank]), sum(short[: world.rank + 1])
        carry.ask(serials[begin:end], requests[begin:end], step)
        return len(requests), skipped

    def _scored_first(
        self, carry: Carry, wanted: int, step: int, clock: Clock, progress: Progress
    ) -> list[tuple[int, ScoredGroup]]:
        """`wanted` groups with their serials, in the order of the problems: of each rank its share."""
        own = len(self.world.own(range(wanted)))

        def take() -> tuple[list[tuple[int, ScoredGroup]], list[int]]:
            found = carry.take(own, step, clock, progress)
            return [(one.serial, scored) for one, scored in found], sorted(carry.open)

        with clock.phase("wait"):  # for the other ranks
            drawn = self.world.attempt(take, heard=True)
        carry.left = [left for _, left in drawn]
        return sorted((pair for found, _ in drawn for pair in found), key=lambda pair: pair[0])

    def _request(self, serial: int, problem: Problem, ids: tuple[int, ...], step: int) -> Request:
        seeds = tuple(completion_seed(self.seed, step, serial, i) for i in range(self.group_size))
        return Request(problem=problem, prompt_ids=ids, seeds=seeds)

    def _sample_and_verify(
        self, requests: Sequence[Request], clock: Clock, progress: Progress
    ) -> list[ScoredGroup]:
        """The groups of `requests`, of which each rank draws and checks its share."""
        own = self.world.own(requests)
        with clock.phase("wait"):  # what the rank does not draw itself, others do
            drawn = self.world.attempt(lambda: self._own(own, clock, progress), heard=True)
        return self.world.merged(drawn)

    def _own(self, requests: Sequence[Request], clock: Clock, progress: Progress) -> list[ScoredGroup]:
        beside: list[Pending] = []
        with clock.phase("sample"):
            drawn = self._draw(requests, self.sampling, progress, self.auditor)
            if self.greedy:
                asked = [replace(request, seeds=request.seeds[:1]) for request in requests]
                beside = self._draw(asked, replace(self.sampling, temperature=0.0), progress)
        scored = []
        with clock.phase("verify"):
            for index, pending in enumerate(drawn):
                progress("verify", index, len(requests))
                group = pending.result()
                scored.append(replace(group, greedy=beside[index].result()) if beside else group)
        return scored

    def _draw(
        self,
        requests: Sequence[Request],
        sampling: Sampling,
        progress: Progress,
        auditor: Auditor | None = None,
    ) -> list[Pending]:
        """The groups of `requests`; each went to the verifiers when its last completion had ended."""
        progress("sample", 0, len(requests))
        pending: dict[int, Pending] = {}
        for index, group in self.engine.generate(requests, sampling):
            seed = requests[index].seeds[0] % 2**32
            pending[index] = self.scorer.submit(group, seed)
            if auditor is not None:
                auditor.start(group, seed)
            progress("sample", len(pending), len(requests))
        return [pending[index] for index in range(len(requests))]
