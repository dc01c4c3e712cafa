"""`rlvr verifier`: list the verifiers there are, begin one of your own, try one under the limits of a run,
have one explain its verdict, and check the tests of a data set.
"""

from __future__ import annotations

import json
import keyword
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.cli import verifier_given as given
from rlvr.cli.unsafe import Unsafe
from rlvr.cli.verifier_check import check
from rlvr.errors import VerifierError

if TYPE_CHECKING:
    from rlvr.types import Verdict

app = typer.Typer(help="List, begin, try and question verifiers.", no_args_is_help=True)
app.command()(check)

Name = Annotated[str, typer.Argument(help="Registered name, package.module:function or ./file.py:function.")]
Options = Annotated[list[str] | None, typer.Option(help="An option of the verifier, KEY=VALUE; repeat it.")]
ProblemJson = Annotated[
    Path | None, typer.Option(help="The problem: a JSON file, or FILE:LINE, a row of a data set.")
]
Memory = Annotated[str, typer.Option(help="Address space of a check.")]

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
    name: Name,
    completion: Annotated[str | None, typer.Option(help="What the model said.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="The answer: JSON if it reads as JSON, else text.")
    ] = None,
    option: Options = None,
    problem_json: ProblemJson = None,
    file: Annotated[
        Path | None, typer.Option(help="JSONL: completion, answer and, if wanted, status.")
    ] = None,
    timeout: given.Timeout = None,
    memory: Memory = "2 GiB",
    unsafe: Unsafe = False,
) -> None:
    """Run a verifier as a training run does: in a worker that can be killed.

    Exit code 1 where a check ends in `error`, or a row of the file has another status than it says.
    """
    if file is not None:
        rows = given.rows(file)
    else:
        rows = [_single(completion, answer, problem_json, otherwise="or --file ROWS.jsonl")]
    problems = [given.problem(row, f"row {i}") for i, row in enumerate(rows, start=1)]
    with given.pool(given.spec(name, option or [], timeout, memory), unsafe) as pool:
        futures = [pool.submit(0, one, row["completion"]) for one, row in zip(problems, rows, strict=True)]
        verdicts = [future.result() for future in futures]
    missed = sum(
        _show(i, row, verdict) for i, (row, verdict) in enumerate(zip(rows, verdicts, strict=True), start=1)
    )
    if missed:
        raise typer.Exit(1)


@app.command()
def explain(
    name: Name,
    completion: Annotated[str | None, typer.Option(help="What the model said.")] = None,
    gold: Annotated[
        str | None,
        typer.Option("--gold", "--answer", help="The answer: JSON if it reads as JSON, else text."),
    ] = None,
    option: Options = None,
    problem_json: ProblemJson = None,
    file: Annotated[
        Path | None, typer.Option(help="File with the completion, instead of --completion.")
    ] = None,
    timeout: given.Timeout = None,
    memory: Memory = "2 GiB",
    unsafe: Unsafe = False,
) -> None:
    """Say how a verdict comes about: for the reward that looks wrong.

    First what the verifier itself says of the check, then its verdict, got as in a training run.
    Exit code 1 where that is `error`.
    """
    from rlvr.verify.explain import explained

    if file is not None and completion is not None:
        raise VerifierError("give the completion once: --completion or --file.")
    said = given.text_of(file) if file is not None else completion
    row = _single(said, gold, problem_json, otherwise="--file with the completion will do too")
    problem, spec = given.problem(row), given.spec(name, option or [], timeout, memory)
    with given.pool(spec, unsafe) as pool:
        rows = explained(spec, problem, row["completion"], sandbox=given.sandbox(unsafe))
        verdict = pool.submit(0, problem, row["completion"]).result()
    _print_rows([("gold", _read_as(gold, row["answer"])), *rows, *_verdict_rows(verdict)])
    if not rows:
        typer.echo(f"verifier `{name}` explains no more")
    if verdict.status == "error":
        raise typer.Exit(1)


def _show(number: int, row: dict[str, Any], verdict: Verdict) -> bool:
    """Print one verdict; True where it is not what it should be."""
    from rlvr.view.lines import single

    expected = row.get("status")
    is_missed = verdict.status != expected if expected else verdict.status == "error"
    remark = f"  EXPECTED {expected}" if expected and is_missed else ""
    typer.echo(
        f"{number:4} {verdict.status:9} score {verdict.score:.3g}  found {verdict.found!r}"
        f"  {verdict.seconds * 1000:.1f} ms  {single(verdict.why)}{remark}"
    )
    return is_missed


def _single(
    completion: str | None, answer: str | None, problem_json: Path | None, *, otherwise: str
) -> dict[str, Any]:
    """The one row that the command line gives."""
    row = given.fields(problem_json) if problem_json else {}
    if completion is None or (answer is None and "answer" not in row):
        raise VerifierError(
            "give --completion and --answer (or --problem-json with an answer, or with a row of a data set), "
            f"{otherwise}."
        )
    return {**row, "completion": completion, **({} if answer is None else {"answer": given.value(answer)})}


def _read_as(text: str | None, answer: Any) -> str:
    """The gold, with a remark where JSON made something else of what was typed: [1, 2] is no interval."""
    if isinstance(answer, str):
        return answer
    read = json.dumps(answer, ensure_ascii=False)
    is_plain = isinstance(answer, int | float) and read == text
    quoted = shlex.quote(json.dumps(text))
    hint = "" if text is None else f"; for the text write {quoted}"
    return read if is_plain else f"{read} (a JSON {type(answer).__name__}{hint})"


def _verdict_rows(verdict: Verdict) -> list[tuple[str, str]]:
    rows = [("verdict", f"{verdict.status}, score {verdict.score:.3g}, {verdict.seconds * 1000:.1f} ms")]
    rows += [] if verdict.found is None else [("found", verdict.found)]
    rows += [("why", verdict.why)] if verdict.why else []
    parts = ", ".join(f"{name} {value:.3g}" for name, value in verdict.parts.items())
    return [*rows, ("parts", parts)] if parts else rows


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Labels on the left, texts aligned on the right; nothing in them can steer the terminal."""
    from rlvr.view.lines import printable

    shown = [[printable(part.encode(errors="backslashreplace").decode()) for part in row] for row in rows]
    width = max(len(label) for label, _ in shown) + 2
    for label, text in shown:
        first, *more = text.splitlines() or [""]
        typer.echo(f"{label:{width}}{first}".rstrip())
        for line in more:
            typer.echo(f"{'':{width}}{line}".rstrip())
