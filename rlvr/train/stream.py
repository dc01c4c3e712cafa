"""The first three rooms of the pipeline in a row: problems -> completions -> verdicts, one step at a time.

Checking overlaps with sampling: a group goes to the verifiers the moment its last completion has ended.
`Feed` runs the stream up to `max_lag` weight versions ahead of the trainer, in a thread of its own; with 0
the two take turns.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil

from rlvr.errors import ProblemsError
from rlvr.policy.parallel import ONE, World
from rlvr.problems.curriculum import Wants
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import Sampler, completion_seed
from rlvr.rollout.engine import Engine
from rlvr.train.batch import teaches
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
        clock = Clock(self.meter)
        limit = max(count, int(count * self.oversample + 1e-9))
        while not groups or (len(kept) < count and len(groups) < limit and self.drop_zero_variance):
            short = count - len(kept)
            expected = ceil(short * max(len(groups), 1) / max(len(kept), 1))
            requests, asked, skipped = self._requests(min(expected, limit - len(groups)), step, wants)
            new = self._sample_and_verify(requests, clock, progress)
            groups, indices, unfit = groups + new, indices + asked, unfit + skipped
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
            metrics=self._metrics(groups, kept, count, lap.seconds["sample"])
            | spent
            | {"rollout/prompts_too_long": float(len(unfit))}
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
        """The next `count` problems that fit the context, their indices, and those of what did not fit."""
        requests: list[Request] = []
        indices: list[int] = []
        skipped: list[int] = []
        in_a_row = 0
        while len(requests) < count:
            for serial, problem in self.sampler.take(count - len(requests), wants):
                ids = self.renderer.render(problem)
                if self.renderer.fits(ids, self.sampling.max_tokens):
                    requests.append(self._request(serial, problem, ids, step))
                    indices.append(self.sampler.index(serial))
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
        return requests, indices, skipped

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


class Feed:
    """Hands the trainer its groups, step by step.

    With `max_lag` L, the groups of step s are asked for once version s - L is published, and tokens drawn
    later come from newer ones: no completion that is trained on is older than L versions.  What was sampled
    ahead is not saved: a run that goes on asks those problems again, each for the step it belongs to.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        count: int,
        step: int,
        last: int,
        cursor: int,
        max_lag: int,
        memory: Memory = BLANK,
    ) -> None:
        """Steps `step` to `last` - 1, `count` groups each, from problem `cursor` on; `step` is published."""
        self._stream, self._count, self._last, self._max_lag = stream, count, last, max_lag
        self._published = step
        self._news = threading.Condition()
        self._is_closed = self._is_idle = False
        self._progress: tuple[str, int, int] = ("sample", 0, count)
        self._ready: queue.SimpleQueue[Taken | BaseException] = queue.SimpleQueue()
        if max_lag:
            threading.Thread(target=self._run, args=(step, cursor, memory), daemon=True).start()

    def take(self, step: int, cursor: int, progress: Progress, memory: Memory = BLANK) -> Taken:
        """The groups of `step`, from problem `cursor` on, with what was known of the problems by then."""
        if not self._max_lag:
            return self._stream.take(self._count, step, cursor, progress, memory)
        while True:
            progress(*self._progress)
            try:
                taken = self._ready.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(taken, BaseException):
                raise taken
            return taken

    def publish(self, version: int) -> None:
        """The engine samples with weights `version` from now on."""
        with self._news:
            self._published = version
            self._news.notify_all()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The engine is the caller's within the block, who publishes nothing in it.

        It begins when all is sampled that may be, so that ranks which share the sampling stop at one place.
        """
        with self._news:
            while self._max_lag and not self._is_idle:
                self._news.wait()
        yield

    def close(self) -> None:
        """Begin nothing more."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _run(self, step: int, cursor: int, memory: Memory) -> None:
        try:
            for ahead in range(step, self._last):
                with self._news:
                    while not self._may_begin(ahead):
                        self._rest(True)
                        self._news.wait()
                    self._rest(False)
                    if self._is_closed:
                        return
                taken = self._stream.take(self._count, ahead, cursor, self._note, memory)
                cursor, memory = taken.cursor, taken.memory
                self._ready.put(taken)
        except BaseException as error:  # noqa: BLE001 - handed to the trainer's thread
            self._ready.put(error)
        finally:
            with self._news:
                self._rest(True)

    def _rest(self, is_idle: bool) -> None:
        if is_idle != self._is_idle:
            self._is_idle = is_idle
            self._news.notify_all()

    def _may_begin(self, step: int) -> bool:
        return self._is_closed or self._published >= step - self._max_lag

    def _note(self, phase: str, done: int, total: int) -> None:
        self._progress = (phase, done, total)
