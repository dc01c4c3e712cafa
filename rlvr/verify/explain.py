"""What a verifier says of its verdict, for a person: its `explain` function, run in a process that is killed.

    python -m rlvr.verify.explain      request on standard input, two lines on standard output: loaded, rows

The completions that people ask about are those that hang: it has a clock, a memory cap and a CPU cap, as a
check has, and whatever goes wrong with it is told in its place.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from rlvr.keeper import Keeper
from rlvr.types import Problem
from rlvr.verify import lineage, wire
from rlvr.verify.options import REQUIRED
from rlvr.verify.pool import Spec
from rlvr.verify.process import START_S
from rlvr.verify.registry import AnyVerifier, resolve
from rlvr.verify.worker import make_sandbox

Rows = list[tuple[str, str]]

MOST_ROWS = 64
LABEL, TEXT = 40, 2000
"""Characters kept of a label and of a text."""
MOST_BYTES = 2**21


def explained(
    spec: Spec, problem: Problem, completion: str, *, sandbox: str = "rlvr.sandbox.local:LocalSandbox"
) -> Rows:
    """What the spec's verifier says of a check; none where it explains nothing.  `sandbox` as for a pool.

    VerifierError where it cannot be found or its options are wrong.
    """
    verifier = resolve(spec.name, spec.base_dir)
    verifier.configured(spec.options)
    if verifier.explain is None:
        return []
    timeout_s = spec.timeout_s or verifier.timeout_s
    request = {
        "name": spec.name,
        "options": dict(spec.options),
        "base_dir": os.path.abspath(spec.base_dir or "."),
        "cpu_s": math.ceil(START_S + timeout_s),
        "memory_bytes": spec.memory_bytes,
        "problem": wire.encode_problem(problem),
        "completion": completion,
        "sandbox": sandbox,
    }
    keeper = Keeper("rlvr-explain-")
    try:
        return _asked(keeper.folder, json.dumps(request).encode(), timeout_s)
    finally:
        keeper.close()


def _asked(folder: str, request: bytes, timeout_s: float) -> Rows:
    process = _started(folder)
    try:
        return _heard(process, request, timeout_s)
    except EOFError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0)
        return _none(f"its process ended with exit code {process.returncode}")
    except (OSError, ValueError) as error:
        return _none(f"its process cannot be understood: {error}")
    finally:
        _end(process)


def _started(folder: str) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "rlvr.verify.explain"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=dict(os.environ) | {"PYTHONPATH": path, "TMPDIR": tempfile.mkdtemp(dir=folder)},
    )


def _heard(process: subprocess.Popen[bytes], request: bytes, timeout_s: float) -> Rows:
    """Its rows; EOFError where it is gone, OSError or ValueError where it talks nonsense."""
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin:
        process.stdin.write(request)
    received = bytearray()
    for line, (seconds, what) in enumerate(((START_S, "load"), (timeout_s, "end")), start=1):
        deadline = time.monotonic() + seconds
        while received.count(b"\n") < line:
            left = max(deadline - time.monotonic(), 0.0)
            if not select.select([process.stdout], [], [], left)[0]:
                return _none(f"it did not {what} within {seconds:g} s")
            chunk = os.read(process.stdout.fileno(), 2**16)
            if not chunk:
                raise EOFError
            received += chunk
            if len(received) > MOST_BYTES:
                raise ValueError("it writes without end")
    return [(str(label), str(text)) for label, text in json.loads(received.splitlines()[1])]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with all it has started."""
    if process.poll() is None:
        lineage.kill_tree(process.pid)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # what it left in its session when it died by itself
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _none(why: str) -> Rows:
    return [("explanation", f"none: {why}")]


def main() -> None:
    """In the process: say that all is loaded, then the rows; what the plugin prints goes nowhere."""
    request = json.loads(sys.stdin.buffer.read())
    with open(os.devnull, "r+b") as nowhere, os.fdopen(os.dup(1), "wb") as channel:
        for descriptor in (0, 1):
            os.dup2(nowhere.fileno(), descriptor)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"]))
        resource.setrlimit(resource.RLIMIT_AS, (request["memory_bytes"], request["memory_bytes"]))
        verifier = resolve(request["name"], request["base_dir"])
        channel.write(b"loaded\n")
        channel.flush()
        channel.write(json.dumps(_rows(verifier, request)).encode() + b"\n")


def _rows(verifier: AnyVerifier, request: Mapping[str, Any]) -> Rows:
    try:
        problem = wire.decode_problem(json.loads(request["problem"]))
        return _sound(_called(verifier, request, problem))
    except BaseException as error:  # noqa: BLE001 - whatever a plugin raises, SystemExit too, is shown
        said = "its message cannot be printed"
        with contextlib.suppress(Exception):
            said = str(error)
        return _none(f"{type(error).__name__}: {wire.shorten(said)}")


def _called(verifier: AnyVerifier, request: Mapping[str, Any], problem: Problem) -> object:
    """What the explain function returns, called with the very options of the check."""
    assert verifier.explain is not None
    defaults = {name: option.default for name, option in verifier.options.items()}
    options = {name: value for name, value in defaults.items() if value is not REQUIRED}
    options |= verifier.configured(request["options"])
    offered = {
        "completion": request["completion"],
        "answer": problem.answer,
        "problem": problem,
        "seed": 0,
        "options": options,
    }
    wanted = inspect.signature(verifier.explain).parameters
    if "sandbox" in wanted:
        offered["sandbox"] = make_sandbox(request["sandbox"])
    return verifier.explain(**{name: (offered | options)[name] for name in wanted})


def _sound(returned: object) -> Rows:
    """Its rows, cut to what a person reads; TypeError where they are none."""
    if not isinstance(returned, list | tuple):
        raise TypeError(f"it returned a {type(returned).__name__}, not a list of (label, text) pairs")
    rows = []
    for row in returned[:MOST_ROWS]:
        if not (isinstance(row, list | tuple) and len(row) == 2 and all(isinstance(x, str) for x in row)):
            raise TypeError(f"{str(row)[:100]} is no (label, text) pair")
        rows.append((_cut(row[0], LABEL), _cut(row[1], TEXT)))
    more = len(returned) - MOST_ROWS
    return [*rows, ("...", f"and {more} more")] if more > 0 else rows


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


if __name__ == "__main__":
    main()
