"""The record of a run: the one place that writes into its folder while it trains.

`step` counts finished steps: 1 .. N, and 0 is before the first.  A record continued after step k holds
exactly what an uninterrupted run would hold at k: later rows and files are dropped first.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rlvr.errors import RunError
from rlvr.runs.accounting import tally
from rlvr.runs.atomic import append_line, disk_trouble, write_bytes_atomic, write_json_atomic
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import Resume, read_manifest, write_manifest
from rlvr.runs.metrics import metric
from rlvr.runs.reader import read_metrics
from rlvr.runs.rollouts import fit, plain, rollouts, to_parquet
from rlvr.types import ScoredGroup, StepReport

log = logging.getLogger(__name__)

Kind = Literal["train", "eval", "warm_start"]
_STATUS_EVERY_S = 0.1


class Record:
    """Writes a run's numbers, completions and state.  The caller holds the folder's lock.

    `phase` and `note` may be called from another thread than the rest.
    """

    def __init__(self, folder: RunFolder, resume_step: int | None, warm_step: int | None = None) -> None:
        """`resume_step`: step of the checkpoint taken up (0: after the warm start); None: afresh.

        `warm_step`: supervised steps that the checkpoint holds; None keeps all that were recorded.
        """
        self.folder = folder
        self._step = resume_step or 0
        self._host = socket.gethostname()
        self._phase: tuple[str, float] = ("start", time.time())
        self._status_at = -math.inf
        self._warned = False
        self._lock = threading.RLock()
        folder.remove_leftovers()
        self._drop_after(resume_step, warm_step)
        if resume_step is not None:
            manifest = read_manifest(folder)
            resume = Resume(time=time.time(), step=resume_step, host=self._host)
            write_manifest(folder, manifest.model_copy(update={"resumes": (*manifest.resumes, resume)}))
        self._write_status("running", None, None)

    def phase(self, name: str, done: int | None = None, total: int | None = None) -> None:
        """Say what is going on (`sample`, 12 of 32): a new name at once, progress ten times a second.

        The warm start's phase is called `warm_start`: its rows are then shown as `done` of `total`.
        """
        with self._lock:
            now = time.monotonic()
            if name != self._phase[0]:
                self._phase = (name, time.time())
            elif now - self._status_at < _STATUS_EVERY_S:
                return
            self._status_at = now
            self._write_status("running", done, total)

    def step(self, step: int, groups: Sequence[ScoredGroup], report: StepReport) -> None:
        """Record a finished step: all its completions, and its numbers.

        What can be counted from `groups` (rlvr/runs/accounting.py) is added where `report` does not say it.
        """
        numbers = _checked({**tally(groups), **report.metrics})
        write_bytes_atomic(self.folder.rollout_file(step), to_parquet(rollouts(step, groups)))
        self._append("train", step, numbers)
        self._step = step

    def warm_start(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record an interval of the warm start; `step` counts its own; names may leave out `warm_start/`."""
        self._append("warm_start", step, _checked(_in_room("warm_start", metrics)))

    def eval(self, step: int, benchmark: str, metrics: Mapping[str, float]) -> None:
        """Record a held-out measurement after `step`; `avg_at_k` is short for `eval/BENCHMARK/avg_at_k`."""
        self._append("eval", step, _checked(_in_room(f"eval/{benchmark}", metrics)))

    def note(self, text: str) -> None:
        """Put a fallback into the manifest, once."""
        with self._lock:
            manifest, text = read_manifest(self.folder), fit(text)
            if text not in manifest.fallbacks:
                log.warning("%s", text)
                noted = manifest.model_copy(update={"fallbacks": (*manifest.fallbacks, text)})
                write_manifest(self.folder, noted)

    def engine(self, name: str, proof: Mapping[str, float]) -> None:
        """Put what samples into the manifest, with the proof that it takes the weights it is given."""
        with self._lock:
            manifest = read_manifest(self.folder)
            told = manifest.model_copy(update={"engine": {"name": name, **proof}})
            write_manifest(self.folder, told)

    def peak(self, flops_per_s: float, source: str) -> float:
        """Put the device's rate into the manifest; one of the same source stays, and is returned."""
        with self._lock:
            manifest = read_manifest(self.folder)
            if manifest.peak.get("source") == source:
                return float(manifest.peak["flops_per_s"])
            if manifest.peak:
                self.note(f"utilisation from step {self._step + 1} on is a share of another rate: {source}")
                manifest = read_manifest(self.folder)
            told = {"flops_per_s": flops_per_s, "source": source}
            write_manifest(self.folder, manifest.model_copy(update={"peak": told}))
            return flops_per_s

    def start(self, found: Mapping[str, float | str]) -> None:
        """Put into the manifest what the first completions were like, and the verdict on them."""
        with self._lock:
            manifest = read_manifest(self.folder)
            write_manifest(self.folder, manifest.model_copy(update={"start": dict(found)}))

    def finish(self, outcome: str, why: str = "") -> None:
        """Say how it ended: `finished` (`why`: before its last step), or in words why it stopped."""
        with self._lock:
            state = "finished" if outcome == "finished" else "stopped"
            self._write_status(state, None, None, why or outcome)

    @property
    def doing(self) -> str:
        """The phase, and after which step."""
        return f"{self._phase[0]}, after step {self._step}"

    def _append(self, kind: Kind, step: int, numbers: dict[str, float | None]) -> None:
        row = {"kind": kind, "step": step, "time": time.time(), "metrics": numbers}
        append_line(self.folder.metrics, json.dumps(row, allow_nan=False))

    def _write_status(
        self, state: str, done: int | None, total: int | None, outcome: str | None = None
    ) -> None:
        name, since = self._phase
        status: dict[str, Any] = {"state": state, "outcome": outcome and fit(outcome), "step": self._step}
        status |= {"phase": name, "since": since, "done": done, "total": total}
        status |= {"pid": os.getpid(), "host": self._host, "time": time.time()}
        try:
            write_json_atomic(self.folder.status, status, durable=outcome is not None)
        except (RunError, OSError) as trouble:
            # Only onlookers need it: the run goes on, and meets a full disk at its next number if it lasts.
            if not self._warned:
                log.warning("the status is not up to date: %s", trouble)
            self._warned = True

    def _drop_after(self, step: int | None, warm_step: int | None) -> None:
        """Delete what was recorded after `step`, so that the record has no duplicate and no gap."""
        last = -1 if step is None else step
        warm_last = -1 if step is None else math.inf if warm_step is None else warm_step
        rows = read_metrics(self.folder.path)
        kept = [r for r in rows if r.step <= (warm_last if r.kind == "warm_start" else last)]
        if self.folder.metrics.exists():
            lines = [
                json.dumps({"kind": r.kind, "step": r.step, "time": r.time, "metrics": dict(r.metrics)})
                for r in kept
            ]
            write_bytes_atomic(self.folder.metrics, "".join(f"{line}\n" for line in lines).encode())
        for place in (self.folder.rollouts, self.folder.evals):
            with disk_trouble(place):
                place.mkdir(exist_ok=True)
                for entry in place.iterdir():
                    stamped = re.match(r"step-(\d+)", entry.name)
                    if stamped and int(stamped[1]) > last:
                        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


class Silence:
    """The record of a rank that keeps none: another one's is the run's."""

    def __init__(self) -> None:
        self.doing = "start"

    def phase(self, name: str, done: int | None = None, total: int | None = None) -> None:
        """Remember it for who asks where this rank is."""
        self.doing = name

    def note(self, text: str) -> None:
        """Tell the log: only this rank may know."""
        log.warning("%s", text)

    def step(self, step: int, groups: Sequence[ScoredGroup], report: StepReport) -> None:
        """Nothing."""

    def warm_start(self, step: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def eval(self, step: int, benchmark: str, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def engine(self, name: str, proof: Mapping[str, float]) -> None:
        """Nothing."""

    def peak(self, flops_per_s: float, source: str) -> float:
        """As measured: the run's is another rank's."""
        return flops_per_s

    def start(self, found: Mapping[str, float | str]) -> None:
        """Nothing."""

    def finish(self, outcome: str, why: str = "") -> None:
        """Nothing."""


def note_end(folder: RunFolder, outcome: str) -> None:
    """Say how a run ended in the place of its writer, which is lost."""
    try:
        status = json.loads(folder.status.read_bytes())
        write_json_atomic(folder.status, status | {"state": "stopped", "outcome": fit(outcome)})
    except (RunError, OSError, ValueError) as trouble:
        log.warning("%s: %s", folder.status, trouble)


def _in_room(room: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {name if name.startswith(f"{room}/") else f"{room}/{name}": v for name, v in metrics.items()}


def _checked(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Registered names only; what is not finite becomes None, which JSON can hold."""
    for name in metrics:
        metric(name)
    return {name: plain(float(value)) for name, value in metrics.items()}
