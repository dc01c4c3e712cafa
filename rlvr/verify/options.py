"""The options of a verifier: read from its keyword-only parameters, checked against what a recipe gives."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlvr.errors import VerifierError, near_miss

REQUIRED = inspect.Parameter.empty
SCALARS = (bool, int, float, str, type(None), Any)
SPEAKABLE = "bool, int, float, str, None, list[...], dict[str, ...], Literal[...] and unions of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that a recipe may set."""

    kind: Any
    """Its type, as annotated."""
    default: Any = REQUIRED
    """Used where the recipe is silent; `REQUIRED` if it must be given."""

    def __str__(self) -> str:
        kind = (
            self.kind.__name__ if isinstance(self.kind, type) and not get_args(self.kind) else str(self.kind)
        )
        spelled = kind.replace("typing.", "")
        return spelled if self.default is REQUIRED else f"{spelled} = {self.default!r}"


def option_types(
    function: Callable[..., Any], place: str, parameters: Sequence[inspect.Parameter]
) -> dict[str, Option]:
    """The options of `function`; VerifierError where one has no type, or one that no recipe can spell."""
    where = f"{place}: verifier `{function.__name__}`"
    for parameter in parameters:
        if parameter.annotation is parameter.empty:
            raise VerifierError(
                f"{where}: option `{parameter.name}` has no type; write `{parameter.name}: float = ...`."
            )
    # Only the options are evaluated: other annotations may name what is imported for type checkers alone.
    holder = types.SimpleNamespace(__annotations__={p.name: p.annotation for p in parameters})
    try:
        kinds = get_type_hints(holder, globalns=getattr(function, "__globals__", {}))
    except (NameError, TypeError, SyntaxError) as error:
        raise VerifierError(f"{where}: the type of an option cannot be read: {error}.") from error
    for name, kind in kinds.items():
        if not _speakable(kind):
            raise VerifierError(
                f"{where}: option `{name}` is a {kind}, which no recipe can spell; use {SPEAKABLE}."
            )
    return {p.name: Option(kind=kinds[p.name], default=p.default) for p in parameters}


def checked_options(name: str, options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, once every name is known, every type fits and nothing required is missing."""
    for key, value in given.items():
        if key not in options:
            choices = near_miss(key, options) or "; it has none"
            raise VerifierError(f"verifier `{name}` has no option `{key}`{choices}")
        if not _fits(value, options[key].kind):
            kind = options[key].kind
            if get_origin(kind) is Literal:
                close = near_miss(str(value), [str(choice) for choice in get_args(kind)])
                raise VerifierError(f"verifier `{name}`: option `{key}` cannot be {value!r}{close}")
            wanted = Option(kind=kind)
            raise VerifierError(
                f"verifier `{name}`: option `{key}` = {value!r} is a {type(value).__name__}, not {wanted}."
            )
    missing = [key for key, option in options.items() if option.default is REQUIRED and key not in given]
    if missing:
        raise VerifierError(
            f"verifier `{name}` needs option `{missing[0]}` ({options[missing[0]]}): set it in the recipe."
        )
    return {key: float(v) if options[key].kind is float else v for key, v in given.items()}


def _speakable(kind: Any) -> bool:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType, list):
        return all(_speakable(part) for part in get_args(kind))
    if origin is dict:
        key, value = get_args(kind)
        return key is str and _speakable(value)
    return origin is Literal or kind in (*SCALARS, list, dict)


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            isinstance(k, str) and _fits(v, parts[1]) for k, v in value.items()
        )
    if kind in (int, float):  # True is an int to Python, not to a reader of recipes
        return not isinstance(value, bool) and isinstance(value, (int, float) if kind is float else int)
    return isinstance(value, kind)
