"""`rlvr launch`: the commands that train a recipe with several ranks, printed or run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated

import typer

from rlvr.cli.unsafe import Unsafe
from rlvr.errors import RecipeError


def launch(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="As for `rlvr train`; or give --resume.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Continue this run: a folder, a name under runs/, or `last`."),
    ] = None,
    ranks: Annotated[
        int | None, typer.Option("--ranks-per-node", min=1, help="Ranks of each machine; default: its GPUs.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    node: Annotated[int, typer.Option("--node-rank", min=0, help="Which of them this one is.")] = 0,
    host: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="The first machine, as the others reach it.")
    ] = None,
    slurm: Annotated[bool, typer.Option("--slurm", help="Print a script for sbatch.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands, run nothing.")] = False,
    unsafe: Unsafe = False,
) -> None:
    """Train with several ranks: print torchrun's commands for each machine, or run those of this one."""
    from rlvr.cli.examine import examine
    from rlvr.cli.train import arguments, opened, runs_of
    from rlvr.launch import Place, address_of, check_count, command, ranks_of, run
    from rlvr.launch import slurm as script
    from rlvr.recipe.check import check_ranks

    loaded, folder = opened(recipe, resume, settings or [], "launch")
    if node >= nodes:
        raise RecipeError(f"--node-rank {node}: {nodes} machines are numbered from 0 to {nodes - 1}")
    if nodes > 1 and host is None and not slurm:
        raise RecipeError("--nodes: say where the first machine is, with --host ADDRESS:PORT")
    address, port = address_of(host or "127.0.0.1")
    if slurm and host is not None:
        raise RecipeError("--slurm: the job asks Slurm for its first machine; leave --host out")
    wanted = loaded.recipe.run.ranks
    if slurm and ranks is None and wanted is None:
        raise RecipeError("--slurm: say how many GPUs a machine of the job has, with --ranks-per-node")
    if ranks is not None and wanted not in (None, ranks):
        raise RecipeError(
            f"--ranks-per-node {ranks}: the recipe says run.ranks = {wanted}; give one of them, "
            f"or --set run.ranks={ranks}"
        )
    is_printed = slurm or dry_run
    count = ranks or ranks_of(loaded.recipe)
    check_ranks(loaded, count * nodes)
    check_count(loaded.recipe, count, nodes=nodes, is_here=not is_printed)
    place = Place(ranks=count, nodes=nodes, node=str(node), address=address, port=port)
    rest = arguments(recipe, settings or [], resume=folder, unsafe=unsafe)
    for warning in [] if is_printed else examine(loaded):
        typer.echo(f"warning: {warning}", err=True)
    if slurm:
        typer.echo(script(place, rest))
    elif dry_run:
        for number in range(nodes):
            typer.echo(shlex.join(command(replace(place, node=str(number)), rest)))
    elif code := run(place, rest, runs_of(loaded, folder)):
        raise typer.Exit(code)
