"""Rollout servers without a trainer: starts replicas and keeps them running until told to stop.

Their weights are random numbers until a trainer or `rlvr eval` hands them some.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlvr.errors import EngineError
from rlvr.keeper import Keeper
from rlvr.rollout.parcel import SHARED_MEMORY
from rlvr.rollout.replica import Replica, ReplicaError, check_host
from rlvr.rollout.vllm_settings import VllmSettings, engine_arguments

LOOK_S = 0.5
HUNG_S = 60.0
"""A server that lives but has not answered for so long is taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to serve, and where."""

    config: Any
    """The model's transformers configuration."""
    settings: VllmSettings
    """How vLLM is set up."""
    replicas: int
    """Servers."""
    host: str
    """Address they listen on: loopback or private."""
    port: int
    """Of the first; the others follow."""
    key: str
    """What they ask for."""
    threads: int | None = None
    """CPU threads of each."""
    say: Callable[[str], None] = field(default=print)
    """Hears what happens."""


def serve(plan: Plan, ready: Callable[[Sequence[str]], None]) -> None:
    """Run the servers until a signal's exception ends it; `ready` is called with their addresses.

    A server that ends is started anew, `settings.failures` times each; then EngineError ends them all.
    """
    check_host(plan.host)
    for number in range(plan.replicas):
        _free(plan.host, plan.port + number)
    plan.say(f"starting {plan.replicas} vLLM server(s): wait for the line `ready:`")
    keeper = Keeper("rlvr-serve-", SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None)
    running: list[Replica] = []
    try:
        folder = os.path.join(keeper.folder, "model")
        plan.config.save_pretrained(folder)
        arguments = engine_arguments(plan.settings, folder, plan.config)
        running += [_replica(plan, arguments, keeper.folder, number) for number in range(plan.replicas)]
        for replica in running:
            _wait(replica, plan.settings.start_s)
        ready([replica.client.url for replica in running])
        failures, heard = [0] * plan.replicas, [time.monotonic()] * plan.replicas
        while True:
            time.sleep(LOOK_S)
            for number, replica in enumerate(running):
                if replica.is_alive() and replica.client.is_healthy():
                    heard[number] = time.monotonic()
                if replica.is_alive() and time.monotonic() - heard[number] < HUNG_S:
                    continue
                failures[number] += 1
                if failures[number] > plan.settings.failures:
                    raise EngineError(
                        f"{replica.client.url} ended {failures[number]} times: {replica.words()}"
                    )
                plan.say(
                    f"{replica.client.url} ended; start {failures[number]} of {plan.settings.failures} anew: "
                    f"{replica.words()}"
                )
                replica.close(patience_s=0.0)
                running[number] = _replica(plan, arguments, keeper.folder, number)
                _wait(running[number], plan.settings.start_s)
                heard[number] = time.monotonic()
                plan.say(f"{replica.client.url} is ready again")
    finally:
        for replica in running:
            replica.close(patience_s=0.0)
        keeper.close()


def read_key(path: Path) -> str:
    """The key in a file that its owner alone may read; made where there is none."""
    try:
        if path.exists():
            key = path.read_text().strip()
            if not key:
                raise EngineError(f"{path} is empty: delete it, and a new key is made")
            return key
        path.parent.mkdir(parents=True, exist_ok=True)
        key = secrets.token_hex(16)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{key}\n")
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; name another with --key-file") from error
    return key


def _replica(plan: Plan, arguments: dict[str, Any], scratch: str, number: int) -> Replica:
    each = plan.settings.tensor_parallel
    return Replica(
        arguments,
        key=plan.key,
        scratch=scratch,
        host=plan.host,
        port=plan.port + number,
        threads=plan.threads,
        gpus=range(number * each, (number + 1) * each) if plan.settings.on_gpu else (),
    )


def _wait(replica: Replica, start_s: float) -> None:
    try:
        replica.wait(start_s)
    except ReplicaError as error:
        raise EngineError(f"{replica.client.url} {error}") from error


def _free(host: str, port: int) -> None:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        raise EngineError(f"port {port} on {host} cannot be taken ({error}); give another --port") from error
