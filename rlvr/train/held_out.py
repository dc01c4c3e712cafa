"""Held-out measurements of a run: each benchmark once a step, taken up where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rlvr import build
from rlvr.eval.record import OtherRecordError
from rlvr.eval.result import Result
from rlvr.eval.run import Measurement, evaluate
from rlvr.train.run import Run
from rlvr.types import Sampling


def evaluate_due(run: Run, step: int, measured: set[tuple[int, str]]) -> None:
    """Measure on every benchmark that has no number for this step yet."""
    for held_out in run.benchmarks:
        benchmark = held_out.benchmark
        if (step, benchmark.name) in measured:
            continue
        try:
            result = _measure(run, step, held_out)
        except OtherRecordError as other:  # what was asked for has changed since it was stopped half-way
            run.record.note(f"evaluation {benchmark.name} after step {step}, begun anew: {other.what}")
            result = _measure(run, step, held_out, fresh=True)
        run.record.eval(
            step,
            benchmark.name,
            {
                "avg_at_k": result.avg_at_k,
                "ci_low": result.interval.low if result.interval else float("nan"),
                "ci_high": result.interval.high if result.interval else float("nan"),
                "pass_at_k": result.pass_at_k[max(result.pass_at_k)],
                "truncated_share": result.shares["truncated"],
                "no_answer_share": result.shares["no_answer"],
                "timeout_share": result.shares["timeout"],
                "error_share": result.shares["error"],
                "length_mean_tokens": result.tokens_mean,
                "problems": float(result.n),
                "samples": float(result.k),
            },
        )
        measured.add((step, benchmark.name))


def _measure(run: Run, step: int, held_out: build.HeldOut, *, fresh: bool = False) -> Result:
    spec, benchmark = run.recipe.eval, held_out.benchmark
    sampling = Sampling(
        max_tokens=spec.max_tokens or run.recipe.sampling.max_tokens,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        stop_ids=run.renderer.stop_ids,
    )
    what = Measurement(
        benchmark=benchmark.name,
        sampling=sampling,
        samples=spec.samples,
        seed=run.recipe.run.seed,
        limit=spec.limit,
        step=step,
        verifier=benchmark.verifier,
        expected=benchmark.n,
    )
    with build.scorer([held_out.verifier], run.workers, run.base_dir, sandbox=run.sandbox) as scorer:
        return evaluate(
            replace(what, sandbox=run.sandbox.words if scorer.runs_programs else ""),
            held_out.source,
            run.renderer,
            run.engine,
            scorer,
            record_path=run.folder.eval_file(step, benchmark.name),
            progress=partial(run.record.phase, f"eval {benchmark.name}"),
            fresh=fresh,
            world=run.world,
        )
