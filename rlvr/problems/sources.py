"""Where problems come from: a generator, a local file, or a hub data set (tried in this order).

Every row is checked when the source is opened: what can be wrong with the data is said before the run starts.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rlvr.errors import ProblemsError
from rlvr.problems.generators import GENERATORS, make_generator
from rlvr.problems.hub import load_rows
from rlvr.problems.prompts import messages
from rlvr.problems.rows import READERS, Row, read_rows, refuse
from rlvr.problems.template import fill, names
from rlvr.types import Message, Problem, Worked

ID_FIELDS = ("id", "unique_id", "task_id")
T = TypeVar("T")


class Source(Protocol):
    """Problems by index."""

    @property
    def name(self) -> str:
        """What a person calls it: `openai/gsm8k:train`, a file, `story:test`."""
        ...

    @property
    def size(self) -> int | None:
        """Number of problems; None for an endless generator."""
        ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the rows, or of a generator's settings."""
        ...

    def __getitem__(self, index: int) -> Problem:
        """Problem `index`, from 0; the same one every time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The problems of a file or hub data set, read and checked."""

    name: str
    """`openai/gsm8k:train`, or the file."""
    fingerprint: str
    """sha256 of the rows used."""
    problems: tuple[Problem, ...]
    """In the order of the rows."""

    @property
    def size(self) -> int:
        """Number of problems."""
        return len(self.problems)

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Problem:
        return self.problems[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    """The first so many problems of an endless source."""

    source: Source
    """The endless source."""
    size: int
    """How many."""

    @property
    def name(self) -> str:
        """The source's name."""
        return self.source.name

    @property
    def fingerprint(self) -> str:
        """The source's fingerprint: its settings say all."""
        return self.source.fingerprint

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self.source[index]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """How a row becomes a problem (the keys of `problems:` in a recipe)."""

    name: str
    question: str
    answer: str | None
    answer_after: str | None
    prompt: str
    system: str | None

    def problem(self, fields: Mapping[str, Any], problem_id: str, *, needs_answer: bool = True) -> Problem:
        turns = _chat(fields["messages"]) if "messages" in fields else self._ask(fields)
        asked = (names(self.question) or [""])[0]
        hidden = {"messages", asked if self.question == f"{{{asked}}}" else ""}
        own = fields.get("meta")
        held = {**fields, **(own if isinstance(own, Mapping) else {})}
        meta = {k: v for k, v in held.items() if k not in hidden}
        answer = self._answer(fields) if needs_answer else None
        return Problem(id=problem_id, messages=turns, answer=answer, source=self.name, meta=meta)

    def _ask(self, fields: Mapping[str, Any]) -> tuple[Message, ...]:
        question = fill(self.question, fields)
        if not isinstance(question, str):
            raise ValueError(f"the question `{self.question}` is no text")
        if not question.strip():
            raise ValueError(f"the question `{self.question}` is empty")
        return messages(question, self.prompt, self.system)

    def _answer(self, fields: Mapping[str, Any]) -> Any:
        if self.answer is None:
            return None
        answer = fill(self.answer, fields)
        if self.answer_after is not None:
            before, marker, after = str(answer).rpartition(self.answer_after)
            if not marker:
                raise ValueError(
                    f"the answer has no `{self.answer_after}` in it (answer_after): {before + after!r:.60}"
                )
            answer = after.strip()
        if isinstance(answer, str) and not answer.strip():
            raise ValueError(f"the answer `{self.answer}` is empty")
        if isinstance(answer, float) and math.isnan(answer):
            raise ValueError(f"the answer `{self.answer}` is NaN, as tables write what is missing")
        return answer


def open_source(
    *,
    source: str,
    base_dir: Path,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    question: str = "{question}",
    answer: str | None = "{answer}",
    answer_after: str | None = None,
    prompt: str = "plain",
    system: str | None = None,
    limit: int | None = None,
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    aliases: Sequence[str] = (),
) -> Source:
    """Open a generator, a file (relative to `base_dir`) or a hub data set (a copy in `data_dir` first).

    Raises ProblemsError for what cannot be found or read, with FILE:LINE of the first bad rows.
    """
    if source in GENERATORS:
        made: Source = make_generator(source, split, options or {})
        return made if limit is None else First(source=made, size=limit)
    if options:
        raise ProblemsError(f"problems.options: only a generator has settings, and `{source}` is none")
    reading = _reading(source, split, question, answer, answer_after, prompt, system)
    rows = _rows(source, subset, split, revision, base_dir, data_dir, aliases, limit)
    ids = _ids(reading.name, rows)
    problems = _read_all(reading.name, rows, lambda row, i: reading.problem(row.fields, ids[i]))
    return Table(name=reading.name, fingerprint=_fingerprint(rows), problems=tuple(problems))


def worked_source(
    *,
    source: str,
    base_dir: Path,
    solution: str = "{solution}",
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    question: str = "{question}",
    prompt: str = "plain",
    system: str | None = None,
    limit: int | None = None,
    data_dir: Path | None = None,
    aliases: Sequence[str] = (),
) -> Sequence[Worked]:
    """Worked solutions of a file or hub data set, for the warm start; a field `weight` is their weight.

    Rows need no answer.  A generator writes its own (`Story.worked`).
    """
    if not names(solution):
        raise ProblemsError(
            f"warm_start.solution = `{solution}` names no field of the row; write `{{solution}}`"
        )
    reading = _reading(source, split, question, "{answer}", None, prompt, system)
    rows = _rows(source, subset, split, revision, base_dir, data_dir, aliases, limit)
    ids = _ids(reading.name, rows)

    def work(row: Row, index: int) -> Worked:
        text, weight = fill(solution, row.fields), row.fields.get("weight", 1.0)
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"the solution `{solution}` is empty or no text")
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"weight = {weight!r}: must be a number above 0")
        problem = reading.problem(row.fields, ids[index], needs_answer=False)
        return Worked(
            problem=replace(problem, answer=row.fields.get("answer")), solution=text, weight=float(weight)
        )

    return tuple(_read_all(reading.name, rows, work))


def refuse_templates(**templates: str | None) -> None:
    """ProblemsError where a template, by its key, reads nothing of a row; None is no template."""
    for key, template in templates.items():
        if template is not None and not names(template):
            raise ProblemsError(
                f"problems.{key} = `{template}` names no field of the row, so all rows would share it; "
                f"write `{{{template if template.isidentifier() else key}}}`"
            )


def _reading(
    source: str,
    split: str,
    question: str,
    answer: str | None,
    answer_after: str | None,
    prompt: str,
    system: str | None,
) -> _Reading:
    refuse_templates(question=question, answer=answer)
    messages("?", prompt, system)  # an unknown prompt is a fault of the recipe, not of every row
    name = source if _is_file(source) else f"{source}:{split}"
    return _Reading(
        name=name, question=question, answer=answer, answer_after=answer_after, prompt=prompt, system=system
    )


def _rows(
    source: str,
    subset: str | None,
    split: str,
    revision: str | None,
    base_dir: Path,
    data_dir: Path | None,
    aliases: Sequence[str],
    limit: int | None,
) -> list[Row]:
    if _is_file(source):
        return read_rows(base_dir / Path(source).expanduser(), source, limit)
    return load_rows(source, subset, split, revision, data_dir=data_dir, aliases=aliases, limit=limit)


def _read_all(name: str, rows: Sequence[Row], read: Callable[[Row, int], T]) -> list[T]:
    done: list[T] = []
    faults: list[str] = []
    for index, row in enumerate(rows):
        try:
            if row.fault:
                raise ValueError(row.fault)
            done.append(read(row, index))
        except ValueError as error:
            faults.append(f"{row.where}: {error}")
    if faults:
        refuse(name, faults)
    return done


def _ids(name: str, rows: Sequence[Row]) -> list[str]:
    """The rows' own ids where every row has one and no two are equal; else numbered."""
    for field in ID_FIELDS:
        own = [row.fields.get(field) for row in rows]
        texts = [str(i) for i in own if isinstance(i, str | int) and not isinstance(i, bool) and i != ""]
        if len(texts) == len(rows) and max(Counter(texts).values(), default=0) == 1:
            return texts
    return [f"{name}:{index}" for index in range(len(rows))]


def _chat(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise ValueError("field `messages` is not a list of turns {role, content}")
    chat: list[Message] = []
    for turn in turns:
        if not isinstance(turn, Mapping) or not all(
            isinstance(turn.get(k), str) for k in ("role", "content")
        ):
            raise ValueError("field `messages` has a turn without the texts `role` and `content`")
        chat.append(Message(role=turn["role"], content=turn["content"]))
    if chat[-1].role == "assistant":
        raise ValueError("field `messages` ends with the assistant's turn: the policy has nothing to answer")
    if not chat[-1].content.strip():
        raise ValueError("field `messages` ends with an empty question")
    return tuple(chat)


def _is_file(source: str) -> bool:
    return Path(source).suffix.lower() in READERS or source.startswith((".", "/", "~"))


def _fingerprint(rows: Sequence[Row]) -> str:
    digest = sha256()
    for row in rows:
        digest.update(json.dumps(row.fields, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
