"""What a person gives to `rlvr verifier try` and `explain`: rows, a problem, options and limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.errors import VerifierError, counted

if TYPE_CHECKING:
    from rlvr.types import Problem
    from rlvr.verify.pool import Pool, Spec


PROBLEM = {"id", "answer", "messages", "meta"}
"""The fields of a problem as we have it."""
ID_FIELDS = ("id", "task_id", "unique_id", "question_id")
QUESTIONS = ("prompt", "question", "problem", "text", "content")
"""Fields of a published row that the question stands in, the first one found."""

Timeout = Annotated[str | None, typer.Option(help="Wall time of a check; by default the verifier's own.")]


def spec(name: str, options: Sequence[str], timeout: str | None, memory: str) -> Spec:
    """The verifier `name` with options KEY=VALUE, `5 s` (None: the verifier's own) and `2 GiB`."""
    from rlvr.recipe.units import parse_bytes, parse_seconds
    from rlvr.verify.pool import Spec

    timeout_s = None if timeout is None else _quantity("--timeout", timeout, parse_seconds)
    memory_bytes = int(_quantity("--memory", memory, parse_bytes))
    pairs = dict(_pair(one) for one in options)
    return Spec(name=name, options=pairs, timeout_s=timeout_s, memory_bytes=memory_bytes)


def _quantity(option: str, given: str, parse: Callable[[Any], Any]) -> float:
    """A positive number with a unit, or in seconds or bytes without; VerifierError names the option."""
    text = given.strip()
    is_bare = text.replace(".", "", 1).isdecimal()
    try:
        parsed = float(text) if is_bare else float(parse(text))
    except ValueError as error:
        raise VerifierError(f"{option}: {error}") from error
    if not 0 < parsed < math.inf:
        raise VerifierError(f"{option} {given}: must be > 0")
    return parsed


@contextmanager
def pool(spec: Spec, unsafe: bool, workers: int = 1) -> Iterator[Pool]:
    """Workers that check; SandboxError at once where it is to run programs and nothing holds them."""
    from rlvr.sandbox.offer import LOUD, offer
    from rlvr.verify.pool import Pool

    with Pool([spec], workers=workers, sandbox=sandbox(unsafe)) as made:
        if "sandbox" in made.wants and offer(unsafe=unsafe).is_unsafe:
            typer.echo(LOUD, err=True)
        yield made


def sandbox(unsafe: bool) -> str:
    """What programs are run in, as a pool names it."""
    from rlvr.sandbox.offer import LOCAL, UNSAFE

    return UNSAFE if unsafe else LOCAL


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file: completion, answer and, if wanted, status."""
    from rlvr.verify.wire import STATUSES

    found = []
    for number, line in enumerate(text_of(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise VerifierError(f"{file}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("completion"), str) or "answer" not in row:
            raise VerifierError(f"{file}:{number}: a row needs `completion` (text) and `answer`.")
        if row.get("status") not in (None, *STATUSES):
            raise VerifierError(
                f"{file}:{number}: status `{row['status']}` is none of {', '.join(STATUSES)}."
            )
        found.append(row)
    if not found:
        raise VerifierError(f"{file}: no rows; each is a JSON object with `completion` and `answer`.")
    return found


def fields(place: Path) -> dict[str, Any]:
    """The problem in a JSON file, or of the row `FILE:LINE` of a data set; a row's fields are its meta."""
    found = _row(place)
    return dict(found) if set(found) <= PROBLEM else as_published(found)


def as_published(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a data set as a problem: all its fields, and those of its field `meta`, are its meta."""
    question = next((row[name] for name in QUESTIONS if isinstance(row.get(name), str)), "")
    own = row.get("meta")
    named = [{"id": str(row[name])} for name in ID_FIELDS if name in row]
    return {
        **(named[0] if named else {}),
        "messages": row.get("messages", [{"role": "user", "content": question}]),
        "answer": row.get("answer"),
        "meta": {**row, **(own if isinstance(own, Mapping) else {})},
    }


def _row(place: Path) -> Mapping[str, Any]:
    """The JSON object in a file, or the row that `FILE:LINE` names, in files without lines by its number."""
    from rlvr.problems.rows import READERS, read_rows

    name, _, number = str(place).rpartition(":")
    is_named = number.isdecimal() and Path(name).suffix.lower() in READERS and not place.exists()
    path = Path(name) if is_named else place
    if not is_named and path.suffix.lower() not in READERS.keys() - {".json"}:
        return _object(path)
    rows = read_rows(path, str(path), None)
    meant = [row for row in rows if row.where in (f"{path}:{number}", f"{path}: row {number}")]
    if not is_named and len(rows) == 1:
        meant = rows
    if not meant:
        raise VerifierError(
            f"{place}: holds {counted(len(rows), 'row')}; name one of {rows[0].where} to {rows[-1].where}"
            + (f", not {number}" if is_named else "")
        )
    if meant[0].fault:
        raise VerifierError(f"{meant[0].where}: {meant[0].fault}")
    return meant[0].fields


def _object(file: Path) -> dict[str, Any]:
    try:
        row = json.loads(text_of(file))
    except ValueError as error:
        raise VerifierError(f"{file}: not JSON: {error}") from error
    if not isinstance(row, dict):
        said = "a problem is a JSON object with `answer` and perhaps `meta`"
        raise VerifierError(f"{file}: {said}; of a list name the row, as in {file}:1")
    return row


def problem(row: Mapping[str, Any], where: str = "row 1") -> Problem:
    """The problem of a row at `where`, with whatever of id, messages and meta it has."""
    from rlvr.types import Message, Problem

    try:
        return Problem(
            id=str(row.get("id", where)),
            messages=tuple(Message(role=m["role"], content=m["content"]) for m in row.get("messages", ())),
            answer=row["answer"],
            source="command line",
            meta=dict(row.get("meta", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VerifierError(
            f"{where}: `messages` is a list of {{role, content}} and `meta` an object: {error}"
        ) from error


def value(text: str) -> Any:
    """JSON where it reads as JSON, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def text_of(file: Path) -> str:
    """What stands in the file; VerifierError where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VerifierError(f"{file} cannot be read: {error}") from error


def _pair(given: str) -> tuple[str, Any]:
    key, equals, text = given.partition("=")
    if not equals:
        raise VerifierError(f"--option {given}: write KEY=VALUE.")
    return key.strip(), value(text.strip())
