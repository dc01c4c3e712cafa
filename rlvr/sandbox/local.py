"""The sandbox of this machine: a warm fork server behind the walls that the kernel offers here.

    A  namespaces, Landlock, seccomp, rlimits
    B  Landlock, seccomp, rlimits: for containers that refuse namespaces

Which of them holds is found by building it and by a program that tries to get out (`PROBE`).  Where neither
does, nothing is run: SandboxError.  `UnsafeSandbox` runs programs all the same, with limits, no walls.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeAlias

from rlvr.sandbox.api import Isolation, Judgement, Outcome, Reply, RunStatus, SandboxError, Tier
from rlvr.sandbox.client import ForkServer, NoRoomError, Run
from rlvr.sandbox.codec import FRAME_BYTES
from rlvr.sandbox.program import LoadedProgram
from rlvr.sandbox.walls import Limits

HEAVY = ("numpy", "sympy")
"""Loaded beforehand by the server for programs that import one of them."""
NAMES_HEAVY = re.compile(rf"\b(?:{'|'.join(HEAVY)})\b")
Loaded: TypeAlias = tuple[bool, bool]
"""What a server has loaded beforehand: whether `HEAVY`, whether what a judge needs."""
PLAIN: Loaded = (False, False)
KERNEL_DOOR = "kernel: shared with this machine; a hole in it is a way out, as this is no virtual machine"
DOORS: dict[Tier, tuple[str, ...]] = {
    "A": (KERNEL_DOOR,),
    "B": (
        KERNEL_DOOR,
        "file names: whether a path exists, its size and dates can be asked for; its content cannot",
        "process numbers: visible, though no process can be read or signalled",
    ),
    "none": (
        "everything: programs run with this user's rights on files, network and processes",
        "memory: the limit holds for each process, not for all together",
    ),
}
THREADS_DOOR = "threads: bounded by memory alone, not in number"
LANDLOCK_DOOR = "Landlock: this kernel has none; the mount namespace alone keeps files apart"
PROBE = """
import os, socket
def tried(name, attempt):
    try:
        attempt()
    except OSError:
        return
    print(name)
tried("read", lambda: open("/etc/passwd").read())
tried("list", lambda: os.listdir("/"))
tried("write", lambda: open("/probe", "w"))
tried("write a library", lambda: open(os.__file__, "r+"))
tried("open for neither", lambda: os.open(os.__file__, 3))
tried("empty a file", lambda: os.open("/dev/null", os.O_TRUNC))
tried("change a mode", lambda: os.chmod(os.__file__, 0o644))
tried("network", lambda: socket.socket())
tried("signal", lambda: os.kill(os.getppid(), 0))
tried("run", lambda: os.execv("/bin/true", ["true"]))
tried("fork", lambda: os.fork() or os._exit(0))
print("done")
"""


class LocalSandbox:
    """Runs programs behind the best walls of this machine.  Safe to share between threads."""

    def __init__(self, tier: Tier | None = None) -> None:
        """`tier` asks for one instead of the best.  Nothing is started before it is needed."""
        self._wanted: tuple[Tier, ...] = (tier,) if tier else ("A", "B")
        self._found: Tier | None = None
        self._doors: tuple[str, ...] = ()
        self._idle: defaultdict[Loaded, list[ForkServer]] = defaultdict(list)
        self._all: set[ForkServer] = set()
        self._lock = threading.RLock()
        self._owner = os.getpid()
        self.refusals: list[str] = []
        """Why better tiers do not hold here."""

    def __enter__(self) -> LocalSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def tier(self) -> Tier:
        """The tier that holds here; SandboxError where none does."""
        with self._lock:
            if self._found is None:
                self._found = self._probed()
            return self._found

    @property
    def open_doors(self) -> tuple[str, ...]:
        """What stays open on this machine."""
        return self._doors if self.tier else ()

    @property
    def kept_pids(self) -> set[int]:
        """Processes of its own that are to outlive a run."""
        with self._lock:
            return {server.pid for server in self._all}

    def close(self) -> None:
        """End its servers; the next run would start new ones."""
        with self._lock:
            for server in self._all:
                server.close()
            self._all.clear()
            self._idle.clear()

    def run(
        self,
        source: str,
        *,
        stdin: str = "",
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Outcome:
        """Run `source`; it has ended when this returns."""
        limits = _limits(timeout_s, memory_bytes, wall_s)
        given = stdin.encode("utf-8", "surrogatepass")
        with self._server(source) as server:
            run = Run(server, "run_program", limits, _encoded(source), stdin=given)
            try:
                run.finish(wait=True)
                run.is_up()
                stdout, stderr = run.output()
                status = run.status()
            finally:
                run.close()
        return Outcome(
            status=status,
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            seconds=run.seconds,
            cpu_seconds=run.cpu_seconds,
            exit_code=run.exit_code,
            open_doors=self.open_doors,
        )

    @contextmanager
    def load(
        self, source: str, *, timeout_s: float = 5.0, memory_bytes: int = 2**29, wall_s: float | None = None
    ) -> Iterator[LoadedProgram]:
        """Run `source` as a module and keep it for calls."""
        limits = _limits(timeout_s, memory_bytes, wall_s)
        with self._server(source) as server:
            run = Run(server, "serve_functions", limits, _encoded(source))
            try:
                run.is_up()
                yield LoadedProgram(run)
            finally:
                run.close()

    def judge(
        self,
        source: str,
        tests: str,
        *,
        names: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Judgement:
        """Run the tests in a box of their own on a wire to the program in its box."""
        limits = _limits(timeout_s, memory_bytes, wall_s)
        order = {"tests": tests, "names": dict(names or {})}
        for _ in range(2):
            found = self._judged(source, order, limits)
            if found is not None:
                return found
        self.run("")  # SandboxError where there is no room without the program either
        return Judgement(passed=False, status="error", why="no process could be made beside the program")

    def _judged(self, source: str, order: dict[str, Any], limits: Limits) -> Judgement | None:
        """The judgement; None where this machine made no child for the tests while the program lived."""
        times = {"timeout_s": limits.cpu_s, "wall_s": limits.wall_s}
        with self.load(source, memory_bytes=limits.memory_bytes, **times) as program:
            if program.fault is not None:
                return Judgement(passed=False, status=program.fault.status, why=program.fault.error)
            words = set(re.findall(r"\w+", order["tests"]))  # a program may say that it defines a great deal
            whole = json.dumps({**order, "public": sorted(words.intersection(program.public))}).encode()
            if len(whole) > FRAME_BYTES:
                raise SandboxError(f"the tests are larger than {FRAME_BYTES >> 20} MiB")
            with self._server(order["tests"], judges=True) as server:
                run = Run(server, "judge", limits, whole, judged=program.handed_over())
                try:
                    run.is_up()
                    found = run.receive()
                    run.finish(wait=found is not None)
                    ended = run.status()
                except NoRoomError:
                    return None
                finally:
                    run.close()
            dead = program.ended()
        return _judgement(found, ended, dead)

    @contextmanager
    def _server(self, source: str, *, judges: bool = False) -> Iterator[ForkServer]:
        """A server of the tier for this thread alone."""
        tier = self.tier
        # `dataclasses` loads nearly all that a judge needs: as a fresh import it would cost four times a run.
        loaded = (imports_heavy(source), judges or "dataclass" in source)
        with self._lock:
            if self._owner != os.getpid():  # a fork of us: the servers are our parent's
                self._owner, self._all, self._idle = os.getpid(), set(), defaultdict(list)
            idle = self._idle[loaded]
            server = idle.pop() if idle else None
        if server is None or not server.is_alive():
            if server is not None:
                self._drop(server)
            server = self._started(tier, loaded)
        try:
            yield server
        finally:
            if server.is_lost or server.is_busy:
                self._drop(server)
            else:
                with self._lock:
                    self._idle[loaded].append(server)

    def _started(self, tier: Tier, loaded: Loaded) -> ForkServer:
        is_heavy, judges = loaded
        server = ForkServer(tier, HEAVY if is_heavy else (), judges=judges)
        with self._lock:
            self._all.add(server)
        return server

    def _drop(self, server: ForkServer) -> None:
        server.close()
        with self._lock:
            self._all.discard(server)

    def _probed(self) -> Tier:
        """The first tier wanted that can be built and from which the probe does not get out."""
        for tier in self._wanted:
            try:
                server = self._started(tier, PLAIN)
            except SandboxError as error:
                self.refusals.append(str(error))
                continue
            open_ones = _found_open(server) if tier != "none" else []
            if not open_ones:
                self._doors = _doors(tier, server)
                self._idle[PLAIN].append(server)
                return tier
            self.refusals.append(f"tier {tier}: a program could {', '.join(open_ones)}")
            self._drop(server)
        raise SandboxError(
            "this machine cannot hold untrusted programs apart, so none is run. "
            + "; ".join(self.refusals)
            + ". Use a machine with Landlock (Linux 5.13) or a remote sandbox."
        )


class UnsafeSandbox(LocalSandbox):
    """No walls at all, for `--unsafe-no-isolation`: a program can do what its user can."""

    def __init__(self) -> None:
        super().__init__("none")


def isolation(unsafe: bool = False) -> Isolation:
    """What holds programs on this machine, found by trying; `unsafe` is what `UnsafeSandbox` offers."""
    with UnsafeSandbox() if unsafe else LocalSandbox() as sandbox:
        try:
            tier: Tier | None = sandbox.tier
        except SandboxError:
            tier = None
        doors = sandbox.open_doors if tier else ()
        return Isolation(tier=tier, open_doors=doors, refusals=tuple(sandbox.refusals))


def _found_open(server: ForkServer) -> Sequence[str]:
    """What the probe could do that it must not."""
    run = Run(server, "run_program", Limits(cpu_s=5, wall_s=20, memory_bytes=2**29), PROBE.encode())
    try:
        run.finish(wait=True)
        run.is_up()
        words = run.output()[0].decode(errors="replace").split("\n")
    finally:
        with contextlib.suppress(SandboxError):
            run.close()
    return words[:-2] if words[-2:] == ["done", ""] else ["end the probe"]


def _judgement(found: bytes | None, judge: RunStatus, program: Reply) -> Judgement:
    """Out of the judge's word, how its box ended, and how the program's did."""
    verdict: dict[str, Any] = json.loads(found) if found is not None else {"status": "gone"}
    if verdict["status"] == "unfit":
        raise SandboxError(f"these tests cannot be run: {verdict['why']}")
    if verdict["status"] != "gone":
        statuses: dict[str, RunStatus] = {"raised": "error"}
        return Judgement(
            passed=verdict["status"] == "passed",
            status=statuses.get(verdict["status"], "ok"),
            why=verdict["why"],
            self_reported=verdict["self_reported"],
            is_empty=verdict["status"] == "empty",
        )
    if program.status != "ok":
        return Judgement(passed=False, status=program.status, why=program.error)
    if found is not None:
        return Judgement(passed=False, status="error", why="the program broke off the conversation")
    status: RunStatus = judge if judge != "ok" else "error"
    return Judgement(passed=False, status=status, why=f"the tests came to no result: {status}")


def _doors(tier: Tier, server: ForkServer) -> tuple[str, ...]:
    doors = DOORS[tier]
    if not server.counts_threads:
        doors += (THREADS_DOOR,)
    if tier == "A" and not server.has_landlock:
        doors += (LANDLOCK_DOOR,)
    return doors


def imports_heavy(source: str) -> bool:
    """Whether a line of it looks like an import of one of `HEAVY`."""
    lines = (line.lstrip() for line in source.splitlines())
    return any(line.startswith(("import ", "from ")) and NAMES_HEAVY.search(line) for line in lines)


def _limits(timeout_s: float, memory_bytes: int, wall_s: float | None) -> Limits:
    wall_s = timeout_s if wall_s is None else wall_s
    return Limits(cpu_s=timeout_s, wall_s=wall_s, memory_bytes=memory_bytes)


def _encoded(source: str) -> bytes:
    return source.encode("utf-8", "surrogatepass")
