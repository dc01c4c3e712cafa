"""An inequality that cannot be solved here, looked at on a grid of points."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.equal import sign
from rlvr_verifiers.math.regions import HOLDS, Piece, order_of
from rlvr_verifiers.math.tree import Tree, names

GRID = tuple(
    Fraction(sign_ * n, 7) * scale for scale in (Fraction(1, 50), Fraction(1), Fraction(50))
    for n in range(1, 60)
    for sign_ in (1, -1)
)  # fmt: skip


def fits(unsolved: Tree, pieces: tuple[Piece, ...]) -> bool:
    """Whether an inequality that cannot be solved here holds on these pieces and nowhere else.

    Looked at on a grid, at every end and close to both sides of it.
    """
    free = names(unsolved)
    ends = [end for piece in pieces for end in (piece.low, piece.high) if end is not None]
    if len(free) != 1 or any(names(end) for end in ends):
        return False
    variable = next(iter(free))
    if not all(_turns(unsolved, variable, end) for end in ends):
        return False
    near = [t.plus(end, t.number(Fraction(d, 10**4))) for end in ends for d in (-1, 0, 1)]
    for place in (t.ZERO, *near, *map(t.number, GRID)):
        holds = _holds(unsolved, variable, place)
        if holds is None or holds != any(_contains(piece, place) for piece in pieces):
            return False
    return True


def _turns(tree: Tree, variable: str, end: Tree) -> bool:
    """Whether some relation in the tree is an equality at this end, or has a pole there."""
    for node in tree:
        if node.head == "relation":
            for left, right in zip(node.args, node.args[1:], strict=False):
                difference = t.replaced(t.plus(left, t.negative(right)), t.name(variable), end)
                if sign(difference) in (0, None):
                    return True
    return False


def _holds(tree: Tree, variable: str, place: Tree) -> bool | None:
    if tree.head == "list":
        parts = [_holds(arg, variable, place) for arg in tree.args]
        if None in parts:
            return None
        return any(parts) if tree.value == "or" else all(parts)
    if tree.head == "builder":
        return _holds(tree.args[1], variable, place)
    if tree.head != "relation" or any(operator not in HOLDS for operator in tree.operators):
        return None
    for left, operator, right in zip(tree.args, tree.operators, tree.args[1:], strict=False):
        found = sign(t.replaced(t.plus(left, t.negative(right)), t.name(variable), place))
        if found is None:
            return False  # outside of the domain nothing holds
        if not HOLDS[str(operator)](found):
            return False
    return True


def _contains(piece: Piece, place: Tree) -> bool:
    low = 1 if piece.low is None else order_of(place, piece.low)
    high = -1 if piece.high is None else order_of(place, piece.high)
    if low is None or high is None:
        return False
    return (low > 0 or (low == 0 and piece.low_in)) and (high < 0 or (high == 0 and piece.high_in))
