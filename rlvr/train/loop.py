"""The loop.  Sample, verify, compare, update, publish; evaluate and save when due; until `run.steps`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from statistics import fmean
from typing import TypeAlias

import torch

from rlvr import build
from rlvr.algo.pivots import usage
from rlvr.errors import Interrupted, RankError, RlvrError, RunError, TrainingError
from rlvr.policy import optim
from rlvr.policy.packing import misfit
from rlvr.policy.parallel import World, is_broken
from rlvr.problems.sampler import Sampler
from rlvr.runs.accounting import tally
from rlvr.runs.alarms import starving
from rlvr.runs.reader import read_metrics
from rlvr.train import publish, reference, start
from rlvr.train.audit import audited, auditor_of
from rlvr.train.carrying import carry_of
from rlvr.train.credit import StepCredit, ends_of
from rlvr.train.feed import Feed
from rlvr.train.held_out import evaluate_due
from rlvr.train.learn import learn
from rlvr.train.run import Run, State
from rlvr.train.stream import Stream, Taken
from rlvr.train.warm_start import warm_start
from rlvr.types import Sampling, StepReport
from rlvr.verify.audit import Auditor
from rlvr.verify.compose import Scorer

SKIPPED_LIMIT = 3
"""Updates left out in a row before the run stops."""


Around: TypeAlias = Callable[[int], AbstractContextManager[object]]
"""Makes what a step, counted from 1, happens within."""


def train(run: Run, state: State, around: Around = nullcontext) -> None:
    """Go on from `state` to the last step, each `around`.

    On a signal or an error the last finished step is saved before it is passed on.  Several ranks hear a
    signal where all of them can: while they sample, and between two steps.
    """
    try:
        run.packs = _packs(run)
        with run.signals.deferred() if run.world.count > 1 else nullcontext():
            if state.phase == "warm":
                warm_start(run, state)
            with run.signals.deferred():
                optimizer = _optimizer(run)
                state.phase = "step"
                run.use("step", [optimizer])
            _steps(run, state, around)
    except Interrupted as stop:
        _keep(run, state)
        run.record.finish(f"stopped by signal {stop.signal_number}")
        raise
    except RlvrError as raised:
        error = run.world.agreed(raised)
        if not isinstance(error, RunError | RankError):
            _keep(run, state)
        run.record.finish(str(error))
        raise error from raised.__cause__
    except torch.OutOfMemoryError as error:
        run.record.finish("out of GPU memory")
        raise TrainingError(
            f"out of GPU memory after step {state.step}: lower optim.micro_batch_tokens "
            f"({run.recipe.optim.micro_batch_tokens}) or sampling.batch_size "
            f"({run.recipe.sampling.batch_size}), or set model.gradient_checkpointing: true."
        ) from error
    except Exception as error:  # passed on: the record only says why the run ended
        if is_broken(error):
            run.part(error)
        run.record.finish(f"internal error: {type(error).__name__}: {error}")
        raise
    run.record.finish("finished", _why_early(run, state))


def _packs(run: Run) -> bool:
    """Whether the policy trains packed; a model that cannot is noted."""
    if run.recipe.optim.packing == "off":
        return False
    why = misfit(run.whole)
    if why is not None:
        run.record.note(f"optim.packing auto -> off, padded and sorted by length: {why}")
    return why is None


def _measured(run: Run) -> set[tuple[int, str]]:
    """Steps and benchmarks with a number."""
    return {
        (r.step, n.removeprefix("eval/").rpartition("/")[0])
        for r in read_metrics(run.folder.path)
        if r.kind == "eval"
        for n in r.metrics
    }


def _steps(run: Run, state: State, around: Around) -> None:
    recipe = run.recipe
    reference.take_up(run, state)
    measured = run.world.lead(lambda: _measured(run))
    with (
        build.scorer(
            recipe.verifier,
            run.workers,
            run.base_dir,
            overlong=recipe.algorithm.overlong,
            overlong_buffer=recipe.algorithm.overlong_buffer,
            max_tokens=recipe.sampling.max_tokens,
            sandbox=run.sandbox,
            is_separate=recipe.algorithm.baseline == "gdpo",
        ) as scorer,
        auditor_of(recipe.audit, run.workers, run.base_dir, sandbox=run.sandbox) as auditor,
    ):
        sampling = Sampling(
            max_tokens=recipe.sampling.max_tokens,
            temperature=recipe.sampling.temperature,
            stop_ids=run.renderer.stop_ids,
        )
        # Ahead of the trainer it is another thread that draws.
        drawing = run.world.apart() if recipe.sampling.max_lag else run.world
        stream = Stream(
            sampler=Sampler(run.source, recipe.run.seed),
            renderer=run.renderer,
            engine=run.engine,
            scorer=scorer,
            sampling=sampling,
            credit=_step_credit(run, scorer, sampling, drawing),
            group_size=recipe.sampling.group_size,
            drop_zero_variance=recipe.algorithm.zero_variance == "drop",
            oversample=recipe.algorithm.oversample,
            seed=recipe.run.seed,
            mask_truncated=recipe.algorithm.overlong == "mask",
            practice=run.practice,
            greedy=recipe.algorithm.baseline == "greedy",
            auditor=auditor,
            world=drawing,
            carry=carry_of(run, state.carried, scorer, sampling, auditor),
            last=recipe.run.steps - 1,
            meter=None if recipe.sampling.max_lag else run.clock.meter,
        )
        publish.prove_engine(run, state.step)
        feed = Feed(
            stream,
            count=recipe.optim.problems_per_step,
            step=state.step,
            last=recipe.run.steps,
            cursor=state.cursor,
            max_lag=recipe.sampling.max_lag,
            memory=state.memory,
        )
        with closing(feed):
            is_decided = False
            run.clock.lap()  # the time of a step begins here
            while True:
                run.world.attempt(run.signals.hear if run.world.count > 1 else _nothing)
                is_decided = is_decided or run.world.lead(lambda: start.is_decided(run))
                last = _last(run, state)
                if _due(state.step, recipe.run.save_every, last):
                    run.save(state)
                if _due(state.step, recipe.eval.every, last):
                    with run.clock.phase("wait"), feed.paused(), run.clock.phase("eval"):
                        evaluate_due(run, state.step, measured)
                if state.step >= last:
                    return
                feed.publish(state.step)
                with around(state.step + 1):
                    _step(run, state, feed, auditor)


def _step_credit(run: Run, scorer: Scorer, sampling: Sampling, world: World) -> StepCredit | None:
    algorithm = run.recipe.algorithm
    if algorithm.credit not in ("step_mc", "segment_mc"):
        return None
    return StepCredit(
        engine=run.engine,
        scorer=scorer,
        sampling=sampling,
        decode=run.renderer.decode,
        ends=ends_of(algorithm, run.renderer.decode),
        continuations=algorithm.credit_continuations,
        tokens_share=algorithm.credit_tokens_share,
        mask_truncated=algorithm.overlong == "mask",
        seed=run.recipe.run.seed,
        world=world,
    )


def _step(run: Run, state: State, feed: Feed, auditor: Auditor | None) -> None:
    """One step: all of it happens, or nothing has.

    Its time begins where that of the step before ended: a checkpoint or an evaluation between them is part
    of it.
    """
    with run.clock.phase("wait" if run.recipe.sampling.max_lag else "other"):
        taken = feed.take(state.step, state.cursor, run.record.phase, state.memory)
        ahead = _beside(run, taken)
    with run.signals.deferred():
        run.record.phase("update")
        if not run.recipe.sampling.max_lag:
            run.engine.rest()
        metrics = taken.metrics | ahead | _lag(taken, state.step) | _pivots(run, taken)
        metrics |= learn(run, state, taken)
        groups = audited(run, auditor, taken)
        state.step, state.cursor, state.memory = state.step + 1, taken.cursor, taken.memory
        state.carried = taken.carried
        numbers = {**tally(taken.groups), **metrics}
        state.tokens += int(numbers["rollout/tokens"] + numbers.get("credit/tokens", 0.0))
        metrics |= _beside_start(run, state.step, numbers)
        run.record.phase("sync")
        try:
            with run.clock.phase("sync"):
                publish.load(run, state.step)
        finally:  # the step is done: should the engine not take the weights, it is not done twice
            metrics |= run.pace.metrics(run.clock.lap(), taken.groups, taken.kept)
            run.record.step(state.step, groups, StepReport(metrics=metrics))
    reference.refresh(run, state)
    if state.skipped_in_a_row >= SKIPPED_LIMIT:
        raise TrainingError(
            f"step {state.step}: the gradient was not finite in {SKIPPED_LIMIT} steps in a row, so the "
            "weights did not move. Lower optim.learning_rate, or use model.dtype float32; the weights of the "
            "last good step are saved."
        )


def _nothing() -> None:
    """What one rank alone hears at any time."""


def _beside(run: Run, taken: Taken) -> dict[str, float]:
    """In turns, the time of drawing is the trainer's own; ahead, it passed beside what the trainer did."""
    if not run.recipe.sampling.max_lag:
        run.clock.split(taken.lap)
        return {}
    return {f"time/ahead_{name}_s": taken.lap.seconds[name] for name in ("sample", "verify", "credit")}


def _pivots(run: Run, taken: Taken) -> dict[str, float]:
    return usage(run.lexicon, [c for g in taken.groups for c in g.group.completions])


def _beside_start(run: Run, step: int, numbers: dict[str, float]) -> dict[str, float]:
    """The numbers of finished step `step` beside the run's start; a guard that wakes or rests is noted."""
    was_armed = run.course.armed
    beside = run.course.follow(numbers)
    if run.course.armed != was_armed and run.recipe.algorithm.entropy_when == "alarm":
        guard = f"step {step}: the guard `algorithm.entropy = {run.recipe.algorithm.entropy}`"
        what = (
            f"arms: {starving({**numbers, **beside})}" if run.course.armed else "rests: both have recovered"
        )
        run.record.note(f"{guard} {what}")
    return beside


def _lag(taken: Taken, step: int) -> dict[str, float]:
    """How many versions behind the trainer's weights the tokens of `taken` were drawn."""
    lags = [step - c.version[0] for g in taken.groups for c in g.group.completions]
    mixed = [c.version[0] != c.version[1] for g in taken.groups for c in g.group.completions]
    return {
        "rollout/lag_mean": fmean(lags),
        "rollout/lag_max": float(max(lags)),
        "rollout/mixed_share": fmean(mixed),
    }


def _optimizer(run: Run) -> torch.optim.Optimizer:
    spec = run.recipe.optim
    return optim.adamw(
        run.model.parameters(),
        learning_rate=spec.learning_rate,
        betas=spec.betas,
        epsilon=spec.epsilon,
        weight_decay=spec.weight_decay,
        offload=spec.offload,
    )


def _keep(run: Run, state: State) -> None:
    """Save where the run stands, if it stands between two steps of a phase."""
    if run.optimizers and (state.phase == "step" or state.warm_step):
        run.save(state)


def _last(run: Run, state: State) -> int:
    """The step that ends the run, as far as is known."""
    budget = run.recipe.run.tokens
    return state.step if budget is not None and state.tokens >= budget else run.recipe.run.steps


def _why_early(run: Run, state: State) -> str:
    """Words for a run that ends before `run.steps`; none for one that does not."""
    if state.step >= run.recipe.run.steps:
        return ""
    return f"{state.tokens} tokens sampled of run.tokens = {run.recipe.run.tokens}"


def _due(step: int, every: int, last: int) -> bool:
    return step in (0, last) or (every > 0 and step % every == 0)
