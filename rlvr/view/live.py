"""Watching a run: polls its folder and shows a rich view on a terminal, plain lines where piped.

It reads files only, so it works from another process, another machine, and on runs long over.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live

from rlvr.errors import RunError
from rlvr.runs.folder import RunFolder
from rlvr.runs.metrics import alarms
from rlvr.runs.reader import Row, RunStatus, Tail, read_manifest, read_metrics, read_status
from rlvr.runs.trends import hacking
from rlvr.view import lines
from rlvr.view.panel import panel

_POLL_S = 0.25


@dataclass(slots=True)
class Watched:
    """What is known of a run so far."""

    path: Path
    """Its folder."""
    tail: Tail
    """Where we are in its metrics."""
    rows: list[Row] = field(default_factory=list)
    """All rows read."""
    shown_until: float = 0.0
    """Time of the newest row shown: after a resume, older ones are not repeated."""
    recent: deque[Row] = field(default_factory=lambda: deque(maxlen=lines.ETA_WINDOW))
    """Newest training rows shown, for the time left."""
    looked: bool = False
    """Whether its state was asked for before."""
    alarms_said: set[str] = field(default_factory=set)
    """Alarms that a plain view has printed."""

    def poll(self) -> list[Row]:
        """Read on; returns the rows not seen before."""
        new = self.tail.poll()
        if self.tail.was_replaced:
            self.rows = []
        self.rows += new
        fresh = [row for row in new if row.time > self.shown_until]
        if fresh:
            self.shown_until = fresh[-1].time
        return fresh


def watch(path: Path, *, stop: threading.Event | None = None, console: Console | None = None) -> None:
    """Show the run at `path` until `stop` is set; without `stop`, until the run is over.

    Earlier parts of a resumed run are not printed again as plain lines.
    """
    console = console or Console()
    watched = Watched(path, Tail(RunFolder(path).metrics))
    if console.is_interactive and console.file.isatty():
        _watch_live(watched, stop, console)
    else:
        _watch_plain(watched, stop, console)


def _watch_live(watched: Watched, stop: threading.Event | None, console: Console) -> None:
    name = watched.path.resolve().name
    with Live(console=console, auto_refresh=False) as live:
        is_last = False
        while not is_last:
            is_last = _is_last_look(watched, stop)
            watched.poll()
            status = read_status(watched.path, watched.rows)
            live.update(panel(name, status, watched.rows, time.time()), refresh=True)


def _watch_plain(watched: Watched, stop: threading.Event | None, console: Console) -> None:
    _skip_what_was_resumed(watched, console)
    status = read_status(watched.path, watched.rows)
    is_last = False
    while not is_last:
        is_last = _is_last_look(watched, stop)
        fresh = watched.poll()
        status = read_status(watched.path, watched.rows)
        for row in fresh:
            for text in _texts(watched, row, status):
                console.out(text, highlight=False)
        for text in _alarms(watched, hacking(watched.rows) if fresh else ()):
            console.out(text, highlight=False)
    # A trainer that stops says itself why: its terminal need not read it twice.
    if _is_over(status) and not (stop is not None and status.state == "stopped"):
        console.out(_ending(watched, status), highlight=False)


def _is_last_look(watched: Watched, stop: threading.Event | None) -> bool:
    """Waits a moment between looks.  Asked before reading: what is written until the end is still shown."""
    if stop is not None:
        return stop.wait(_POLL_S if watched.rows else _POLL_S / 5)
    if watched.looked:
        time.sleep(_POLL_S)
    watched.looked = True
    return _is_over(read_status(watched.path, watched.rows))


def _skip_what_was_resumed(watched: Watched, console: Console) -> None:
    """Neither the lines nor the alarms from before the newest resume are said again."""
    try:
        resumes = read_manifest(watched.path).resumes
    except RunError:
        return
    if resumes:
        watched.shown_until = resumes[-1].time
        before = [row for row in read_metrics(watched.path) if row.time <= watched.shown_until]
        for row in before:
            _alarms(watched, alarms(row.metrics))
        _alarms(watched, hacking(before))
        console.out(f"resumed after step {resumes[-1].step}", highlight=False)


def _texts(watched: Watched, row: Row, status: RunStatus) -> list[str]:
    """The plain lines of a row, with each alarm said once."""
    if row.kind == "train":
        watched.recent.append(row)
        texts = [lines.step_line(row, status.steps, lines.eta_s(watched.recent, status.steps))]
    elif row.kind == "eval":
        texts = lines.eval_lines(row)
    else:
        texts = [lines.warm_start_line(row, status.total if status.phase == "warm_start" else None)]
    return [lines.printable(text) for text in texts] + _alarms(watched, alarms(row.metrics))


def _alarms(watched: Watched, said: Iterable[str]) -> list[str]:
    """The plain lines of what was not said before."""
    texts = []
    for alarm in said:
        if lines.alarm_kind(alarm) not in watched.alarms_said:
            watched.alarms_said.add(lines.alarm_kind(alarm))
            texts.append(lines.printable(f"alarm: {alarm}"))
    return texts


def _is_over(status: RunStatus) -> bool:
    return status.state != "running"


def _ending(watched: Watched, status: RunStatus) -> str:
    where = f"after step {status.step}/{status.steps}"
    if status.state == "finished":
        why = f", {status.outcome}" if status.outcome != "finished" else ""
        return lines.printable(f"finished {where}{why}: {watched.path}")
    if status.state == "stopped":
        return lines.printable(f"stopped {where}: {status.outcome}")
    if status.state == "damaged":
        return f"{watched.path}: its manifest.json cannot be read"
    return f"dead {where}: its process is gone; continue with `rlvr train --resume {watched.path}`"
