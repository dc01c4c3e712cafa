"""Numbers with units, percentages and angles."""

from __future__ import annotations

from fractions import Fraction

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.conventions import Comparison, Conventions
from rlvr_verifiers.math.equal import Finding, equal_expressions
from rlvr_verifiers.math.tokens import UNIT_LETTERS
from rlvr_verifiers.math.tree import Tree, canonical
from rlvr_verifiers.math.units import Unit, unit

ANGLES: dict[tuple[tuple[str, int], ...], Tree] = {
    (("angle", 1),): t.ONE,
    (("degree", 1),): t.over(t.PI, t.number(180)),
}
"""What one of it is in radians."""
NO_UNIT = Unit((), Fraction(1), ())
PERCENT = (("percent", 1),)
PLAIN = frozenset(
    {"number", "name", "constant", "+", "*", "^", "call", "percent", "degree", "quantity", "big"}
)


def compare_quantities(gold: Tree, found: Tree, by: Comparison) -> Finding | None:
    """Values and units; None where neither side has a unit, or a side is no value."""
    if not ({gold.head, found.head} & {"quantity", "percent", "degree", "compound"}):
        return None
    pair = []
    for tree, other in ((gold, found), (found, gold)):
        tree = _with_letters(tree) if _has_dimension(other) else tree
        split = _split(tree)
        if split is None:
            return Finding(False, "words that change the number")
        pair.append(split)
    (gold_value, gold_unit), (found_value, found_unit) = pair
    if gold_value.head not in PLAIN or found_value.head not in PLAIN:
        return (
            None
            if "quantity" not in (gold.head, found.head)
            else _inner(gold_value, gold_unit, found_value, found_unit, by)
        )
    c = by.conventions
    return _percent(pair, c) or _dropped(pair, c) or _both(pair, c)


def _has_dimension(tree: Tree) -> bool:
    named = unit(tree.text) if tree.head == "quantity" else None
    return named is not None and bool(named.dimension)


def _with_letters(tree: Tree) -> Tree:
    """3 m, read as a product, beside a side with a known unit: a quantity."""
    factors = canonical(tree).args if tree.head == "*" else ()
    if not factors or factors[0].head != "number":
        return tree
    said = []
    for factor in factors[1:]:
        base, exponent = factor.args if factor.head == "^" else (factor, t.ONE)
        if base.head != "name" or base.value not in UNIT_LETTERS or exponent.head != "number":
            return tree
        said.append(f"{base.value}^{exponent.value}")
    return Tree("quantity", (factors[0],), " ".join(said))


def _split(tree: Tree) -> tuple[Tree, Unit] | None:
    if tree.head == "quantity":
        found = unit(str(tree.value))
        if found is None:
            return None
        inner = tree.args[0]
        if found.many != 1 and inner.head not in PLAIN:
            return None
        if found.dimension == PERCENT:
            return inner, found
        split = _split(inner)
        if split is not None and found.many != 1:
            split = t.times(t.number(found.many), split[0]), split[1]
        if split is None or (split[1] != NO_UNIT and found.dimension):
            return None
        return (
            (split[0], found)
            if split[1] == NO_UNIT
            else (split[0], Unit(split[1].dimension, split[1].factor, found.words))
        )
    if tree.head == "compound":
        parts = [_split(arg) for arg in tree.args]
        known = [
            part
            for part in parts
            if part and part[1].dimension and part[1].dimension == (parts[0] or part)[1].dimension
        ]
        if len(known) < len(parts):
            return None
        total = t.plus(*(t.times(t.number(part[1].factor), part[0]) for part in known))
        return total, Unit(known[0][1].dimension, Fraction(1), ())
    if tree.head == "percent":
        return tree.args[0], Unit(PERCENT, Fraction(1), ())
    if tree.head == "degree":
        return tree.args[0], Unit((("degree", 1),), Fraction(1), ())
    return tree, NO_UNIT


def _inner(gold: Tree, gold_unit: Unit, found: Tree, found_unit: Unit, by: Comparison) -> Finding | None:
    """A list, an interval or a relation with a unit behind it: the unit is that of each part."""
    if gold_unit.dimension and found_unit.dimension and gold_unit.dimension != found_unit.dimension:
        return Finding(False, "units differ")
    if gold_unit.dimension and found_unit.dimension and gold_unit.factor != found_unit.factor:
        return Finding(False, "units differ")
    return by.compare(gold, found)


def _percent(pair: list[tuple[Tree, Unit]], c: Conventions) -> Finding | None:
    """10% is 0.1; where the conventions allow it, 10 as well."""
    is_percent = [split[1].dimension == PERCENT for split in pair]
    if not any(is_percent):
        return None
    hundredths = [
        t.over(value, t.number(100)) if flag else value
        for (value, _), flag in zip(pair, is_percent, strict=True)
    ]
    finding = equal_expressions(hundredths[0], hundredths[1], tolerance=c.tolerance)
    others = [split[1].dimension for split, flag in zip(pair, is_percent, strict=True) if not flag]
    if any(others):
        return Finding(False, "units differ")
    if finding.equal is not True and c.percent == "either" and not all(is_percent):
        return equal_expressions(pair[0][0], pair[1][0], tolerance=c.tolerance)
    return Finding(finding.equal, f"per cent: {finding.test}")


def _dropped(pair: list[tuple[Tree, Unit]], c: Conventions) -> Finding | None:
    """A unit on one side alone may be left out; an angle without one is in radians or in the gold's unit."""
    gold_unit, found_unit = pair[0][1], pair[1][1]
    if bool(gold_unit.dimension) == bool(found_unit.dimension):
        return None
    if gold_unit.words != found_unit.words:
        return Finding(False, "a unit and another word")
    if c.unit == "required" and gold_unit.dimension:
        return Finding(False, "the unit is missing")
    given = gold_unit if gold_unit.dimension else found_unit
    scaled = [
        t.times(t.number(unit_.factor), value)
        if unit_.words == () and not unit_.dimension and unit_.factor != 1
        else value
        for value, unit_ in pair
    ]
    finding = equal_expressions(scaled[0], scaled[1], tolerance=c.tolerance)
    if not finding.equal and given.dimension == (("degree", 1),) and c.convert:
        radians = [
            t.times(value, ANGLES[unit_.dimension]) if unit_.dimension else value for value, unit_ in pair
        ]
        finding = equal_expressions(radians[0], radians[1], tolerance=c.tolerance)
    return Finding(finding.equal, f"without the unit: {finding.test}")


def _both(pair: list[tuple[Tree, Unit]], c: Conventions) -> Finding:
    """The same dimension, and the same number of base units."""
    gold_unit, found_unit = pair[0][1], pair[1][1]
    if (
        gold_unit.dimension in ANGLES
        and found_unit.dimension in ANGLES
        and gold_unit.dimension != found_unit.dimension
    ):
        radians = [t.times(value, ANGLES[unit_.dimension]) for value, unit_ in pair]
        finding = equal_expressions(radians[0], radians[1], tolerance=c.tolerance)
        return finding if c.convert else Finding(False, "units differ")
    if gold_unit.dimension != found_unit.dimension:
        return Finding(False, "units differ")
    if gold_unit.words and found_unit.words and set(gold_unit.words) != set(found_unit.words):
        return Finding(False, "the words behind the number differ")
    if gold_unit.factor != found_unit.factor and not c.convert and gold_unit.dimension:
        return Finding(False, "units differ")
    sides = [t.times(t.number(unit_.factor), value) for value, unit_ in pair]
    finding = equal_expressions(sides[0], sides[1], tolerance=c.tolerance)
    return Finding(finding.equal, f"in the same unit: {finding.test}")
