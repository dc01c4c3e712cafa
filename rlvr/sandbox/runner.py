"""Run as a script inside the new session: limits itself, then becomes the untrusted program.

    runner.py PARENT_PID LIMIT=VALUE ... -- COMMAND ...

Limits and the wish to die with the parent outlive exec, so the program starts clean and cannot lift them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def main(arguments: list[str]) -> None:
    """Apply the limits and exec the command."""
    split = arguments.index("--")
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != int(arguments[0]):
        os._exit(1)
    for limit in arguments[1:split]:
        name, _, value = limit.partition("=")
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        size = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        resource.setrlimit(kind, (size, size))
    os.execv(arguments[split + 1], arguments[split + 1 :])


if __name__ == "__main__":
    main(sys.argv[1:])
