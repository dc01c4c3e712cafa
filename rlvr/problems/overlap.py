"""Questions that a run trains on and is measured by, whatever prompt each is asked with."""

from __future__ import annotations

from collections.abc import Iterable

from rlvr.problems.prompts import PROMPTS
from rlvr.problems.sources import Source, Table
from rlvr.types import Problem


def trained_on(source: Source, prompt: str, measured: Iterable[tuple[str, str, Source]]) -> list[str]:
    """A note on each benchmark (name, prompt, problems) that shares questions with `source`.

    Of generators there is none: their splits are disjoint by construction.
    """
    if not isinstance(source, Table):
        return []
    known = {_question(problem, prompt) for problem in source.problems}
    notes = []
    for name, its_prompt, rows in measured:
        asked = rows.problems if isinstance(rows, Table) else ()
        if count := sum(_question(problem, its_prompt) in known for problem in asked):
            notes.append(
                f"eval.benchmarks: {count} of the {len(asked)} questions of `{name}` are among the problems "
                "trained on: it is not held out"
            )
    return notes


def _question(problem: Problem, prompt: str) -> str:
    """The last turn without the prompt around the question."""
    before, _, after = PROMPTS.get(prompt, prompt).partition("{question}")
    return problem.messages[-1].content.removeprefix(before).removesuffix(after).strip()
