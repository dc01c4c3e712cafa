"""The factors of a product: numbers, letters, brackets, commands."""

from __future__ import annotations

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.commands import ATOMS, bars, environment, function_call
from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.letters import CONSTANTS, SAME, is_product, split_word, variable
from rlvr_verifiers.math.numerals import numeral
from rlvr_verifiers.math.tokens import FUNCTIONS
from rlvr_verifiers.math.tree import Tree, UnreadableError


def starts_atom(cursor: Cursor) -> bool:
    """Whether the next token can be a factor without an operator before it."""
    token = cursor.token
    if token.kind in ("name", "number"):
        return True
    if token.kind == "word":
        return is_product(token.value, cursor)
    if token.kind == "sign":
        return token.value in "([{" or (token.value == "|" and not cursor.bars)
    return token.kind == "command" and (
        token.value in ATOMS or token.value in FUNCTIONS or token.value.startswith(("begin:", "mathbb:"))
    )


def atom(cursor: Cursor) -> Tree:
    """One factor; UnreadableError where none begins."""
    token = cursor.token
    if token.kind == "number":
        return numeral(cursor)
    if token.kind == "name":
        return variable(cursor, cursor.take().value)
    if token.kind == "word" and is_product(token.value, cursor):
        split_word(cursor)
        return atom(cursor)
    if token.kind == "sign" and token.value in ("(", "["):
        return _group(cursor)
    if token.kind == "sign" and token.value == "{":
        cursor.take()
        inner = cursor.inside()
        cursor.expect("}")
        return inner
    if token.kind == "sign" and token.value == "|":
        cursor.take()
        return bars(cursor, "|", "abs")
    if token.kind == "command":
        cursor.take()
        if token.value in FUNCTIONS:
            return function_call(cursor, SAME.get(token.value, token.value))
        if token.value.startswith("begin:"):
            return environment(cursor, token.value[6:])
        if token.value.startswith("mathbb:"):
            return t.name(f"set {token.value[7:]}")
        read = ATOMS.get(token.value)
        if read is not None:
            return read(cursor, token.value)
    raise UnreadableError(f"no expression begins at {token.value or 'the end'!r}")


def argument(cursor: Cursor) -> Tree:
    r"""The argument of a command: braces, or one token as in \frac12."""
    token = cursor.token
    if cursor.passes("{"):
        inner = cursor.expression()
        cursor.expect("}")
        return inner
    if token.kind == "number" and len(token.value) > 1 and token.value.isdecimal():
        return t.number(cursor.split_digit())
    if token.kind == "sign" and token.value == "-":
        cursor.take()
        return t.negative(argument(cursor))
    if token.kind == "name":
        letter = SAME.get(cursor.take().value, token.value)
        return CONSTANTS.get(letter, t.name(letter))
    return atom(cursor)


def _group(cursor: Cursor) -> Tree:
    opened = cursor.take().value
    if cursor.passes(")" if opened == "(" else "]"):
        raise UnreadableError("empty brackets")
    inner = cursor.inside()
    closed = cursor.take().value
    if closed not in (")", "]"):
        raise UnreadableError(f"{opened} is closed by {closed or 'nothing'!r}")
    if inner.head == "list" and inner.value == ",":
        return Tree("group", inner.args, opened + closed)
    if opened + closed in ("()", "[]"):
        return inner
    raise UnreadableError(f"{opened}{closed} around one thing")
