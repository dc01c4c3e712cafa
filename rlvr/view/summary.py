"""A run on one screen: what it was, before and after, accounting, time, alarms, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import fmean

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import Manifest
from rlvr.runs.metrics import metric, rung, unhealthy
from rlvr.runs.reader import (
    Row,
    RunStatus,
    list_runs,
    read_manifest,
    read_metrics,
    read_rollouts,
    read_status,
)
from rlvr.runs.rollouts import Rollout
from rlvr.runs.trends import hacking
from rlvr.view import lines, meaning
from rlvr.view.timeline import timeline

_TRAIN: tuple[tuple[str, str, Callable[[float | None], str]], ...] = (
    ("reward", "reward/mean", lines.decimal),
    ("right", "verify/right_share", lines.fine_share),
    ("length, tokens", "rollout/length_mean_tokens", lines.whole),
    ("truncated", "rollout/truncated_share", lines.share),
    ("entropy, nats", "policy/entropy_nats", lines.decimal),
    ("right for the audit", "audit/right_share", lines.fine_share),
    ("right, not for the audit", "audit/false_positive_share", lines.fine_share),
)
_ACCOUNTS = ("issued", "scored", "no_answer", "timeout", "error", "truncated")
_ENDS = 5


def show(path: Path) -> RenderableType:
    """The summary of the run at `path`; raises RunError where it is none."""
    manifest, status, rows = read_manifest(path), read_status(path), read_metrics(path)
    train = [r for r in rows if r.kind == "train"]
    parts: list[RenderableType] = [_essentials(path, manifest, status)]
    if train or lines.benchmarks(rows):
        parts += [_title("before -> after"), _before_after(train, rows)]
    if train:
        parts += [_title("accounting"), _accounting(train), _title("time"), timeline(train)]
    if said := _last_alarms(rows):
        parts += [_title("alarms"), *(_alarm(words, name) for words, name in said.items())]
    if outside := _outside(rows):
        parts += [_title(f"outside the healthy range, mean of the last {_ENDS} steps"), *outside]
    if said or outside:
        parts.append(Text("  more of a number: rlvr runs explain METRIC", style="dim"))
    return Group(*parts, _title("checkpoints"), Text(f"  {_checkpoints(path)}"))


def completions(path: Path, count: int, step: int | None = None) -> RenderableType:
    """`count` completions of `step` (the newest by default), right and wrong ones in turn."""
    rows = read_rollouts(path, step)
    parts: list[RenderableType] = [
        _title(f"completions of step {rows[0].step}" if rows else "no completions")
    ]
    return Group(*parts, *(_completion(row) for row in _mixed(rows)[:count]))


def disagreements(path: Path, count: int, step: int | None = None) -> RenderableType:
    """The newest `count` completions, or those of `step`, on which training and audit disagree."""
    found = list(islice(_disputed(path, step), count))
    if not found:
        where = f"step {step}" if step is not None else "any step"
        return Text(f"no disagreement between training and audit in {where} of {path}; is there an `audit`?")
    return Group(_title("disagreements of training and audit"), *(_completion(row) for row in found))


def _disputed(path: Path, step: int | None) -> Iterator[Rollout]:
    """Newest first; only steps are read whose numbers say that there is something to find."""
    names = ("audit/false_positive_share", "audit/false_negative_share")
    steps = [r.step for r in read_metrics(path) if any(r.metrics.get(name) for name in names)]
    for at in [step] if step is not None else reversed(steps):
        yield from (row for row in read_rollouts(path, at) if row.is_disputed)


def _completion(row: Rollout) -> RenderableType:
    """Question, completion, verdict, and what the audit says where it was asked."""
    verdict = f"{row.status}, score {row.score:.2f}, reward {lines.decimal(row.reward)}"
    style = "green" if row.status == "right" else "red"
    parts: list[RenderableType] = [
        Text(f"\n{lines.printable(row.question)}", style="bold"),
        Padding(Text(lines.printable(row.completion)), (0, 0, 0, 2)),
        Text(lines.single(f"  -> {verdict}; found {_found(row)}, answer {row.answer}"), style=style),
    ]
    if row.why:
        parts.append(Text(lines.single(f"     {row.why}"), style="dim"))
    if states := json.loads(row.states):
        values = ", ".join(f"{value:.2f} after {tokens} tokens" for tokens, value in states)
        parts.append(Text(f"     worth on the way: {values}", style="dim"))
    if row.audit_status is not None:
        style = "yellow" if row.is_disputed else "dim"
        said = f"     audit: {row.audit_status}" + (f", {row.audit_why}" if row.audit_why else "")
        parts.append(Text(lines.single(said), style=style))
    return Group(*parts)


def _found(row: Rollout) -> str:
    return "nothing" if row.found is None else lines.single(row.found)


def runs_table(parent: Path) -> RenderableType:
    """All runs in a folder, one a line."""
    runs = list_runs(parent)
    if not runs:
        return Text(f"{parent} holds no runs yet: start one with `rlvr train RECIPE`")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("run", "state", "step", "reward", "right", "held out"):
        table.add_column(title, overflow="fold")
    for run in runs:
        evals = ", ".join(f"{name} {lines.fine_share(value)}" for name, value in run.evals.items())
        progress = f"{run.step}/{run.steps}"
        cells = (run.path.name, run.state, progress, lines.decimal(run.reward), lines.share(run.right), evals)
        table.add_row(*(Text(lines.printable(cell)) for cell in cells))
    return table


def _essentials(path: Path, manifest: Manifest, status: RunStatus) -> RenderableType:
    state = f"{status.state}, step {status.step}/{status.steps}"
    if status.outcome and status.outcome != status.state:
        state += f": {status.outcome}"
    code = manifest.packages.get("rlvr", "")
    if manifest.git:
        code += f" {manifest.git.commit[:12]}{' (changed)' if manifest.git.dirty else ''}"
    facts = [
        ("run", str(path)),
        ("state", state),
        ("started", f"{_when(manifest.started)} on {manifest.host}: {manifest.command}"),
        ("resumed", "; ".join(f"{_when(r.time)} after step {r.step}" for r in manifest.resumes)),
        ("seed", str(manifest.seed)),
        ("machine", ", ".join([f"{manifest.cpus} cores", *manifest.gpus])),
        ("code", code.strip()),
        (
            "packages",
            ", ".join(f"{k} {v}" for k, v in manifest.packages.items() if k in ("torch", "transformers")),
        ),
        ("recipe", manifest.recipe_sha256[:12]),
        ("model", manifest.model_hash[:12]),
        ("data", manifest.data_hash[:12]),
        ("sandbox", manifest.sandbox),
        ("start", _start(manifest)),
        *(("note", note) for note in manifest.fallbacks),
    ]
    return _pairs((label, value) for label, value in facts if value)


def _start(manifest: Manifest) -> str:
    """What the first completions were like; empty while nothing is known."""
    numbers = {name: value for name, value in manifest.start.items() if isinstance(value, float)}
    if not numbers:
        return ""
    low, high = (100 * numbers[end] for end in ("ci_low", "ci_high"))
    told = {"zero_variance": "of groups uniform", "truncated": "cut", "no_answer": "without an answer"}
    if numbers["error_share"]:
        told["error"] = "of checks failed"
    shares = ", ".join(f"{lines.share(numbers[f'{name}_share'])} {words}" for name, words in told.items())
    return (
        f"{numbers['completions']:.0f} completions of {numbers['problems']:.0f} problems: "
        f"{lines.fine_share(numbers['right_share'])} right [{low:.1f}, {high:.1f}], {shares}; "
        f"{manifest.start.get('verdict', '')}"
    )


def _before_after(train: Sequence[Row], rows: Sequence[Row]) -> Table:
    """Held-out: first and last measurement.  Training: mean of the first and the last few steps."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("", overflow="fold")
    for title in ("before", "after"):
        table.add_column(title, justify="right")
    for name in lines.benchmarks(rows):
        mine = [r for r in rows if any(n.startswith(f"eval/{name}/") for n in r.metrics)]
        for what, label in (("avg_at_k", "right"), ("greedy", "greedy")):
            known = [r for r in mine if r.metrics.get(f"eval/{name}/{what}") is not None]
            if known:
                ends = (_measured(r, name, what) for r in (known[0], known[-1]))
                table.add_row(Text(lines.printable(f"held out, {name}: {label}")), *ends)
    few = min(_ENDS, max(1, len(train) // 2))
    for label, shown, form in _TRAIN:
        first, last = _mean(train[:few], shown), _mean(train[-few:], shown)
        if first is not None or last is not None:
            table.add_row(f"training: {label}", form(first), form(last))
    return table


def _measured(row: Row, benchmark: str, what: str) -> str:
    width = lines.interval(row, benchmark) if what == "avg_at_k" else ""
    return f"{lines.fine_share(row.metrics[f'eval/{benchmark}/{what}'])}{width}"


def _accounting(train: Sequence[Row]) -> RenderableType:
    """issued = scored + no answer + timeout + error; truncated counted apart."""
    n = {what: sum(r.metrics.get(f"verify/{what}") or 0.0 for r in train) for what in _ACCOUNTS}
    closed = n["issued"] == n["scored"] + n["no_answer"] + n["timeout"] + n["error"]
    text = Text(
        f"  {n['issued']:,.0f} issued = {n['scored']:,.0f} scored + {n['no_answer']:,.0f} no answer + "
        f"{n['timeout']:,.0f} timeout + {n['error']:,.0f} error; {n['truncated']:,.0f} of them truncated"
    )
    if not closed:
        text.append("\n  ! this does not add up", style="red")
    return text


def _last_alarms(rows: Sequence[Row]) -> dict[str, str]:
    """Alarms of the newest steps and evaluations, each kind once, the newest wording; with metrics."""
    said = {
        lines.alarm_kind(words): (words, name)
        for row in _newest(rows)
        for words, name in rung(row.metrics).items()
    }
    return dict(said.values()) | hacking(rows)


def _alarm(words: str, name: str) -> Text:
    told = Text(f"  ! {lines.printable(words)}", style="yellow")
    return told.append(lines.printable(f"\n    {name}: {meaning.healthy(metric(name))}"), style="dim")


def _outside(rows: Sequence[Row]) -> list[Text]:
    """One line a number whose mean over the newest rows is not healthy."""
    newest = _newest(rows)
    names = dict.fromkeys(name for row in newest for name in row.metrics)
    means = {name: _mean(newest, name) for name in names}
    return [
        Text(lines.printable(f"  {name}  {means[name]:.3g}  healthy: {meaning.healthy(metric(name))}"))
        for name in unhealthy(means)
    ]


def _newest(rows: Sequence[Row]) -> list[Row]:
    """The last few steps and the last evaluation."""
    return [r for r in rows if r.kind == "train"][-_ENDS:] + [r for r in rows if r.kind == "eval"][-1:]


def _checkpoints(path: Path) -> str:
    place = RunFolder(path).checkpoints
    saved = sorted(p.name for p in place.glob("*") if p.is_dir() and not p.name.startswith("."))
    return f"{place}: {', '.join(saved)}" if saved else f"none yet in {place}"


def _mixed(rows: Sequence[Rollout]) -> list[Rollout]:
    """One completion a problem at a time, right ones and others in turn, in the order of sampling."""
    ranked = sorted(rows, key=lambda r: r.sibling)
    right = [r for r in ranked if r.status == "right"]
    other = [r for r in ranked if r.status != "right"]
    paired = [r for pair in zip(right, other, strict=False) for r in pair]
    return paired + right[len(other) :] + other[len(right) :]


def _mean(rows: Sequence[Row], metric: str) -> float | None:
    known = [v for r in rows if (v := r.metrics.get(metric)) is not None]
    return fmean(known) if known else None


def _pairs(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for label, value in facts:
        grid.add_row(Text(f"  {label}", style="dim"), Text(lines.printable(value), overflow="fold"))
    return grid


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
