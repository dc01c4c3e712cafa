"""Where a reader stands in its tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlvr_verifiers.math.tokens import END, Token
from rlvr_verifiers.math.tree import Tree, UnreadableError

DEEPEST = 40
OPENING, CLOSING = frozenset("([{"), frozenset(")]}")
RELATING = frozenset(("=", "<", ">", "<=", ">=", "!=", "le", "ge", "leq", "geq", "lt", "gt", "ne", "neq",
                      "in",
                      "leqslant", "geqslant", "notin"))  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """The readers that call each other, from the widest to the narrowest."""

    answer: Callable[[Cursor], Tree]
    """A whole answer, as it may stand in brackets too: (1, 2), (x > 1)."""
    sum: Callable[[Cursor], Tree]
    """Terms joined by + and -."""
    product: Callable[[Cursor], Tree]
    """Factors joined by signs or by nothing."""
    power: Callable[[Cursor], Tree]
    """An atom with what stands behind it: an exponent, a factorial."""
    atom: Callable[[Cursor], Tree]
    """One factor."""
    argument: Callable[[Cursor], Tree]
    """What a command takes: braces, or one token."""
    starts_atom: Callable[[Cursor], bool]
    """Whether a factor begins, without an operator before it."""


class Cursor:
    """A place in a list of tokens, and how deep in brackets it is."""

    def __init__(self, tokens: list[Token], grammar: Grammar) -> None:
        """`grammar` is what nested readers are found by."""
        self._tokens = tokens
        self.grammar = grammar
        self.place = 0
        self.depth = 0
        self.bars = 0
        """How many |...| are open: there a bar closes."""

    @property
    def token(self) -> Token:
        """The next token; END behind the last."""
        return self._tokens[self.place] if self.place < len(self._tokens) else END

    def ahead(self, count: int = 1) -> Token:
        """The token `count` behind the next."""
        place = self.place + count
        return self._tokens[place] if 0 <= place < len(self._tokens) else END

    def take(self) -> Token:
        """The next token, passed."""
        token = self.token
        self.place += 1
        return token

    def sees(self, *values: str) -> bool:
        """Whether the next token is one of these signs or commands."""
        token = self.token
        return token.kind in ("sign", "command") and token.value in values

    def passes(self, *values: str) -> bool:
        """Whether it was one of these signs or commands, which is passed then."""
        seen = self.sees(*values)
        self.place += seen
        return seen

    def split_digit(self) -> int:
        r"""The first digit of the next number, the rest of which is left: \frac12 is a half."""
        token = self.token
        self._tokens[self.place] = Token("number", token.value[1:])
        return int(token.value[0])

    def replace(self, tokens: list[Token]) -> None:
        """Put these in the place of the next token."""
        self._tokens[self.place : self.place + 1] = tokens

    def opens_relation(self) -> bool:
        """Whether the bracket that opens here holds a relation: (x > 1) is a remark, no factor."""
        depth = 0
        for place in range(self.place, len(self._tokens)):
            value = self._tokens[place].value
            depth += (value in OPENING) - (value in CLOSING)
            if depth == 0:
                return False
            if depth == 1 and value in RELATING:
                return True
        return False

    def expect(self, value: str) -> None:
        """Pass this sign; UnreadableError where another token stands."""
        if not self.passes(value):
            raise UnreadableError(f"{value} expected at {self.token.value or 'the end'!r}")

    def inside(self) -> Tree:
        """What stands in the brackets just opened."""
        if self.depth >= DEEPEST:
            raise UnreadableError(f"brackets deeper than {DEEPEST}")
        bars, self.bars = self.bars, 0
        self.depth += 1
        tree = self.grammar.answer(self)
        self.depth -= 1
        self.bars = bars
        return tree

    def expression(self) -> Tree:
        """What stands in the brackets just opened, which must be one expression."""
        tree = self.inside()
        if tree.head in ("list", "relation", "text", "quantity", "ratio"):
            raise UnreadableError(f"an expression expected, not a {tree.head}")
        return tree

    def raw(self) -> str:
        """The text of the braces just opened, to their end: a subscript."""
        depth, found = 1, []
        while depth:
            token = self.take()
            if token.kind == "end":
                raise UnreadableError("braces that never close")
            depth += {"{": 1, "}": -1}.get(token.value, 0) if token.kind == "sign" else 0
            found.append(token.value)
        return "".join(found[:-1])
