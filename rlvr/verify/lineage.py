"""The processes below a process, and how to end them all (read from /proc; without it none are seen)."""

from __future__ import annotations

import contextlib
import os
import signal
import time


def children(pid: int) -> list[int]:
    """Process ids whose parent is `pid`."""
    found = []
    for entry in os.listdir("/proc") if os.path.isdir("/proc") else []:
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{entry}/stat", "rb") as file:
                # The name in parentheses may hold anything; the parent's id is the second field behind it.
                if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(entry))
    return found


def kill_tree(pid: int) -> None:
    """SIGKILL `pid` and all below it, those in other sessions included.

    Each is stopped before its children are listed: what is stopped cannot fork.
    """
    stopped, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(parent, signal.SIGSTOP)
        stopped.append(parent)
        waiting += [child for child in children(parent) if child not in stopped]
    for one in stopped:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def kill_own_children() -> None:
    """Kill and reap every child of this process, and as a subreaper every orphan below it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
            if reaped == 0:
                for child in children(os.getpid()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(child, signal.SIGKILL)
                time.sleep(0.001)
