"""Are the tests of a data set any good?  Its own answers must be right, and answers to nothing must not.

A verifier says what to try by `@verifier(trials=function)`: golds, of which one must be right, probes, which
must not be, and remarks.  For others the gold is the answer itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from rlvr.errors import VerifierError, counted
from rlvr.types import Problem, Verdict
from rlvr.verify.api import Trials
from rlvr.verify.pool import Pool, Spec
from rlvr.verify.registry import resolve

AHEAD = 64
"""Problems that wait for their verdicts at a time."""
SELF_REPORTED, COMPARE = "self_reported", "compare with values of the tests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one problem."""

    id: str
    """The problem's."""
    gold: Verdict | None
    """Of the gold that did best; None where there is none."""
    passed: tuple[str, ...]
    """The probes that were taken for right, `label: what it does`."""
    remarks: tuple[str, ...] = ()
    """What looks weak, `label: words`; `self_reported` where the tests ask the program about itself."""
    fault: str = ""
    """Why nothing could be tried."""

    @property
    def is_sound(self) -> bool:
        """Whether the gold is right, if there is one, and no probe is."""
        return not (self.fault or self.passed or (self.gold is not None and self.gold.status != "right"))


def label_of(said: str) -> str:
    """The label of a probe or remark."""
    return said.partition(":")[0]


def examined(pool: Pool, spec: Spec, problems: Sequence[Problem]) -> Iterator[Finding]:
    """A finding for each problem, in order; `pool` runs the checks, with `spec` as its first."""
    own = resolve(spec.name, spec.base_dir).trials or plain_trials
    waiting: list[Callable[[], Finding]] = []
    for problem in problems:
        waiting.append(_submitted(pool, problem, own))
        if len(waiting) >= AHEAD:
            yield waiting.pop(0)()
    for finish in waiting:
        yield finish()


def plain_trials(problem: Problem) -> tuple[list[str], dict[str, str], list[str]]:
    """For a verifier that names none: the answer in the usual marks; nothing, the prompt, and constants."""
    if problem.answer is None:
        raise VerifierError(f"it has no answer; name its field with --answer{_fields(problem)}")
    answer = str(problem.answer)
    golds = [answer, rf"\boxed{{{answer}}}", f"<answer>{answer}</answer>"]
    number = "0" if answer.strip() != "0" else "1"
    probes = {
        "empty: says nothing": "",
        "echo: repeats the question": problem.messages[-1].content if problem.messages else "",
        f"constant: always answers {number}": f"<answer>{number}</answer> " + rf"\boxed{{{number}}}",
        "nan: answers nan": r"<answer>nan</answer> \boxed{nan}",
        "words: answers `the answer`": r"<answer>the answer</answer> \boxed{\text{the answer}}",
    }
    return golds, probes, []


def _fields(problem: Problem) -> str:
    return f" (the row has: {', '.join(problem.meta)})" if problem.meta else ""


def _submitted(pool: Pool, problem: Problem, trials: Trials) -> Callable[[], Finding]:
    """Send all that is to be tried; the finding is there once it is asked for."""
    try:
        golds, probes, remarks = trials(problem)
        if not all(isinstance(text, str) for text in (*golds, *probes, *probes.values(), *remarks)):
            raise TypeError("its trials function returns lists and a dict of texts")
    except (ValueError, TypeError, KeyError, AttributeError, VerifierError) as error:
        lost = Finding(id=problem.id, gold=None, passed=(), fault=f"nothing can be tried: {error}")
        return lambda: lost
    tried = [pool.submit(0, problem, text) for text in golds]
    sent = {label: pool.submit(0, problem, text) for label, text in probes.items()}
    return lambda: _finding(problem, tried, sent, remarks)


def _finding(
    problem: Problem, golds: list[Future[Verdict]], probes: dict[str, Future[Verdict]], remarks: list[str]
) -> Finding:
    verdicts = [future.result() for future in golds]
    best = max(verdicts, key=lambda verdict: (verdict.status == "right", verdict.score), default=None)
    asked = [int(verdict.parts.get(SELF_REPORTED, 0)) for verdict in verdicts]
    times = counted(max(asked, default=0), "time")
    told = [f"{SELF_REPORTED}: objects of the program are compared with each other {times}: {COMPARE}"]
    told = told if any(asked) else []
    given = {label: future.result() for label, future in probes.items()}
    passed = [label for label, verdict in given.items() if verdict.status == "right"]
    everything = [*verdicts, *given.values()]
    if best is None and everything and all(verdict.status == "error" for verdict in everything):
        why = f"nothing can be tried: {everything[0].why}"
        return Finding(id=problem.id, gold=None, passed=(), remarks=tuple(remarks), fault=why)
    return Finding(id=problem.id, gold=best, passed=tuple(passed), remarks=(*remarks, *told))
