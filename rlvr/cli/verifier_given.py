"""What a person gives to `rlvr verifier try` and `explain`: rows, a problem, options and limits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.errors import VerifierError

if TYPE_CHECKING:
    from rlvr.types import Problem
    from rlvr.verify.pool import Pool, Spec


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


def fields(file: Path) -> dict[str, Any]:
    """The problem in a JSON file, as it stands there."""
    try:
        row = json.loads(text_of(file))
    except ValueError as error:
        raise VerifierError(f"{file}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise VerifierError(f"{file}: a problem is a JSON object with `answer` and perhaps `meta`.")
    return row


def problem(row: dict[str, Any], number: int = 1) -> Problem:
    """The problem of a row, with whatever of id, messages and meta it has."""
    from rlvr.types import Message, Problem

    try:
        return Problem(
            id=str(row.get("id", f"try:{number}")),
            messages=tuple(Message(role=m["role"], content=m["content"]) for m in row.get("messages", ())),
            answer=row["answer"],
            source="try",
            meta=dict(row.get("meta", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VerifierError(
            f"row {number}: `messages` is a list of {{role, content}} and `meta` an object: {error}"
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
