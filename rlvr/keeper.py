"""A folder for what must not outlive the trainer, and a process that clears up: a SIGKILL leaves nothing.

    python -I -S keeper.py FOLDER      with a pipe for standard input whose other end the trainer alone holds

When the pipe closes, every process whose environment says TMPDIR=FOLDER/... is killed and FOLDER is deleted.
It runs as a script of its own, so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PASSES = 3
"""A process may fork while the list is read; what it left is found in the next pass."""
CLOSING_S = 5.0
"""Time for it to clear up while the trainer waits."""
TRACKER = b"multiprocessing.resource_tracker"
"""Python's own keeper of shared memory: it is given a moment to release what its dead parent held."""
TRACKER_S = 1.0


class Keeper:
    """The trainer's end: makes the folder and starts the process."""

    def __init__(self, prefix: str, parent: str | None = None) -> None:
        """`parent` is the folder to make it in; by default that of temporary files."""
        self.folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__)), self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let it clear up now; safe to call twice."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSING_S)


def main(folder: str) -> None:
    """Wait for the end of the trainer, then clear up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    kill_below(folder)
    shutil.rmtree(folder, ignore_errors=True)


def kill_below(folder: str) -> None:
    """Kill every process whose temporary folder lies in `folder`."""
    marker = f"TMPDIR={folder}/".encode()
    for _ in range(PASSES):
        found = [pid for pid in _processes() if _carries(pid, marker)]
        trackers = {pid for pid in found if TRACKER in _read(pid, "cmdline")}
        for pid in set(found) - trackers:
            _kill(pid)
        deadline = time.monotonic() + TRACKER_S
        while any(_read(pid, "cmdline") for pid in trackers) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in trackers:
            _kill(pid)


def _carries(pid: int, marker: bytes) -> bool:
    return any(variable.startswith(marker) for variable in _read(pid, "environ").split(b"\0"))


def _processes() -> list[int]:
    entries = os.listdir("/proc") if os.path.isdir("/proc") else []
    return [int(entry) for entry in entries if entry.isdigit() and int(entry) != os.getpid()]


def _read(pid: int, what: str) -> bytes:
    """A file of /proc/PID; nothing where the process is gone, dying, or somebody else's."""
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
