"""One end of a wire between two processes that call each other with values, over `codec`.

    ["call", target, arguments, named]      target: a function's name, or `.operation` on an exported object
    ["ok", value, changed]                  changed: arguments changed in place, by position
    ["no", "ValueError", "too small"]       the nearest builtin class of what was raised

While one end waits for an answer it serves the calls of the other: so callbacks work.  A program holds one
end and may send what it likes; the other end takes values from it, never decisions.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rlvr.sandbox import codec
from rlvr.sandbox.codec import CodecError

HEAD = struct.Struct("<I")
ERROR_CHARACTERS = 500
MORE_THAN_WORDS = (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, BaseExceptionGroup)
"""Not made of words alone: their base stands for them."""
ERRORS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, MORE_THAN_WORDS)
}
SILENT = (StopIteration, StopAsyncIteration)
"""Ends a loop of the asker's without a word: raised by nothing but the next item asked for."""


class GoneError(BaseException):
    """The other end is dead.  No `except Exception` swallows it."""


def send(fd: int, data: bytes) -> None:
    """Write one frame."""
    data = HEAD.pack(len(data)) + data
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int) -> bytes:
    """Read one frame; GoneError at the end of the wire."""
    (size,) = HEAD.unpack(_exactly(fd, HEAD.size))
    if size > codec.FRAME_BYTES:
        raise GoneError("a frame is too large")
    return _exactly(fd, size)


def _exactly(fd: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, 2**18))
        if not part:
            raise GoneError("the other process is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def described(error: BaseException) -> tuple[str, str]:
    """The nearest builtin class of an exception, and its own name and words."""
    kind = type(error)
    nearest = next((base.__name__ for base in kind.__mro__ if ERRORS.get(base.__name__) is base), "")
    try:
        words = str(error)
    except BaseException:  # noqa: BLE001 - the program's exception may itself be broken
        words = ""
    words = words if words or kind.__name__ == nearest else kind.__name__
    return nearest or "RuntimeError", words[:ERROR_CHARACTERS]


def _raised(name: str, words: str, target: object) -> Exception:
    """The exception that an answer names."""
    kind = ERRORS.get(name, RuntimeError)
    if issubclass(kind, SILENT) and target != ".next":
        return RuntimeError(f"{name}: {words}")
    if issubclass(kind, KeyError):  # its words are its key as `repr` gives it
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            import ast

            return kind(ast.literal_eval(words))
    return kind(words)


class Peer:
    """This process's end.  `find` gives what a call's target names; only what was exported has a number."""

    def __init__(
        self, fd: int, find: Callable[[Any, list[Any]], Any], adopt: Callable[[int, str], Any]
    ) -> None:
        self._fd = fd
        self._find = find
        self._adopt = adopt
        self._exported: list[Any] = []
        self._numbers: dict[int, int] = {}
        self.is_gone = False
        self.requests = 0
        """How often the other end was asked for something."""

    def request(self, target: object, arguments: Sequence[Any] = (), named: Any = None) -> Any:
        """Have the other end do something; raises what it raised, as the nearest builtin class."""
        self.requests += 1
        self._send(["call", target, list(arguments), named or {}])
        while (answer := self._receive())[0] == "call":
            self._serve(answer)
        if answer[0] == "no" and len(answer) == 3:
            if not type(answer[1]) is type(answer[2]) is str:
                raise self._lost("it does not answer as agreed")
            raise _raised(answer[1], answer[2], target)
        if answer[0] != "ok" or len(answer) != 3 or type(answer[2]) is not dict:
            raise self._lost("it does not answer as agreed")
        for at, now in answer[2].items():
            if type(at) is int and 0 <= at < len(arguments):
                _become(arguments[at], now)
        return answer[1]

    def serve(self) -> None:
        """Answer calls until the other end is gone."""
        while True:
            self._serve(self._receive())

    def exported(self, number: Any) -> Any:
        """What this end has given out under a number; a name stands for what a call of it would find."""
        if type(number) is str:
            try:
                return self._find(number, [])
            except (NameError, TypeError, AttributeError) as error:
                raise CodecError(str(error)) from None
        if type(number) is not int or not 0 <= number < len(self._exported):
            raise CodecError("there is no such object")
        return self._exported[number]

    def _serve(self, call: list[Any]) -> None:
        if call[0] != "call" or len(call) != 4:
            raise self._lost("it does not ask as agreed")
        _, target, arguments, named = call
        try:
            before = [_state(value) for value in arguments]
            value = self._find(target, arguments)(*arguments, **named)
            after = [_state(value) for value in arguments]
            changed = {
                at: arguments[at]
                for at, pair in enumerate(zip(before, after, strict=True))
                if pair[0] != pair[1]
            }
            answer = codec.encode(["ok", value, changed], self._export)
        except GoneError:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too end here
            answer = codec.encode(["no", *described(error)], self._export)
        send(self._fd, answer)

    def _send(self, message: list[Any]) -> None:
        if self.is_gone:
            raise GoneError("the other process is gone")
        data = codec.encode(message, self._export)
        try:
            send(self._fd, data)
        except OSError:
            raise self._lost("the other process is gone") from None

    def _receive(self) -> list[Any]:
        try:
            message = codec.decode(receive(self._fd), self._adopted)
        except (OSError, CodecError, GoneError) as error:
            raise self._lost(str(error)) from None
        if type(message) is not list or not message:
            raise self._lost("it sends no messages")
        return message

    def _lost(self, why: str) -> GoneError:
        self.is_gone = True
        return GoneError(why)

    def _export(self, value: Any) -> object:
        owner = getattr(type(value), "owner_of_remote", None)
        if owner is not None and (known := owner(value, self)) is not None:
            return {"o": known}
        number = self._numbers.setdefault(id(value), len(self._exported))
        if number == len(self._exported):
            self._exported.append(value)
        return {"h": [number, type(value).__name__]}

    def _adopted(self, tag: str, content: Any) -> Any:
        if tag == "o":
            return self.exported(content)
        number, kind = content
        if type(number) is not int or type(kind) is not str:
            raise CodecError("there is no such object")
        return self._adopt(number, kind[:100])


def _state(value: Any) -> Any:
    """What tells whether a value was changed in place; None for what cannot be."""
    if type(value) in (list, dict, set, bytearray):
        try:
            return codec.encode(value, lambda found: {"x": id(found)})
        except CodecError:
            return None
    return None


def _become(value: Any, now: Any) -> None:
    if type(value) is not type(now):
        return
    if type(value) in (list, bytearray):
        value[:] = now
    elif type(value) in (dict, set):
        value.clear()
        value.update(now)
