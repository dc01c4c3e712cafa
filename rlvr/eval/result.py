"""What an evaluation found: outcomes become a `Result`, and a result becomes JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, get_args

from rlvr.eval.record import Graded, Outcome
from rlvr.eval.stats import Interval, avg_at_k, interval, maj_at_k, pass_at_k, rerun_se
from rlvr.types import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark, one model, one way of sampling.

    Every share has the same denominator, n x k: what was cut, unanswered or not checked counts as not right.
    """

    benchmark: str
    """Its name."""
    n: int
    """Problems."""
    k: int
    """Completions a problem."""
    avg_at_k: float
    """Share of right completions (pass@1)."""
    interval: Interval | None
    """95 % interval of `avg_at_k`, clustered over problems; None without outcomes."""
    rerun_se: float | None
    """Standard deviation of `avg_at_k` if only the sampling is repeated; None for k = 1."""
    mean_score: float
    """Mean of the verifier's scores, which may be partial."""
    pass_at_k: Mapping[int, float]
    """Unbiased, for k = 1, 2, 4, ... up to the completions drawn."""
    maj_at_k: float | None
    """Share of problems whose most frequent answer is right; None where the verifier names no answer."""
    shares: Mapping[str, float]
    """Of n x k: right, wrong, no_answer, timeout and error add up to 1; `truncated` overlaps with them."""
    tokens_mean: float
    """Mean length of a completion."""
    seconds: float
    """Wall time of this session, resumed outcomes not counted."""
    complete: bool
    """Whether every problem has its outcome; else no number here may be quoted."""
    warnings: tuple[str, ...]
    """What a reader must know before quoting a number."""
    evidence: Mapping[str, Any]
    """What the numbers rest on: data, prompt, verifier, sampling, seed, model, versions."""

    def to_json(self) -> dict[str, Any]:
        """JSON-like copy."""
        found = asdict(self)
        found["pass_at_k"] = {str(k): value for k, value in self.pass_at_k.items()}
        return found


def summarise(
    benchmark: str,
    outcomes: Sequence[Outcome],
    *,
    n: int,
    k: int,
    seconds: float,
    warnings: Sequence[str],
    evidence: Mapping[str, Any],
) -> Result:
    """The numbers of the outcomes; `n` is the number of problems there should be."""
    rights = [sum(g.status == "right" for g in outcome.completions) for outcome in outcomes]
    shares = [right / k for right in rights]
    graded = [g for outcome in outcomes for g in outcome.completions]
    powers = [1 << i for i in range(k.bit_length())]
    return Result(
        benchmark=benchmark,
        n=n,
        k=k,
        avg_at_k=avg_at_k(rights, k) if outcomes else 0.0,
        interval=interval(shares) if outcomes else None,
        rerun_se=rerun_se(shares, k) if outcomes else None,
        mean_score=_mean([g.score for g in graded]),
        pass_at_k={j: _mean([pass_at_k(k, right, j) for right in rights]) for j in powers},
        maj_at_k=_majority(outcomes, graded),
        shares=_shares(graded),
        tokens_mean=_mean([g.tokens for g in graded]),
        seconds=seconds,
        complete=len(outcomes) == n,
        warnings=tuple(warnings),
        evidence=dict(evidence),
    )


def _shares(graded: Sequence[Graded]) -> dict[str, float]:
    shares = {status: _mean([g.status == status for g in graded]) for status in get_args(Status)}
    return {**shares, "truncated": _mean([g.finish == "length" for g in graded])}


def _majority(outcomes: Sequence[Outcome], graded: Sequence[Graded]) -> float | None:
    # A verdict without the answer it judged cannot vote: better no number than a wrong one.
    if not outcomes or any(g.found is None and g.status == "right" for g in graded):
        return None
    return fmean(
        maj_at_k([g.found for g in o.completions], [g.status == "right" for g in o.completions])
        for o in outcomes
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
