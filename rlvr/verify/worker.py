"""A worker: a process that loads verifiers and answers one check after another until it is killed.

    python -m rlvr.verify.worker CHANNEL_FD PARENT_PID

It imports no torch.  The pool keeps the clock and kills; nothing in here waits or sets alarms.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from rlvr.errors import VerifierError
from rlvr.types import Verdict
from rlvr.verify import lineage, wire
from rlvr.verify.registry import AnyVerifier, resolve

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A verifier ready to run."""

    verifier: AnyVerifier
    """The plugin."""
    options: dict[str, Any]
    """What it is called with besides what it asks for."""
    memory_bytes: int
    """Address space while it runs."""


def main(channel_fd: int, parent_pid: int) -> None:
    """Load what the first line names, say so, then answer requests until the channel closes."""
    channel = _take(channel_fd)
    _settle(channel, parent_pid)
    with open(channel, "rb", buffering=2**16, closefd=False) as lines:
        hello = json.loads(lines.readline())
        _limit_memory(max(spec["memory_bytes"] for spec in hello["specs"]), hard=True)
        try:
            checks = [_load(spec) for spec in hello["specs"]]
            offer, kept = _sandbox_factory(hello["sandbox"])
        except VerifierError as error:
            _send(channel, {"failed": str(error)})
            return
        wants = sorted({name for check in checks for name in check.verifier.wants})
        timeouts = [check.verifier.timeout_s for check in checks]
        _send(channel, {"ready": os.getpid(), "wants": wants, "timeouts": timeouts})
        me = os.getpid()
        for line in iter(lines.readline, b""):
            request = json.loads(line)
            verdict, is_spent = _run(checks[request["spec"]], request, offer)
            if os.getpid() != me:  # a fork of the plugin came back here: only one of us answers
                os._exit(0)
            lineage.kill_own_children(kept())
            _send(channel, {"id": request["id"], "verdict": wire.encode_verdict(verdict), "spent": is_spent})


def _run(check: Check, request: dict[str, Any], offer: Callable[[], Any]) -> tuple[Verdict, bool]:
    """The verdict, and whether this process has had enough (its memory ran out)."""
    started = time.perf_counter()
    is_spent = False
    try:
        _limit_memory(check.memory_bytes)
        result = check.verifier.function(**_arguments(check, request, offer), **check.options)
        verdict = wire.verdict_of(result)
    except wire.UnusableResultError as error:
        verdict = wire.failed(f"verifier `{check.verifier.name}` ({check.verifier.place}): {error}")
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises, SystemExit too, is no score
        is_spent = isinstance(error, MemoryError)
        verdict = wire.failed(_describe(error, check.verifier))
    return replace(verdict, seconds=time.perf_counter() - started), is_spent


def _arguments(check: Check, request: dict[str, Any], offer: Callable[[], Any]) -> dict[str, Any]:
    problem = wire.decode_problem(request["problem"])
    makers: dict[str, Callable[[], Any]] = {
        "completion": lambda: request["completion"],
        "answer": lambda: problem.answer,
        "problem": lambda: problem,
        "sandbox": offer,
        "seed": lambda: request["seed"],
    }
    return {name: makers[name]() for name in check.verifier.wants}


def _describe(error: BaseException, verifier: AnyVerifier) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    file = verifier.function.__code__.co_filename
    own = [frame for frame in frames if frame.filename == file]
    place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
    try:
        said = str(error)
    except BaseException:  # noqa: BLE001 - the plugin's exception may itself be broken
        said = "its message cannot be printed"
    return f"{type(error).__name__}: {wire.shorten(said)[:300]}{place}"


def _load(spec: dict[str, Any]) -> Check:
    verifier = resolve(spec["name"], spec["base_dir"])
    options = verifier.configured(spec["options"])
    return Check(verifier=verifier, options=options, memory_bytes=spec["memory_bytes"])


def make_sandbox(named: str) -> Any:
    """The sandbox `module:Class ARGUMENT ...`."""
    place, *arguments = named.split()
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)(*arguments)


def _sandbox_factory(named: str) -> tuple[Callable[[], Any], Callable[[], Container[int]]]:
    """Makes the sandbox that the pool names when a verifier first asks for one.

    Beside it, the processes that it keeps from one check to the next.
    """
    made: list[Any] = []

    def offer() -> Any:
        if not made:
            made.append(make_sandbox(named))
        return made[0]

    return offer, lambda: getattr(made[0], "kept_pids", ()) if made else ()


def _take(given_fd: int) -> int:
    """Move the channel to a high number that no plugin comes upon by accident and no program inherits."""
    ceiling = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 2**16)
    channel = fcntl.fcntl(
        given_fd, fcntl.F_DUPFD_CLOEXEC, random.SystemRandom().randrange(ceiling // 2, ceiling - 8)
    )
    os.close(given_fd)
    return channel


def _settle(channel: int, parent_pid: int) -> None:
    """Die with the parent, adopt orphans, leave no core, and keep the channel out of forks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pool to answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: None
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    if os.getppid() != parent_pid:  # it died before we asked to be told
        os._exit(0)

    def in_fork() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(channel)

    os.register_at_fork(after_in_child=in_fork)


def _limit_memory(size: int, *, hard: bool = False) -> None:
    ceiling = size if hard else resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (size, ceiling))


def _send(channel: int, message: dict[str, Any]) -> None:
    """Write one line; when the channel is gone there is nobody left to work for."""
    data = json.dumps(message).encode() + b"\n"
    try:
        while data:
            data = data[os.write(channel, data) :]
    except OSError:
        _quit()


def _quit() -> NoReturn:
    lineage.kill_own_children()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
