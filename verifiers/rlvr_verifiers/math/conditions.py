"""Conditions behind an answer: for all x, where k is an integer, (x > 1).  What says more is unreadable."""

from __future__ import annotations

from rlvr_verifiers.math.cursor import Cursor
from rlvr_verifiers.math.joints import is_over, joint_of, peeks_joint
from rlvr_verifiers.math.spelling import LITTLE, words
from rlvr_verifiers.math.tokens import Token
from rlvr_verifiers.math.tree import Tree, UnreadableError, names, show

CONDITIONAL = ("for ", "where", "if", "when", "with ", "such that", "provided", "given", "as long")
"""How the words of a condition begin."""

BOUNDS = frozenset((
    "<", ">", "<=", ">=", "le", "ge", "leq", "geq", "leqslant", "geqslant", "lt", "gt", "in", "!=", "ne",
    "neq", "forall", "-",
))  # fmt: skip

KINDS = frozenset((
    "all", "any", "every", "each", "some", "for", "where", "if", "when", "with", "such", "that",
    "provided", "given", "positive", "negative", "nonnegative", "real", "integer", "integers", "natural",
    "whole", "rational", "nonzero", "number", "numbers", "constant", "constants", "arbitrary", "fixed",
    "is", "are", "an", "as", "long", "parameter", "non", "valid", "value", "values", "or", "and",
))  # fmt: skip
"""Words that conditions are made of."""

LETTERED = frozenset(
    ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "pi", "infty", "ldots", "dots")
)


def is_condition(cursor: Cursor) -> bool:
    """Whether the words that follow say when, or for which letters, the clause holds."""
    said = []
    for ahead in range(4):
        token = cursor.ahead(ahead)
        if token.kind not in ("word", "text"):
            break
        said.append(token.value.strip(" ,("))
    return f"{' '.join(said).lower()} ".startswith(CONDITIONAL)


def condition_of(cursor: Cursor, start: Token) -> tuple[str, ...]:
    """Words of the condition behind a clause, passed: for all x, where k is an integer, (x > 1); else none.

    It ends where a clause begins that looks like the one before it.  UnreadableError where it says more than
    which letters are meant, and where they lie.
    """
    place = cursor.place
    if cursor.sees("(") and cursor.opens_relation():
        cursor.take()
        remark = cursor.inside()
        cursor.expect(")")
        if not _is_remark(remark):
            raise UnreadableError("brackets with more than a condition")
        return words(show(remark))
    cursor.passes(",")
    if not (cursor.sees("forall") or is_condition(cursor)):
        cursor.place = place
        return ()
    said: list[str] = []
    while cursor.token.kind != "end" and not cursor.sees(";") and not (cursor.depth and is_over(cursor)):
        if peeks_joint(cursor) and _starts_alike(cursor, start):
            break
        if not _may_condition(cursor):
            raise UnreadableError(f"a condition that says {cursor.token.value!r}")
        said.append(cursor.take().value)
    return words(" ".join(said))


def _is_remark(tree: Tree) -> bool:
    """Whether brackets hold bounds and sets of letters alone: (k in Z), (0 < x < 1)."""
    if tree.head == "list":
        return all(map(_is_remark, tree.args))
    if tree.head != "relation":
        return False
    if tree.operators == ("in",):
        return tree.args[1].head in ("name", "call", "group")
    return bool(names(tree)) and not set(tree.operators) & {"=", "in", "~", "!="}


def _may_condition(cursor: Cursor) -> bool:
    """Whether a token has a place in a condition: letters, sets, bounds, and words that say of what kind."""
    token = cursor.token
    if token.kind == "number":
        return bool({cursor.ahead(-1).value, cursor.ahead().value} & BOUNDS)
    if token.kind in ("word", "text"):
        return all(word in KINDS or word in LITTLE or len(word) == 1 for word in words(token.value))
    if token.kind == "command":
        return token.value in BOUNDS or token.value.startswith("mathbb:") or token.value in LETTERED
    return token.kind == "name" or token.value in BOUNDS or token.value in ",()^_*+{}"


def _starts_alike(cursor: Cursor, start: Token) -> bool:
    place = cursor.place
    while joint_of(cursor):
        pass
    is_alike = cursor.token.value == start.value and cursor.ahead().value in ("(", "=", "_", "<", ">", "in")
    cursor.place = place
    return is_alike
