"""Runs verifiers in worker processes that can be killed: a broken one is never a reward and stops no run.

submit -> queue -> one thread a worker: keeps the deadline of the one check that runs -> worker process
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rlvr.errors import VerifierError
from rlvr.keeper import Keeper
from rlvr.types import Problem, Role, Verdict
from rlvr.verify import wire
from rlvr.verify.process import LostError, WorkerProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A verifier as a recipe names it."""

    name: str
    """Registered name, `package.module:function` or `./file.py:function`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The verifier's own options."""
    timeout_s: float | None = None
    """Wall time of a check before its worker is killed; None is the verifier's own."""
    memory_bytes: int = 2 * 2**30
    """Address space of a worker during the check."""
    weight: float = 1.0
    """Share in the reward where there are several, > 0."""
    role: Role = "reward"
    """What it is for where there are several."""
    base_dir: Path | str | None = None
    """Folder that a file name is relative to: the recipe's; None is the current one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    spec_index: int
    problem_json: str
    completion: str
    seed: int
    future: Future[Verdict]


class Pool:
    """Worker processes that check completions.  VerifierError where a verifier cannot be loaded."""

    def __init__(
        self, specs: Sequence[Spec], workers: int, *, sandbox: str = "rlvr.sandbox.local:LocalSandbox"
    ) -> None:
        """Start `workers` processes and wait until all are ready.  `sandbox` names what to offer them."""
        self._specs = tuple(specs)
        self._hello = _hello(self._specs, sandbox)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._keeper = Keeper("rlvr-verify-")
        self._lock = threading.Lock()
        self._is_closed = False
        self.wants: frozenset[str] = frozenset()
        """What the verifiers ask for: names out of `rlvr.verify.api.OFFERED`."""
        self._running: dict[int, WorkerProcess] = {}
        self._last_problem: tuple[Problem, str] | None = None
        started: list[Future[None]] = [Future() for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._serve, args=(slot, ready), name=f"verify-{slot}", daemon=True)
            for slot, ready in enumerate(started)
        ]
        for thread in self._threads:
            thread.start()
        try:
            for ready in started:
                ready.result()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, spec_index: int, problem: Problem, completion: str, seed: int = 0) -> Future[Verdict]:
        """Check with `specs[spec_index]`; the future gets a verdict, or is cancelled by close()."""
        future: Future[Verdict] = Future()
        try:
            problem_json = self._encoded(problem)
        except (TypeError, ValueError, RecursionError) as error:
            future.set_result(
                wire.failed(f"problem {problem.id}: its answer or meta is not JSON-like: {error}")
            )
            return future
        job = _Job(
            spec_index=range(len(self._specs))[spec_index],
            problem_json=problem_json,
            completion=completion,
            seed=seed,
            future=future,
        )
        with self._lock:
            if self._is_closed:
                raise VerifierError("the verifier pool is closed; submit before close().")
            self._jobs.put(job)
        return future

    def close(self) -> None:
        """Kill every worker and cancel what waits; safe to call twice."""
        with self._lock:
            self._is_closed = True
            running = list(self._running.values())
        for worker in running:
            worker.kill()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._keeper.close()

    def worker_pids(self) -> list[int]:
        """Process ids of the live workers."""
        with self._lock:
            return [worker.pid for worker in self._running.values()]

    def _encoded(self, problem: Problem) -> str:
        """JSON of a problem; siblings are submitted one after another, so the last one is kept."""
        last = self._last_problem
        if last is None or last[0] is not problem:
            last = self._last_problem = (problem, wire.encode_problem(problem))
        return last[1]

    def _serve(self, slot: int, ready: Future[None]) -> None:
        """One worker's life, and the lives of those that replace it."""
        try:
            self._worker(slot)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that makes the pool
            ready.set_exception(error)
        else:
            ready.set_result(None)
        while (job := self._jobs.get()) is not None:
            if self._is_closed:
                job.future.cancel()
            elif job.future.set_running_or_notify_cancel():
                job.future.set_result(self._checked(slot, job))
        self._drop(slot)

    def _checked(self, slot: int, job: _Job) -> Verdict:
        spec = self._specs[job.spec_index]
        timeout_s = 0.0
        try:
            worker = self._worker(slot)
            timeout_s = spec.timeout_s or worker.timeouts[job.spec_index]
            verdict, is_spent = worker.check(
                job.spec_index, job.problem_json, job.completion, job.seed, timeout_s
            )
        except TimeoutError:
            is_spent = True
            why = f"verifier `{spec.name}` gave no answer within {timeout_s:g} s"
            verdict = Verdict(score=0.0, status="timeout", why=why, seconds=timeout_s)
        except (LostError, VerifierError, OSError) as error:
            is_spent, verdict = True, wire.failed(f"verifier `{spec.name}`: {error}")
        if is_spent:
            self._drop(slot)
        return verdict

    def _worker(self, slot: int) -> WorkerProcess:
        """The slot's worker; a new one if it has none or lost it between two checks."""
        worker = self._running.get(slot)
        if worker is not None and worker.is_alive():
            return worker
        self._drop(slot)
        worker = WorkerProcess(self._hello, self._keeper.folder)
        with self._lock:
            if not self._is_closed:
                self._running[slot], self.wants = worker, worker.wants
                return worker
        worker.kill()
        raise LostError("the pool was closed")

    def _drop(self, slot: int) -> None:
        with self._lock:
            worker = self._running.pop(slot, None)
        if worker is not None:
            worker.kill()


def _hello(specs: Sequence[Spec], sandbox: str) -> bytes:
    rows = [
        {
            "name": spec.name,
            "options": dict(spec.options),
            "memory_bytes": spec.memory_bytes,
            "base_dir": os.path.abspath(spec.base_dir or "."),
        }
        for spec in specs
    ]
    if not rows:
        raise VerifierError("a pool needs at least one verifier; name one under `verifier:`.")
    try:
        return json.dumps({"specs": rows, "sandbox": sandbox}).encode() + b"\n"
    except TypeError as error:
        raise VerifierError(f"an option of a verifier is not JSON-like: {error}") from error
