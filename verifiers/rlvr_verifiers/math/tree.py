"""What an answer is read into: a plain tree.  Nothing in it can be called; no text names code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

MOST_BITS = 40_000
"""Of a number that others are folded into."""
MOST_SHOWN = 10_000
"""Bits of a number that is shown in decimals."""


class UnreadableError(Exception):
    """A text that the grammar does not read; what it says names the place."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One node.

    Expressions: number, name, constant (pi, e, i, infinity), + and * (any number of arguments), ^, call
    (value: the function), plus-minus, percent, degree, big (a sum or product: body, name, from, to).
    Answers: group (value: its brackets), set, list (value: what joins it), union, intersection, minus, matrix
    and row, relation (value: its operators, one between two arguments), builder, cases, quantity (value: the
    unit), compound (two quantities), given (value: words of its condition), ratio, based (value:
    digits_base), text (value: its words), dots, empty.
    """

    head: str
    """What kind of node."""
    args: tuple[Tree, ...] = ()
    """Its parts."""
    value: Fraction | str | tuple[str, ...] = ""
    """A number's value, a name, a unit, brackets or operators."""

    @property
    def operators(self) -> tuple[str, ...]:
        """A relation's operators, the words of a text or of a condition; of another node none."""
        return self.value if isinstance(self.value, tuple) else ()

    @property
    def text(self) -> str:
        """A name, a unit, brackets, as text."""
        return str(self.value)

    def __iter__(self) -> Iterator[Tree]:
        """Every node, this one first."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.args))


def number(value: Fraction | int) -> Tree:
    """A rational number."""
    return Tree("number", (), Fraction(value))


ZERO, ONE, MINUS_ONE, TWO = number(0), number(1), number(-1), number(2)
INFINITY = Tree("constant", (), "infinity")
IMAGINARY = Tree("constant", (), "i")
PI = Tree("constant", (), "pi")


def name(text: str) -> Tree:
    """A variable."""
    return Tree("name", (), text)


def plus(*args: Tree) -> Tree:
    """A sum."""
    return args[0] if len(args) == 1 else Tree("+", args)


def times(*args: Tree) -> Tree:
    """A product."""
    return args[0] if len(args) == 1 else Tree("*", args)


def negative(tree: Tree) -> Tree:
    """Its opposite; of a number, the number."""
    return number(-tree.value) if isinstance(tree.value, Fraction) else Tree("*", (MINUS_ONE, tree))


def over(above: Tree, below: Tree) -> Tree:
    """A quotient; of two numbers, the number."""
    if isinstance(above.value, Fraction) and isinstance(below.value, Fraction) and below.value:
        return number(above.value / below.value)
    return Tree("*", (above, Tree("^", (below, MINUS_ONE))))


def power(base: Tree, exponent: Tree) -> Tree:
    """A power."""
    return Tree("^", (base, exponent))


def call(function: str, *args: Tree) -> Tree:
    """A function of its arguments; one of its own where the function is known to nobody."""
    return Tree("call", args, function)


def names(tree: Tree) -> frozenset[str]:
    """The variables in it; those that a sum runs over are not."""
    if tree.head == "name":
        return frozenset({str(tree.value)})
    inner = frozenset[str]().union(*map(names, tree.args)) if tree.args else frozenset()
    return inner - {str(tree.args[1].value)} if tree.head == "big" else inner


def replaced(tree: Tree, old: Tree, new: Tree) -> Tree:
    """The tree with every `old` in it made `new`."""
    if tree == old:
        return new
    if not tree.args:
        return tree
    args = tuple(replaced(arg, old, new) for arg in tree.args)
    return tree if args == tree.args else Tree(tree.head, args, tree.value)


def canonical(tree: Tree) -> Tree:
    """Sums and products flattened, numbers folded, arguments in order: the same for the same spelling."""
    args = tuple(map(canonical, tree.args))
    if tree.head in ("+", "*"):
        return _folded(tree.head, args)
    if tree.head == "^":
        base, exponent = args
        if exponent == ONE:
            return base
        if exponent == MINUS_ONE and isinstance(base.value, Fraction) and base.value:
            return number(1 / base.value)
    if tree.head in ("union", "intersection"):
        args = tuple(sorted(args, key=_key))
    if tree.head == "set":
        args = tuple(sorted(set(args), key=_key))
    return Tree(tree.head, args, tree.value)


def _folded(head: str, args: tuple[Tree, ...]) -> Tree:
    flat: list[Tree] = []
    for arg in args:
        flat.extend(arg.args if arg.head == head else (arg,))
    folded = Fraction(head == "*")
    rest = []
    for arg in flat:
        if not isinstance(arg.value, Fraction):
            rest.append(arg)
            continue
        folded = folded * arg.value if head == "*" else folded + arg.value
        if folded.numerator.bit_length() + folded.denominator.bit_length() > MOST_BITS:
            raise UnreadableError("numbers too big to hold")
    neutral = Fraction(head == "*")
    rest.sort(key=_key)
    if folded != neutral or not rest:
        rest.insert(0, number(folded))
    return rest[0] if len(rest) == 1 else Tree(head, tuple(rest))


def _key(tree: Tree) -> str:
    return show(tree)


def show(tree: Tree) -> str:
    """The tree on one line, for people and for sorting: + and * with their arguments, calls by name."""
    if isinstance(tree.value, Fraction):
        if tree.value.numerator.bit_length() + tree.value.denominator.bit_length() > MOST_SHOWN:
            return f"({tree.value.numerator:x}/{tree.value.denominator:x} in base 16)"
        return str(tree.value) if tree.value.denominator == 1 else f"({tree.value})"
    inner = [show(arg) for arg in tree.args]
    match tree.head:
        case "name" | "constant":
            return str(tree.value)
        case "+":
            return "(" + " + ".join(inner) + ")"
        case "*":
            return "*".join(inner)
        case "^":
            base = f"({inner[0]})" if tree.args[0].head in ("*", "^") else inner[0]
            return f"{base}^({inner[1]})"
        case "relation":
            parts = [inner[0]]
            for operator, side in zip(tree.value, inner[1:], strict=True):
                parts += [str(operator), side]
            return " ".join(parts)
        case "group":
            return f"{tree.value[0]}{', '.join(inner)}{tree.value[1]}"
        case "set":
            return "{" + ", ".join(inner) + "}"
        case "text":
            return repr(tree.value)
        case "dots":
            return "..."
        case "empty":
            return "{}"
        case "given":
            return f"{inner[0]} given {' '.join(tree.operators)}"
    value = " ".join(tree.value) if isinstance(tree.value, tuple) else tree.value
    label = str(value) if tree.head == "call" else f"{tree.head} {value}".strip()
    return f"{label}({', '.join(inner)})" if inner else f"{label}"
