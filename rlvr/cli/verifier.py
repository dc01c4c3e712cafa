"""`rlvr verifier`: list the verifiers there are, begin one of your own, try one under the limits of a run."""

from __future__ import annotations

import json
import keyword
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.errors import VerifierError

if TYPE_CHECKING:
    from rlvr.types import Problem, Verdict

app = typer.Typer(help="List, begin and try verifiers.", no_args_is_help=True)

PLUGIN = '''"""A verifier of your own.  Name it in a recipe as `./{name}.py:{name}`."""

from __future__ import annotations

from rlvr import Verdict, verifier


@verifier
def {name}(completion: str, answer: str, *, ignore_case: bool = True) -> Verdict:
    """Right when the last word is the answer."""
    words = completion.split()
    if not words:
        return Verdict(score=0.0, status="no_answer", why="nothing was said")
    found, wanted = words[-1].strip("."), str(answer)
    if ignore_case:
        is_right = found.casefold() == wanted.casefold()
    else:
        is_right = found == wanted
    return Verdict(score=float(is_right), status="right" if is_right else "wrong", found=found)
'''

TEST = '''"""What {name} must say; every bug becomes a row."""

from __future__ import annotations

from pathlib import Path

import pytest
from rlvr.verify.registry import resolve

{name} = resolve("./{name}.py:{name}", base_dir=Path(__file__).parent)


@pytest.mark.parametrize(
    ("completion", "answer", "status"),
    [
        ("I think it is Paris.", "paris", "right"),
        ("Paris? No: Rome", "paris", "wrong"),
        ("", "paris", "no_answer"),
    ],
)
def test_{name}(completion: str, answer: str, status: str) -> None:
    assert {name}(completion, answer).status == status


def test_{name}_can_mind_case() -> None:
    assert {name}("Paris", "paris", ignore_case=False).status == "wrong"
'''


@app.command("list")
def list_() -> None:
    """Show the registered verifiers and their options."""
    from rlvr.verify.registry import available

    listings = available()
    for listing in listings:
        typer.echo(f"{listing.name:12} {listing.doc or listing.fault}")
        for name, option in listing.options.items():
            typer.echo(f"{'':12}   {name}: {option}")
    if not listings:
        raise VerifierError("no verifiers are registered: install the package (`pip install -e .`).")


@app.command()
def new(name: Annotated[str, typer.Argument(help="Name of the verifier: a Python name.")]) -> None:
    """Write NAME.py with a verifier that runs, and test_NAME.py with its test."""
    if not name.isidentifier() or keyword.iskeyword(name):
        raise VerifierError(f"`{name}` is no Python name; use letters, digits and underscores.")
    if name in sys.stdlib_module_names:
        raise VerifierError(f"{name}.py would hide Python's own module `{name}`; choose another name.")
    files = {Path(f"{name}.py"): PLUGIN, Path(f"test_{name}.py"): TEST}
    for path in files:
        if path.exists():
            raise VerifierError(f"{path} exists and is left alone; choose another name or move it away.")
    for path, template in files.items():
        path.write_text(template.format(name=name), encoding="utf-8")
        typer.echo(f"wrote {path}")
    typer.echo(
        f"test it:  python -m pytest test_{name}.py   (python -m pip install pytest, if it is not there)"
    )
    typer.echo(f"try it:   rlvr verifier try ./{name}.py:{name} --completion 'It is Paris.' --answer Paris")
    typer.echo(f"use it:   verifier: ./{name}.py:{name}")


@app.command("try")
def try_(
    name: Annotated[
        str, typer.Argument(help="Registered name, package.module:function or ./file.py:function.")
    ],
    completion: Annotated[str | None, typer.Option(help="What the model said.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="The answer: JSON if it reads as JSON, else text.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="An option of the verifier, KEY=VALUE; repeat it.")
    ] = None,
    problem_json: Annotated[
        Path | None, typer.Option(help="File with the problem: id, answer, meta.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="JSONL: completion, answer and, if wanted, status.")
    ] = None,
    timeout: Annotated[str, typer.Option(help="Wall time of a check.")] = "5 s",
    memory: Annotated[str, typer.Option(help="Address space of a check.")] = "2 GiB",
) -> None:
    """Run a verifier as a training run does: in a worker that can be killed.

    Exit code 1 where a check ends in `error`, or a row of the file has another status than it says.
    """
    from rlvr.recipe.units import parse_bytes, parse_seconds
    from rlvr.verify.pool import Pool, Spec

    rows = _rows(file) if file else [_single(completion, answer, problem_json)]
    try:
        timeout_s, memory_bytes = float(parse_seconds(timeout)), int(parse_bytes(memory))
    except ValueError as error:
        raise VerifierError(f"--timeout or --memory: {error}") from error
    options = dict(_pair(one) for one in option or [])
    spec = Spec(name=name, options=options, timeout_s=timeout_s, memory_bytes=memory_bytes)
    with Pool([spec], workers=1) as pool:
        futures = [pool.submit(0, _problem(row, i), row["completion"]) for i, row in enumerate(rows, start=1)]
        verdicts = [future.result() for future in futures]
    missed = sum(
        _show(i, row, verdict) for i, (row, verdict) in enumerate(zip(rows, verdicts, strict=True), start=1)
    )
    if missed:
        raise typer.Exit(1)


def _show(number: int, row: dict[str, Any], verdict: Verdict) -> bool:
    """Print one verdict; True where it is not what it should be."""
    expected = row.get("status")
    is_missed = verdict.status != expected if expected else verdict.status == "error"
    remark = f"  EXPECTED {expected}" if expected and is_missed else ""
    typer.echo(
        f"{number:4} {verdict.status:9} score {verdict.score:.3g}  found {verdict.found!r}"
        f"  {verdict.seconds * 1000:.1f} ms  {verdict.why}{remark}"
    )
    return is_missed


def _single(completion: str | None, answer: str | None, problem_json: Path | None) -> dict[str, Any]:
    row = _read_json(problem_json) if problem_json else {}
    if not isinstance(row, dict):
        raise VerifierError(f"{problem_json}: a problem is a JSON object with `answer` and perhaps `meta`.")
    if completion is None or (answer is None and "answer" not in row):
        raise VerifierError(
            "give --completion and --answer (or --problem-json with an answer), or --file ROWS.jsonl."
        )
    return {**row, "completion": completion, **({} if answer is None else {"answer": _value(answer)})}


def _rows(file: Path) -> list[dict[str, Any]]:
    from rlvr.verify.wire import STATUSES

    rows = []
    for number, line in enumerate(_read(file).splitlines(), start=1):
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
        rows.append(row)
    if not rows:
        raise VerifierError(f"{file}: no rows; each is a JSON object with `completion` and `answer`.")
    return rows


def _problem(row: dict[str, Any], number: int) -> Problem:
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


def _pair(given: str) -> tuple[str, Any]:
    key, equals, value = given.partition("=")
    if not equals:
        raise VerifierError(f"--option {given}: write KEY=VALUE.")
    return key.strip(), _value(value.strip())


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_json(file: Path) -> Any:
    try:
        return json.loads(_read(file))
    except ValueError as error:
        raise VerifierError(f"{file}: not JSON: {error}") from error


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise VerifierError(f"{file} cannot be read: {error}") from error
