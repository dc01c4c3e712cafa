"""Values as JSON: data and nothing else, so that what a program sends can be read where it must not rule.

    None, bool, str, small int, float, list          as JSON has them
    {"t": [...]}                                     a tuple, and so on by `TAGS`
    {"h": [3, "Stack"]}                              an object of the sender's that is no data
    {"o": 3}                                         the receiver's own object 3

Whatever was sent, what comes out is of exactly these types: subclasses and their methods stay behind.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

FRAME_BYTES = 2**22
"""Of one encoded message."""
DEPTH = 200
"""Of one value."""
SMALL = 2**63
FEW, SAME_HASH = 64, 16
"""Larger sets and dicts are refused where more keys share a hash: filling them would take for ever."""


INT_DIGITS, PART_BITS = 2**16, 2**14
"""Hexadecimal digits of an int; bits of a fraction's parts, which are divided by what they have in common."""
DECIMAL_CHARACTERS, EXPONENT = 2**14, 2**14


class CodecError(ValueError):
    """This is no message, or holds what cannot be sent."""


def encode(message: object, export: Callable[[Any], object]) -> bytes:
    """The message in bytes; `export` gives the JSON that stands for an object that is no data."""
    try:
        text = json.dumps(_plain(message, export, DEPTH), separators=(",", ":"), check_circular=False)
    except (ValueError, RecursionError, OverflowError) as error:
        raise CodecError(f"a value cannot be sent: {error}") from None
    if len(text) > FRAME_BYTES:
        raise CodecError(f"a value is larger than {FRAME_BYTES >> 20} MiB")
    return text.encode("ascii")


def decode(data: bytes, adopt: Callable[[str, Any], object]) -> Any:
    """The message again; `adopt(tag, content)` gives the object for tags `h` and `o`."""
    try:
        return _value(json.loads(data), adopt, DEPTH)
    except CodecError:
        raise
    except FORGED as error:
        raise CodecError(f"this is no message: {type(error).__name__}") from None


FORGED = (
    *(ValueError, RecursionError, TypeError, ArithmeticError, LookupError),
    *(MemoryError, SystemError, AttributeError),
)


def containers(data: bytes) -> int:
    """How many containers a message can hold: far dearer than its bytes."""
    return data.count(b"[") + data.count(b"{")


def printable(text: str) -> str:
    """The text without what cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def _plain(value: Any, export: Callable[[Any], object], depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if depth == 0:
        raise CodecError(f"a value is nested deeper than {DEPTH}")
    if kind is type and value in TYPES.values():
        return {"T": value.__name__}
    if issubclass(kind, int):
        number = int(value)
        return number if -SMALL < number < SMALL else {"i": hex(number)}
    if issubclass(kind, (str, float)):
        return value
    if issubclass(kind, list):
        return [_plain(item, export, depth - 1) for item in list.__iter__(value)]
    if issubclass(kind, dict):
        pairs = dict.items(value)
        return {"d": [[_plain(k, export, depth - 1), _plain(v, export, depth - 1)] for k, v in pairs]}
    for base, (tag, parts) in TAGS.items():
        if issubclass(kind, base):
            return {tag: _plain(parts(value), export, depth - 1)}
    for (module, name), (tag, parts) in SELDOM.items():  # not imported for those who do not use them
        if module in sys.modules and issubclass(kind, getattr(sys.modules[module], name)):
            return {tag: _plain(parts(value), export, depth - 1)}
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        plain = value.tolist()
        return _plain(plain, export, depth - 1) if plain is not value else export(value)
    return export(value)


def _value(plain: Any, adopt: Callable[[str, Any], object], depth: int) -> Any:
    if depth == 0:
        raise CodecError(f"a value is nested deeper than {DEPTH}")
    if isinstance(plain, list):
        return [_value(item, adopt, depth - 1) for item in plain]
    if not isinstance(plain, dict):
        return plain
    [(tag, content)] = plain.items()
    if tag in ("h", "o"):
        return adopt(tag, content)
    content = _value(content, adopt, depth - 1)
    if type(content) is not (list if tag in OF_LISTS else str):
        raise CodecError(f"`{tag}` is not made of a {type(content).__name__}")
    return MAKERS[tag](content)


def _dict(pairs: Iterable[Any]) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in pairs]
    _refuse_collisions([key for key, _ in pairs])
    return dict(pairs)


def _distinct(items: list[Any]) -> list[Any]:
    _refuse_collisions(items)
    return items


def _int(text: str) -> int:
    if len(text) > INT_DIGITS:
        raise CodecError("an int has too many digits")
    return int(text, 16)


def _made(module: str, name: str, *parts: Any) -> Any:
    return getattr(importlib.import_module(module), name)(*parts)


def _moment(name: str, text: str) -> Any:
    return getattr(importlib.import_module("datetime"), name).fromisoformat(text)


def _fraction(parts: list[Any]) -> Any:
    above, below = parts
    if not type(above) is type(below) is int or max(above.bit_length(), below.bit_length()) > PART_BITS:
        raise CodecError("a fraction is made of two ints that are not too large")
    return _made("fractions", "Fraction", above, below)


def _decimal(text: str) -> Any:
    if len(text) > DECIMAL_CHARACTERS:
        raise CodecError("a decimal has too many digits")
    number = _made("decimal", "Decimal", text)
    if number.is_snan():
        raise CodecError("a signaling NaN raises where it is compared")
    exponent = number.as_tuple().exponent
    if type(exponent) is int and abs(exponent) > EXPONENT:
        raise CodecError("a decimal is too large or too small")
    return number


def _refuse_collisions(keys: list[Any]) -> None:
    if len(keys) > FEW and Counter(map(hash, keys)).most_common(1)[0][1] > SAME_HASH:
        raise CodecError("a set or dict has too many keys of the same hash")


TYPES: dict[str, type] = {
    kind.__name__: kind
    for kind in (bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range)
}
"""Builtin types are values too: the receiver gets its own."""
TAGS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    tuple: ("t", lambda value: list(tuple.__iter__(value))),
    set: ("s", lambda value: list(set.__iter__(value))),
    frozenset: ("f", lambda value: list(frozenset.__iter__(value))),
    bytes: ("b", lambda value: bytes(value).hex()),
    bytearray: ("a", lambda value: bytes(value).hex()),
    complex: ("c", lambda value: [complex(value).real, complex(value).imag]),
    range: ("r", lambda value: [value.start, value.stop, value.step]),
    deque: ("q", lambda value: list(deque.__iter__(value))),
    type({}.keys()): ("k", list),
    type({}.items()): ("m", list),
}
MAKERS: dict[str, Callable[[Any], Any]] = {
    "t": tuple,
    "d": _dict,
    "s": lambda items: set(_distinct(items)),
    "f": lambda items: frozenset(_distinct(items)),
    "b": lambda text: bytes.fromhex(text),
    "a": lambda text: bytearray.fromhex(text),
    "c": lambda parts: complex(float(parts[0]), float(parts[1])),
    "r": lambda parts: range(*parts),
    "i": _int,
    "q": deque,
    "k": lambda items: dict.fromkeys(_distinct(items)).keys(),
    "m": lambda pairs: _dict(pairs).items(),
    "T": lambda name: TYPES[name],
    "F": _fraction,
    "D": _decimal,
    "W": lambda text: _moment("datetime", text),
    "Y": lambda text: _moment("date", text),
    "H": lambda text: _moment("time", text),
    "E": lambda parts: _made("datetime", "timedelta", *parts),
}
OF_LISTS = frozenset("tdsfcrqkmFE")
"""Tags whose content is a list; that of the others is a text."""
SELDOM: dict[tuple[str, str], tuple[str, Callable[[Any], Any]]] = {
    ("fractions", "Fraction"): ("F", lambda value: [value.numerator, value.denominator]),
    ("decimal", "Decimal"): ("D", str),
    ("datetime", "datetime"): ("W", lambda value: value.isoformat()),
    ("datetime", "date"): ("Y", lambda value: value.isoformat()),
    ("datetime", "time"): ("H", lambda value: value.isoformat()),
    ("datetime", "timedelta"): ("E", lambda value: [value.days, value.seconds, value.microseconds]),
}
