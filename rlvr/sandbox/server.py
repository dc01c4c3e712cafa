"""The fork server: a warm interpreter behind namespaces that makes one child a run and keeps its clock.

    python -S -P -s server.py CONTROL_FD        with an empty environment

It runs no program itself and holds nothing worth stealing: source and input go to the child alone, when its
walls are up.  It ends, and with it all that it started, when the other end of the control socket closes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import struct
import sys
import time
import types
from _socket import CMSG_SPACE, socket
from typing import NoReturn

if __name__ == "__main__":  # Our package without its door, which would import the whole of it.
    _package = types.ModuleType("rlvr")
    _package.__path__ = [os.path.dirname(os.path.dirname(os.path.realpath(__file__)))]
    sys.modules["rlvr"] = _package

from rlvr.sandbox import inside, kernel
from rlvr.sandbox.walls import RULES_FD, Limits, Walls

ORDER = struct.Struct("<BddQ")
"""Kind of the run, CPU seconds, wall seconds, bytes of memory."""
ENDED = struct.Struct("<BidQ")
"""Who ended it (an index of ENDS), its exit code or minus its signal, CPU seconds, peak of memory in KiB."""
ENDS = ("itself", "cpu", "wall", "asked", "unforked")
UNFORKED = ENDED.pack(ENDS.index("unforked"), 0, 0.0, 0)


def judge() -> int:
    """Run tests, in a server that has loaded what that needs."""
    from rlvr.sandbox import judging

    return judging.judge()


KINDS = (inside.run_program, inside.serve_functions, judge)
UP = b"+"
"""Written to the wire by a child whose walls are up, before it knows anything of the program."""
NICE_TO_HAVE = (
    "bisect collections contextlib copy functools heapq itertools json math operator random re"
    " string traceback typing"
)
"""Few: what is loaded makes every fork dearer, and most of it is used by few programs.  For the same reason
this side of the sandbox has no dataclasses (they load a third as much again as all of these), no sockets
but C's, and what judges need in servers for judges alone."""
FDS_BYTES = CMSG_SPACE(5 * 4)
"""Room for the most descriptors that a run is given."""
CLOSING = {4: kernel.closing_from(4), 5: kernel.closing_from(5)}
"""Closes what is left, by the number of descriptors that a run is given."""


def main(control_fd: int) -> None:
    """Build the walls that the first message names, say how that went, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC) < RULES_FD:
        pass  # ours must not lie where the descriptors of a run are to come
    control = socket(fileno=os.dup(control_fd))  # the first stays until then, in the place that it has
    config = json.loads(control.recv(2**16))
    os.umask(0o022)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    sys.path += config["packages"]
    if config["judges"]:
        import dataclasses  # noqa: F401 - a stone's throw from what judging loads

        from rlvr.sandbox import judging  # noqa: F401 - behind the walls it cannot be read
    try:
        walls = Walls(config["tier"], config["packages"])
        if walls.has_scratch:
            enter()
        walls.raise_all()
    except OSError as error:
        control.send(json.dumps({"failed": str(error)}).encode())
        return
    _settle(config["preload"])
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: a flood is to end the run
    walls.settle()
    control.send(json.dumps({"landlock": walls.landlock, "counts_threads": walls.counts_threads}).encode())
    serve(control, walls)


def enter() -> None:
    """Go on as process 1 of new namespaces; the process that was here waits for it, and ends with it."""
    from rlvr.sandbox.walls import enter_namespaces

    enter_namespaces()
    first = os.getpid()
    pid = os.fork()
    if pid:
        kernel.closing_from(0)()
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)
        os._exit(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    assert os.getpid() == 1 != first, "the first process of its namespace"


def serve(control: socket, walls: Walls) -> None:
    """One run after another, until the other end closes.

    Its own descriptors lie at `RULES_FD` and above: those of a run arrive at 0, 1, 2, ..., their places.
    Every object touched while a child lives costs the copy of a page: what can be done before or after, is.
    """
    watch = Watch(control)
    os.closerange(0, RULES_FD)
    parent = os.getpid()
    last = b""
    while True:
        order, beside, _, _ = control.recvmsg(ORDER.size, FDS_BYTES)
        if not order:
            return
        if len(order) != ORDER.size:  # the wish to end a run that had ended by then
            continue
        if order != last:
            last = order
            kind, cpu_s, wall_s, memory_bytes = ORDER.unpack(order)
            limits = Limits(cpu_s=cpu_s, wall_s=wall_s, memory_bytes=memory_bytes)
            walls.make_ready(limits)
        fds = memoryview(beside[0][2]).cast("i").tolist()
        assert fds == [*range(len(fds))], "descriptors are where a run wants them"
        watch.begin(limits)
        try:
            pid = kernel.fork()
        except OSError:  # too many processes or too little memory, at this moment
            pid = -1
        if pid == 0:
            _be(kind, len(fds), walls, parent)
        ended = watch.end(pid) if pid > 0 else UNFORKED
        for fd in fds:
            os.close(fd)
        control.send(ended)
        walls.renew()


class Watch:
    """Waits for the end of a child, or ends it: at its limits, and when the other side asks or is gone."""

    def __init__(self, control: socket) -> None:
        self._control = control
        self._children = kernel.hearing(signal.SIGCHLD)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._children, select.POLLIN)

    def begin(self, limits: Limits) -> None:
        """The clocks of the next child start."""
        self._limits, self._started = limits, time.monotonic()
        self._patience_ms = _patience_ms(limits.wall_s, limits.cpu_s)

    def end(self, pid: int) -> bytes:
        """How the child ended, as `ENDED`."""
        end, found = "itself", 0
        while not found:
            heard = [fd for fd, _ in self._poll.poll(self._patience_ms)]
            if self._children in heard:
                os.read(self._children, 1024)
                found, status, used = os.wait4(pid, os.WNOHANG)
            elif heard:
                end = "asked"
                break
            else:
                wall_left = self._limits.wall_s - (time.monotonic() - self._started)
                cpu_left = self._limits.cpu_s - _cpu_seconds(pid)
                if min(wall_left, cpu_left) <= 0:
                    end = "wall" if wall_left <= 0 else "cpu"
                    break
                self._patience_ms = _patience_ms(wall_left, cpu_left)
        if not found:
            os.kill(pid, signal.SIGKILL)
            _, status, used = os.wait4(pid, 0)
        if status:
            _reap()
        if end == "asked":
            self._control.recv(1)
            end = end if os.waitstatus_to_exitcode(status) == -signal.SIGKILL else "itself"  # at its end then
        cpu_s = used.ru_utime + used.ru_stime
        return ENDED.pack(ENDS.index(end), os.waitstatus_to_exitcode(status), cpu_s, used.ru_maxrss)


def _patience_ms(wall_left: float, cpu_left: float) -> float:
    """How long to wait before the clocks are looked at: threads burn CPU time faster than the clock runs."""
    return 1000 * min(wall_left, max(cpu_left / 2, 0.01)) + 1


def _cpu_seconds(pid: int) -> float:
    """CPU time of another process: its clock's number is made of its own."""
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _reap() -> None:
    """Orphans come to process 1; there should be none."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _be(kind: int, fds: int, walls: Walls, parent: int) -> NoReturn:
    """The child, with so many descriptors: walls, a sign of life, then the program."""
    code = 1
    try:
        walls.close_in(parent)
        CLOSING[fds]()
        os.write(inside.WIRE, UP)
        code = KINDS[kind]()
    except BaseException as error:  # noqa: BLE001 - nothing of ours goes on in a child
        with contextlib.suppress(OSError):
            os.write(inside.WIRE, f"{type(error).__name__}: {error}"[:300].encode())
    finally:
        os._exit(code)


def _settle(preload: list[str]) -> None:
    """Load what programs like to import, once for all of them."""
    for name in (*NICE_TO_HAVE.split(), *preload):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import site

    site.setquit()  # exit() and its like, which -S leaves out
    site.setcopyright()
    site.sethelper()
    sys.argv[:] = ["main.py"]
    kernel.prctl(kernel.PR_SET_NAME, b"rlvr-sandbox")
    for module in ("typing", *preload):
        for _ in range(TIMES if module in REHEARSALS else 0):
            inside.rehearse(REHEARSALS[module].encode())
    gc.collect()
    gc.disable()
    gc.freeze()


REHEARSALS = {
    "typing": """
import math
from typing import Dict, List, Optional

def total(numbers: List[int]) -> Optional[int]:
    \'\'\'Sum of the lengths of some words, and the greatest number.\'\'\'
    seen: Dict[str, int] = {}
    for at, number in enumerate(sorted(numbers)):
        if number % 2 == 0 and not number < 0:
            seen[str(number)] = seen.get(str(number), 0) + at
    words = " ".join(f"{k}={v}" for k, v in seen.items()).split()
    return sum(len(word) for word in words) + max([abs(n) for n in numbers], default=0)

def check(candidate):
    assert candidate([]) == 0
    assert candidate([1, 2]) == 5, "as said"
    assert abs(math.sqrt(4) - 2.0) < 1e-6

check(total)
print("done", total((3, 4)))
""",
    "numpy": """
import numpy as np
table = np.arange(6, dtype=float).reshape(2, 3) * 2 + np.array([1, 2, 3])
print(table.mean(), table.T.shape, int((table > 3).sum()), np.dot(table, np.zeros(3)).tolist())
""",
    "sympy": """
import sympy
x = sympy.Symbol("x")
print(sympy.expand((x + sympy.Rational(1, 3)) ** 2), sympy.sqrt(45) * x, (x - 2 * x).subs(x, 5))
""",
}
"""By module: programs that a server which has it loaded runs itself some times before it serves."""
TIMES = 20


if __name__ == "__main__":
    main(int(sys.argv[1]))
