"""Tier R: an executor on another machine runs the programs; what they print is read and compared here.

    sandboxfusion   POST URL/run_code             piston   POST URL/api/v2/execute

Expected values never leave this side.  Calls of functions travel as one program that prints their values; a
judge's box on a wire to a program is more than these executors offer: such tests are refused.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rlvr.sandbox import codec
from rlvr.sandbox.api import Judgement, Opaque, Outcome, Reply, RunStatus, SandboxError, Tier
from rlvr.sandbox.codec import CodecError

Kind = Literal["sandboxfusion", "piston"]
LATE_S = 30.0
"""Over the limits of the program: the executor's queue and the way there."""
ANSWER_BYTES = 2**25
DOORS = (
    "the executor's own isolation: not ours to probe",
    "the network: programs, their input and output cross it",
)

CALLER = """
import builtins, io, os, sys, types
codec = types.ModuleType("codec")
exec(compile({codec!r}, "codec.py", "exec"), codec.__dict__)
out = os.fdopen(os.dup(1), "w")
sys.stdout = io.StringIO()
def opaque(value): return {{"h": [0, type(value).__name__]}}
def said(*message):
    out.write("\\n{mark}" + codec.encode(list(message), opaque).decode() + "\\n")
    out.flush()
module = sys.modules["solution"] = types.ModuleType("solution")
try:
    exec(compile({source!r}, "solution.py", "exec", dont_inherit=True), module.__dict__)
except BaseException as error:
    said("no", type(error).__name__, str(error)[:500])
    os._exit(0)
for frame in {frames!r}:
    _, target, arguments, named = codec.decode(frame, None)
    try:
        name, _, rest = target.partition(".")
        found = getattr(module, name.removesuffix("()"))
        found = found() if name.endswith("()") else found
        said("ok", (getattr(found, rest) if rest else found)(*arguments, **named), {{}})
    except BaseException as error:
        said("no", type(error).__name__, str(error)[:500])
os._exit(0)
"""


class RemoteSandbox:
    """Runs programs by way of an executor's HTTP interface."""

    def __init__(self, url: str, kind: Kind = "sandboxfusion") -> None:
        if not url.startswith(("http://", "https://")):
            raise SandboxError(f"{url}: the address of a sandbox begins with http:// or https://")
        self._url = url.rstrip("/")
        self._asked, self._read = KINDS[kind]

    @property
    def tier(self) -> Tier:
        """R."""
        return "R"

    @property
    def open_doors(self) -> tuple[str, ...]:
        """What cannot be known from here."""
        return DOORS

    def run(
        self,
        source: str,
        *,
        stdin: str = "",
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Outcome:
        """Run `source` there."""
        path, body = self._asked(source, stdin, wall_s or timeout_s, memory_bytes)
        started = time.monotonic()
        answer = self._posted(path, body, (wall_s or timeout_s) + LATE_S)
        try:
            status, stdout, stderr, code = self._read(answer)
        except (KeyError, TypeError, AttributeError) as error:
            raise SandboxError(f"{self._url}{path}: an answer of another form than agreed: {error}") from None
        return Outcome(
            status=status,
            stdout=stdout,
            stderr=stderr,
            seconds=time.monotonic() - started,
            exit_code=code,
            open_doors=DOORS,
        )

    @contextmanager
    def load(
        self, source: str, *, timeout_s: float = 5.0, memory_bytes: int = 2**29, wall_s: float | None = None
    ) -> Iterator[RemoteProgram]:
        """Calls of its functions; each batch of them loads the program anew."""
        limits = {"timeout_s": timeout_s, "memory_bytes": memory_bytes, "wall_s": wall_s}
        yield RemoteProgram(lambda whole: self.run(whole, **limits), source)  # type: ignore[arg-type]  # by name

    def judge(
        self,
        source: str,
        tests: str,
        *,
        names: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        memory_bytes: int = 2**29,
        wall_s: float | None = None,
    ) -> Judgement:
        """Refused: SandboxError."""
        raise SandboxError(
            "tests that are more than calls compared with plain values need a box beside the program's: "
            "a remote executor has none. Use a machine with tier A or B, or tests of plain values."
        )

    def _posted(self, path: str, body: dict[str, Any], timeout_s: float) -> Any:
        request = urllib.request.Request(
            self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return json.loads(answer.read(ANSWER_BYTES))
        except (OSError, ValueError, urllib.error.HTTPError) as error:
            raise SandboxError(f"{self._url}{path}: the executor gave no answer: {error}") from None


class RemoteProgram:
    """A program that is sent with each batch of its calls."""

    def __init__(self, run: Callable[[str], Outcome], source: str) -> None:
        self._run = run
        self._source = source

    def call(self, function: str, *arguments: Any, **named: Any) -> Reply:
        """Call one of its functions."""
        return self._replies([_frame(function, arguments, named)])[0]

    def call_each(self, function: str, arguments: Sequence[Sequence[Any]]) -> list[Reply]:
        """Call one of its functions with each of several argument lists."""
        return self._replies([_frame(function, each, {}) for each in arguments])

    def _replies(self, frames: list[bytes]) -> list[Reply]:
        """What was printed as values: it is the program's to forge, and then a value of the program's."""
        library = Path(codec.__file__).read_text(encoding="utf-8")
        program = CALLER.format(codec=library, source=self._source, frames=frames, mark=MARK)
        outcome = self._run(program)
        lines = [line for line in outcome.stdout.split("\n") if line.startswith(MARK)][: len(frames)]
        replies = [_read_reply(line.removeprefix(MARK)) for line in lines]
        is_unloaded = len(replies) == 1 and replies[0].status != "ok" and len(frames) > 1
        status: RunStatus = outcome.status if outcome.status != "ok" else "error"
        missing = replies[0] if is_unloaded else Reply(status=status, error="it gave no value")
        return replies + [missing] * (len(frames) - len(replies))


MARK = "\x1erlvr "


def _frame(function: str, arguments: Sequence[Any], named: dict[str, Any]) -> bytes:
    return codec.encode(["call", function, list(arguments), named], _refuse)


def _refuse(value: Any) -> object:
    raise CodecError(f"a {type(value).__name__} is no data")


def _read_reply(line: str) -> Reply:
    try:
        kind, first, second = codec.decode(line.encode(), lambda _, content: Opaque(str(content[1])[:100]))
        words = codec.printable(f"{first}: {second}"[:1000]) if kind != "ok" else ""
    except (CodecError, ValueError, TypeError):
        return Reply(status="error", error="it gave no value")
    if kind == "ok":
        return Reply(status="ok", value=first)
    return Reply(status="memory" if first == "MemoryError" else "error", error=words)


def _ask_fusion(source: str, stdin: str, wall_s: float, memory_bytes: int) -> tuple[str, dict[str, Any]]:
    body = {"code": source, "language": "python", "stdin": stdin, "run_timeout": wall_s}
    return "/run_code", body | {"memory_limit_MB": memory_bytes >> 20}


def _read_fusion(answer: Any) -> tuple[RunStatus, str, str, int | None]:
    if answer["status"] == "SandboxError" or answer["run_result"] is None:
        raise SandboxError(f"the executor failed: {str(answer.get('message'))[:300]}")
    run = answer["run_result"]
    stdout, stderr, code = run.get("stdout") or "", run.get("stderr") or "", run.get("return_code")
    if run["status"] == "TimeLimitExceeded":
        return "timeout", stdout, stderr, None
    return _ended(code, stderr), stdout, stderr, code


def _ask_piston(source: str, stdin: str, wall_s: float, memory_bytes: int) -> tuple[str, dict[str, Any]]:
    body = {"language": "python", "version": "3.x", "stdin": stdin, "run_timeout": round(1000 * wall_s)}
    body |= {"files": [{"name": "main.py", "content": source}], "run_memory_limit": memory_bytes}
    return "/api/v2/execute", body


def _read_piston(answer: Any) -> tuple[RunStatus, str, str, int | None]:
    run = answer["run"]
    stdout, stderr, code = str(run["stdout"]), str(run["stderr"]), run["code"]
    status = {"TO": "timeout", "OL": "output", "EL": "output"}.get(run.get("status") or "")
    if status == "timeout" or (status is None and run.get("signal") == "SIGKILL"):
        return "timeout", stdout, stderr, None
    if run.get("status") == "XX":
        raise SandboxError(f"the executor failed: {str(run.get('message'))[:300]}")
    return ("output" if status else _ended(code, stderr)), stdout, stderr, code


def _ended(code: int | None, stderr: str) -> RunStatus:
    if code == 0:
        return "ok"
    return "memory" if stderr.rstrip().rpartition("\n")[2].startswith("MemoryError") else "error"


KINDS: dict[str, tuple[Callable[..., tuple[str, dict[str, Any]]], Callable[[Any], Any]]] = {
    "sandboxfusion": (_ask_fusion, _read_fusion),
    "piston": (_ask_piston, _read_piston),
}
