"""The command line: the root app, and how its errors become one message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, NoReturn

import typer

from rlvr.cli import recipe, runs, verifier
from rlvr.cli.doctor import doctor
from rlvr.cli.eval import evaluate
from rlvr.cli.launch import launch
from rlvr.cli.plan import plan
from rlvr.cli.serve import serve
from rlvr.cli.terminal import leads
from rlvr.cli.train import train
from rlvr.errors import Interrupted, RankError, RlvrError

INTERNAL = 70
BROKEN_PIPE = 141

app = typer.Typer(
    name="rlvr",
    help="Reinforcement learning with verifiable rewards.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("launch")(launch)
app.command("plan")(plan)
app.command("serve")(serve)
app.add_typer(recipe.app, name="recipe")
app.add_typer(verifier.app, name="verifier")
app.add_typer(runs.app, name="runs")
app.command("doctor")(doctor)


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Threads of torch that spin for long slow each other down 20-fold on a busy machine; asleep at once they
    # halve the speed of a small model on an idle one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read when torch loads; vLLM sets off a warning
    code = answer(app, sys.argv[1:])
    if "RANK" in os.environ and code in (RankError.exit_code, INTERNAL):
        # Else the process waits, for as long as for a rank, for what gloo still had to send to the lost one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def answer(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command line; its exit code.  Errors are messages on stderr, tracebacks only with `--debug`."""
    options = {"debug": os.environ.get("RLVR_DEBUG") == "1"}
    try:
        app(list(arguments), prog_name="rlvr", obj=options)
    except SystemExit as leaving:
        return _flushed(leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None))
    except RlvrError as error:
        if _is_told_by_another(error.teller):
            return error.exit_code
        return _told("\n".join([str(error), *_notes(error)]), error.exit_code, options)
    except Interrupted as stop:
        if not leads():
            return 128 + stop.signal_number
        return _told("\n".join(_notes(stop) or [str(stop)]), 128 + stop.signal_number, options)
    except KeyboardInterrupt as stop:
        if not leads():
            return 130
        return _told("\n".join(_notes(stop) or ["stopped"]), 130, options)
    except BrokenPipeError:
        return _quiet()
    except Exception as error:  # noqa: BLE001 - the last place that can turn it into a message
        line = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
        return _told(f"{line}; run again with `rlvr --debug ...` for the traceback", INTERNAL, options)
    return _flushed(0)


def show_version(wanted: bool) -> None:
    """Print the version and leave, before a command is asked for."""
    if wanted:
        typer.echo(f"rlvr {_version()}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (or set RLVR_DEBUG=1).")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Reinforcement learning with verifiable rewards."""
    context.ensure_object(dict)["debug"] |= debug


def _version() -> str:
    try:
        return metadata.version("rlvr")
    except metadata.PackageNotFoundError:
        return "(a checkout that is not installed)"


def _notes(error: BaseException) -> list[str]:
    """What a command added on the way: how to go on."""
    return list(getattr(error, "__notes__", ()))


def _is_told_by_another(teller: int | None) -> bool:
    """Whether another rank of the run says it."""
    return teller is not None and os.environ.get("RANK", "0") != str(teller)


def _told(message: str, code: int, options: dict[str, bool]) -> int:
    if options["debug"]:
        traceback.print_exc()
    typer.echo(message, err=True)
    return code


def _flushed(code: int) -> int:
    """Flush while a reader who left can still be handled: at exit Python would complain."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _quiet()
    return code


def _quiet() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


if __name__ == "__main__":
    main()
