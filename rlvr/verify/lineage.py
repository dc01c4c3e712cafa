"""The processes below a process, and how to end them all (read from /proc; without it none are seen)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Container


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


def kill_own_children(spared: Container[int] = ()) -> None:
    """Kill and reap every child of this process but those spared; as a subreaper, every orphan below it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
            if reaped == 0:
                doomed = [child for child in _own_children() if child not in spared]
                if not doomed:
                    return
                for child in doomed:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(child, signal.SIGKILL)
                time.sleep(0.001)


def _own_children() -> list[int]:
    """Where the kernel keeps lists of them, by thread: far cheaper than a look at every process."""
    found: list[int] = []
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        return children(os.getpid())
    return found
