"""A sandbox of plain Linux means: a fresh `python -I -S` in its own session and folder, under rlimits.

It keeps programs from hanging us, filling memory and littering; it does not hide the machine (`open_doors`).
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from rlvr.sandbox.api import Outcome, RunStatus

OUTPUT_BYTES = 2**20
"""Of each stream, and of any file the program writes."""
DOORS = (
    "file system: all that this user may read or write, by absolute path",
    "network: sockets are not blocked",
    "processes: those of this user can be seen and signalled",
    "memory: the limit holds for each process, not for all together",
    "disk: each file is bounded, their number is not",
    "sessions: a child that leaves the session can outlive the run outside a verifier worker",
)
ROOT_DOOR = "root: it runs with root's rights, and the number of processes is not limited"


class LocalSandbox:
    """Runs programs under rlimits.  Stateless: safe to share between threads."""

    @property
    def open_doors(self) -> tuple[str, ...]:
        """What stays open on this machine."""
        return (*DOORS, ROOT_DOOR) if os.geteuid() == 0 else DOORS

    def run(
        self, source: str, *, stdin: str = "", timeout_s: float = 5.0, memory_bytes: int = 2**29
    ) -> Outcome:
        """Run `source`; it is killed with its process group at `timeout_s`."""
        folder = tempfile.mkdtemp(prefix="rlvr-sandbox-")
        try:
            with (
                tempfile.TemporaryFile() as out,
                tempfile.TemporaryFile() as err,
                tempfile.TemporaryFile() as given,
            ):
                given.write(stdin.encode("utf-8", "surrogatepass"))
                given.seek(0)
                program = Path(folder, "main.py")
                program.write_bytes(source.encode("utf-8", "surrogatepass"))
                started = time.monotonic()
                code = _run(_command(program, timeout_s, memory_bytes), folder, (given, out, err), timeout_s)
                seconds = time.monotonic() - started
                stdout, stderr = _captured(out), _captured(err)
        finally:
            _remove(folder)
        return Outcome(
            status=_status(code, stdout, stderr),
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            seconds=seconds,
            exit_code=code,
            open_doors=self.open_doors,
        )


def _command(program: Path, timeout_s: float, memory_bytes: int) -> list[str]:
    limits = {
        "AS": memory_bytes,
        "CPU": math.ceil(timeout_s) + 1,
        "NOFILE": 64,
        "FSIZE": OUTPUT_BYTES,
        "NPROC": 64,
        "CORE": 0,
    }
    python = [sys.executable, "-I", "-S", "-B", "-X", "utf8"]
    runner = [*python, str(Path(__file__).with_name("runner.py")), str(os.getpid())]
    return [*runner, *(f"{name}={value}" for name, value in limits.items()), "--", *python, str(program)]


def _run(
    command: list[str], folder: str, streams: tuple[IO[bytes], IO[bytes], IO[bytes]], timeout_s: float
) -> int | None:
    """The exit code, or None if it was killed for its time."""
    process = subprocess.Popen(
        command,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        cwd=folder,
        env={"HOME": folder, "TMPDIR": folder},
        start_new_session=True,
    )
    ended = os.pidfd_open(process.pid)
    try:
        is_over = bool(select.select([ended], [], [], timeout_s)[0])
    finally:
        os.close(ended)
        # Before it is reaped: until then its id, which is the group's, can belong to nobody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return code if is_over else None


def _captured(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read(OUTPUT_BYTES)


def _status(code: int | None, stdout: bytes, stderr: bytes) -> RunStatus:
    if code is None:
        return "timeout"
    if max(len(stdout), len(stderr)) >= OUTPUT_BYTES:
        return "output"
    if code == 0:
        return "ok"
    if code == -signal.SIGXCPU:
        return "timeout"
    last_line = stderr.rstrip().rpartition(b"\n")[2]
    return "memory" if last_line.startswith(b"MemoryError") else "error"


def _remove(folder: str) -> None:
    """With `rm`: the program may nest folders deeper than Python can walk, or lock them."""
    for command in (["rm", "-rf"], ["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        if os.path.lexists(folder):
            subprocess.run([*command, "--", folder], check=False, stderr=subprocess.DEVNULL)
