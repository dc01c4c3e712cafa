"""What a number of right answers says about a model: estimates, and how far they can be trusted.

n problems, k completions each, c_i of them right.  Problems are the clusters: completions of one problem are
not independent, so intervals are over problems (arXiv:2411.00640).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, pi, sqrt, tan
from statistics import NormalDist, fmean, stdev
from typing import Literal

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % confidence interval of a share."""

    low: float
    """Lower end, >= 0."""
    high: float
    """Upper end, <= 1."""
    kind: Literal["t", "wilson"]
    """`t`: clustered over problems; `wilson`: one problem or all alike, which shows no spread."""
    standard_error: float | None
    """Clustered over problems; None for `wilson`."""


def avg_at_k(rights: Sequence[int], k: int) -> float:
    """Mean over problems of c_i / k: the chance that one completion is right (pass@1)."""
    _require(len(rights) > 0 and k > 0 and all(0 <= c <= k for c in rights), "0 <= c <= k and n, k > 0")
    return fmean(c / k for c in rights)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k completions is right, from c right ones of n drawn.

    Unbiased: 1 - C(n-c, k) / C(n, k) (arXiv:2107.03374 eq. 1).  Raises ValueError for k > n: no unbiased
    estimate exists.
    """
    _require(1 <= k <= n and 0 <= c <= n, f"pass@{k} needs 1 <= k <= n and 0 <= c <= n; n = {n}, c = {c}")
    return 1.0 - comb(n - c, k) / comb(n, k)


def maj_at_k(found: Sequence[str | None], right: Sequence[bool]) -> float:
    """Chance that the most frequent answer is right; equal votes share, no answer is a party of its own.

    Answers are equal when their text is, whitespace aside.  Where equal answers were judged unequally (a
    check ran out of time), the party counts by its share of right ones.
    """
    _require(len(found) == len(right) > 0, "one verdict an answer, and at least one")
    parties: dict[str | None, list[bool]] = defaultdict(list)
    for answer, is_right in zip(found, right, strict=True):
        parties[None if answer is None else " ".join(answer.split())].append(is_right)
    most = max(len(votes) for votes in parties.values())
    return fmean(fmean(votes) for votes in parties.values() if len(votes) == most)


def interval(shares: Sequence[float]) -> Interval:
    """95 % interval of the mean of the problems' shares c_i / k, for a new draw of problems of this kind.

    Student's t with n - 1 degrees of freedom on the clustered error sd(c_i / k) / sqrt(n), within [0, 1].
    One problem, or equal shares, would give width zero: then Wilson's with n trials, as if k were 1.
    """
    n, mean = len(shares), fmean(shares)
    if n == 1 or max(shares) == min(shares):
        low, high = wilson(mean * n, n)
        return Interval(low=low, high=high, kind="wilson", standard_error=None)
    standard_error = stdev(shares) / sqrt(n)
    half = t_quantile(0.5 + CONFIDENCE / 2, n - 1) * standard_error
    return Interval(
        low=max(0.0, mean - half), high=min(1.0, mean + half), kind="t", standard_error=standard_error
    )


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share."""
    _require(trials > 0 and 0 <= successes <= trials, "0 <= successes <= trials, trials > 0")
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share, widening = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / widening
    half = z / widening * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


def rerun_se(shares: Sequence[float], k: int) -> float | None:
    """Standard deviation of avg@k when the same problems are sampled anew; None for k = 1, which cannot tell.

    sqrt(mean p_i (1 - p_i) / (n k)), with the unbiased k / (k - 1) since p_i is itself estimated from k.
    """
    if k < 2:
        return None
    return sqrt(fmean(p * (1 - p) for p in shares) / (len(shares) * (k - 1)))


def t_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees of freedom, else Abramowitz and Stegun 26.7.5.

    For p = 0.975 the series is within 0.004 at 3 degrees of freedom and 0.001 from 4 on.
    """
    if freedom == 1:
        return tan(pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * sqrt(2 / (4 * p * (1 - p)))
    x = NormalDist().inv_cdf(p)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return float(x + sum(term / freedom**power for power, term in enumerate(terms, start=1)))


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(rule)
