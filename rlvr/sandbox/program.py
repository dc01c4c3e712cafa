"""A loaded program as our side holds it: calls go out as data, and what comes back is checked to be data."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

from rlvr.sandbox import codec
from rlvr.sandbox.api import Opaque, Reply
from rlvr.sandbox.client import Run
from rlvr.sandbox.codec import CodecError

REPLY_BYTES, CONTAINER_BYTES, ITEM_BYTES, CONTAINERS = 2**26, 64, 32, 2**18
"""Of all replies of a program together, what each container and each comma in them counts as, as objects are
larger than their text, and how many containers one reply may have."""
IN_FLIGHT, IN_FLIGHT_BYTES = 64, 2**15
"""Calls not yet answered: fewer than the wire holds, so that neither side waits for the other for ever."""
ENDINGS = {
    "timeout": "it was killed at its time limit",
    "memory": "it ran out of memory",
    "output": "it wrote more than it may",
}
SILENT = "it ended before it answered"
"""It exited well, closed its wire or sent what is no message."""


class LoadedProgram:
    """A program that waits to be called."""

    def __init__(self, run: Run) -> None:
        """Wait until it has loaded; `fault` says why it has not."""
        self._run = run
        self._dead: Reply | None = None
        self._given_bytes = 0
        self.public: list[str] = []
        """The names that it says it defines."""
        loaded = self._reply()
        self.fault = self._dead = self._dead or (None if loaded.status == "ok" else loaded)
        if self.fault is None and isinstance(loaded.value, list):
            self.public = [name for name in loaded.value if isinstance(name, str)]

    def call(self, function: str, /, *arguments: Any, **named: Any) -> Reply:
        """Call one of its functions."""
        return self._replies([_asked(function, arguments, named)])[0]

    def call_each(self, function: str, arguments: Sequence[Sequence[Any]]) -> list[Reply]:
        """Call one of its functions with each of several argument lists."""
        return self._replies([_asked(function, each, {}) for each in arguments])

    def handed_over(self) -> socket.socket:
        """Our end of the wire, for a judge: from here on it is not ours to read."""
        self._run.wire.setblocking(True)
        return self._run.wire

    def ended(self) -> Reply:
        """How it ended; it is ended by this where it still runs."""
        self._run.finish()
        status = self._run.status()
        if self._run.end == "asked":
            return Reply(status="ok")
        if status == "ok":
            return Reply(status="error", error=SILENT)
        how = f"it ended with exit code {self._run.exit_code}"
        return Reply(status=status, error=ENDINGS.get(status, how))

    def _replies(self, frames: list[bytes]) -> list[Reply]:
        replies: list[Reply] = []
        while len(replies) < len(frames):
            batch = frames[len(replies) : len(replies) + 1]
            for frame in frames[len(replies) + 1 : len(replies) + IN_FLIGHT]:
                if sum(map(len, batch)) + len(frame) > IN_FLIGHT_BYTES:
                    break
                batch.append(frame)
            if self._dead is None:
                self._run.send(*batch)  # where nobody reads it, nobody answers
            replies += [self._reply() for _ in batch]
        return replies

    def _reply(self) -> Reply:
        if self._dead is not None:
            return self._dead
        frame = self._run.receive()
        if frame is None:
            self._run.finish()
            ended = self.ended()
            self._dead = ended if ended.status != "ok" else Reply(status="error", error=SILENT)
            return self._dead
        containers = codec.containers(frame)
        self._given_bytes += len(frame) + CONTAINER_BYTES * containers + ITEM_BYTES * frame.count(b",")
        if containers > CONTAINERS:
            return Reply(status="error", error=f"a value has more than {CONTAINERS} parts")
        if self._given_bytes > REPLY_BYTES:
            self._run.finish()
            self._dead = Reply(status="output", error="its values are more than it may give")
            return self._dead
        try:
            return _read(codec.decode(frame, _opaque))
        except CodecError as error:
            return Reply(status="error", error=str(error))


def _asked(function: str, arguments: Sequence[Any], named: dict[str, Any]) -> bytes:
    return codec.encode(["call", function, list(arguments), named], _refuse)


def _read(message: Any) -> Reply:
    if type(message) is list and len(message) == 3:
        kind, first, second = message
        if kind == "ok" and type(second) is dict:
            changed = {at: now for at, now in second.items() if type(at) is int}
            return Reply(status="ok", value=first, changed=changed)
        if kind == "no" and type(first) is type(second) is str:
            words = f"{first}: {second}" if second else str(first)
            return Reply(
                status="memory" if first == "MemoryError" else "error", error=codec.printable(words[:1000])
            )
    return Reply(status="error", error="it gave no value")


def _opaque(tag: str, content: Any) -> Opaque:
    kind = content[1] if tag == "h" else "unknown"
    return Opaque(codec.printable(str(kind)[:100]))


def _refuse(value: Any) -> object:
    raise CodecError(f"a {type(value).__name__} is no data")
