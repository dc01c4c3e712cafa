"""Outlives the trainer by an instant, to clear up after it: even a SIGKILL leaves no process and no folder.

    python -I -S keeper.py FOLDER      with a pipe for standard input whose other end the trainer alone holds

When the pipe closes, every process whose environment says TMPDIR=FOLDER/... is killed and FOLDER is deleted.
It runs as a script of its own, so it imports nothing but the standard library.
"""

import contextlib
import os
import shutil
import signal
import sys

PASSES = 3
"""A process may fork while the list is read; what it left is found in the next pass."""


def main(folder: str) -> None:
    """Wait for the end of the trainer, then clear up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    marker = f"TMPDIR={folder}/".encode()
    for _ in range(PASSES):
        for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
            if entry.isdigit() and int(entry) != os.getpid() and _carries(entry, marker):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(int(entry), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _carries(pid: str, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return any(variable.startswith(marker) for variable in file.read().split(b"\0"))
    except OSError:
        return False


if __name__ == "__main__":
    main(sys.argv[1])
