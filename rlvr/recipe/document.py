"""YAML text to plain values that remember where they stood, and back.

Mends three traps of plain PyYAML: `1e-6` read as text, `on/off/yes/no` read as booleans, a doubled key
silently dropped.  Dates stay text too.  All else is YAML 1.1 as PyYAML reads it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

from rlvr.errors import RecipeError

MAX_VALUES = 10_000
HINTS = {
    "\\t": "indent with spaces, not tabs",
    "mapping values": "check the indentation, and put a text that holds `: ` in quotes",
    "cannot start any token": "put a text that starts with this character in quotes",
    "<block end>": "check the indentation",
    "could not find expected ':'": "a key needs a `:` after it",
}


Fault: TypeAlias = tuple[float, str]
"""A line, by which faults are sorted (infinite for `--set`), and the message with its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where a value was given, and as what."""

    place: str
    """`recipes/a.yaml:7` or `--set run.steps=3`."""
    line: int | None
    """Line in the file, from 1; None for `--set`."""
    text: str
    """The value as it was written, on one line and shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A YAML text that was read."""

    value: Any
    """Plain dicts, lists and scalars; keys are text."""
    spots: dict[str, Spot]
    """Spot of each value by its dotted key, `verifier.0.name`; the whole is at ``""``."""
    faults: tuple[Fault, ...] = ()
    """What is wrong with it so far, though it could be read: doubled keys and the like."""


def parse(text: str, place: Callable[[int], str]) -> Document:
    """Read one YAML document; `place` turns a line number into the place that errors name."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        builder = _Builder(loader, text, place)
        value = None if node is None else builder.build(node, "")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{place(line)}: a control character ({error.character:#x}); remove it") from None
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_syntax(error, text, place)) from None
    except RecursionError:
        raise RecipeError(f"{place(1)}: nested too deeply, or an alias holds itself") from None
    return Document(value=value, spots=builder.spots, faults=tuple(builder.faults))


def dump(value: Any) -> str:
    """YAML that `parse` reads back as the same value."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return text


def shown(value: Any) -> str:
    """A value as one would write it in a recipe, on one line; a text without quotes."""
    if isinstance(value, str):
        return value or "''"
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _syntax(error: yaml.MarkedYAMLError, text: str, place: Callable[[int], str]) -> str:
    mark = error.problem_mark or error.context_mark
    last = text.rstrip("\n").count("\n") + 1
    line = min(mark.line + 1, last) if mark else last
    problem = error.problem or "cannot be read"
    if error.context and error.context_mark and error.context_mark.line + 1 != line:
        problem = f"{error.context} that began on line {error.context_mark.line + 1}: {problem}"
    if "\t" in re.match(r"\s*", text.split("\n")[line - 1])[0]:  # type: ignore[index]  # \s* always matches
        problem = "found a tab '\\t' before the first word"
    hint = next((f"; {hint}" for sign, hint in HINTS.items() if sign in problem), "")
    return f"{place(line)}: not valid YAML: {problem}{hint}"


def join(head: str, leaf: str | int) -> str:
    """The dotted key of `leaf` in the section `head`; ``""`` is the whole document."""
    return f"{head}.{leaf}" if head else str(leaf)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of a recipe."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `_Loader` would otherwise read as something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


BOOL, FLOAT, TIME = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "timestamp"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (BOOL, TIME)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    FLOAT,
    re.compile(r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_Dumper.yaml_implicit_resolvers = {
    first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, []), *resolvers]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
} | {
    k: v
    for k, v in yaml.SafeDumper.yaml_implicit_resolvers.items()
    if k not in _Loader.yaml_implicit_resolvers
}


def _float(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    if value != value or value in (float("inf"), float("-inf")):
        return dumper.represent_float(value)
    return dumper.represent_scalar(FLOAT, re.sub(r"e([-+])0", r"e\1", repr(value)).replace("e+", "e"))


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value.rstrip("\n") else None
    if re.search("[\x85\u2028\u2029]", value):  # PyYAML's plain style turns these line breaks into spaces
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(float, _float)
_Dumper.add_representer(str, _text)


class _Builder:
    """Builds values from nodes and notes each one's spot."""

    def __init__(self, loader: _Loader, text: str, place: Callable[[int], str]) -> None:
        self.loader, self.text, self.place = loader, text, place
        self.spots: dict[str, Spot] = {}
        self.faults: list[Fault] = []
        self._seen: set[int] = set()

    def build(self, node: yaml.Node, key: str, at: int | None = None) -> Any:
        """The value of a node that stands at `key`."""
        line: int = node.start_mark.line + 1 if at is None else at
        self.spots[key] = Spot(place=self.place(line), line=line, text=self._slice(node))
        if len(self.spots) > MAX_VALUES:  # aliases of aliases grow without bound
            raise RecipeError(f"{self.place(line)}: more than {MAX_VALUES} values; is an alias repeated?")
        if isinstance(node, yaml.MappingNode) and node.tag.endswith(":map"):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode) and node.tag.endswith(":seq"):
            return [self.build(item, join(key, i)) for i, item in enumerate(node.value)]
        try:
            return self.loader.construct_object(node, deep=True)
        except ValueError as error:
            self._blame(line, f"`{self._slice(node)}` cannot be read: {error}")
            return None

    def _mapping(self, node: yaml.MappingNode, key: str) -> dict[str, Any]:
        if id(node) not in self._seen:  # an alias comes by again, with its merges already spread
            self._seen.add(id(node))
            self._refuse_doubled(node, key)
            self.loader.flatten_mapping(node)
        built = {}
        for name, value in node.value:
            inner = join(key, self._name(name))
            built[self._name(name)] = self.build(value, inner, name.start_mark.line + 1)
        return built

    def _refuse_doubled(self, node: yaml.MappingNode, key: str) -> None:
        first: dict[str, int] = {}
        for name_node, _ in node.value:
            name, line = self._name(name_node), name_node.start_mark.line + 1
            full = join(key, name)
            if not isinstance(name_node, yaml.ScalarNode):
                self._blame(line, f"`{name}` is no key; put it in quotes if it is a text")
            elif name in first:
                self._blame(line, f"`{full}` is given twice, first on line {first[name]}; keep one of them")
            first.setdefault(name, line)

    def _blame(self, line: int, what: str) -> None:
        self.faults.append((line, f"{self.place(line)}: {what}"))

    def _name(self, node: yaml.Node) -> str:
        return str(node.value) if isinstance(node, yaml.ScalarNode) else self._slice(node)

    def _slice(self, node: yaml.Node) -> str:
        written = " ".join(self.text[node.start_mark.index : node.end_mark.index].split())
        return written if len(written) <= 60 else f"{written[:59]}…"
