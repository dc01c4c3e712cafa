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
DYING_S = 3.0
"""Time for what was killed to be gone: a process with gigabytes of memory dies slowly."""
SESSION = "session"
"""Name of the file that `note_session` writes."""
SEGMENTS = ("/dev/shm/psm_", "/dev/shm/sem.mp-")


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
    try:
        kill_below(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def note_session(folder: str, leader: int) -> None:
    """Write down a session of processes to be ended with `folder`, and the shared memory that they hold now.

    For programs that write over their environment, or leave segments behind when they are killed.
    """
    segments = set().union(*map(_segments, _of_sessions({leader})))
    part = Path(folder, f"{SESSION}.part")
    part.write_text("\n".join([f"{leader} {_started(leader)}", *sorted(segments)]))
    part.replace(Path(folder, SESSION))


def kill_below(folder: str) -> None:
    """Kill every process whose temporary folder lies in `folder`, and those of sessions noted there.

    When this returns they are gone, unless the kernel takes longer than `DYING_S`.
    """
    marker = f"TMPDIR={folder}/".encode()
    leaders: set[int] = set()
    segments: set[str] = set()
    for place, _, names in os.walk(folder):
        if SESSION in names:
            first, *noted = Path(place, SESSION).read_text(errors="replace").splitlines() or [""]
            leader, _, started = first.partition(" ")
            # A number may have gone to somebody else since; where its owner is dead, its session keeps it.
            if leader.isdigit() and _started(int(leader)) in (started, ""):
                leaders.add(int(leader))
                segments.update(s for s in noted if s.startswith(SEGMENTS))
    killed: set[int] = set()
    for _ in range(PASSES):
        for pid in {pid for pid in _processes() if _carries(pid, marker)} | _of_sessions(leaders):
            segments |= _segments(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    deadline = time.monotonic() + DYING_S
    while any(map(_lives, killed)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for segment in segments:
        with contextlib.suppress(OSError):
            os.unlink(segment)


def _processes() -> list[int]:
    entries = os.listdir("/proc") if os.path.isdir("/proc") else []
    return [int(entry) for entry in entries if entry.isdigit() and int(entry) != os.getpid()]


def _of_sessions(leaders: set[int]) -> set[int]:
    """Processes of these sessions."""
    found = set()
    for pid in _processes() if leaders else []:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) in leaders:
                found.add(pid)
    return found


def _carries(pid: int, marker: bytes) -> bool:
    return any(variable.startswith(marker) for variable in _read(pid, "environ").split(b"\0"))


def _segments(pid: int) -> set[str]:
    """Files of shared memory that Python's multiprocessing made and the process has mapped."""
    words = _read(pid, "maps").decode(errors="replace").split()
    return {word for word in words if word.startswith(SEGMENTS)}


def _lives(pid: int) -> bool:
    """Whether it still runs; one that nobody has reaped yet does not."""
    state = _read(pid, "stat").rpartition(b")")[2].split()[:1]
    return bool(state) and state[0] not in (b"Z", b"X")


def _started(pid: int) -> str:
    """When a process began, in the kernel's clock; nothing where there is none."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return fields[19].decode() if len(fields) > 19 else ""


def _read(pid: int, what: str) -> bytes:
    """A file of /proc/PID; nothing where the process is gone, dying, or somebody else's."""
    try:
        with open(f"/proc/{pid}/{what}", "rb") as file:
            return file.read()
    except OSError:
        return b""


if __name__ == "__main__":
    main(sys.argv[1])
