"""Sets of real numbers: intervals, inequalities and set builders become pieces that can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cmp_to_key

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.equal import equal_expressions, is_zero, sign
from rlvr_verifiers.math.tree import Tree, names

FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "!=": "!="}
MOST_PIECES = 50
HOLDS: dict[str, Callable[[int], bool]] = {
    "<": lambda s: s < 0, "<=": lambda s: s <= 0, ">": lambda s: s > 0,
    ">=": lambda s: s >= 0, "=": lambda s: s == 0, "!=": lambda s: s != 0,
}  # fmt: skip


class NoRegionError(Exception):
    """A tree that is no set of reals, or none that can be solved for."""


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval, with None for an infinite end."""

    low: Tree | None
    low_in: bool
    high: Tree | None
    high_in: bool


ALL = (Piece(None, False, None, False),)


def is_region(tree: Tree) -> bool:
    """Whether a tree is a set of reals by its look: [1, 2), x > 1, a union; (1, 2) may be a pair."""
    if tree.head in ("union", "intersection", "minus", "builder"):
        return True
    if tree.head == "group":
        infinite = any(node == t.INFINITY for arg in tree.args for node in arg)
        return len(tree.args) == 2 and (tree.value != "()" or infinite)
    if tree.head == "relation":
        return any(o in ("<", "<=", ">", ">=", "!=", "in", "notin") for o in tree.operators)
    if tree.head == "list":
        return (
            bool(tree.args)
            and any(map(is_region, tree.args))
            and all(is_region(arg) or arg.head in ("relation", "set") for arg in tree.args)
        )
    return tree == REALS


REALS = t.name("set R")


def region(tree: Tree) -> tuple[Piece, ...]:
    """The pieces of a set of reals, sorted and joined where their ends are numbers."""
    found = _joined(_region(tree))
    if not found and tree.head != "empty":
        raise NoRegionError  # an answer that contradicts itself equals nothing
    return found


def _region(tree: Tree) -> tuple[Piece, ...]:
    match tree.head:
        case "empty":
            return ()
        case "name" if tree == REALS:
            return ALL
        case "group" if len(tree.args) == 2:
            return _interval(tree)
        case "set":
            return tuple(Piece(arg, True, arg, True) for arg in tree.args)
        case "union":
            return _region(tree.args[0]) + _region(tree.args[1])
        case "intersection":
            return _both(_joined(_region(tree.args[0])), _joined(_region(tree.args[1])))
        case "minus":
            return _both(_joined(_region(tree.args[0])), _without(_joined(_region(tree.args[1]))))
        case "builder":
            if tree.args[0].head not in ("name", "relation"):
                raise NoRegionError  # { 2x | x > 1 }
            outer = _region(tree.args[0]) if tree.args[0].head == "relation" else ALL
            return _both(outer, _joined(_region(tree.args[1])))
        case "relation":
            return _relation(tree)
        case "list":
            relations = [arg for arg in tree.args if arg.head == "relation"]
            if len({_variable(arg) for arg in relations}) > 1:
                raise NoRegionError
            first = tree.args[0]
            if (
                first.head == "relation"
                and first.operators == ("!=",)
                and not any(map(is_region, tree.args[1:]))
            ):
                return _without(_joined(_region(Tree("set", (first.args[1], *tree.args[1:])))))  # x != 0, 2
            parts = [_joined(_region(arg)) for arg in tree.args]
            if tree.value in ("or", ";") or not any(arg.head == "relation" for arg in tree.args):
                return tuple(piece for part in parts for piece in part)
            found = parts[0]
            for part in parts[1:]:
                found = _both(found, part)
            if not found and tree.value == ",":  # -1 < x < 0, x > 1
                return tuple(piece for part in parts for piece in part)
            return found
    raise NoRegionError


def _interval(tree: Tree) -> tuple[Piece, ...]:
    low, high = tree.args
    brackets = str(tree.value)
    if low == t.INFINITY or high == t.negative(t.INFINITY):
        raise NoRegionError
    low_end = None if low == t.negative(t.INFINITY) else low
    high_end = None if high == t.INFINITY else high
    piece = Piece(
        low_end,
        brackets[0] == "[" and low_end is not None,
        high_end,
        brackets[1] == "]" and high_end is not None,
    )
    return () if _is_void(piece) else (piece,)


def _is_void(piece: Piece) -> bool:
    if piece.low is None or piece.high is None:
        return False
    order = order_of(piece.low, piece.high)
    return order is not None and (order > 0 or (order == 0 and not (piece.low_in and piece.high_in)))


def order_of(one: Tree, other: Tree) -> int | None:
    """-1, 0 or 1 as the first is less, equal or greater; None where that cannot be told."""
    if names(one) or names(other):
        return None
    return sign(t.plus(one, t.negative(other)))


def _relation(tree: Tree) -> tuple[Piece, ...]:
    operators, sides = tree.operators, tree.args
    if operators in (("in",), ("notin",)) and sides[0].head in ("name", "call"):
        inner = _region(sides[1])
        return inner if operators == ("in",) else _without(_joined(inner))
    if any(operator not in FLIPPED for operator in operators):
        raise NoRegionError
    variable = _variable(tree)
    found: tuple[Piece, ...] = ALL
    for left, operator, right in zip(sides, operators, sides[1:], strict=False):
        if _says_nothing(left, str(operator), right):
            continue
        if any(node == t.INFINITY for side in (left, right) for node in side):
            raise NoRegionError
        found = _both(found, _joined(_solved(t.plus(left, t.negative(right)), str(operator), variable)))
    return found


def _says_nothing(left: Tree, operator: str, right: Tree) -> bool:
    """x < infinity and its like."""
    low, high = (left, right) if operator == "<" else (right, left)
    return operator in ("<", ">") and (high == t.INFINITY or low == t.negative(t.INFINITY))


def _variable(tree: Tree) -> str:
    if tree.value in (("in",), ("notin",)):
        return t.show(tree.args[0])
    free = names(tree)
    bare = [side.value for side in tree.args if side.head == "name"]
    if len(free) == 1:
        return next(iter(free))
    if len(set(bare)) == 1:
        return str(bare[0])
    raise NoRegionError


def _solved(difference: Tree, operator: str, variable: str) -> tuple[Piece, ...]:
    """The solutions of `difference operator 0`; NoRegionError where it is not linear in the variable."""
    values = linear(difference, variable)
    if values is None:
        raise NoRegionError
    slope, start = values
    direction = sign(slope) if not names(slope) else None
    if not direction:
        raise NoRegionError
    end = t.times(t.MINUS_ONE, t.over(start, slope))
    operator = operator if direction > 0 else FLIPPED[operator]
    match operator:
        case "<" | "<=":
            return (Piece(None, False, end, operator == "<="),)
        case ">" | ">=":
            return (Piece(end, operator == ">=", None, False),)
        case "=":
            return (Piece(end, True, end, True),)
    return (Piece(None, False, end, False), Piece(end, False, None, False))


def linear(tree: Tree, variable: str) -> tuple[Tree, Tree] | None:
    """(slope, start) of `slope * variable + start`; None where the tree is no such thing."""
    at = [t.replaced(tree, t.name(variable), t.number(x)) for x in (0, 1, 3)]
    slope = t.plus(at[1], t.negative(at[0]))
    if not is_zero(t.plus(at[2], t.negative(at[0]), t.times(t.number(-3), slope))) or is_zero(slope):
        return None
    line = t.plus(t.times(slope, t.name(variable)), at[0])
    return (slope, at[0]) if equal_expressions(tree, line).equal else None


def _both(one: tuple[Piece, ...], other: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """What lies in both."""
    if one == ALL:
        return other
    if other == ALL:
        return one
    found = []
    for a in one:
        for b in other:
            low, low_in = _tighter(a.low, a.low_in, b.low, b.low_in, 1)
            high, high_in = _tighter(a.high, a.high_in, b.high, b.high_in, -1)
            piece = Piece(low, low_in, high, high_in)
            if not _is_void(piece):
                found.append(piece)
    if len(found) > MOST_PIECES:
        raise NoRegionError
    return tuple(found)


def _tighter(a: Tree | None, a_in: bool, b: Tree | None, b_in: bool, side: int) -> tuple[Tree | None, bool]:
    if a is None or b is None:
        return (b, b_in) if a is None else (a, a_in)
    order = order_of(a, b)
    if order is None:
        raise NoRegionError
    if order == 0:
        return a, a_in and b_in
    return (a, a_in) if order * side > 0 else (b, b_in)


def _without(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """The complement of joined pieces."""
    found: tuple[Piece, ...] = ALL
    for piece in pieces:
        rest = []
        if piece.low is not None:
            rest.append(Piece(None, False, piece.low, not piece.low_in))
        if piece.high is not None:
            rest.append(Piece(piece.high, not piece.high_in, None, False))
        found = _both(found, tuple(rest)) if rest else ()
    return found


def _joined(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    """Sorted, overlapping pieces joined; as they are where an end is no number."""
    if len(pieces) > MOST_PIECES:
        raise NoRegionError
    ends = [end for piece in pieces for end in (piece.low, piece.high) if end is not None]
    if len(pieces) < 2 or any(names(end) for end in ends):
        return pieces
    ordered = sorted(pieces, key=cmp_to_key(_by_low))
    found = [ordered[0]]
    for piece in ordered[1:]:
        last = found[-1]
        if last.high is None:
            break
        order = -1 if piece.low is None else order_of(piece.low, last.high)
        if order is None:
            raise NoRegionError
        if order > 0 or (order == 0 and not (piece.low_in or last.high_in)):
            found.append(piece)
            continue
        further = 1 if piece.high is None else order_of(piece.high, last.high)
        if further is None:
            raise NoRegionError
        if further > 0:
            found[-1] = Piece(last.low, last.low_in, piece.high, piece.high_in)
        elif further == 0:
            found[-1] = Piece(last.low, last.low_in, last.high, last.high_in or piece.high_in)
    return tuple(found)


def _by_low(a: Piece, b: Piece) -> int:
    if a.low is None or b.low is None:
        return (b.low is None) - (a.low is None)
    order = order_of(a.low, b.low)
    if order is None:
        raise NoRegionError
    return order or (b.low_in - a.low_in)


def same_region(one: tuple[Piece, ...], other: tuple[Piece, ...]) -> bool:
    """Whether two joined regions are equal, end by end."""
    return len(one) == len(other) and all(
        a.low_in == b.low_in
        and a.high_in == b.high_in
        and _same_end(a.low, b.low)
        and _same_end(a.high, b.high)
        for a, b in zip(one, other, strict=True)
    )


def _same_end(one: Tree | None, other: Tree | None) -> bool:
    if one is None or other is None:
        return one is other
    return equal_expressions(one, other).equal is True
