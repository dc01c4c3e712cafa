"""The pool's end of one worker: starts it, asks it under a deadline, and kills it with all it has started."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from rlvr.errors import VerifierError
from rlvr.types import Verdict
from rlvr.verify import lineage, wire

START_S = 60.0
"""Time for a worker to load its verifiers."""
GRACE_S = 5.0


class LostError(Exception):
    """The worker is gone, or can no longer be believed."""


class WorkerProcess:
    """One worker, ready to be asked.

    Linux ties a worker's life to the *thread* that started it: that thread must outlive it.
    """

    def __init__(self, hello: bytes, folder: str) -> None:
        """Start it and wait until it has loaded what `hello` names; VerifierError says why it could not.

        Its own folder for temporary files is made in `folder` and goes with it.
        """
        self._scratch = tempfile.mkdtemp(dir=folder)
        self._channel, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "rlvr.verify.worker", str(theirs.fileno()), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=_environment(self._scratch),
            )
        try:
            answer = self._exchange(hello, START_S)
        except TimeoutError:
            self.kill()
            raise VerifierError(
                f"the verifiers did not load within {START_S:g} s: what do they do at import?"
            ) from None
        except LostError as error:
            self.kill()
            raise VerifierError(f"a verifier ended its worker while it was loaded: {error}") from None
        if "failed" in answer:
            self.kill()
            raise VerifierError(str(answer["failed"]))
        wants = answer.get("wants")
        self.wants = frozenset(map(str, wants)) if isinstance(wants, list) else frozenset[str]()
        """What its verifiers ask for."""
        self.timeouts: list[float] = [float(seconds) for seconds in answer["timeouts"]]
        """Wall time of a check by each, where nobody says another."""

    @property
    def pid(self) -> int:
        """Its process id, and that of its session."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def check(
        self, spec_index: int, problem_json: str, completion: str, seed: int, timeout_s: float
    ) -> tuple[Verdict, bool]:
        """The verdict, and whether the worker is spent; after TimeoutError or LostError it must be killed."""
        ticket = secrets.token_hex(8)
        head = json.dumps({"id": ticket, "spec": spec_index, "completion": completion, "seed": seed})
        answer = self._exchange(f'{head[:-1]}, "problem": {problem_json}}}'.encode() + b"\n", timeout_s)
        if answer.get("id") != ticket:
            raise LostError("its worker gave an answer that was not asked for: does it write to descriptors?")
        try:
            return wire.decode_verdict(answer.get("verdict")), bool(answer.get("spent"))
        except wire.UnusableResultError as error:
            raise LostError(f"its worker gave an unreadable answer: {error}") from None

    def kill(self) -> None:
        """End it and everything below it; safe to call twice and from another thread."""
        if self._process.poll() is None:
            lineage.kill_tree(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left in its session when it died by itself
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._channel.close()
        subprocess.run(["rm", "-rf", "--", self._scratch], check=False, stderr=subprocess.DEVNULL)

    def _exchange(self, line: bytes, timeout_s: float) -> dict[str, Any]:
        """Send a line and read one back within `timeout_s` in all."""
        deadline = time.monotonic() + timeout_s
        received = bytearray()
        try:
            self._channel.settimeout(timeout_s)
            self._channel.sendall(line)
            while not received.endswith(b"\n"):
                self._channel.settimeout(max(deadline - time.monotonic(), 1e-6))
                chunk = self._channel.recv(2**16)
                received += chunk
                if not chunk:
                    raise LostError(self._cause())
                if len(received) > wire.ANSWER_BYTES:
                    raise LostError("its worker wrote an endless answer")
        except TimeoutError:
            raise
        except OSError:
            raise LostError(self._cause()) from None
        return _parsed(received)

    def _cause(self) -> str:
        try:
            code = self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return "its worker closed the channel it answers on"
        if code >= 0:
            return f"its worker ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"its worker was killed by {signal.Signals(-code).name}"
        return f"its worker was killed by signal {-code}"


def _parsed(line: bytearray) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise LostError("its worker gave an unreadable answer: does it write to descriptors?")
    return answer


def _environment(scratch: str) -> dict[str, str]:
    """Ours with our import path, a folder to litter, and one thread: the workers are the parallelism."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    ours = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | dict(os.environ)
    return ours | {"PYTHONPATH": path, "TMPDIR": scratch}
