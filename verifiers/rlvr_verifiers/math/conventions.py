"""What is a question of taste in "the same answer", each with its default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from rlvr_verifiers.math.equal import Finding
from rlvr_verifiers.math.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Conventions:
    """How answers are compared.  The defaults are those of the verifier `math`."""

    percent: Literal["hundredth", "either"] = "hundredth"
    """10% is 0.1 and not 10; `either` takes both."""
    unit: Literal["optional", "required"] = "optional"
    """A unit of the gold's may be left out; `required` refuses that.  A wrong unit is always refused."""
    convert: bool = True
    """100 cm is 1 m, 180 degrees are pi; off: units must be the same."""
    tolerance: float = 0.0
    """How far a value may be from the gold's, relative to it; 0 takes only equal ones."""
    ordered: bool = False
    """Whether comma lists must have the gold's order; sets never, tuples and intervals always."""
    scaled: bool = True
    """2x = 4 is x = 2: equations (inequalities) are equal up to a nonzero (positive) factor."""
    labels: bool = True
    """`x =` and `f(x) =` may be left out or added."""
    unsolved: bool = False
    """Whether x^2 = 4 is taken where the gold is 2, -2, and x^2 > 4 where it says x < -2 or x > 2."""
    choice: bool = True
    """A gold `(B) 5` may be answered by `B` or by `5`."""
    decimal_comma: bool = True
    """1,5 is taken for the gold 1.5."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What every rule is handed: the conventions, and the comparison that it calls for the parts."""

    conventions: Conventions
    """What is a question of taste."""
    _compare: Callable[[Tree, Tree, Comparison], Finding]

    def compare(self, gold: Tree, found: Tree) -> Finding:
        """Compare two parts by all rules."""
        return self._compare(gold, found, self)

    def same(self, gold: Tree, found: Tree) -> bool:
        """Whether two parts are equal for certain."""
        return self.compare(gold, found).equal is True
