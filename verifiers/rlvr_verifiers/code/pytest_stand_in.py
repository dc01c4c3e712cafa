"""What stands for pytest in a judge's box: `raises`, `approx`, `fixture`, `fail`, `param`, `parametrize`.

It is sent there as text, with the tests.  pytest's own words are kept (`rel`, `abs`, `match`, `scope`);
`pytest_files.py` refuses tests that want more.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import FunctionType, GeneratorType, SimpleNamespace, TracebackType
from typing import Any

NUMBERS = (int, float, complex)
FIXTURE, ROWS = "_is_fixture", "_rows"
kept: dict[str, Any] = {}
"""Values of fixtures that live longer than a test."""
lasting = ExitStack()
"""Holds them up to the end of the process."""


def fail(reason: str = "") -> None:
    """End the test as failed."""
    raise AssertionError(reason)


class raises:  # noqa: N801 - as tests call it
    """The block, or the function, must raise this."""

    def __init__(self, expected: Any, *called: Any, match: str | None = None, **named: Any) -> None:
        self.expected, self.pattern = expected, match
        self.type: type[BaseException] | None = None
        self.value: BaseException | None = None
        if called:
            with self:
                called[0](*called[1:], **named)

    def __enter__(self) -> raises:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, _: TracebackType | None
    ) -> bool:
        if kind is None:
            raise AssertionError(f"did not raise {self.expected}")
        if not issubclass(kind, self.expected):
            return False
        self.type, self.value = kind, value
        return self.pattern is None or self.match(self.pattern)

    @property
    def typename(self) -> str:
        """The name of what was raised."""
        return self.type.__name__ if self.type else ""

    def match(self, pattern: str) -> bool:
        """What was raised must say this somewhere."""
        if not re.search(pattern, str(self.value)):
            raise AssertionError(f"{str(self.value)!r} does not match {pattern!r}")
        return True


class approx:  # noqa: N801 - as tests call it
    """Equal to numbers within max(rel * |expected|, abs), and to lists and dicts of such."""

    __hash__ = None  # type: ignore[assignment]  # as in pytest: it is equal to many

    def __init__(
        self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False
    ) -> None:
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def __eq__(self, got: object) -> bool:
        return self._is_near(got, self.expected)

    def __repr__(self) -> str:
        return f"about {self.expected!r}"

    def _is_near(self, got: Any, expected: Any) -> bool:
        if isinstance(expected, Mapping):
            return (
                isinstance(got, Mapping)
                and got.keys() == expected.keys()
                and all(self._is_near(got[key], value) for key, value in expected.items())
            )
        if isinstance(expected, list | tuple):
            is_alike = isinstance(got, list | tuple) and len(got) == len(expected)
            return is_alike and all(map(self._is_near, got, expected))
        if type(expected) not in NUMBERS or type(got) not in (*NUMBERS, bool):
            return type(got) is type(expected) and bool(got == expected)
        if expected != expected:
            return self.nan_ok and got != got
        if got == expected:
            return True
        size = math.inf if got in (math.inf, -math.inf) else _size(expected)
        return size != math.inf and _size(got - expected) <= self._distance(size)

    def _distance(self, size: float) -> float:
        """As in pytest: with `abs` alone there is no relative part."""
        absolute = 1e-12 if self.abs is None else self.abs
        relative = (1e-6 if self.abs is None else 0.0) if self.rel is None else self.rel
        return max(absolute, relative * size)


def _size(number: complex) -> float:
    return number.__abs__()


def param(*values: Any, id: str | None = None) -> tuple[Any, ...]:
    """A row of `parametrize`."""
    return _Row(values)


class _Row(tuple[Any, ...]):
    """Told from a tuple that is itself a value."""

    __slots__ = ()


def _parametrize(argnames: str | Sequence[str], argvalues: Iterable[Any], ids: Any = None) -> Any:
    is_text = isinstance(argnames, str)
    names = [name.strip() for name in argnames.split(",")] if isinstance(argnames, str) else list(argnames)
    is_single = is_text and len(names) == 1
    rows = [[row] if is_single and not isinstance(row, _Row) else row for row in argvalues]
    table = [dict(zip(names, row, strict=True)) for row in rows]

    def marked(test: Any) -> Any:
        vars(test).setdefault(ROWS, []).append(table)
        return test

    return marked


mark = SimpleNamespace(parametrize=_parametrize)


def fixture(function: Any = None, *, scope: str = "function") -> Any:
    """A function that makes what tests ask for by its name."""
    if function is None:
        return lambda decorated: fixture(decorated, scope=scope)
    setattr(function, FIXTURE, scope)
    return function


def arrange(names: dict[str, Any]) -> None:
    """Among the `names` of a test file, make of each test one that is called without arguments."""
    fixtures = {name: value for name, value in names.items() if hasattr(value, FIXTURE)}
    for name, value in list(names.items()):
        is_test = isinstance(value, FunctionType) and name.startswith("test")
        if is_test and (ROWS in vars(value) or _asked(value)):
            names[name] = _arranged(value, fixtures)


def _arranged(test: Any, fixtures: Mapping[str, Any]) -> Callable[[], None]:
    tables = vars(test).get(ROWS, [])

    def run() -> None:
        for rows in itertools.product(*tables):
            given = {name: value for row in rows for name, value in row.items()}
            with ExitStack() as stack:
                _call(test, given, fixtures, stack)

    return run


def _call(function: Any, given: dict[str, Any], fixtures: Mapping[str, Any], stack: ExitStack) -> Any:
    """Call it with what it asks for, each fixture made once a test."""
    for name in _asked(function):
        if name not in given:
            given[name] = _made(fixtures[name], given, fixtures, stack)
    code = function.__code__
    taken = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return function(**{name: given[name] for name in taken if name in given})


def _asked(function: Any) -> list[str]:
    """Its arguments without a default."""
    code, defaults = function.__code__, function.__defaults__ or ()
    words = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    asked = code.co_varnames[: code.co_argcount - len(defaults)]
    return [*asked, *(word for word in words if word not in (function.__kwdefaults__ or {}))]


def _made(function: Any, given: dict[str, Any], fixtures: Mapping[str, Any], stack: ExitStack) -> Any:
    name, is_long = function.__name__, getattr(function, FIXTURE) != "function"
    if name in kept:
        return kept[name]
    made = _call(function, given, fixtures, stack)
    if isinstance(made, GeneratorType):
        made = (lasting if is_long else stack).enter_context(_paused(made))
    if is_long:
        kept[name] = made
    return made


@contextmanager
def _paused(generator: Iterator[Any]) -> Iterator[Any]:
    """Up to its yield, and behind it after the test."""
    yield next(generator)
    next(generator, None)
