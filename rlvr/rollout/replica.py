"""One `vllm serve` process: its command, its start, its end; and a client for its routes."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import urllib3

from rlvr.errors import EngineError
from rlvr.keeper import SESSION, kill_below, note_session
from rlvr.rollout.vllm_settings import quiet_environment

LOG_LINES = 5
LONGEST_FOLDER = 70
"""A socket's name has at most 107 bytes, of which vLLM takes 37."""
POLL_S = 0.1
STOPPING_S = 5.0


class ReplicaError(Exception):
    """A server is gone, does not answer, or answers with an error of its own."""


class RefusedError(Exception):
    """A server understood the request and refuses it: asking again is no use."""


class WrongKeyError(RefusedError):
    """A server wants another key than ours."""


class Client:
    """The routes of one server; used by several threads at once."""

    def __init__(self, url: str, key: str, connections: int = 8) -> None:
        self.url = url.rstrip("/")
        self._pool = urllib3.connection_from_url(
            self.url, maxsize=connections, retries=False, headers={"Authorization": f"Bearer {key}"}
        )

    def is_healthy(self) -> bool:
        """Whether it answers now."""
        return not self.silence()

    def silence(self) -> str:
        """Why it does not answer now; empty where it does."""
        try:
            status = self._pool.request("GET", "/health", timeout=2.0).status
        except urllib3.exceptions.NewConnectionError:
            return "nothing listens there"
        except urllib3.exceptions.HTTPError:
            return "it does not answer"
        return "" if status == 200 else f"it answers /health with {status}"

    def post(self, route: str, body: Mapping[str, Any] | None = None, *, timeout_s: float) -> Any:
        """The answer's JSON; ReplicaError or RefusedError otherwise."""
        return self._ask("POST", route, timeout_s, json=body or {})

    def get(self, route: str, *, timeout_s: float) -> Any:
        """Likewise."""
        return self._ask("GET", route, timeout_s)

    def _ask(self, method: str, route: str, timeout_s: float, **more: Any) -> Any:
        try:
            answer = self._pool.request(method, route, timeout=timeout_s, **more)
            text = answer.data.decode(errors="replace")
        except urllib3.exceptions.ReadTimeoutError:
            raise ReplicaError(f"{self.url}{route}: no answer within {timeout_s:g} s") from None
        except urllib3.exceptions.HTTPError as error:
            raise ReplicaError(f"{self.url}{route}: {type(error).__name__}: {error}") from None
        if answer.status == 401:
            raise WrongKeyError(f"{self.url} wants another key: see vllm.key_file")
        if 400 <= answer.status < 500:
            raise RefusedError(f"{self.url}{route}: {answer.status}: {text[:500]}")
        if answer.status != 200:
            raise ReplicaError(f"{self.url}{route}: {answer.status}: {text[:500]}")
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def call(self, method: str, *, timeout_s: float) -> list[Any]:
        """Run a method of the worker extension on every worker; their answers."""
        answer = self.post("/collective_rpc", {"method": method}, timeout_s=timeout_s)
        return list((answer or {}).get("results", []))

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class Replica:
    """A server of our own, in a session of its own, whose litter lies in `scratch`."""

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        key: str,
        scratch: str,
        host: str = "127.0.0.1",
        port: int = 0,
        threads: int | None = None,
        gpus: Sequence[int] = (),
    ) -> None:
        """Start it, on a free port where `port` is 0; `wait` tells when it is ready.

        `gpus` are numbers among those that this process sees.
        """
        self.port = port or free_port(host)
        self.client = Client(f"http://{host}:{self.port}", key, connections=4096)
        folder = Path(tempfile.mkdtemp(dir=scratch))
        self.log, litter = folder / "log", folder / "tmp"
        litter.mkdir()
        if len(str(litter)) > LONGEST_FOLDER:
            raise EngineError(
                f"{litter}: too long a name for the sockets that vLLM makes in it; set TMPDIR to a short "
                "one, such as /tmp"
            )
        self._command = command(arguments, host, self.port)
        environment = dict(os.environ) | quiet_environment(str(litter), threads=threads)
        environment |= {
            "VLLM_API_KEY": key,
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path),
        }
        if arguments.get("enforce_eager"):
            environment["TORCHDYNAMO_DISABLE"] = "1"  # one small helper would be compiled, for seconds
        if "gpu_memory_utilization" not in arguments and arguments.get("tensor_parallel_size", 1) == 1:
            # On CPU vLLM would start one process more, and the two wait for each other at full speed.
            environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = chosen_gpus(gpus, environment.get("CUDA_VISIBLE_DEVICES"))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        note_session(str(folder), self.pid)

    @property
    def pid(self) -> int:
        """Its process id, and that of its session."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def wait(self, deadline_s: float) -> None:
        """Until it answers; ReplicaError with the end of its log when it does not."""
        deadline = time.monotonic() + deadline_s
        while not self.client.is_healthy():
            if not self.is_alive():
                raise ReplicaError(
                    f"ended with exit code {self._process.returncode} at its start: {self.words()}"
                )
            if time.monotonic() > deadline:
                raise ReplicaError(f"was not ready within {deadline_s:g} s: {self.words()}")
            time.sleep(POLL_S)
        note_session(str(self.log.parent), self.pid)

    def words(self) -> str:
        """The last lines of its log that say something."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line and "WARNING" not in line]
        errors = [
            line for line in errors if "EngineDeadError" not in line and "stack trace" not in line
        ] or errors
        return " | ".join((errors or lines)[-LOG_LINES:])[-1500:] or "it wrote nothing"

    def close(self, patience_s: float = STOPPING_S) -> None:
        """End it and all it has started; at once with `patience_s` 0."""
        self.client.close()
        deadline = time.monotonic() + patience_s
        if patience_s and self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            while self.is_alive() and time.monotonic() < deadline:
                time.sleep(POLL_S / 2)
        kill_below(str(self.log.parent))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOPPING_S)
        # Its number may soon be that of another session.
        (self.log.parent / SESSION).unlink(missing_ok=True)


def command(arguments: Mapping[str, Any], host: str, port: int) -> list[str]:
    """`vllm serve` for these arguments; the module, since the CPU build's console script is broken."""
    words = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", host, "--port", str(port)]
    words += ["--middleware", "rlvr.rollout.guard.Guard", "--enable-scale-out", "--disable-log-stats"]
    words += ["--disable-uvicorn-access-log"]
    for name, value in arguments.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, value if isinstance(value, str) else json.dumps(value)]
    return words


def chosen_gpus(wanted: Sequence[int], visible: str | None) -> str:
    """CUDA_VISIBLE_DEVICES of a server that takes `wanted` of what this process sees."""
    seen = [name.strip() for name in (visible or "").split(",") if name.strip()]
    if not seen:
        return ",".join(map(str, wanted))
    if max(wanted) >= len(seen):
        raise EngineError(
            f"the servers need {max(wanted) + 1} GPUs, and CUDA_VISIBLE_DEVICES shows {len(seen)}"
        )
    return ",".join(seen[number] for number in wanted)


def check_host(host: str) -> None:
    """EngineError unless `host` is a loopback or private address: its routes replace weights."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise EngineError(f"host {host}: give a numeric address, such as 127.0.0.1 or 10.0.0.5") from None
    if address.is_unspecified or not (address.is_private or address.is_loopback):
        raise EngineError(
            f"host {host}: whoever reaches a rollout server can replace its weights, so it listens on a "
            "loopback or private address only; use 127.0.0.1, or this machine's address in your own network"
        )


def free_port(host: str) -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
