"""All that a verifier plugin imports: `@verifier` makes a verifier of one plain function.

Before the star stands what it asks for: any of `completion, answer, problem, sandbox, seed`; after the star
what a recipe may set, typed and checked from the signature.  The function returns bool, float or Verdict.
`@verifier(explain=function)` adds what `rlvr verifier explain` shows a person whose reward looks wrong,
`@verifier(trials=function)` what `rlvr verifier check` tries on each problem of a data set,
`@verifier(timeout_s=60)` how long a check may take where neither recipe nor command line says it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

from rlvr.errors import VerifierError, near_miss
from rlvr.types import Problem, Status, Verdict
from rlvr.verify.options import Option, checked_options, option_types

__all__ = ["OFFERED", "Explain", "Problem", "Status", "Trials", "Verdict", "Verifier", "verifier"]

OFFERED = ("completion", "answer", "problem", "sandbox", "seed")
"""What a verifier may ask for, by name."""

TIMEOUT_S = 5.0
"""Wall time of a check where the author says no other."""

P = ParamSpec("P")
R = TypeVar("R", bound="bool | float | Verdict")

Explain: TypeAlias = Callable[..., Sequence[tuple[str, str]]]
"""Says in (label, text) pairs how a verdict comes about; asks by name for what its verifier may ask for."""

Trials: TypeAlias = Callable[[Problem], tuple[list[str], dict[str, str], list[str]]]
"""Golds, completions of which one must be right; probes by `label: what it does`, which must not be right;
and remarks, `label: what looks weak`.  Both are listed, and counted by label.  ValueError: there is none.
"""

KEYWORD = inspect.Parameter.KEYWORD_ONLY
EXPLAIN, TRIALS = "explain function", "trials function"
RESULTS = {
    "verifier": "a bool, float or Verdict",
    EXPLAIN: "a list of (label, text) pairs",
    TRIALS: "golds, probes and remarks",
}
"""What each of an author's functions returns."""


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
    explain: Explain | None = None
    """Says how its verdict on a completion comes about, where the author wrote that down."""
    trials: Trials | None = None
    """Says what to try on a problem, to see whether its tests are any good."""
    timeout_s: float = TIMEOUT_S
    """Wall time of a check where nobody says another."""

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


@overload
def verifier(function: Callable[P, R], /) -> Verifier[P, R]:
    """As `@verifier`."""


@overload
def verifier(
    *, explain: Explain | None = None, trials: Trials | None = None, timeout_s: float = TIMEOUT_S
) -> Callable[[Callable[P, R]], Verifier[P, R]]:
    """As `@verifier(explain=function, trials=function, timeout_s=60)`."""


def verifier(
    function: Callable[P, R] | None = None,
    /,
    *,
    explain: Explain | None = None,
    trials: Trials | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Verifier[P, R] | Callable[[Callable[P, R]], Verifier[P, R]]:
    """Make a verifier of `function`; VerifierError names what is wrong with its signature.

    `explain` may ask for anything in `OFFERED`, for `options`, all of the check's as a mapping, and, after a
    bare `*`, for single options of the verifier's own.  `trials` takes the problem alone.
    """
    if function is None:
        return lambda decorated: _made(decorated, explain, trials, timeout_s)
    return _made(function, explain, trials, timeout_s)


def _made(
    function: Callable[P, R], explain: Explain | None, trials: Trials | None, timeout_s: float
) -> Verifier[P, R]:
    _refuse_unusable(function, "verifier")
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s < math.inf:
        raise VerifierError(
            f"{_where(function, 'verifier')}: timeout_s = {timeout_s!r} is no number of seconds, > 0."
        )
    parameters = list(inspect.signature(function).parameters.values())
    for parameter in parameters:
        _refuse_parameter(_where(function, "verifier"), parameter)
    options = option_types(function, _place(function), [p for p in parameters if p.kind is KEYWORD])
    if explain is not None:
        _refuse_explain(explain, function.__name__, options)
    if trials is not None:
        _refuse_trials(trials)
    return Verifier(
        function=function,
        name=function.__name__,
        doc=(inspect.getdoc(function) or "").partition("\n")[0],
        wants=tuple(p.name for p in parameters if p.kind is not KEYWORD),
        options=options,
        explain=explain,
        trials=trials,
        timeout_s=float(timeout_s),
    )


def _refuse_unusable(function: Callable[..., Any], role: str) -> None:
    if not inspect.isfunction(function):
        said = "@verifier" if role == "verifier" else f"@verifier({role.split()[0]}=...)"
        form = f"def name({'problem' if role == TRIALS else 'completion, answer'}):"
        raise VerifierError(f"{said} is for plain functions, not for {function!r}; write `{form}`.")
    where = _where(function, role)
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise VerifierError(
            f"{where} is `async def`; make it a plain `def`: it runs in a process of its own and may simply "
            "block."
        )
    if inspect.isgeneratorfunction(function):
        raise VerifierError(f"{where} yields; return {RESULTS[role]}.")


def _refuse_explain(explain: Explain, name: str, options: Mapping[str, Option]) -> None:
    """VerifierError where it asks for something that the verifier `name` could not have."""
    _refuse_unusable(explain, EXPLAIN)
    where = _where(explain, EXPLAIN)
    for parameter in inspect.signature(explain).parameters.values():
        if parameter.name == "options" and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            continue
        _refuse_parameter(where, parameter)
        if parameter.kind is KEYWORD and parameter.name not in options:
            choices = near_miss(parameter.name, options) or "; it has none"
            raise VerifierError(
                f"{where} asks for `{parameter.name}`, which is no option of verifier `{name}`{choices}"
            )


def _refuse_trials(trials: Trials) -> None:
    """VerifierError where it does not take a problem, and nothing else."""
    _refuse_unusable(trials, TRIALS)
    if list(inspect.signature(trials).parameters) != ["problem"]:
        raise VerifierError(f"{_where(trials, TRIALS)} takes `problem` and nothing else.")


def _refuse_parameter(where: str, parameter: inspect.Parameter) -> None:
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


def _where(function: Callable[..., Any], role: str) -> str:
    return f"{_place(function)}: {role} `{function.__name__}`"


def _place(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
