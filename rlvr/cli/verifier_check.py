"""`rlvr verifier check`: the tests of a data set, tried with its own answers and with answers to nothing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.cli import verifier_given as given
from rlvr.cli.unsafe import Unsafe
from rlvr.errors import VerifierError

if TYPE_CHECKING:
    from rlvr.types import Problem
    from rlvr.verify.check import Finding

ID_FIELDS = ("id", "task_id", "unique_id", "question_id")
QUESTIONS = ("prompt", "question", "problem", "text", "content")
"""Fields that the question stands in, the first one found."""
LISTED = 20
"""Ids written out behind a count."""


def check(
    name: Annotated[str, typer.Argument(help="Registered name, package.module:function or ./file.py:f.")],
    file: Annotated[Path, typer.Option(help="The data set: .jsonl, .json or .parquet, as it was published.")],
    answer: Annotated[str, typer.Option(help="Field of the answer, or of the tests.")] = "answer",
    option: Annotated[list[str] | None, typer.Option(help="Of the verifier, KEY=VALUE; repeat it.")] = None,
    limit: Annotated[int | None, typer.Option(help="So many rows at most.", min=1)] = None,
    timeout: given.Timeout = None,
    memory: Annotated[str, typer.Option(help="Address space of a check.")] = "2 GiB",
    workers: Annotated[int | None, typer.Option(help="Processes; by default one a core.", min=1)] = None,
    unsafe: Unsafe = False,
) -> None:
    """Find weak tests before training: golds must pass; constants, echoes, NaN and exits must not.

    Exit code 1 where a gold fails, a probe passes or a row cannot be read.
    """
    from rlvr.problems.rows import read_rows, refuse
    from rlvr.verify.check import examined

    rows = read_rows(file, str(file), limit)
    if faults := [f"{row.where}: {row.fault}" for row in rows if row.fault]:
        refuse(str(file), faults)
    problems = [_problem(row.fields, number, answer) for number, row in enumerate(rows, start=1)]
    spec = given.spec(name, option or [], timeout, memory)
    findings = []
    with given.pool(spec, unsafe, workers or os.cpu_count() or 1) as pool:
        for finding in examined(pool, spec, problems):
            _tell(finding)
            findings.append(finding)
    _sum_up(findings)
    if not all(finding.is_sound for finding in findings):
        raise typer.Exit(1)


def _problem(fields: Mapping[str, Any], number: int, answer: str) -> Problem:
    """The problem of a row as it was published: all fields but the answer are its meta."""
    from rlvr.types import Message, Problem

    question = next((fields[name] for name in QUESTIONS if isinstance(fields.get(name), str)), "")
    row = {"messages": [{"role": "user", "content": question}], **fields}
    own = fields.get("meta")
    meta = {**fields, **(own if isinstance(own, Mapping) else {})}
    name = next((str(fields[name]) for name in ID_FIELDS if name in fields), f"row {number}")
    try:
        messages = tuple(Message(role=turn["role"], content=turn["content"]) for turn in row["messages"])
    except (KeyError, TypeError) as error:
        raise VerifierError(f"row {number}: `messages` is a list of {{role, content}}: {error}") from error
    return Problem(id=name, messages=messages, answer=fields.get(answer), source="check", meta=meta)


def _tell(finding: Finding) -> None:
    """One line for each thing that is not as it should be."""
    from rlvr.view.lines import printable

    told = [finding.fault] if finding.fault else []
    if finding.gold is not None and finding.gold.status != "right":
        told.append(f"its gold is {finding.gold.status}: {finding.gold.why}")
    told += [f"passed by: {', '.join(finding.passed)}"] if finding.passed else []
    for line in (*told, *finding.remarks):
        typer.echo(printable(f"{finding.id}: {line}".encode(errors="backslashreplace").decode()))


def _sum_up(findings: Sequence[Finding]) -> None:
    """The counts, with the rows to look at."""
    from rlvr.verify.check import SELF_REPORTED

    golds = Counter("none" if f.gold is None else f.gold.status for f in findings if not f.fault)
    failed = sum(golds.values()) - golds["right"] - golds["none"]
    typer.echo(
        f"{len(findings)} rows: golds {golds['right']} right, {failed} not, {golds['none']} rows without one"
        f"; {sum(bool(f.fault) for f in findings)} rows that cannot be tried"
    )
    for label in sorted({label for finding in findings for label in finding.passed}):
        _count(f"passed by `{label}`", [f.id for f in findings if label in f.passed])
    _count("passed by a probe", [f.id for f in findings if f.passed])
    for label in sorted({SELF_REPORTED, *(label for finding in findings for label in finding.labels)}):
        _count(label, [f.id for f in findings if label in f.labels])


def _count(what: str, ids: Sequence[str]) -> None:
    more = f" and {len(ids) - LISTED} more" if len(ids) > LISTED else ""
    typer.echo(f"{what}: {len(ids)} rows{': ' if ids else ''}{', '.join(ids[:LISTED])}{more}")
