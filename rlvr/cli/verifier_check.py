"""`rlvr verifier check`: the tests of a data set, tried with its own answers and with answers to nothing."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from rlvr.cli import verifier_given as given
from rlvr.cli.unsafe import Unsafe
from rlvr.errors import Interrupted, VerifierError, counted

if TYPE_CHECKING:
    from rlvr.problems.rows import Row
    from rlvr.types import Problem
    from rlvr.verify.check import Finding

LISTED = 20
"""Rows written out behind a count."""
TELLING_S = 10.0
"""Between two lines of progress."""


class Found(NamedTuple):
    """A row and what was found of it."""

    where: str
    """FILE:LINE."""
    finding: Finding
    """What was found."""


def check(
    name: Annotated[str, typer.Argument(help="Registered name, package.module:function or ./file.py:f.")],
    file: Annotated[Path, typer.Option(help="The data set: .jsonl, .json or .parquet, as it was published.")],
    answer: Annotated[
        str | None,
        typer.Option(help="Field of the answer or the tests, or a template: '{a.b}'. [default: answer]"),
    ] = None,
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
    from rlvr.problems.rows import read_rows
    from rlvr.verify.check import examined

    problems, faults = _problems(read_rows(file, str(file), limit), str(file), answer)
    for fault in faults:
        _say(f"{fault}: mend the row or drop it")
    spec = given.spec(name, option or [], timeout, memory)
    found: list[Found] = []
    try:
        with (
            given.pool(spec, unsafe, workers or os.cpu_count() or 1) as pool,
            _progress(found, len(problems)),
        ):
            for where, finding in zip(problems, examined(pool, spec, [*problems.values()]), strict=True):
                found.append(Found(where, finding))
                _tell(found[-1])
    except KeyboardInterrupt:
        _sum_up(found, faults, str(file))
        stop = Interrupted(signal.SIGINT)
        stop.add_note(f"stopped: {len(found)} of {counted(len(problems), 'row')} checked")
        raise stop from None
    _sum_up(found, faults, str(file))
    if faults or not all(one.finding.is_sound for one in found):
        raise typer.Exit(1)


def _problems(rows: Sequence[Row], shown: str, answer: str | None) -> tuple[dict[str, Problem], list[str]]:
    """The problems by their place, and what is wrong with the rows that are none; an error where all are."""
    from rlvr.problems.rows import refuse

    problems: dict[str, Problem] = {}
    faults: list[str] = []
    template = _template(answer, rows, shown)
    for row in rows:
        try:
            problems[row.where] = _problem(row, template)
        except ValueError as error:
            faults.append(f"{row.where}: {error}")
        except VerifierError as error:
            faults.append(str(error))
    if not problems:
        refuse(shown, faults)
    return problems, faults


def _problem(row: Row, template: str | None) -> Problem:
    """The problem of a row; ValueError or VerifierError says why it is none."""
    from rlvr.problems.template import fill

    if row.fault:
        raise ValueError(row.fault)
    fields = given.as_published(row.fields)
    if template is not None:
        fields["answer"] = fill(template, row.fields)
    return given.problem(fields, row.where)


def _template(answer: str | None, rows: Sequence[Row], shown: str) -> str | None:
    """The template that --answer stands for; VerifierError where it fits no row."""
    from rlvr.problems.template import fill, names

    if answer is None:
        return None
    template = answer if names(answer) else f"{{{answer}}}"
    if not names(template):
        raise VerifierError(f"--answer {answer}: names no field of the rows; write a field or '{{field}}'.")
    missing = []
    for row in rows:
        try:
            fill(template, row.fields)
        except ValueError as error:
            missing += [] if row.fault else [str(error)]
        else:
            return template
    if missing:  # else no row can be read, which is said of each
        raise VerifierError(f"--answer {answer}: no row of {shown} has it: {missing[0]}")
    return template


@contextmanager
def _progress(found: Sequence[Found], total: int) -> Iterator[None]:
    """Inside, a person at a terminal hears now and then how far it is."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(TELLING_S):
            typer.echo(f"{len(found)} of {counted(total, 'row')} checked", err=True)

    if not sys.stderr.isatty():
        yield
        return
    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def _say(text: str) -> None:
    from rlvr.view.lines import single

    typer.echo(single(text.encode(errors="backslashreplace").decode()))


def _tell(found: Found) -> None:
    """One line for each thing that is not as it should be."""
    from rlvr.verify.check import label_of

    where, finding = found
    told = [finding.fault] if finding.fault else []
    if finding.gold is not None and finding.gold.status != "right":
        told.append(
            f"its gold is {STATUSES[finding.gold.status]}: {finding.gold.why or 'no reason is given'}"
        )
    if finding.passed:
        told.append(
            "passed by "
            + "; ".join(f"`{label_of(one)}`{one.removeprefix(label_of(one))}" for one in finding.passed)
        )
    named = where if finding.id == where else f"{where} ({finding.id})"
    for line in (*told, *finding.remarks):
        _say(f"{named}: {line}")


STATUSES = {
    "wrong": "judged wrong",
    "no_answer": "found to hold no answer",
    "timeout": "out of time",
    "error": "not checked, an error",
}
"""What became of a gold that is not right, in words."""


def _sum_up(found: Sequence[Found], faults: Sequence[str], shown: str) -> None:
    """The counts, with the rows to look at and what to do about them."""
    from rlvr.verify.check import label_of

    tried = [one for one in found if not one.finding.fault]
    golds = Counter("none" if f.gold is None else f.gold.status for _, f in tried)
    failed = [one for one in tried if one.finding.gold is not None and one.finding.gold.status != "right"]
    untried = [one for one in found if one.finding.fault]
    parts = [
        counted(len(found) + len(faults), "row"),
        f": {counted(golds['right'], 'gold')} right, {len(failed)} not",
        f", {counted(golds['none'], 'row')} without one" if golds["none"] else "",
        f"; {counted(len(untried), 'row')} that cannot be tried" if untried else "",
        f"; {counted(len(faults), 'row')} that cannot be read" if faults else "",
    ]
    typer.echo("".join(parts))
    if failed:
        _count("gold not right", failed, shown, "mend the gold or the tests, or drop the row")
    if golds["none"]:
        _count(
            "without a gold",
            [one for one in tried if one.finding.gold is None],
            shown,
            "probes alone were tried",
        )
    passed = {label_of(probe): probe for _, f in found for probe in f.passed}
    for label in sorted(passed):
        mine = [one for one in found if label in map(label_of, one.finding.passed)]
        _count(f"passed by `{label}`", mine, shown, "add a test that it fails, or drop the row")
    if len(passed) > 1:
        _count("passed by any", [one for one in found if one.finding.passed], shown)
    remarks = {label_of(remark) for _, f in found for remark in f.remarks}
    for label in sorted(remarks):
        mine = [one for one in found if label in map(label_of, one.finding.remarks)]
        _count(label, mine, shown)


def _count(what: str, found: Sequence[Found], shown: str, advice: str = "") -> None:
    """`WHAT: 2 rows (ADVICE): FILE:3, 7`."""
    places = [one.where.removeprefix(f"{shown}:").strip() for one in found[:LISTED]]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    told = f" ({advice})" if advice else ""
    _say(f"{what}: {counted(len(found), 'row')}{told}: {shown}:{', '.join(places)}{more}")
