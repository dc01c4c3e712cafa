"""Our end of a fork server: starts it, orders runs from it one after another, and believes nothing else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr.sandbox.api import RunStatus, SandboxError, Tier
from rlvr.sandbox.codec import FRAME_BYTES
from rlvr.sandbox.peer import HEAD
from rlvr.sandbox.server import ENDED, ENDS, KINDS, ORDER, UP
from rlvr.sandbox.walls import OUTPUT_BYTES, Limits, home

START_S = 60.0
"""Time for a server to load its interpreter and packages."""
LATE_S = 5.0
"""After the wall time of a run, before its server counts as lost."""
PACKAGES = ("site-packages", "dist-packages")
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
SIGXCPU, SIGXFSZ, SIGKILL = 24, 25, 9


class NoRoomError(SandboxError):
    """No child could be made for a run."""


class ForkServer:
    """One server in one tier.  SandboxError says what it could not build, or that it was lost."""

    def __init__(self, tier: Tier, preload: Sequence[str] = (), *, judges: bool = False) -> None:
        self.tier = tier
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        script = str(Path(__file__).with_name("server.py"))
        # Functions of shared libraries that are bound at the start need not be bound by every child.
        environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "LD_BIND_NOW": "1"}
        environment |= dict.fromkeys(("HOME", "TMPDIR"), home(tier))
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-S", "-P", "-s", "-B", "-X", "utf8", script, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                cwd="/",
                env=environment,
            )
        packages = [path for path in sys.path if path.endswith(PACKAGES) and os.path.isdir(path)]
        config = {"tier": tier, "preload": list(preload), "judges": judges, "packages": packages}
        self.is_lost = False
        self.is_busy = False
        """Whether a run of it was not seen to end: what it says next would be read as said of another."""
        try:
            self._control.settimeout(START_S)
            self._control.send(json.dumps(config).encode())
            answer = self._control.recv(2**16)
        except OSError:
            answer = b""
        about: dict[str, Any] = json.loads(answer) if answer else {"failed": self._last_words()}
        if "failed" in about:
            self.close()
            raise SandboxError(f"tier {tier}: {about['failed']}")
        self.has_landlock: bool = about["landlock"]
        self.counts_threads: bool = about["counts_threads"]

    @property
    def pid(self) -> int:
        """Its process id; what it starts are its descendants."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return not self.is_lost and self._process.poll() is None

    def close(self) -> None:
        """End it and everything in it; safe to call twice."""
        self.is_lost = True
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(LATE_S)
        self._process.kill()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def start(self, order: bytes, fds: Sequence[int]) -> None:
        """Have it make a child."""
        self.is_busy = True
        try:
            socket.send_fds(self._control, [order], fds)
        except OSError as error:
            raise self.lost(str(error)) from None

    def ended(self, timeout_s: float) -> tuple[int, int, float, int]:
        """How the child ended."""
        try:
            self._control.settimeout(timeout_s)
            answer = self._control.recv(ENDED.size)
        except OSError as error:
            raise self.lost(str(error)) from None
        except BaseException:  # Ctrl-C: what it says of this run must not be read as said of the next
            self.close()
            raise
        if len(answer) != ENDED.size:
            raise self.lost("it is gone")
        self.is_busy = False
        return ENDED.unpack(answer)

    def stop(self) -> None:
        """Have it end the child now."""
        with contextlib.suppress(OSError):
            self._control.send(b"!")

    def lost(self, why: str) -> SandboxError:
        """It can no longer be believed: end it, and hand back what to raise."""
        if not self.is_lost:
            self.close()
        return SandboxError(f"the sandbox's server was lost: {why}")

    def _last_words(self) -> str:
        self._process.kill()
        said = self._process.communicate()[1].decode(errors="replace").strip()
        return said.splitlines()[-1] if said else f"its server ended with {self._process.returncode}"


class Run:
    """One child of a server: a wire to it, its output, and its end."""

    def __init__(
        self,
        server: ForkServer,
        kind: str,
        limits: Limits,
        source: bytes,
        *,
        stdin: bytes = b"",
        judged: socket.socket | None = None,
    ) -> None:
        self._server = server
        self._limits = limits
        self._over = False
        self._started = time.monotonic()
        self.end = "itself"
        self.exit_code: int | None = None
        self.cpu_seconds = 0.0
        self._peak_bytes = 0
        self.seconds = 0.0
        self.wire, theirs = socket.socketpair()
        self._out, self._err = os.memfd_create("stdout"), os.memfd_create("stderr")
        given = _sealed(stdin)
        number = [function.__name__ for function in KINDS].index(kind)
        order = ORDER.pack(number, limits.cpu_s, limits.wall_s, limits.memory_bytes)
        # In this order they become its descriptors 0, 1, 2, ...
        fds = [given, self._out, self._err, theirs.fileno(), *([judged.fileno()] if judged else [])]
        try:
            server.start(order, fds)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(given)
            theirs.close()
        try:
            self.send(source)
        except BaseException:
            self.close()
            raise

    def send(self, *frames: bytes) -> bool:
        """Send frames; False where nobody reads any more."""
        data = b"".join(HEAD.pack(len(frame)) + frame for frame in frames)
        try:
            self.wire.settimeout(self._left())
            self.wire.sendall(data)
        except OSError:
            return False
        return True

    def is_up(self) -> None:
        """SandboxError where the child died before it came to the program: then it is no fault of that."""
        found = self._received(1)
        if found == UP:
            return
        if not found and self._over and self.end != "itself":
            return  # it ran out of its limits before: a machine under great load
        rest = self._received(300) if found else b""
        self.finish()
        why = (found + rest).decode(errors="replace") or f"exit code {self.exit_code}"
        raise self._server.lost(f"a child could not be closed in: {why}")

    def receive(self) -> bytes | None:
        """A frame; None where there is none to come."""
        head = self._received(HEAD.size, whole=True)
        if len(head) < HEAD.size:
            return None
        (size,) = HEAD.unpack(head)
        if size > FRAME_BYTES:
            return None
        data = self._received(size, whole=True)
        return data if len(data) == size else None

    def finish(self, *, wait: bool = False) -> None:
        """Learn how it ended; where `wait` is not set, end it now."""
        if self._over:
            return
        if not wait:
            self._server.stop()
        self._over = True
        end, code, self.cpu_seconds, peak_kib = self._server.ended(self._left() + LATE_S)
        self.end = ENDS[end]
        if self.end == "unforked":
            raise NoRoomError("this machine refuses another process")
        self._peak_bytes = 1024 * peak_kib
        self.exit_code = code if self.end == "itself" else None
        self.seconds = time.monotonic() - self._started

    def output(self) -> tuple[bytes, bytes]:
        """What it wrote to standard output and standard error."""
        return _written(self._out), _written(self._err)

    def status(self) -> RunStatus:
        """How it ended, once it has."""
        if self.end in ("cpu", "wall") or self.exit_code == -SIGXCPU:
            return "timeout"
        stdout, stderr = self.output()
        if self.exit_code == -SIGXFSZ or max(len(stdout), len(stderr)) >= OUTPUT_BYTES:
            return "output"
        if self.exit_code == 0:
            return "ok"
        if self.exit_code == -SIGKILL and self._server.tier != "none":
            return self._killed()
        last = stderr.rstrip().rpartition(b"\n")[2]
        return "memory" if last.startswith(b"MemoryError") else "error"

    def _killed(self) -> RunStatus:
        """Why it got a SIGKILL that was not ours: no program can send itself one."""
        if self.cpu_seconds >= self._limits.cpu_s:
            return "timeout"
        if 2 * self._peak_bytes >= self._limits.memory_bytes:
            return "memory"
        raise self._server.lost("a program was killed from outside: is this machine short of memory?")

    def close(self) -> None:
        """End it where it still runs, and let go of what belongs to it."""
        try:
            self.finish()
        finally:
            self._close()

    def _close(self) -> None:
        self.wire.close()
        os.close(self._out)
        os.close(self._err)

    def _left(self) -> float:
        return max(self._limits.wall_s - (time.monotonic() - self._started), 0.0) + LATE_S

    def _received(self, size: int, *, whole: bool = False) -> bytes:
        """Up to `size` bytes, fewer at the end of the wire; the server ends a child that is late."""
        parts: list[bytes] = []
        missing = size
        try:
            while missing:
                self.wire.settimeout(self._left())
                part = self.wire.recv(missing)
                if not part:
                    break
                parts.append(part)
                missing -= len(part)
                if not whole:
                    break
        except ConnectionError:
            pass
        except OSError as error:
            raise self._server.lost(f"it let a run go on past its time: {error}") from None
        return b"".join(parts)


def _written(fd: int) -> bytes:
    """What a file holds, up to the limit: asking for that much would make room for all of it each time."""
    return os.pread(fd, min(os.fstat(fd).st_size, OUTPUT_BYTES), 0)


def _sealed(data: bytes) -> int:
    """A file in memory that holds `data` and can no longer be changed."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd
