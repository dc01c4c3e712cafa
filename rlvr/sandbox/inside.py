"""What runs within the walls, after the last of them is up: the program, or the tests that judge one.

Everything in this process is the program's to bend.  It may send values out; nothing here decides anything.
"""

from __future__ import annotations

import _io
import _thread
import atexit
import contextlib
import gc
import linecache
import os
import re
import sys
import traceback
import types
from collections.abc import Callable
from typing import Any

from rlvr.sandbox import peer
from rlvr.sandbox.peer import GoneError, Peer, described
from rlvr.sandbox.remote_object import OPERATIONS, Remote

WIRE = 3
"""Descriptor of the wire to the one who asks: the trainer's side, and for a judged program its judge."""
MODULE = "solution"
NOTICES_ITS_END = (b"__del__", b"open(", b"finalize(")
"""In programs of which something may be written only when an interpreter takes them apart."""
TARGET = re.compile(r"([A-Za-z_]\w*)(\(\))?(?:\.([A-Za-z_]\w*))?")


def run_program() -> int:
    """Run the source that comes over the wire as `__main__`; its exit code."""
    source = peer.receive(WIRE)
    os.close(WIRE)
    module = _module("__main__", source)
    code = _ran(lambda: _execute(source, module, "main.py"))
    # As an interpreter ends: wait for its threads, then what was registered, then what was not written yet.
    if _thread._count():
        code = _ran(lambda: getattr(sys.modules.get("threading"), "_shutdown", int)()) or code
    code = _ran(lambda: getattr(atexit, "_run_exitfuncs", int)()) or code
    code = _ran(lambda: _flush(*vars(module).values())) or code
    if any(word in source for word in NOTICES_ITS_END):
        del module
        code = _ran(_collect) or code
    return code


def rehearse(source: bytes) -> None:
    """Run a program of ours in the server: what is written to in memory at first, no child need copy."""
    before = sys.modules["__main__"]
    module = _module("__main__", source)
    _ran(lambda: _execute(source, module, "main.py"))
    _ran(lambda: _flush(*vars(module).values()))
    sys.modules["__main__"] = before
    linecache.clearcache()


def serve_functions() -> int:
    """Load the source that comes over the wire as a module, say how that went, then answer calls."""
    source = peer.receive(WIRE)
    module = _module(MODULE, source)
    try:
        _execute(source, module, f"{MODULE}.py")
    except BaseException as error:  # noqa: BLE001 - a module that exits has no functions
        peer.send(WIRE, _told(["no", *described(error)]))
        return 1
    peer.send(WIRE, _told(["ok", _public(module), {}]))
    other: Peer
    other = Peer(
        WIRE, lambda target, _: _found(module, target), lambda number, kind: Remote(other, number, kind)
    )
    with contextlib.suppress(GoneError, OSError):
        other.serve()
    return 0


def _found(module: types.ModuleType, target: Any) -> Callable[..., Any]:
    """The function that a call names: `f`, `Class.f`, `Class().f`, or an operation on an object given out."""
    if str(target).startswith("."):
        return OPERATIONS[target[1:]]
    match = TARGET.fullmatch(str(target))
    if match is None:
        raise NameError(f"`{str(target)[:100]}` is no name of a function")
    name, is_made, attribute = match.groups()
    if not hasattr(module, name):
        raise NameError(f"the program defines no `{name}`")
    found = getattr(module, name)
    found = found() if is_made else found
    return getattr(found, attribute) if attribute else found  # type: ignore[no-any-return]  # its own


def _public(module: types.ModuleType) -> list[str]:
    """What it defines: not what it merely imports."""
    names = [name for name in vars(module) if not name.startswith("__") and isinstance(name, str)]
    return [name for name in names if not isinstance(vars(module)[name], types.ModuleType)]


def _module(name: str, source: bytes) -> types.ModuleType:
    module = sys.modules[name] = types.ModuleType(name)
    gc.enable()
    if b"random" in source:  # seeding is dear, and this is how a program comes to the generators
        for generator in ("random", "numpy.random"):
            if generator in sys.modules:
                sys.modules[generator].seed()
    return module


def _execute(source: bytes, module: types.ModuleType, filename: str) -> None:
    text = source.decode("utf-8", "surrogatepass").removeprefix("\ufeff")
    linecache.cache[filename] = (lambda: text,)  # made into lines where a traceback wants them
    module.__file__ = filename
    exec(compile(text, filename, "exec", dont_inherit=True), vars(module))


def _ran(work: Callable[[], object]) -> int:
    """The exit code of a part of the program's life."""
    try:
        work()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException as error:  # noqa: BLE001 - it is the end of the program
        _complain(error)
        return 1
    return 0


def _complain(error: BaseException) -> None:
    """The traceback, without our frames; where memory is short, the error's name alone."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    try:
        if sys.excepthook is sys.__excepthook__:
            traceback.print_exception(type(error), error, trace)
        else:
            sys.excepthook(type(error), error.with_traceback(trace), trace)
    except BaseException:  # noqa: BLE001 - the program's own hook may fail
        os.write(2, type(error).__name__.encode("utf-8", "replace") + b"\n")


def _flush(*own: object) -> None:
    """Write out what streams still hold: the program's `own`, and the standard ones."""
    standard = (getattr(sys, name, None) for name in ("stdout", "stderr", "__stdout__"))
    streams: list[Any] = [*(value for value in own if isinstance(value, _io._IOBase)), *standard]
    for stream in streams:
        if stream is not None and not getattr(stream, "closed", False):
            stream.flush()


def _collect() -> None:
    """Take the program's module apart, which closes its files and calls its `__del__`."""
    del sys.modules["__main__"]
    gc.collect()
    _flush()


def _told(message: list[Any]) -> bytes:
    from rlvr.sandbox import codec

    return codec.encode(message, lambda value: {"h": [0, type(value).__name__]})
