"""A record is continued only with the questions and answers that it was made with."""

import pytest

from rlvr.errors import RunError
from rlvr.eval.record import Graded, Outcome, Record
from rlvr.eval.run import _same_problems
from rlvr.types import Message, Problem

RIGHT = Graded(text="4", status="right", score=1.0, found="4", why="", tokens=1, finish="stop")


def problem(question="2+2?", answer="4"):
    return Problem(id="p", messages=(Message(role="user", content=question),), answer=answer)


@pytest.fixture
def record(tmp_path):
    kept = Outcome(index=0, problem="p", question="2+2?", answer="4", completions=(RIGHT,))
    first = Record(tmp_path / "r.jsonl", {"seed": 0})
    first.add(kept)
    first.close()
    again = Record(tmp_path / "r.jsonl", {"seed": 0})
    yield again
    again.close()


def test_the_same_problems_are_taken_up(record):
    _same_problems(record, [problem(), problem("3+3?", "6")])
    _same_problems(record, [])


@pytest.mark.parametrize("other", [problem(answer="5"), problem(question="1+3?"), problem(answer=4)])
def test_verdicts_on_another_question_or_answer_are_not(record, other):
    with pytest.raises(RunError, match=r"another question or answer.*--fresh"):
        _same_problems(record, [other])
