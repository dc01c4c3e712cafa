"""Stands, in a judge's box, for an object of the program: what is asked of it is asked over the wire.

It is equal to itself alone, and neither compared nor computed with: a program's `__eq__`, `__lt__` or
`__sub__` would tell a test what it wants to hear.  `x in it` asks for its items.  The other way round a
program may call the functions that the tests handed to it, and see nothing else of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlvr.sandbox.peer import Peer

OPERATIONS: dict[str, Callable[..., Any]] = {
    "value": lambda target: target,
    "call": lambda target, /, *arguments, **named: target(*arguments, **named),
    "attribute": getattr,
    "set": setattr,
    "item": lambda target, key: target[key],
    "set item": lambda target, key, value: target.__setitem__(key, value),
    "delete item": lambda target, key: target.__delitem__(key),
    "length": len,
    "iterate": iter,
    "next": next,
    "text": str,
    "enter": lambda target: target.__enter__(),
    "leave": lambda target: target.__exit__(None, None, None),
}

PREDICATES = {
    *("startswith", "endswith", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier"),
    *("islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper", "is_integer"),
    *("isdisjoint", "issubset", "issuperset", "all", "any", "equals", "array_equal"),
}
"""What tests ask of text, sets, floats and arrays: a result that is none of them would answer as it likes."""

compared = [0]
"""How often two objects of the program were compared with each other."""


class Remote:
    """An object of the other process."""

    __slots__ = ("_remote_kind", "_remote_number", "_remote_peer")

    def __init__(self, peer: Peer, number: int | str, kind: str) -> None:
        object.__setattr__(self, "_remote_peer", peer)
        object.__setattr__(self, "_remote_number", number)
        object.__setattr__(self, "_remote_kind", kind)

    def owner_of_remote(self, peer: Peer) -> int | str | None:
        """Its number or name at the other end of `peer`; None where it is none of that one's."""
        number: int | str = self._remote_number
        return number if self._remote_peer is peer else None

    def _ask(self, operation: str, /, *arguments: Any, **named: Any) -> Any:
        return self._remote_peer.request(f".{operation}", [self, *arguments], named)

    def __call__(self, /, *arguments: Any, **named: Any) -> Any:  # noqa: D102 - what it does the class says
        if isinstance(self._remote_number, str):  # a name that the program defines
            return self._remote_peer.request(self._remote_number, arguments, named)
        return self._ask("call", *arguments, **named)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise TypeError("a class of the program cannot be subclassed from here")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        if name in PREDICATES:
            raise TypeError(
                f"what an object of the program says to `{name}` proves nothing: only data has it"
            )
        return self._ask("attribute", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("set item", key, value)

    def __delitem__(self, key: Any) -> None:
        self._ask("delete item", key)

    def __len__(self) -> int:
        return int(self._ask("length"))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._ask("iterate")
        return iterator if isinstance(iterator, Remote) else iter(iterator)

    def __next__(self) -> Any:
        return self._ask("next")

    def __str__(self) -> str:
        return str(self._ask("text"))

    def __enter__(self) -> Any:
        return self._ask("enter")

    def __exit__(self, *_: object) -> None:
        self._ask("leave")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return False
        compared[0] += 1
        return self._remote_peer is other._remote_peer and self._remote_number == other._remote_number

    def __hash__(self) -> int:
        return hash(self._remote_number)

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{self._remote_kind} object of the program>"
