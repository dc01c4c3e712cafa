"""What stands before a program or a test: imports that it forgot, and what the prompt has already defined.

Only names of the standard library that are used and bound nowhere are imported, each as programs usually do.
"""

from __future__ import annotations

import ast
import builtins
import threading
from collections.abc import Iterable

PARSING = threading.Lock()
"""Before 3.11.8, CPython counts the depth of all threads' trees together (gh-106905) and fails at random."""
MOST_CHARACTERS = 2**17
"""Longer texts are left as they are."""
NAMES = {
    "typing": """Any Callable DefaultDict Deque Dict FrozenSet Generator Iterable Iterator List Mapping
        NamedTuple Optional Sequence Set Tuple Type TypeVar Union""",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "itertools": """accumulate chain combinations combinations_with_replacement count cycle groupby islice
        pairwise permutations product repeat zip_longest""",
    "heapq": "heapify heappop heappush heappushpop heapreplace nlargest nsmallest",
    "bisect": "bisect_left bisect_right insort insort_left insort_right",
    "math": """ceil comb cos factorial floor gcd hypot inf isclose isqrt lcm log log10 log2 perm pi prod sin
        sqrt""",
    "string": "ascii_letters ascii_lowercase ascii_uppercase",
    "operator": "itemgetter",
    "copy": "deepcopy",
    "dataclasses": "dataclass",
    "decimal": "Decimal",
    "fractions": "Fraction",
}
MODULES = {
    "cmath",
    "datetime",
    "json",
    "os",
    "pytest",
    "random",
    "re",
    "statistics",
    "sys",
    "time",
    "unittest",
}
IMPORTS = {module: f"import {module}" for module in {*MODULES, *NAMES}} | {
    name: f"from {module} import {name}" for module, names in NAMES.items() for name in names.split()
}
"""By name, how it is imported."""


def parse(source: str) -> ast.Module:
    """`ast.parse`, one thread at a time."""
    with PARSING:
        return ast.parse(source)


def parsed(source: str) -> ast.Module | None:
    """The tree of a text that nobody trusts; None where it is none, too long or too deep."""
    if len(source) > MOST_CHARACTERS:
        return None
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def with_imports(source: str) -> str:
    """The source, and before it the imports that it lacks."""
    tree = parsed(source)
    lacking = sorted(unbound(tree) & set(IMPORTS)) if tree else []
    if tree is None or not lacking:
        return source
    return behind_futures("".join(f"{IMPORTS[name]}\n" for name in lacking), source)


def behind_futures(added: str, source: str) -> str:
    """The source with `added` in front, but behind its `__future__` imports, which must come first."""
    tree = parsed(source) if "__future__" in source else None
    futures = [node for node in tree.body if _is_future(node)] if tree else []
    if not futures:
        return added + source
    lines = source.split("\n")  # not splitlines(): Python counts no line at a form feed or U+2028
    at = futures[-1].end_lineno or 0
    return "\n".join([*lines[:at], added, *lines[at:]])


def unbound(tree: ast.AST) -> set[str]:
    """Names that are used and nowhere bound, builtins left out."""
    used: set[str] = set()
    bound: set[str] = set(vars(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        else:
            bound.update(_bound_by(node))
    return used - bound


def prompt_definitions(prompt: str, entry: str) -> str:
    """Imports and helpers that a prompt written in Python defines beside `entry`; empty where it is none."""
    tree = parsed(prompt)
    if tree is None or not all(isinstance(node, DEFINITIONS) or _is_docstring(node) for node in tree.body):
        return ""
    kept = [n for n in tree.body if isinstance(n, DEFINITIONS) and getattr(n, "name", "") != entry]
    return "".join(f"{ast.unparse(node)}\n" for node in kept)


DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def _bound_by(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        return [node.name]
    return []


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_docstring(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)
