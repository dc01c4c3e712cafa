"""Completions on disk: one row a completion, one Parquet file a step."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlvr.errors import RunError
from rlvr.runs.accounting import is_decided
from rlvr.types import ScoredGroup

_UNFIT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One completion with its verdict, as it is kept."""

    step: int
    """The step it was sampled for."""
    problem_id: str
    """`Problem.id`."""
    source: str
    """`Problem.source`."""
    question: str
    """The last user message."""
    answer: str
    """What it was checked against, as JSON."""
    sibling: int
    """Its index in the group; -1: the greedy completion beside it, a baseline that trains nothing."""
    completion: str
    """The text."""
    tokens: int
    """Its length."""
    finish: str
    """`stop` or `length`."""
    version_min: int
    """Least weight version over its tokens."""
    version_max: int
    """Greatest."""
    status: str
    """Of the verdict."""
    score: float
    """Of the verdict, in [0, 1]."""
    reward: float | None
    """None where the verdict is `error`."""
    found: str | None
    """The answer that was extracted."""
    why: str
    """The verdict in words."""
    seconds: float
    """Wall time of the check."""
    parts: str
    """Scores of the verdict's parts, as JSON."""
    token_ids: list[int]
    """The sampled tokens."""
    logprobs: list[float]
    """Their log-probabilities under the rollout policy, nats."""
    states: str = "[]"
    """Values of states on the way, as JSON: [[tokens before it, value], ...]."""
    audit_status: str | None = None
    """Of the audit's verdict; None where it was not asked."""
    audit_why: str | None = None
    """That verdict in words."""

    @property
    def is_disputed(self) -> bool:
        """Whether training and audit both judged it, and differ."""
        return (
            self.audit_status is not None
            and is_decided(self.status, self.audit_status)
            and (self.status == "right") != (self.audit_status == "right")
        )


_TYPES = {
    "int": pa.int64(),
    "float": pa.float64(),
    "float | None": pa.float64(),
    "str": pa.string(),
    "str | None": pa.string(),
    "list[int]": pa.list_(pa.int32()),
    "list[float]": pa.list_(pa.float32()),
}
_SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(Rollout)])


def rollouts(step: int, groups: Sequence[ScoredGroup]) -> Iterator[Rollout]:
    """Every completion of a step; text is made fit for files (see `fit`)."""
    for scored in groups:
        if scored.greedy is not None:
            yield from (replace(row, sibling=-1) for row in rollouts(step, [scored.greedy]))
        problem = scored.group.problem
        question = next((m.content for m in reversed(problem.messages) if m.role == "user"), "")
        answer = json.dumps(plain(problem.answer), ensure_ascii=False, allow_nan=False)
        audits = scored.audits or (None,) * len(scored.verdicts)
        rows = zip(scored.group.completions, scored.verdicts, scored.rewards, audits, strict=True)
        for sibling, (completion, verdict, reward, audit) in enumerate(rows):
            yield Rollout(
                step=step,
                problem_id=fit(problem.id),
                source=fit(problem.source),
                question=fit(question),
                answer=answer,
                sibling=sibling,
                completion=fit(completion.text),
                tokens=len(completion.token_ids),
                finish=completion.finish,
                version_min=completion.version[0],
                version_max=completion.version[1],
                status=verdict.status,
                score=verdict.score,
                reward=reward,
                found=None if verdict.found is None else fit(verdict.found),
                why=fit(verdict.why),
                seconds=verdict.seconds,
                parts=json.dumps(plain(verdict.parts), allow_nan=False),
                token_ids=list(completion.token_ids),
                logprobs=list(completion.logprobs),
                states=json.dumps(scored.states[sibling] if scored.states else []),
                audit_status=None if audit is None else audit.status,
                audit_why=None if audit is None else fit(audit.why),
            )


def to_parquet(rows: Iterator[Rollout]) -> bytes:
    """The rows as one Parquet file."""
    held = list(rows)
    columns = {name: [getattr(row, name) for row in held] for name in _SCHEMA.names}
    table = pa.table(columns, schema=_SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_parquet(path: Path) -> list[Rollout]:
    """The rows of one file; raises RunError where it is missing or damaged."""
    try:
        return [Rollout(**row) for row in pq.read_table(path).to_pylist()]
    except FileNotFoundError:
        raise RunError(
            f"{path} does not exist; `rlvr runs show RUN` tells which steps are recorded"
        ) from None
    except (OSError, pa.ArrowException, TypeError) as trouble:
        raise RunError(f"{path} is damaged: {trouble}") from trouble


def fit(text: str) -> str:
    """`text` with what no file format takes, NUL and lone surrogates, replaced by U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def plain(value: Any) -> Any:
    """`value` as strict JSON: NaN and infinity become None, other types their text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return fit(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {fit(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return fit(str(value))
