"""Whether two answers are the same: which kinds meet, and by which rule they are compared.

The gold stands first everywhere.  Each rule returns a Finding, or None where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.collections import compare_collections
from rlvr_verifiers.math.conventions import Comparison, Conventions
from rlvr_verifiers.math.equal import WHOLE, Finding, equal_expressions, is_zero
from rlvr_verifiers.math.grids import fits
from rlvr_verifiers.math.quantities import compare_quantities
from rlvr_verifiers.math.regions import REALS, NoRegionError, Piece, is_region, region, same_region
from rlvr_verifiers.math.relations import (
    compare_relations,
    is_asked,
    is_label,
    is_multiple,
    labelled,
    product_of,
    solved_for,
)
from rlvr_verifiers.math.remarks import declared_sets, given, undeclared
from rlvr_verifiers.math.signs import expanded
from rlvr_verifiers.math.tree import Tree, canonical, names
from rlvr_verifiers.math.values import OutsideError, exact

VALUELESS = frozenset({"list", "set", "group", "matrix", "relation", "text", "based", "empty"})
Rule = Callable[[Tree, Tree, Comparison], Finding | None]


def compare(gold: Tree, found: Tree, conventions: Conventions) -> Finding:
    """Whether `found` says what `gold` says."""
    return _compare(gold, found, Comparison(conventions, _compare))


def _compare(gold: Tree, found: Tree, by: Comparison) -> Finding:
    declared = declared_sets(gold), declared_sets(found)
    is_bounded = bool(declared[1]) and not declared[0] and is_region(gold)
    if declared[0] != declared[1] and (all(declared) or is_bounded):
        return Finding(None, "cannot decide: the letters lie in different sets")
    gold, found = undeclared(gold), undeclared(found)
    if (
        declared[0]
        and found.head == "given"
        and not {one.text[-1:] for one in declared[0]} & set(found.operators)
    ):
        return Finding(None, "cannot decide: a condition that changes the set")
    if gold == found or (canonical(gold) == canonical(found) and _ordered(gold, found, by) is None):
        return Finding(True, "same form")
    for rule in RULES:
        finding = rule(gold, found, by)
        if finding is not None:
            return finding
    if not by.conventions.unsolved and not names(gold) and _has_big(found) and not _has_big(gold):
        return Finding(False, "a sum that is not worked out")
    return equal_expressions(gold, renamed(gold, found), tolerance=by.conventions.tolerance)


def _has_big(tree: Tree) -> bool:
    return any(node.head == "big" for node in tree)


def renamed(gold: Tree, found: Tree) -> Tree:
    """`found` with the gold's name for a constant of integration, or for the whole number in k pi."""
    mine, its = names(gold) - names(found), names(found) - names(gold)
    if len(mine) == len(its) == 1:
        one, other = t.name(next(iter(mine))), t.name(next(iter(its)))
        is_turn = {one.text, other.text} <= WHOLE and all(
            any(node == t.PI for node in tree) for tree in (gold, found)
        )
        is_constant = one.text.casefold() == other.text.casefold() == "c" and all(
            tree.head == "+" and letter in tree.args for tree, letter in ((gold, one), (found, other))
        )
        if is_constant or is_turn:
            return t.replaced(found, other, one)
    return found


def _ordered(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Products of matrices, told by a transpose, keep their order."""
    if any(
        node.head == "call" and node.value in ("top", "otimes", "circ")
        for tree in (gold, found)
        for node in tree
    ):
        return Finding(
            True if gold == found else None, "same form" if gold == found else "cannot decide: matrices"
        )
    return None


def _approximate(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """`exact ~ decimal`: the exact side counts; the decimal only for a gold that is one, if it is near."""
    if not any("~" in tree.operators for tree in (gold, found)):
        return None
    (exact_gold, rough_gold), (exact_found, rough_found) = _split(gold), _split(found)
    if rough_gold is None and rough_found is None:
        return by.compare(exact_gold, exact_found)
    finding = by.compare(exact_gold, exact_found)
    if finding.equal or (rough_found is not None and _is_decimal(exact_found)):
        return finding
    if rough_found is None:
        return by.compare(rough_gold or exact_gold, found)
    wanted = rough_gold if rough_gold is not None else gold
    if not _is_near(exact_found, rough_found):
        return finding
    return by.compare(wanted, rough_found) if _has_places(wanted) else finding


def _is_decimal(tree: Tree) -> bool:
    value = labelled(tree)
    return (value[1] if value else tree).head == "number"


def _has_places(tree: Tree) -> bool:
    """Whether it is a number that is not whole."""
    return isinstance(tree.value, Fraction) and tree.value.denominator > 1


def _split(tree: Tree) -> tuple[Tree, Tree | None]:
    if tree.head != "relation" or "~" not in tree.operators:
        return tree, None
    place = tree.operators.index("~")
    if all(is_label(side, tree.args[-1:]) for side in tree.args[: place + 1]):  # x is about 5.2
        return Tree("relation", tree.args, tuple("=" if o == "~" else o for o in tree.operators)), None
    left = tree.args[: place + 1]
    operators = tree.operators[:place]
    return (left[0] if len(left) == 1 else Tree("relation", left, operators)), tree.args[-1]


def _is_near(exact: Tree, rough: Tree) -> bool:
    value = labelled(exact)
    return equal_expressions(rough, value[1] if value else exact, tolerance=0.01).equal is True


def _unlabelled(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """`x = 5` where the other is 5; of `2 + 3 = 5` every side must be the other."""
    if not by.conventions.labels or (gold.head == "relation") == (found.head == "relation"):
        return None
    tree, other = (gold, found) if gold.head == "relation" else (found, gold)
    if tree.operators == ("in",) and tree.args[0].head == "name" and tree.args[1].head == "set":
        return by.compare(tree.args[1], other) if tree is gold else by.compare(other, tree.args[1])
    if set(tree.operators) != {"="} or any(arg.head == "relation" for arg in other.args):
        return None
    sides = list(tree.args)
    while len(sides) > 1 and is_label(sides[0], sides[1:]):
        sides.pop(0)
    if tree is found:
        if len(sides) > 1 and is_asked(sides[0], sides[1:]):
            sides.pop(0)
        findings = [by.compare(gold, side) for side in sides]
        worst = next((finding for finding in findings if not finding.equal), None)
        return (
            findings[-1] if worst is None else Finding(worst.equal, f"a side of the equation: {worst.test}")
        )
    if len(sides) == 1 or not any(map(names, sides)):
        return by.compare(sides[-1], found)
    value = solved_for(gold, found)
    return Finding(False, "an equation and an expression") if value is None else by.compare(value, found)


def _signs(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Plus-minus is two answers."""
    if not any(node.head == "plus-minus" for tree in (gold, found) for node in tree):
        return None
    both = expanded(gold), expanded(found)
    if both[0] is None or both[1] is None:
        return Finding(None, "cannot decide: too many plus-minus signs")
    return by.compare(both[0], both[1])


def _regions(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Two sets of reals, one of which looks like one."""
    if not (is_region(gold) or is_region(found)) or gold.head == found.head == "group":
        return None
    mine, other = _solved(gold), _solved(found)
    letters = [names(tree) - {REALS.text} for tree in (gold, found)]
    if len(letters[0]) == len(letters[1]) == 1 and letters[0] != letters[1]:
        return Finding(False, "variables differ")
    if not by.conventions.unsolved and mine is not None and not _is_worked_out(found):
        return Finding(False, "an inequality that is not solved")
    if mine is not None and other is not None:
        return Finding(same_region(mine, other), "sets of reals")
    if gold.head == found.head == "relation":
        finding = compare_relations(gold, found, by)
        if finding.equal:
            return finding
    if (mine is None) != (other is None):
        one, two = _as_points(gold, mine), _as_points(found, other)
        if (one, two) != (gold, found):
            return by.compare(one, two)
    if mine is None and other is not None and _has_relation(gold) and names(gold):
        return Finding(fits(gold, other), "an inequality on a grid")
    if mine is not None and other is None and _has_relation(found):
        if not by.conventions.unsolved:
            return Finding(False, "an inequality that is not solved")
        return Finding(fits(found, mine), "an inequality on a grid")
    return None


def _is_worked_out(tree: Tree) -> bool:
    """Whether every inequality of one variable has it alone on a side, or a multiple of it."""
    if tree.head != "relation":
        return all(map(_is_worked_out, tree.args))
    if set(tree.operators) & {"in", "notin"} or len(names(tree)) != 1:
        return True
    return all(not names(side) or is_multiple(side) for side in tree.args)


def _as_points(tree: Tree, pieces: tuple[Piece, ...] | None) -> Tree:
    """A builder that holds only single points, as the set of them."""
    if tree.head == "builder" and pieces and all(piece.low is piece.high for piece in pieces):
        return Tree("set", tuple(piece.low for piece in pieces if piece.low is not None))
    return tree


def _has_relation(tree: Tree) -> bool:
    return any(node.head == "relation" for node in tree)


def _solved(tree: Tree) -> tuple[Piece, ...] | None:
    try:
        return region(tree)
    except NoRegionError:
        return None


def _order(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """An order b < a < c may be written as the list b, a, c."""
    if found.head != "list" or len(gold.args) < 3 or set(gold.operators) != {"<"}:
        return None
    is_order = all(arg.head == "name" for arg in gold.args)
    return Finding(gold.args == found.args, "the order") if is_order else None


def _alternatives(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """`a = 0 or b = 0` is ab = 0; where the gold is solved, `x = 2 or x = 3`, the answer must be too."""
    if (
        gold.head not in ("relation", "list")
        or found.head not in ("relation", "list")
        or gold.head == found.head == "relation"
    ):
        return None
    pair = product_of(gold), product_of(found)
    if pair[0] is None or pair[1] is None:
        return None
    if gold.head == "list" and len(names(gold)) == 1 and not by.conventions.unsolved:
        return None
    return by.compare(pair[0], pair[1])


def _relations(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    return compare_relations(gold, found, by) if gold.head == found.head == "relation" else None


def _ratios(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """a : b is a / b; longer ratios up to a factor."""
    if "ratio" not in (gold.head, found.head):
        return None
    if gold.head == found.head:
        if len(gold.args) != len(found.args) or all(map(is_zero, found.args)):
            return Finding(False, "no such ratio")
        pairs = zip(gold.args[1:], found.args[1:], strict=True)
        crossed = [(t.times(a, found.args[0]), t.times(b, gold.args[0])) for a, b in pairs]
        return Finding(all(by.same(a, b) for a, b in crossed), "ratios")
    ratio, other = (gold, found) if gold.head == "ratio" else (found, gold)
    if len(ratio.args) != 2 or other.head in VALUELESS:
        return Finding(False, f"a {gold.head} and a {found.head}")
    value = t.over(*ratio.args)
    return by.compare(value, other) if gold.head == "ratio" else by.compare(other, value)


def _words(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Words, which are the same or not; of more than one word a side, other words may mean the same."""
    if "text" not in (gold.head, found.head):
        return None
    if gold == found:
        return Finding(True, "same words")
    are_single = all(tree.head == "text" and len(tree.operators) == 1 for tree in (gold, found))
    return Finding(False, "words") if are_single else Finding(None, "cannot decide: words")


def _based(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """1011_2: digits and base must be the same; the base may be left out."""
    if "based" not in (gold.head, found.head):
        return None
    (digits, _, base), (others, _, its) = (
        str(tree.value).partition("_") if tree.head == "based" else (t.show(tree), "", "")
        for tree in (gold, found)
    )
    if its and not base:
        return Finding(False, "a base that the gold has not")
    return Finding(digits == others and its in (base, ""), "digits and base")


def _congruent(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """x = 3 mod 5: the same residue of the same modulus."""
    pair = [tree.head == "call" and tree.value == "mod" for tree in (gold, found)]
    if not any(pair):
        return None
    if not all(pair) or not by.same(gold.args[1], found.args[1]):
        return Finding(False, "moduli differ")
    one, other = (tree.args[0] for tree in (gold, found))
    one, other = (
        tree.args[-1] if tree.head == "relation" and set(tree.operators) <= {"==", "="} else tree
        for tree in (one, other)
    )
    try:
        quotient = exact(t.over(t.plus(one, t.negative(other)), gold.args[1]))
    except OutsideError:
        return by.compare(one, other)
    return Finding(quotient.denominator == 1, "residues")


RULES: tuple[Rule, ...] = (
    given,
    _ordered, _approximate, _congruent, _unlabelled, compare_quantities, _signs, _words, _based, _ratios,
    _order, _regions, _alternatives, compare_collections, _relations,
)  # fmt: skip
