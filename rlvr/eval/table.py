"""Results as tables for the terminal, narrow enough for 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from rlvr.eval.benchmarks import Benchmark
from rlvr.eval.result import Result

LOSSES = {"cut": "truncated", "no answer": "no_answer", "timeout": "timeout", "error": "error"}
"""Column -> share."""


def render(results: Sequence[Result]) -> Group:
    """What was scored and what was lost, in percent of n x k; an incomplete result shows no score."""
    scores = _table("n x k", "avg@k", "95 % CI", "rerun sd", "pass@k", "maj@k")
    losses = _table(*LOSSES, "tokens")
    for result in results:
        scores.add_row(result.benchmark, f"{result.n} x {result.k}", *_scores(result))
        shares = [_percent(result.shares[name]) for name in LOSSES.values()]
        losses.add_row(result.benchmark, *shares, f"{result.tokens_mean:.0f}")
    note = "percent of n x k; intervals are over problems (* Wilson's: no spread to estimate from)"
    return Group(scores, "", losses, f"[dim]{note}[/dim]")


def listing(benchmarks: Sequence[Benchmark]) -> Table:
    """The benchmarks that have a name."""
    table = _table("problems")
    table.add_column("about")
    for b in benchmarks:
        rest = f"{b.source}, prompt {b.prompt}, verifier {b.verifier}"
        table.add_row(b.name, str(b.n or "?"), f"{b.about}\n[dim]{rest}[/dim]")
    return table


def _table(*columns: str) -> Table:
    table = Table("benchmark", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _scores(result: Result) -> list[str]:
    if not result.complete or result.interval is None:
        return ["incomplete"]
    mark = "*" if result.interval.kind == "wilson" else ""
    last = max(result.pass_at_k)
    return [
        f"[bold]{_percent(result.avg_at_k)}[/bold]",
        f"{_percent(result.interval.low)}-{_percent(result.interval.high)}{mark}",
        "-" if result.rerun_se is None else _percent(result.rerun_se),
        "-" if last == 1 else f"{_percent(result.pass_at_k[last])} @{last}",
        "-" if result.maj_at_k is None or result.k == 1 else _percent(result.maj_at_k),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
