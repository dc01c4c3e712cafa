r"""What LaTeX commands and function names mean: \\frac, \\sqrt, sin, \\begin{pmatrix}, \\{ ... \\}, \\sum."""

from __future__ import annotations

from collections.abc import Callable

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.letters import CONSTANTS, variable
from rlvr_verifiers.math.spelling import GREEK
from rlvr_verifiers.math.tokens import FUNCTIONS
from rlvr_verifiers.math.tree import Tree, UnreadableError

CONDITIONAL = frozenset(("if", "for", "when", "where", "as"))
"""Words before the conditions of a piecewise answer."""
INVERSE = {f: f"arc{f}" for f in ("sin", "cos", "tan", "cot", "sec", "csc")}
EMPTY = Tree("empty")
FLOORS = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil"), "lvert": ("rvert", "abs"),
          "lVert": ("rVert", "norm"), "|": ("|", "norm"), "langle": ("rangle", "()")}  # fmt: skip


def function_call(cursor: Cursor, function: str) -> Tree:
    """What stands behind the name of a function, with its exponent and its base."""
    if function in ("sqrt", "cbrt", "squareroot"):
        return _root(cursor, function)
    exponent = base = None
    while True:
        if cursor.passes("^"):
            exponent = cursor.grammar.argument(cursor)
        elif cursor.passes("_"):
            is_whole = cursor.token.kind == "number" and cursor.ahead().value == "("
            base = cursor.grammar.atom(cursor) if is_whole else cursor.grammar.argument(cursor)
        else:
            break
    if exponent == t.MINUS_ONE and function in INVERSE:
        function, exponent = INVERSE[function], None
    if function == "lg":
        function, base = "log", t.number(10)
    args = _arguments(cursor)
    found = t.call("log" if function == "ln" and base else function, *args, *([base] if base else []))
    return t.power(found, exponent) if exponent is not None else found


def _arguments(cursor: Cursor) -> tuple[Tree, ...]:
    """Behind a function: brackets, or the product up to the next sign or function."""
    if cursor.sees("(", "{"):
        closing = ")" if cursor.take().value == "(" else "}"
        inner = cursor.inside()
        cursor.expect(closing)
        while inner.head == "set" and len(inner.args) == 1:
            inner = inner.args[0]
        return inner.args if inner.head in ("list", "set") else (inner,)
    sign = cursor.passes("-")
    factors = [cursor.grammar.power(cursor)]
    while cursor.grammar.starts_atom(cursor) and cursor.token.value not in FUNCTIONS:
        factors.append(cursor.grammar.power(cursor))
    product = t.times(*factors)
    return (t.negative(product) if sign else product,)


def _root(cursor: Cursor, function: str) -> Tree:
    degree = t.number(3) if function == "cbrt" else t.TWO
    if cursor.passes("["):
        degree = cursor.expression()
        cursor.expect("]")
    whole = function == "squareroot" and cursor.token.kind == "number"
    inner = cursor.grammar.atom(cursor) if whole else cursor.grammar.argument(cursor)
    return t.call("root", inner, degree)


def _fraction(cursor: Cursor, _: str) -> Tree:
    return t.over(cursor.grammar.argument(cursor), cursor.grammar.argument(cursor))


def _binomial(cursor: Cursor, _: str) -> Tree:
    return t.call("binomial", cursor.grammar.argument(cursor), cursor.grammar.argument(cursor))


def _floor(cursor: Cursor, opened: str) -> Tree:
    return bars(cursor, *FLOORS[opened])


def bars(cursor: Cursor, closing: str, function: str) -> Tree:
    """What stands between |...|, floors, angles: a call, or a tuple."""
    cursor.bars += 1
    depth, cursor.depth = cursor.depth, cursor.depth + 1
    bars = cursor.bars
    inner = cursor.inside() if closing != "|" else _between_bars(cursor)
    cursor.bars, cursor.depth = bars - 1, depth
    cursor.expect(closing)
    if function == "()":
        return Tree("group", inner.args if inner.head == "list" else (inner,), "()")
    return t.call(function, inner)


def _between_bars(cursor: Cursor) -> Tree:
    if cursor.depth > 40:
        raise UnreadableError("bars too deep")
    return cursor.grammar.sum(cursor)


def _braces(cursor: Cursor, _: str) -> Tree:
    r"""A set: \{1, 2\}, \{x | x > 1\}, \{\}."""
    if cursor.passes("}"):
        return EMPTY
    first = cursor.inside()
    if cursor.passes("mid", "|", ":"):
        condition = cursor.inside()
        cursor.expect("}")
        return Tree("builder", (first, condition))
    cursor.expect("}")
    if first.head == "list":
        return Tree("set", first.args)
    return first if first.head == "text" else Tree("set", (first,))


def _big(cursor: Cursor, kind: str) -> Tree:
    r"""\sum_{k=1}^{n} body and its like; an integral or a limit is a function of its parts."""
    low = high = t.ZERO
    while cursor.sees("_", "^"):
        if cursor.take().value == "_":
            cursor.expect("{") if cursor.sees("{") else None
            low = cursor.inside()
            cursor.passes("}")
        else:
            high = cursor.grammar.argument(cursor)
    body = cursor.grammar.product(cursor)
    if (
        kind in ("sum", "prod")
        and low.head == "relation"
        and low.value == ("=",)
        and low.args[0].head in ("name", "constant")
    ):
        index = t.name(str(low.args[0].value))
        return Tree("big", (t.replaced(body, low.args[0], index), index, low.args[1], high), kind)
    return t.call(f"\\{kind}", low, high, body)


def _constant(cursor: Cursor, name: str) -> Tree:
    return CONSTANTS[name]


def _letter(cursor: Cursor, name: str) -> Tree:
    return variable(cursor, name)


def _over_line(cursor: Cursor, mark: str) -> Tree:
    inner = cursor.grammar.argument(cursor)
    return t.call(mark, inner)


def _marked(cursor: Cursor, mark: str) -> Tree:
    """A sign before a name, as in angle ABC."""
    letters = [cursor.grammar.atom(cursor)]
    while cursor.token.kind == "name" and not cursor.token.spaced:
        letters.append(cursor.grammar.atom(cursor))
    return t.call(mark, t.times(*letters))


def environment(cursor: Cursor, kind: str) -> Tree:
    """A matrix, a system, or lines below each other."""
    if kind.startswith("array") and cursor.passes("{"):
        cursor.raw()
    rows: list[Tree] = []
    cells: list[Tree] = []
    while True:
        if cursor.sees("\\", "&") or cursor.sees(f"end:{kind}"):
            pass
        else:
            while (
                cursor.token.kind in ("text", "word")
                and cursor.token.value.strip(" ,.").lower() in CONDITIONAL
            ):
                cursor.take()
            cells.append(cursor.inside())
        if cursor.passes("&"):
            continue
        if cells:
            rows.append(Tree("row", tuple(cells)))
            cells = []
        if cursor.passes("\\"):
            continue
        cursor.expect(f"end:{kind}")
        break
    if kind in ("cases", "rcases"):
        return Tree("cases", tuple(rows))
    if kind.rstrip("*") in ("aligned", "align", "gathered", "split", "gather", "alignedat"):
        return Tree(
            "list", tuple(t.times(*row.args) if len(row.args) > 1 else row.args[0] for row in rows), ","
        )
    if not rows:
        raise UnreadableError("an empty matrix")
    return t.call("det", Tree("matrix", tuple(rows))) if kind == "vmatrix" else Tree("matrix", tuple(rows))


ATOMS: dict[str, Callable[[Cursor, str], Tree]] = {
    "frac": _fraction,
    "binom": _binomial,
    "{": _braces,
    **dict.fromkeys(FLOORS, _floor),
    **dict.fromkeys(("sum", "prod", "int", "lim", "iint", "oint"), _big),
    **dict.fromkeys(("pi", "infty"), _constant),
    **dict.fromkeys([*GREEK[:15], *GREEK[16:]], _letter),
    **dict.fromkeys([word.capitalize() for word in GREEK], _letter),
    **dict.fromkeys(("varphi", "varepsilon", "vartheta", "ell", "imath", "jmath", "hbar", "varrho"), _letter),
    **dict.fromkeys(("emptyset", "varnothing"), lambda cursor, _: EMPTY),
    **dict.fromkeys(("ldots", "dots", "cdots", "vdots"), lambda cursor, _: Tree("dots")),
    **dict.fromkeys(("overline", "bar", "tilde", "hat", "widehat", "dot", "ddot"), _over_line),
    **dict.fromkeys(("aleph", "beth", "top", "bot", "ker", "dim", "nu"), _letter),
    **dict.fromkeys(("mathfrak",), lambda cursor, mark: t.call(mark, cursor.grammar.argument(cursor))),
    **dict.fromkeys(("angle", "complement", "triangle", "nabla", "partial"), _marked),
}
