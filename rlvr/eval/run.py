"""Evaluation: the first three rooms of the pipeline, ending in statistics instead of an update.

Checking overlaps with sampling: a group goes to the scorer the moment its last completion has ended.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, Protocol

from rlvr.errors import EngineError, Interrupted, ModelError, ProblemsError, RecipeError, RunError
from rlvr.eval.record import Graded, OtherRecordError, Outcome, Record
from rlvr.eval.result import Result, summarise
from rlvr.policy.parallel import ONE, World
from rlvr.problems.prompts import Renderer
from rlvr.problems.sampler import completion_seed
from rlvr.problems.sources import Source
from rlvr.rollout.engine import Engine
from rlvr.types import Group, Problem, Request, Sampling, ScoredGroup

EVALUATION = 2**64 - 1
"""Stands for the step in completion seeds: no training step shares its random numbers with an evaluation."""
BLOCK = 8192
"""Completions asked of the engine in one call."""
LAST_WAIT_S = 2.0
"""Time for outstanding verdicts when an evaluation is interrupted."""
IN_FLIGHT = 32
"""Groups that may wait for their verdicts before the engine is read on."""
PACKAGES = ("rlvr", "torch", "transformers", "mpmath")


class Pending(Protocol):
    """A group on its way through the verifiers."""

    def done(self) -> bool:
        """Whether they are there."""
        ...

    def result(self) -> ScoredGroup:
        """Wait for its verdicts."""
        ...


class Scorer(Protocol):
    """Checks groups in the background."""

    def submit(self, group: Group, seed: int) -> Pending:
        """Start checking; `seed` is for verifiers that draw random numbers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is measured, and how; a record is only ever continued for the same."""

    benchmark: str
    """Its name."""
    sampling: Sampling
    """How completions are drawn; without `stop_ids`, the model's own end them."""
    samples: int
    """Completions a problem."""
    seed: int
    """A completion's seed follows from it, the problem's place and its own among its siblings."""
    limit: int | None = None
    """The first so many problems only; what is drawn for those does not depend on it."""
    step: int = 0
    """Of the run that is measured."""
    model_hash: str = ""
    """Of the weights measured; empty where the folder of the record says it."""
    verifier: str = ""
    """Name of who checks."""
    sandbox: str = ""
    """What held the programs that it ran, and what that leaves open; empty where it runs none."""
    expected: int | None = None
    """Another number of problems is a warning."""

    def header(self, source: Source, first_prompt: Sequence[int], engine: str) -> dict[str, Any]:
        """First line of the record."""
        held = {"sandbox": self.sandbox} if self.sandbox else {}
        return held | {
            "benchmark": self.benchmark,
            "source": source.name,
            "data": source.fingerprint,
            "first_prompt": _hash([first_prompt]),
            "model": self.model_hash,
            "step": self.step,
            "verifier": self.verifier,
            "sampling": {**asdict(self.sampling), "stop_ids": list(self.sampling.stop_ids)},
            "samples": self.samples,
            "seed": self.seed,
            "engine": engine,  # another one draws other completions
        }


def evaluate(
    what: Measurement,
    source: Source,
    renderer: Renderer,
    engine: Engine,
    scorer: Scorer,
    *,
    record_path: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    fresh: bool = False,
    world: World = ONE,
) -> Result:
    """Sample completions of each problem, check them, and sum up; each rank of `world` does its share.

    With `record_path`, outcomes are kept there and a stopped evaluation continues; OtherRecordError where it
    holds another measurement, unless `fresh` starts it anew.
    """
    _check(source, what.sampling, what.samples, renderer.context, what.limit)
    if not what.sampling.stop_ids:
        what = replace(what, sampling=replace(what.sampling, stop_ids=renderer.stop_ids))
    problems = _problems(source, what.limit)
    prompts = [renderer.render(problem) for problem in problems]
    header = what.header(source, prompts[0], engine.name)
    record = world.lead_or(
        lambda: _opened(record_path, header, problems, fresh), lambda: Record(None, header)
    )
    record.outcomes |= world.lead(lambda: record.outcomes)
    if progress is not None:
        progress(0, len(problems))
    resumed, started = sum(index < len(problems) for index in record.outcomes), perf_counter()
    try:
        todo = _todo(what, record, problems, prompts, renderer)

        def draw() -> list[Outcome]:
            own = []
            for index, scored in _run(engine, scorer, world.own(todo), what.sampling, what.seed):
                own.append(_outcome(index, scored, what.samples))
                record.add(own[-1])
                if progress is not None:
                    progress(sum(i < len(problems) for i in record.outcomes), len(problems))
            return own

        for rank, share in enumerate(world.attempt(draw, heard=True)):
            for outcome in share if rank != world.rank else ():
                record.add(outcome)
    finally:
        record.close()
    too_long = sum(not renderer.fits(ids, what.sampling.max_tokens) for ids in prompts)
    return summarise(
        what.benchmark,
        [record.outcomes[i] for i in range(len(problems)) if i in record.outcomes],
        n=len(problems),
        k=what.samples,
        seconds=perf_counter() - started,
        warnings=_warnings(what, len(problems), too_long),
        evidence={**header, "prompts": _hash(prompts), "resumed": resumed, "versions": _versions()},
    )


def _opened(path: Path | None, header: Mapping[str, Any], problems: Sequence[Problem], fresh: bool) -> Record:
    record = Record(path, header, fresh=fresh)
    try:
        _same_problems(record, problems)
    except RunError:
        record.close()
        raise
    return record


def _todo(
    what: Measurement,
    record: Record,
    problems: Sequence[Problem],
    prompts: Sequence[tuple[int, ...]],
    renderer: Renderer,
) -> list[tuple[int, Request]]:
    """What is still to be asked; prompts too long for that are recorded as cut and wrong."""
    todo: list[tuple[int, Request]] = []
    most = what.sampling.max_tokens
    for index, (problem, ids) in enumerate(zip(problems, prompts, strict=True)):
        if index in record.outcomes:
            continue
        if renderer.fits(ids, most):
            seeds = tuple(completion_seed(what.seed, EVALUATION, index, j) for j in range(what.samples))
            todo.append((index, Request(problem=problem, prompt_ids=ids, seeds=seeds)))
        else:
            record.add(_too_long(index, problem, len(ids), most, renderer.context, what.samples))
    return todo


def _run(
    engine: Engine, scorer: Scorer, todo: Sequence[tuple[int, Request]], sampling: Sampling, seed: int
) -> Iterator[tuple[int, ScoredGroup]]:
    waiting: deque[tuple[int, Pending]] = deque()
    try:
        for index, group in _sample(engine, todo, sampling):
            pending = scorer.submit(group, completion_seed(seed, EVALUATION, index, EVALUATION))
            waiting.append((index, pending))
            if len(waiting) > IN_FLIGHT:
                first = waiting[0][0], waiting[0][1].result()
                waiting.popleft()
                yield first
    except (KeyboardInterrupt, Interrupted):
        # What is sampled is paid for, but a slow verifier must not hold up who wants to leave.
        deadline = perf_counter() + LAST_WAIT_S
        for index, pending in waiting:
            while not pending.done() and perf_counter() < deadline:
                sleep(0.01)
            if pending.done():
                yield index, pending.result()
        raise
    yield from ((index, pending.result()) for index, pending in waiting)


def _sample(
    engine: Engine, todo: Sequence[tuple[int, Request]], sampling: Sampling
) -> Iterator[tuple[int, Group]]:
    size = max(1, BLOCK // len(todo[0][1].seeds)) if todo else 1
    for start in range(0, len(todo), size):
        block = todo[start : start + size]
        for place, group in engine.generate([request for _, request in block], sampling):
            yield block[place][0], group


def _same_problems(record: Record, problems: Sequence[Problem]) -> None:
    """A record continued must hold verdicts on these very questions and answers."""
    for index, outcome in record.outcomes.items():
        if index < len(problems):
            now = problems[index].messages[-1].content, problems[index].answer
            if json.dumps(now, default=str) != json.dumps((outcome.question, outcome.answer), default=str):
                raise OtherRecordError(
                    f"{outcome.problem}: recorded with another question or answer than it has now"
                )


def _outcome(index: int, scored: ScoredGroup, samples: int) -> Outcome:
    group = scored.group
    if not len(group.completions) == len(scored.verdicts) == samples:
        raise EngineError(
            f"problem {group.problem.id}: {samples} completions asked, {len(group.completions)} sampled and "
            f"{len(scored.verdicts)} checked"
        )
    graded = tuple(
        Graded(
            text=completion.text,
            status=verdict.status,
            score=verdict.score,
            found=verdict.found,
            why=verdict.why,
            tokens=len(completion.token_ids),
            finish=completion.finish,
        )
        for completion, verdict in zip(group.completions, scored.verdicts, strict=True)
    )
    return _about(index, group.problem, graded)


def _too_long(
    index: int, problem: Problem, length: int, max_tokens: int, context: int, samples: int
) -> Outcome:
    why = f"not asked: a prompt of {length} tokens and {max_tokens} to write exceed the context of {context}"
    lost = Graded(text="", status="wrong", score=0.0, found=None, why=why, tokens=0, finish="length")
    return _about(index, problem, (lost,) * samples)


def _about(index: int, problem: Problem, graded: tuple[Graded, ...]) -> Outcome:
    question = problem.messages[-1].content
    return Outcome(
        index=index, problem=problem.id, question=question, answer=problem.answer, completions=graded
    )


def _check(source: Source, sampling: Sampling, samples: int, context: int, limit: int | None) -> None:
    if samples < 1 or (limit is not None and limit < 1):
        raise RecipeError(f"samples = {samples}, limit = {limit}: both must be 1 or more")
    if samples > 1 and sampling.temperature == 0:
        raise RecipeError(
            f"{samples} samples at temperature 0 would be {samples} times the same completion; "
            "use 1 sample, or a temperature such as 0.6"
        )
    if sampling.max_tokens >= context:
        raise ModelError(
            f"max_tokens = {sampling.max_tokens} leaves no room for a prompt in the model's context of "
            f"{context}; set it to {max(1, context // 2)} or so"
        )
    if source.size is None and limit is None:
        raise ProblemsError(f"{source.name} is endless: say how many problems with --limit")


def _problems(source: Source, limit: int | None) -> list[Problem]:
    sizes = [size for size in (source.size, limit) if size is not None]
    return [source[index] for index in range(min(sizes))]


def _warnings(what: Measurement, n: int, too_long: int) -> list[str]:
    found = []
    if what.expected is not None and n != what.expected:
        why = "limit" if what.limit == n else "another version of the data"
        found.append(f"{n} problems, not the usual {what.expected} ({why})")
    if what.sandbox.startswith("tier none"):
        found.append("programs ran without isolation: they could reach all that their user can")
    if too_long:
        found.append(f"{too_long} of {n} prompts do not fit the context and count as cut and wrong")
    return found


def _hash(prompts: Sequence[Sequence[int]]) -> str:
    return sha256(json.dumps([list(ids) for ids in prompts]).encode()).hexdigest()


def _versions() -> Mapping[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a package"
    return found
