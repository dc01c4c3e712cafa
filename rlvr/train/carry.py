"""Groups on their way that outlive the step that asked for them: stragglers hold up nobody.

A step asks for a few groups more than it trains on and goes on once enough are scored: those first that were
asked by an earlier step, which it waits for, then whichever come first.  The others are carried over: their
completions go on under the new weights, or wait for their verdicts, and belong to the next step.  So

    asked + carried in = taken + carried out        carried in = carried out of the step before

and every problem is trained on once.  Nothing is cut, so nothing is lost of long completions; they come one
step later than short ones, and are one version older.  What is carried is not saved: a run that goes on
asks those problems again.

Of several ranks each takes and carries its share of the step's groups, and hands over what it took.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import sleep

from rlvr.rollout.engine import FlowingEngine, Inbox
from rlvr.train.clock import Clock
from rlvr.types import Group, Request, Sampling, ScoredGroup
from rlvr.verify.audit import Auditor
from rlvr.verify.compose import Pending, Scorer

PAUSE_S = 0.002
"""Between two looks at verifiers while nothing is being sampled."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """One group on its way."""

    serial: int
    """Of its problem in the walk."""
    step: int
    """That asked for it."""
    request: Request
    """What was asked."""
    pending: Pending | None = None
    """Its checks; None while it is sampled."""


@dataclass(slots=True, kw_only=True)
class Carry:
    """What is on its way, in the thread that samples."""

    engine: FlowingEngine
    """Who samples."""
    scorer: Scorer
    """Who checks."""
    sampling: Sampling
    """How completions are drawn."""
    most: int
    """Groups that a step may leave to the next one."""
    steps: int = 1
    """A group is waited for so many steps after the one that asked for it."""
    again: Sequence[int] = ()
    """Serials that a run which goes on asks anew: they were on their way when its checkpoint was written."""
    auditor: Auditor | None = None
    """Who checks a sample a second time."""
    ranks: int = 1
    """How many share the work."""
    open: dict[int, Asked] = field(default_factory=dict)
    """What this rank has on its way, by serial."""
    left: list[list[int]] = field(init=False)
    """Serials that each rank has on its way between two takes."""
    _inbox: Inbox = field(default_factory=deque)
    _flow: Iterator[tuple[int, Group] | None] | None = None

    def __post_init__(self) -> None:
        """Nothing is on its way."""
        self.left = [[] for _ in range(self.ranks)]

    @property
    def serials(self) -> tuple[int, ...]:
        """What all ranks have on their way between two takes, in the order of the problems."""
        return tuple(sorted(serial for left in self.left for serial in left))

    def ask(self, serials: Sequence[int], requests: Sequence[Request], step: int) -> None:
        """Begin to sample these groups."""
        for serial, request in zip(serials, requests, strict=True):
            self.open[serial] = Asked(serial=serial, step=step, request=request)
            self._inbox.append((serial, request))

    def take(
        self, count: int, step: int, clock: Clock, progress: Callable[[str, int, int], None]
    ) -> list[tuple[Asked, ScoredGroup]]:
        """`count` groups with verdicts, in the order of the problems; all of earlier steps are among them.

        Samples until that many are scored; waits for verdicts only where nothing is left to be sampled.
        """
        chosen: list[Asked] = []
        while len(chosen) < count:
            overdue = [a for a in self.open.values() if step - a.step >= self.steps]
            scored = [a for a in self.open.values() if a.pending is not None and a.pending.done()]
            late = [a for a in overdue if a not in scored]
            chosen = [a for a in scored if a.step < step] + [a for a in scored if a.step == step]
            chosen = [] if late or len(chosen) < count else chosen[:count]
            if not chosen:
                progress("sample" if self._samples else "verify", min(len(scored), count), count)
                self._go_on(clock)
        for one in chosen:
            del self.open[one.serial]
        results = [(one, one.pending.result()) for one in chosen if one.pending is not None]
        return sorted(results, key=lambda pair: pair[0].serial)

    @property
    def _samples(self) -> bool:
        return any(one.pending is None for one in self.open.values())

    def _go_on(self, clock: Clock) -> None:
        """Sample for a moment, or wait for verifiers for one."""
        if not self._samples:
            with clock.phase("verify"):
                sleep(PAUSE_S)
            return
        with clock.phase("sample"):
            if self._flow is None:
                self._flow = self.engine.flow(self._inbox, self.sampling)
            try:
                found = next(self._flow)
            except StopIteration:
                self._flow = None
                return
        if found is not None:
            serial, group = found
            one = self.open[serial]
            seed = one.request.seeds[0] % 2**32
            one.pending = self.scorer.submit(group, seed)
            if self.auditor is not None:
                self.auditor.start(group, seed)


def flow_metrics(asked: int, carried_in: int, taken: int, carried_out: int) -> dict[str, float]:
    """The accounting of groups that outlive their step."""
    return {
        "rollout/groups_asked": float(asked),
        "rollout/groups_carried_in": float(carried_in),
        "rollout/groups_taken": float(taken),
        "rollout/groups_carried_out": float(carried_out),
    }
