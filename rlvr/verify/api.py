"""All that a verifier plugin imports: `@verifier` makes a verifier of one plain function.

Before the star stands what it asks for: any of `completion, answer, problem, sandbox, seed`; after the star
what a recipe may set, typed and checked from the signature.  The function returns bool, float or Verdict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from rlvr.errors import VerifierError, near_miss
from rlvr.types import Problem, Status, Verdict
from rlvr.verify.options import Option, checked_options, option_types

__all__ = ["OFFERED", "Problem", "Status", "Verdict", "Verifier", "verifier"]

OFFERED = ("completion", "answer", "problem", "sandbox", "seed")
"""What a verifier may ask for, by name."""

P = ParamSpec("P")
R = TypeVar("R", bound="bool | float | Verdict")

KEYWORD = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verifier(Generic[P, R]):
    """A function that checks completions, with what it asks for and what can be set.  Callable as before."""

    function: Callable[P, R]
    """The plugin's function."""
    name: str
    """Its name in the source."""
    doc: str
    """First line of its docstring."""
    wants: tuple[str, ...]
    """Names out of `OFFERED` that it asks for."""
    options: Mapping[str, Option]
    """What a recipe may set, by name."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function itself, in this process and without limits (for tests and for other verifiers)."""
        return self.function(*args, **kwargs)

    @property
    def place(self) -> str:
        """FILE:LINE of the function."""
        return _place(self.function)

    def configured(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options to call with; VerifierError names an unknown, missing or wrongly typed one."""
        return checked_options(self.name, self.options, given)


def verifier(function: Callable[P, R]) -> Verifier[P, R]:
    """Make a verifier of `function`; VerifierError names what is wrong with its signature."""
    _refuse_unusable(function)
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        _refuse_parameter(function, parameter)
    return Verifier(
        function=function,
        name=function.__name__,
        doc=(inspect.getdoc(function) or "").partition("\n")[0],
        wants=tuple(p.name for p in parameters if p.kind is not KEYWORD),
        options=option_types(function, _place(function), [p for p in parameters if p.kind is KEYWORD]),
    )


def _refuse_unusable(function: Callable[..., Any]) -> None:
    if not inspect.isfunction(function):
        raise VerifierError(
            f"@verifier is for plain functions, not for {function!r}; write `def name(completion, answer):`."
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise VerifierError(
            f"{_place(function)}: verifier `{function.__name__}` is `async def`; make it a plain `def`: "
            "it runs in a process of its own and may simply block."
        )
    if inspect.isgeneratorfunction(function):
        raise VerifierError(
            f"{_place(function)}: verifier `{function.__name__}` yields; return a bool, float or Verdict."
        )


def _refuse_parameter(function: Callable[..., Any], parameter: inspect.Parameter) -> None:
    where = f"{_place(function)}: verifier `{function.__name__}`"
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise VerifierError(f"{where} takes `{parameter}`; name each option after a bare `*` instead.")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise VerifierError(
            f"{where}: `{parameter.name}` is positional-only; remove the `/`: arguments come by name."
        )
    if parameter.kind is KEYWORD and parameter.name in OFFERED:
        raise VerifierError(
            f"{where}: option `{parameter.name}` is something we hand over; put it before the `*`."
        )
    if parameter.kind is not KEYWORD and parameter.name not in OFFERED:
        close = near_miss(parameter.name, OFFERED)
        guess = close if close.startswith("; did") else ""
        raise VerifierError(
            f"{where} asks for `{parameter.name}`, which is not among {', '.join(OFFERED)}{guess}"
            " (an option of your own goes after a bare `*`)."
        )


def _place(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
