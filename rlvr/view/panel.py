"""The picture of a running run on a terminal: header, numbers with their course, evaluations, alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rlvr.runs.metrics import METRICS, alarms, unhealthy
from rlvr.runs.reader import Row, RunStatus
from rlvr.runs.trends import hacking
from rlvr.view import lines
from rlvr.view.timeline import shares

_SHOWN: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("reward", "reward/mean", lines.decimal),
    ("right", "verify/right_share", lines.share),
    ("length, tokens", "rollout/length_mean_tokens", lines.whole),
    ("truncated", "rollout/truncated_share", lines.share),
    ("entropy, nats", "policy/entropy_nats", lines.decimal),
    ("speed", "rollout/tokens_per_s", lines.rate),
    ("step time", "time/step_s", lines.seconds),
    ("MFU", "time/step_mfu_share", lines.fine_share),
)
_STYLES = {"running": "cyan", "finished": "green", "stopped": "yellow", "dead": "red", "damaged": "red"}


def panel(name: str, status: RunStatus, rows: Sequence[Row], now: float) -> RenderableType:
    """Everything that a person wants to know at a glance; `now` in seconds since 1970."""
    train = [r for r in rows if r.kind == "train"]
    parts: list[RenderableType] = [_header(status, train, now)]
    if train:
        parts.append(_numbers(train))
        parts += [Text(f"time  {words}", style="dim")] if (words := shares(train[-1])) else []
    elif warm := [r for r in rows if r.kind == "warm_start"]:
        total = status.total if status.phase == "warm_start" else None
        parts.append(Text(lines.warm_start_line(warm[-1], total)))
        parts.append(
            Text(lines.sparkline([r.metrics.get("warm_start/loss_nats") for r in warm]), style="cyan")
        )
    evals = [r for r in rows if r.kind == "eval"]
    if evals:
        parts.append(_evals(evals))
    parts += [Text(f"! {lines.printable(words)}", style="yellow") for words in _newest_alarms(rows)]
    style = _STYLES[status.state]
    return Panel(
        Group(*parts), title=Text(lines.printable(name), style="bold"), title_align="left", border_style=style
    )


def _header(status: RunStatus, train: Sequence[Row], now: float) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    text = Text(f"step {status.step}/{status.steps}", style="bold")
    bar = ProgressBar(total=max(1, status.steps), completed=status.step, width=24)
    what = Text(status.state if status.state != "running" else "")
    if status.state == "running":
        left = lines.eta_s(train, status.steps) if train else None
        what.append(f"ETA {lines.clock(left)}  " if left is not None else "")
        what.append(f"{status.phase} {lines.clock(now - status.since)}" if status.phase else "")
        what.append(f"  {status.done}/{status.total}" if status.done is not None and status.total else "")
    elif status.outcome and status.outcome != status.state:
        what.append(f": {lines.printable(status.outcome)}")
    grid.add_row(text, bar, what)
    return grid


def _numbers(train: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title, justify in (("", "left"), ("first", "right"), ("now", "right"), ("course", "left")):
        table.add_column(title, justify="right" if justify == "right" else "left", no_wrap=True)
    for label, name, form in _SHOWN:
        course = [r.metrics.get(name) for r in train]
        if any(name in r.metrics for r in train):
            is_outside = bool(unhealthy({name: course[-1]}))
            now = Text(form(course[-1]) + "!" * is_outside, style="bold yellow" if is_outside else "bold")
            table.add_row(
                label, form(course[0]), now, Text(lines.sparkline(course), style=_colour(name, course))
            )
    return table


def _colour(name: str, course: Sequence[float | None]) -> str:
    """Green where it went the good way, red where the bad way, else cyan."""
    known = [v for v in course if v is not None]
    better = METRICS[name].better
    if better == "neither" or len(known) < 2 or known[0] == known[-1]:
        return "cyan"
    return "green" if (known[-1] > known[0]) == (better == "up") else "red"


def _evals(evals: Sequence[Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("held out", "first", "", "latest", ""):
        table.add_column(title, no_wrap=True)
    for name in lines.benchmarks(evals):
        mine = [r for r in evals if any(n.startswith(f"eval/{name}/") for n in r.metrics)]
        ends = [
            (f"{lines.fine_share(_accuracy(r, name))}{lines.interval(r, name)}", f"step {r.step}")
            for r in (mine[0], mine[-1])
        ]
        table.add_row(
            Text(lines.printable(name)), ends[0][0], Text(ends[0][1], style="dim"), *_latest(ends[1])
        )
    return table


def _latest(end: tuple[str, str]) -> tuple[Text, Text]:
    return Text(end[0], style="bold"), Text(end[1], style="dim")


def _accuracy(row: Row, benchmark: str) -> float | None:
    found = row.metrics.get(f"eval/{benchmark}/avg_at_k")
    return row.metrics.get(f"eval/{benchmark}/greedy") if found is None else found


def _newest_alarms(rows: Sequence[Row]) -> list[str]:
    """Alarms of the newest row of each kind."""
    newest = {row.kind: row for row in rows}
    return [*(words for row in newest.values() for words in alarms(row.metrics)), *hacking(rows)]
