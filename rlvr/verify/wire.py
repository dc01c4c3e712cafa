"""What passes between the pool and its workers: JSON lines, never pickle; both ends check verdicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, get_args

from rlvr.types import Message, Problem, Status, Verdict

SHORT = 500
"""Characters kept of `found` and `why`."""
MOST_PARTS = 64
ANSWER_BYTES = 2**16
"""No honest answer is longer."""
STATUSES = get_args(Status)


class UnusableResultError(ValueError):
    """A verifier returned something that is no verdict."""


def failed(why: str, seconds: float = 0.0) -> Verdict:
    """The verdict for a check that broke: never a score."""
    return Verdict(score=0.0, status="error", why=shorten(why), seconds=seconds)


def shorten(text: str) -> str:
    """At most `SHORT` characters."""
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def verdict_of(result: object) -> Verdict:
    """The verdict that a verifier's return value means; UnusableResultError if it means none."""
    if isinstance(result, Verdict):
        return _sound(result)
    if not isinstance(result, bool | int | float):
        raise UnusableResultError(
            f"it returned {_type_name(result)}; return a bool, a float in [0, 1] or a Verdict"
        )
    score = _unit(float(result), "it returned")
    return Verdict(score=score, status="right" if score >= 1 else "wrong")


def encode_problem(problem: Problem) -> str:
    """JSON of a problem; TypeError or ValueError where its answer or meta is not JSON-like."""
    return json.dumps(
        {
            "id": problem.id,
            "messages": [[m.role, m.content] for m in problem.messages],
            "answer": problem.answer,
            "verifier": problem.verifier,
            "source": problem.source,
            "meta": dict(problem.meta),
        }
    )


def decode_problem(row: Mapping[str, Any]) -> Problem:
    """The problem that `encode_problem` wrote."""
    return Problem(
        id=row["id"],
        messages=tuple(Message(role=role, content=content) for role, content in row["messages"]),
        answer=row["answer"],
        verifier=row["verifier"],
        source=row["source"],
        meta=row["meta"],
    )


def encode_verdict(verdict: Verdict) -> list[Any]:
    """The fields of a sound verdict in order."""
    return [verdict.score, verdict.status, verdict.found, verdict.why, dict(verdict.parts), verdict.seconds]


def decode_verdict(row: Any) -> Verdict:
    """The verdict that `encode_verdict` wrote; UnusableResultError where anything is off."""
    if not isinstance(row, list) or len(row) != 6 or not isinstance(row[5], int | float):
        raise UnusableResultError("the answer is no verdict")
    score, status, found, why, parts, seconds = row
    return _sound(
        Verdict(score=score, status=status, found=found, why=why, parts=parts, seconds=float(seconds))
    )


def _sound(verdict: Verdict) -> Verdict:
    if verdict.status not in STATUSES:
        raise UnusableResultError(f"its status is {verdict.status!r}; choose from {', '.join(STATUSES)}")
    if isinstance(verdict.score, bool) or not isinstance(verdict.score, int | float):
        raise UnusableResultError(f"its score is {_type_name(verdict.score)}, not a float in [0, 1]")
    score = _unit(float(verdict.score), "its score is")
    if score and verdict.status not in ("right", "wrong"):
        raise UnusableResultError(
            f"its score is {score} with status {verdict.status}; only right and wrong score"
        )
    if not (verdict.found is None or isinstance(verdict.found, str)) or not isinstance(verdict.why, str):
        raise UnusableResultError("its `found` or `why` is no text")
    return Verdict(
        score=score,
        status=verdict.status,
        found=None if verdict.found is None else shorten(verdict.found),
        why=shorten(verdict.why),
        parts=_sound_parts(verdict.parts),
        seconds=verdict.seconds,
    )


def _sound_parts(parts: object) -> dict[str, float]:
    if not isinstance(parts, Mapping) or len(parts) > MOST_PARTS:
        raise UnusableResultError(f"its parts are no mapping of at most {MOST_PARTS} names to numbers")
    for name, value in parts.items():
        if not isinstance(name, str) or isinstance(value, bool) or not isinstance(value, int | float):
            raise UnusableResultError(f"its part {name!r} is {_type_name(value)}, not a number")
        if not math.isfinite(value) or len(name) > SHORT:
            raise UnusableResultError(f"its part {shorten(name)!r} is not finite, or has an endless name")
    return {name: float(value) for name, value in parts.items()}


def _unit(value: float, said: str) -> float:
    if not 0 <= value <= 1:  # NaN fails too
        raise UnusableResultError(f"{said} {value}; a score is in [0, 1]")
    return value


def _type_name(value: object) -> str:
    return (
        "None"
        if value is None
        else f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
    )
