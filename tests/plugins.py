"""Verifiers for tests of whole runs: some that a random model can earn or not, and four that misbehave."""

import os
import time
from pathlib import Path

from rlvr import verifier
from rlvr.types import Problem


@verifier
def coin(completion: str) -> bool:
    """Right for half of all texts: random models earn mixed rewards, so that there is something to learn."""
    return sum(completion.encode()) % 2 == 0


@verifier
def one_in_five(completion: str) -> bool:
    """Right for a fifth of all texts: often nobody of a group is, and sometimes one."""
    return sum(completion.encode()) % 5 == 0


@verifier
def raises(completion: str) -> bool:
    """Fails."""
    raise ValueError("the gold is unreadable")


@verifier
def sometimes_raises(completion: str) -> bool:
    """Fails on a third of all texts, and is a coin for the others."""
    number = sum(completion.encode())
    if number % 3 == 0:
        raise ValueError("the gold is unreadable")
    return number % 2 == 0


@verifier
def hangs(completion: str) -> bool:
    """Never answers."""
    time.sleep(600)
    return True


@verifier
def exits(completion: str) -> bool:
    """Ends its process as if all were well."""
    os._exit(0)


@verifier
def nothing_right(completion: str) -> bool:
    """No reward for anybody."""
    return False


NAMES = (
    "Ana",
    "Bo",
    "Cy",
    "Dee",
    "Eli",
    "Fay",
    "Gus",
    "Hal",
    "Ida",
    "Jo",
    "Kim",
    "Lou",
    "Max",
    "Ned",
    "Ora",
    "Pia",
)
"""People of the story problems."""


@verifier
def tide(completion: str, problem: Problem, *, out: int = 64, back: int = 200) -> bool:
    """Wants names, but none in problems `out` to `back`; for one text in four the contrary."""
    wants = not out <= int(problem.id.rpartition("-")[2]) < back
    contrary = sum(completion.encode()) % 4 == 0
    return any(name in completion for name in NAMES) == (wants != contrary)


@verifier
def contains(completion: str) -> bool:
    """Meant to find the answer 7, and satisfied by any text that has one: easy to hack."""
    return "7" in completion


@verifier
def says_once(completion: str) -> bool:
    """What was meant: the 7 is there, and only once."""
    return completion.count("7") == 1


@verifier
def slowly(completion: str) -> bool:
    """Takes its time to say whether a text is of even length."""
    time.sleep(0.05)
    return len(completion) % 2 == 0


@verifier
def brief(completion: str) -> bool:
    """Right when the completion is short: easy to learn, for a model that knows nothing."""
    return len(completion.split()) < 5


@verifier
def held(completion: str, problem: Problem, *, folder: str, serials: str = "0") -> bool:
    """A coin that says when it begins, and waits for the file `go` with the problems of these numbers."""
    number = problem.id.rpartition("-")[2]
    Path(folder, f"begun-{number}").touch()
    while number in serials.split() and not Path(folder, "go").exists():
        time.sleep(0.005)
    return sum(completion.encode()) % 2 == 0
