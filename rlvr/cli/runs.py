"""`rlvr runs list | show | explain | plot | watch`: looking at runs; none needs torch or stops a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look at runs: list, show, explain, plot, watch.", no_args_is_help=True)

RunName = Annotated[str, typer.Argument(metavar="RUN", help="Folder, name under ./runs, or `last`.")]
RunNames = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Folders, names under ./runs, or `last`.")
]


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder that holds runs.")] = Path("runs"),
) -> None:
    """List runs: state, step, reward, accuracy; the one last heard of stands last."""
    from rich.console import Console

    from rlvr.errors import RunError
    from rlvr.view.summary import runs_table

    if not folder.is_dir() and folder != Path("runs"):
        raise RunError(
            f"{folder} is no folder: give the folder that holds the runs (`run.dir` of the recipe)"
        )
    Console().print(runs_table(folder))


@app.command()
def show(
    run: RunName,
    completions: Annotated[int, typer.Option(min=0, help="Print so many sample completions instead.")] = 0,
    disagreements: Annotated[
        int, typer.Option(min=0, help="Print so many completions that the audit judges otherwise instead.")
    ] = 0,
    step: Annotated[int | None, typer.Option(min=0, help="Of this step; by default the newest.")] = None,
) -> None:
    """Show one run: before and after, accounting, time, alarms; or some of its completions."""
    from rich.console import Console

    from rlvr.runs.reader import find_run
    from rlvr.view import summary

    path = find_run(run).path
    if disagreements:
        shown = summary.disagreements(path, disagreements, step)
    elif completions or step is not None:
        shown = summary.completions(path, completions or 3, step)
    else:
        shown = summary.show(path)
    Console().print(shown)


@app.command()
def explain(
    metric: Annotated[
        str, typer.Argument(metavar="[METRIC]", help="A metric, or a room of them such as `rollout`.")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="All of them as a page (docs/metrics.md).")
    ] = False,
) -> None:
    """Say what a metric means: unit, good direction, healthy range and its source, when its alarm rings."""
    from rlvr.view import meaning

    typer.echo(meaning.markdown() if markdown else meaning.explain(metric))


@app.command()
def plot(
    runs: RunNames,
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write: .svg or .png.")] = Path(
        "curve.svg"
    ),
) -> None:
    """Draw accuracy, response length and entropy over the steps."""
    from rlvr.runs.reader import find_run
    from rlvr.view.plots import plot as draw

    draw([find_run(run).path for run in runs], out)
    typer.echo(f"wrote {out}")


@app.command()
def watch(run: RunName) -> None:
    """Follow a run until it ends; Ctrl-C stops watching, not the run."""
    from rich.console import Console

    from rlvr.runs.reader import find_run
    from rlvr.view.live import watch as follow

    try:
        follow(find_run(run).path, stop=None, console=Console())
    except KeyboardInterrupt:
        typer.echo("no longer watching; the run goes on")
