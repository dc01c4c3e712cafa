"""The table of all recipe keys, read off the schema: what each means and takes, in words."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from rlvr.errors import near_miss
from rlvr.recipe.document import join
from rlvr.recipe.presets import PRESETS
from rlvr.recipe.schema import Algorithm, Recipe
from rlvr.recipe.units import BYTES, SECONDS, parse_bytes, parse_seconds

SHORT_FORMS = {"model": "name", "problems": "source", "verifier": "name", "audit": "name"}
"""Sections that may be given as one text, and the key it stands for."""

PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
UNITS: dict[Any, str] = {
    parse_seconds: f"a duration in seconds or as `5 s` (units: {', '.join(SECONDS)})",
    parse_bytes: f"a size in bytes or as `2 GiB` (units: {', '.join(BYTES)})",
}
BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))

ELSEWHERE = {
    "lr": "optim.learning_rate",
    "batch_size": "optim.problems_per_step",
    "num_generations": "sampling.group_size",
    "max_new_tokens": "sampling.max_tokens",
    "max_completion_length": "sampling.max_tokens",
    "beta": "algorithm.kl_coef",
    "epsilon_high": "algorithm.clip_high",
    "max_steps": "run.steps",
    "dataset": "problems",
    "reward": "verifier",
    "rollout": "sampling",
}
"""What other trainers call our keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a recipe."""

    name: str
    """Dotted, without list indices: `verifier.timeout`."""
    doc: str
    """The line under it in the schema."""
    takes: str
    """What it accepts, in words: `a whole number ≥ 2`."""
    default: Any
    """Its default as one would write it; None where there is none."""
    required: bool
    """Whether a recipe, or the section, must give it."""
    choices: tuple[str, ...]
    """The closed set of texts it accepts; empty where it is open."""
    section: type[BaseModel] | None
    """The model of its own keys, where it has any."""
    plain: frozenset[type]
    """The scalar types among what it accepts."""


def bare(name: str) -> str:
    """A dotted key without list indices: `verifier.0.name` is `verifier.name`."""
    return re.sub(r"\.\d+(?=\.|$)", "", name)


def inside(section: str) -> list[Key]:
    """The keys directly in a section; ``""`` is the whole recipe."""
    return [key for name, key in KEYS.items() if name.rpartition(".")[0] == section]


def unknown(name: str) -> str:
    """The sentence about a key that does not exist, with the nearest one that does."""
    section, _, leaf = bare(name).rpartition(".")
    if bare(name) in KEYS:
        return f"`{name}` is no single key; nest it: `{section}: {{{leaf}: ...}}`"
    siblings = [key.name.rpartition(".")[2] for key in inside(section)]
    near = near_miss(leaf, siblings)
    if "did you mean" not in near:
        found = [key for key in KEYS if key.rpartition(".")[2] == leaf or key == ELSEWHERE.get(leaf)]
        found = [key for key in found if ELSEWHERE.get(leaf, key) == key]
        if found:
            near = "; did you mean " + " or ".join(f"`{_beside(key, section)}`" for key in found) + "?"
    return f"`{name}` is no key of a recipe{near}"


def _beside(key: str, section: str) -> str:
    head, _, leaf = key.rpartition(".")
    return leaf if head == section else key


def _walk(model: type[BaseModel], above: str) -> Iterator[Key]:
    for leaf, field in model.model_fields.items():
        name = join(above, leaf)
        annotation = field.annotation
        section = next((part for part in _parts(annotation) if issubclass(part, BaseModel)), None)
        yield Key(
            name=name,
            doc=field.description or "",
            takes=_takes(name, field),
            default=_default(model, leaf, field),
            required=field.is_required() and model is not Algorithm,
            choices=tuple(PRESETS) if name == "algorithm.preset" else tuple(_choices(annotation)),
            section=section,
            plain=frozenset(part for part in _parts(annotation) if part in PLAIN),
        )
        if section is not None:
            yield from _walk(section, name)


def _takes(name: str, field: FieldInfo) -> str:
    if name == "algorithm.preset":
        return f"one of {', '.join(f'`{preset}`' for preset in PRESETS)}"
    return ("text or " if name in SHORT_FORMS else "") + _words(field.annotation, field.metadata)


def _default(model: type[BaseModel], leaf: str, field: FieldInfo) -> Any:
    if model is Algorithm and leaf != "preset":
        return PRESETS["default"][leaf]
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, BaseModel) or leaf == "verifier" else value


def _parts(annotation: Any) -> Iterator[type]:
    """The classes in an annotation, unions and lists opened."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    elif get_origin(annotation) not in (Literal, dict):
        for part in get_args(annotation):
            yield from _parts(part)


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from (str(choice) for choice in get_args(annotation))


def _words(annotation: Any, metadata: list[Any]) -> str:
    for mark in metadata:
        if isinstance(mark, BeforeValidator):
            return UNITS[mark.func] + _bounds(metadata)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [mark for part in parts[1:] for mark in getattr(part, "metadata", [part])]
        return _words(parts[0], inner)
    if origin is Literal:
        choices = ", ".join(f"`{choice}`" for choice in parts)
        return f"one of {choices}" if len(parts) > 1 else choices
    if origin in (Union, types.UnionType):
        some = [_words(part, metadata) for part in parts if part is not type(None)]
        return " or ".join([*some, "null"] if type(None) in parts else some)
    if origin is tuple:
        return f"a list of {len(parts)}, each {_words(parts[0], [])}"
    if origin is list:
        return f"{_words(parts[0], [])}, or a list of such" if _is_section(parts[0]) else "a list of texts"
    if origin is dict or _is_section(annotation):
        return "a section of keys"
    return PLAIN[annotation] + _bounds(metadata)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _bounds(metadata: list[Any]) -> str:
    found = [
        f"{sign} {getattr(mark, name)}" for name, sign in BOUNDS for mark in metadata if hasattr(mark, name)
    ]
    return f" {' and '.join(found)}" if found else ""


KEYS: dict[str, Key] = {key.name: key for key in _walk(Recipe, "")}
