"""The one tree of errors.

Each class names the party at fault; every message says what, where and what to do.
A bad completion is data (`Verdict.status`), never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class RlvrError(Exception):
    """Anything we can explain to a person.  The CLI prints the message alone and exits with `exit_code`."""

    exit_code = 2
    teller: int | None = None
    """Rank that tells a person, where all ranks raise it; None: whoever raises it."""


class RecipeError(RlvrError):
    """The recipe asks for something impossible or unknown."""


class ProblemsError(RlvrError):
    """The data: a missing file, a row without a field, an empty set."""


class ModelError(RlvrError):
    """The model folder: no weights, no tokenizer, no chat template, too short a context."""


class VerifierError(RlvrError):
    """A verifier plugin cannot be found, loaded or configured."""


class SandboxError(RlvrError):
    """The sandbox: this machine cannot hold programs apart, or the sandbox itself failed.  Never a score."""

    exit_code = 3


class EngineError(RlvrError):
    """The rollout engine failed."""


class RunError(RlvrError):
    """The run folder: missing, damaged, locked, or the disk is full."""

    exit_code = 3


class TrainingError(RlvrError):
    """The numbers went wrong: gradients are not finite, or the start holds nothing to learn from."""

    exit_code = 4


class RankError(RlvrError):
    """A rank died, hangs, or is cut off: nothing that all do together can be done any more."""

    exit_code = 5


class Interrupted(BaseException):
    """A signal asked us to stop; what is done is saved on the way out."""

    teller: int | None = None
    """As for `RlvrError`."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int], dict[str, object]]:
        return type(self), (self.signal_number,), self.__dict__


def counted(number: int, noun: str) -> str:
    """`1 row`, `3 rows`: a number of things whose plural ends in s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def near_miss(name: str, choices: Iterable[str]) -> str:
    """``; did you mean `x`?`` with the closest choice, else the list of choices, else nothing."""
    known = sorted(choices)
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; choose from: {', '.join(known)}" if known else ""
