"""Wall time, CPU time and memory of training steps: what both sides of scripts/bench_vs_trl carry.

The standard library alone: it also runs in an environment that has no rlvr.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class StepClock:
    """Times steps, and in them phases; what a nested phase takes does not count for the one around it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._phases: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def begin(self) -> None:
        """The first step begins."""
        self._wall = self._since = time.perf_counter()
        self._cpu = cpu_seconds()

    def step(self, **numbers: Any) -> None:
        """A step has ended, and the next begins."""
        now, cpu = time.perf_counter(), cpu_seconds()
        made = {"wall_s": now - self._wall, "cpu_s": cpu - self._cpu, "phases": self._phases, **numbers}
        self.steps.append(made)
        self._wall, self._cpu, self._phases = time.perf_counter(), cpu, {}

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens within the block takes no time.  Between two steps only."""
        wall, cpu = time.perf_counter(), cpu_seconds()
        yield
        self._wall += time.perf_counter() - wall
        self._cpu += cpu_seconds() - cpu

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._lap()
        self._open.append(name)
        try:
            yield
        finally:
            self._lap()
            self._open.pop()

    def watch(self, owner: Any, method: str, name: str) -> None:
        """Calls of `owner.method` are phase `name` from now on."""
        call = getattr(owner, method)

        def timed(*args: Any, **options: Any) -> Any:
            with self.phase(name):
                return call(*args, **options)

        setattr(owner, method, timed)

    def write(self, path: Path, **numbers: Any) -> None:
        told = {"steps": self.steps, "peak_bytes": peak_bytes(), **numbers}
        path.write_text(json.dumps(told), encoding="utf-8")

    def _lap(self) -> None:
        now = time.perf_counter()
        if self._open:
            self._phases[self._open[-1]] = self._phases.get(self._open[-1], 0.0) + now - self._since
        self._since = now


def family() -> list[int]:
    """This process, or what started it as one of several ranks, and all that came of it."""
    first = os.getppid() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else os.getpid()
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, waiting = [first], [first]
    while waiting:
        started = children.get(waiting.pop(), [])
        found += started
        waiting += started
    return found


def cpu_seconds() -> float:
    """User and system time of the family, ended members included."""
    fields = [_stat(pid) for pid in family()]
    return sum(sum(map(int, one[11:15])) for one in fields if one) / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """The most that each living member of the family ever held in memory, added up."""
    return 1024 * sum(_peak_kib(pid) for pid in family())


def _peak_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat behind the name; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
