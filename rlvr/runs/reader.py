"""Reading a run folder at any time: while it is written, after a crash, from another machine."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from rlvr.errors import RunError, near_miss
from rlvr.runs import manifest as manifests
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import Manifest
from rlvr.runs.rollouts import Rollout, from_parquet

State = Literal["running", "finished", "stopped", "dead", "damaged"]
_REMOTE_SILENCE_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of metrics.jsonl."""

    kind: str
    """`train`, `eval` or `warm_start`."""
    step: int
    """Finished steps; of the warm start itself where `kind` says so."""
    time: float
    """When it was written, in seconds since 1970."""
    metrics: Mapping[str, float | None]
    """By registered name; None where the number was not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How a run is doing."""

    path: Path
    """Its folder."""
    state: State
    """`dead`: it says that it runs, but no process holds its lock; `damaged`: its manifest cannot be read."""
    outcome: str = ""
    """How it ended, in its own words."""
    step: int = 0
    """Steps finished."""
    steps: int = 0
    """Steps asked for."""
    phase: str = ""
    """What it is doing."""
    since: float = 0.0
    """When that began, in seconds since 1970."""
    done: int | None = None
    """Progress in the phase."""
    total: int | None = None
    """Out of how many."""
    updated: float = 0.0
    """When it last gave a sign, in seconds since 1970."""
    reward: float | None = None
    """Mean reward of the last step."""
    right: float | None = None
    """Share of right completions in the last step."""
    evals: Mapping[str, float] = field(default_factory=dict)
    """Newest held-out accuracy by benchmark."""


class Tail:
    """Reads a growing metrics.jsonl: every complete row once, and from the start if the file was replaced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._offset = 0, 0
        self.was_replaced = False

    def poll(self) -> list[Row]:
        """Rows that are new since the last call; `was_replaced` says that they start over."""
        self.was_replaced = False
        try:
            with open(self._path, "rb") as file:
                self._follow(file)
                data = file.read()
        except FileNotFoundError:
            return []
        except OSError as trouble:
            raise RunError(f"{self._path}: cannot be read: {trouble.strerror}") from trouble
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        rows = (_row(line) for line in whole.splitlines())
        return [row for row in rows if row is not None]

    def _follow(self, file: BinaryIO) -> None:
        now = os.fstat(file.fileno())
        if now.st_ino != self._inode or now.st_size < self._offset:
            self.was_replaced = self._inode != 0
            self._inode, self._offset = now.st_ino, 0
        file.seek(self._offset)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the run at `path`; raises RunError where it is missing or damaged."""
    return manifests.read_manifest(RunFolder(path))


def read_metrics(path: Path) -> list[Row]:
    """All complete rows in order; a torn last line, and any line that is no row, is passed over."""
    return Tail(RunFolder(path).metrics).poll()


def rollout_steps(path: Path) -> list[int]:
    """The steps whose completions are recorded, in order."""
    names = RunFolder(path).rollouts.glob("step-*.parquet")
    return sorted(int(p.stem[5:]) for p in names if p.stem[5:].isdigit())


def read_rollouts(path: Path, step: int | None = None) -> list[Rollout]:
    """The completions of `step`, by default of the newest; raises RunError where there are none."""
    steps = rollout_steps(path)
    if not steps:
        raise RunError(f"{path} has no completions yet: its first step has not finished")
    wanted = steps[-1] if step is None else step
    if wanted not in steps:
        raise RunError(f"{path} has no completions of step {wanted}: it has steps {steps[0]} to {steps[-1]}")
    return from_parquet(RunFolder(path).rollout_file(wanted))


def read_status(path: Path, rows: Sequence[Row] | None = None) -> RunStatus:
    """How the run at `path` is doing (`rows`: its metrics, if read already); never fails on torn files."""
    rows = read_metrics(path) if rows is None else rows
    try:
        steps = read_manifest(path).steps
    except RunError:
        return RunStatus(path=path, state="damaged")
    said = _status_file(RunFolder(path).status)
    train = [r for r in rows if r.kind == "train"]
    last = train[-1].metrics if train else {}
    return RunStatus(
        path=path,
        state=_state(path, said),
        outcome=str(said.get("outcome") or ""),
        step=train[-1].step if train else 0,
        steps=steps,
        phase=str(said.get("phase") or ""),
        since=float(said.get("since") or 0.0),
        done=said.get("done"),
        total=said.get("total"),
        updated=max([float(said.get("time") or 0.0), *(r.time for r in rows[-1:])]),
        reward=last.get("reward/mean"),
        right=last.get("verify/right_share"),
        evals=latest_evals(rows),
    )


def list_runs(parent: Path) -> list[RunStatus]:
    """Every run in a folder, the one last heard of last."""
    paths = [p.parent for p in parent.glob("*/manifest.json")]
    return sorted((read_status(p) for p in paths), key=lambda s: (s.updated, s.path.name))


def find_run(text: str, parent: Path = Path("runs")) -> RunFolder:
    """The run a person means: a path, a name in `parent`, or `last`; else RunError with a near miss."""
    if text == "last" and not Path(text).exists():
        runs = list_runs(parent)
        if not runs:
            raise RunError(f"{parent} holds no runs yet: start one with `rlvr train RECIPE`")
        return RunFolder(runs[-1].path)
    if RunFolder(Path(text)).manifest.is_file():
        return RunFolder(Path(text))
    if "/" in text or Path(text).exists():
        return RunFolder.open(text)
    if RunFolder(parent / text).manifest.is_file():
        return RunFolder(parent / text)
    names = [p.parent.name for p in parent.glob("*/manifest.json")]
    raise RunError(f"there is no run `{text}` in {parent}{near_miss(text, names)}")


def latest_evals(rows: Sequence[Row]) -> dict[str, float]:
    """Newest accuracy by benchmark."""
    found: dict[str, float] = {}
    for row in rows:
        for name, value in row.metrics.items():
            if row.kind == "eval" and name.endswith("/avg_at_k") and value is not None:
                found[name.removeprefix("eval/").removesuffix("/avg_at_k")] = value
    return found


def _state(path: Path, said: Mapping[str, Any]) -> State:
    state = said.get("state", "running")
    if state in ("finished", "stopped"):
        return "finished" if state == "finished" else "stopped"
    elsewhere = said.get("host") not in (None, socket.gethostname())
    # Locks may not reach other machines: there, a recent sign of life counts.
    heard = elsewhere and time.time() - float(said.get("time") or 0.0) < _REMOTE_SILENCE_S
    return "running" if heard or RunFolder(path).is_locked() else "dead"


def _status_file(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _row(line: bytes) -> Row | None:
    try:
        said = json.loads(line, parse_constant=lambda _: None)
        kind, step, at, metrics = said["kind"], said["step"], float(said["time"]), said["metrics"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(metrics, dict) or not isinstance(step, int):
        return None
    if not all(value is None or isinstance(value, int | float) for value in metrics.values()):
        return None
    return Row(kind=str(kind), step=step, time=at, metrics=metrics)
