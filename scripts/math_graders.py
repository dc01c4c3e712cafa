"""Math graders for scripts/bench_math, each in a process of its own that is killed when a check hangs.

An exception in a grader is told as `error`; a check that takes over 20 seconds, or its process's life, as
`hang`.
"""

import contextlib
import json
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

OURS, PEER = "ours", "math-verify"
HANG_S = 20.0
START_S = 120.0
WORKERS = 2
MEMORY_BYTES = 6 * 2**30
"""Address space of a grader's process."""

Question = tuple[str, Any]
"""A completion and the gold answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a grader says."""

    status: str
    """right, wrong, no_answer, error or hang."""
    why: str
    cpu_s: float
    """Its children's included."""

    @property
    def is_right(self) -> bool:
        return self.status == "right"


def graded(name: str, questions: list[Question]) -> list[Reply]:
    """A reply to each question; one that stands there twice is asked once."""
    keys = [json.dumps(question) for question in questions]
    distinct = list(dict.fromkeys(keys))

    def check(chosen: list[str]) -> list[Reply]:
        with Grader(name) as grader:
            return list(grader.check([json.loads(key) for key in chosen]))

    with ThreadPoolExecutor(WORKERS) as pool:
        replies = list(pool.map(check, [distinct[n::WORKERS] for n in range(WORKERS)]))
    answered = {key: replies[n % WORKERS][n // WORKERS] for n, key in enumerate(distinct)}
    return [answered[key] for key in keys]


class Grader:
    """This file as a program, with one grader; begun anew after a check that hung."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""

    def check(self, questions: list[Question]) -> Iterator[Reply]:
        done = 0
        while done < len(questions):
            for reply in self._until_one_hangs(questions[done:]):
                done += 1
                yield reply
            if done < len(questions):
                self.close()
                done += 1
                yield Reply("hang", f"over {HANG_S:.0f} s, or its process ended", HANG_S)

    def _until_one_hangs(self, questions: list[Question]) -> Iterator[Reply]:
        process = self.process or self._start()
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):  # no answer will tell
            process.stdin.write(json.dumps(questions).encode() + b"\n")
            process.stdin.flush()
        for _ in questions:
            line = self._line(process, HANG_S)
            if line is None:
                return
            yield Reply(**json.loads(line))

    def _start(self) -> subprocess.Popen[bytes]:
        self.process = process = subprocess.Popen(
            [sys.executable, __file__, self.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._line(process, START_S) is None:
            self.close()
            raise RuntimeError(f"{self.name} does not start: run `{sys.executable} {__file__} {self.name}`")
        return process

    def _line(self, process: subprocess.Popen[bytes], limit_s: float) -> bytes | None:
        """The next line; None where it does not come in time."""
        assert process.stdout
        deadline = time.monotonic() + limit_s
        while b"\n" not in self.unread:
            ready = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0.0))[0]
            more = os.read(process.stdout.fileno(), 2**16) if ready else b""
            if not more:
                return None
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        return line

    def close(self) -> None:
        if self.process:
            self.process.kill()
            with contextlib.suppress(BrokenPipeError):
                self.process.communicate()
        self.process, self.unread = None, b""

    def __enter__(self) -> "Grader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- the process -------------------------------------------------------------------------------------------


def work(name: str) -> None:
    """Answer lists of questions, a line each, until the pipe is closed."""
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a grader prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    grade = GRADERS[name]()
    os.write(answers, b"started\n")
    for line in sys.stdin:
        for completion, gold in json.loads(line):
            begun = cpu_s()
            try:
                status, why = grade(completion, gold)
            except Exception as error:  # noqa: BLE001 - told as it is
                status, why = "error", f"{type(error).__name__}: {error}"
            reply = {"status": status, "why": why, "cpu_s": cpu_s() - begun}
            os.write(answers, json.dumps(reply).encode() + b"\n")


def cpu_s() -> float:
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def ours() -> Callable[[str, Any], tuple[str, str]]:
    from rlvr_verifiers.math import math

    def grade(completion: str, gold: Any) -> tuple[str, str]:
        verdict = math(completion, gold)
        return verdict.status, verdict.why

    return grade


def math_verify() -> Callable[[str, Any], tuple[str, str]]:
    """As installed, its own time limits included; a gold that is no whole text is given a box."""
    from math_verify import parse, verify

    def grade(completion: str, gold: Any) -> tuple[str, str]:
        wanted = parse(gold if r"\boxed" in gold else f"\\boxed{{{gold}}}")
        return ("right" if verify(wanted, parse(completion)) else "wrong"), ""

    return grade


GRADERS = {OURS: ours, PEER: math_verify}

if __name__ == "__main__":
    work(sys.argv[1])
