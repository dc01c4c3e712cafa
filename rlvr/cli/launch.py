"""`rlvr launch`: the commands that train a recipe with several ranks, printed or run."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated

import typer

from rlvr.errors import RecipeError


def launch(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="As for `rlvr train`.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")
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
) -> None:
    """Train with several ranks: print torchrun's commands for each machine, or run those of this one."""
    from rlvr.cli.train import arguments
    from rlvr.launch import Place, address_of, command, ranks_of, run
    from rlvr.launch import slurm as script
    from rlvr.recipe.check import check_ranks
    from rlvr.recipe.load import find, load

    loaded = load(find(recipe), settings or [])
    if node >= nodes:
        raise RecipeError(f"--node-rank {node}: {nodes} machines are numbered from 0 to {nodes - 1}")
    if nodes > 1 and host is None and not slurm:
        raise RecipeError("--nodes: say where the first machine is, with --host ADDRESS:PORT")
    address, port = address_of(host or "127.0.0.1")
    if slurm and host is not None:
        raise RecipeError("--slurm: the job asks Slurm for its first machine; leave --host out")
    if slurm and ranks is None and loaded.recipe.run.ranks is None:
        raise RecipeError("--slurm: say how many GPUs a machine of the job has, with --ranks-per-node")
    wanted = loaded.recipe.run.ranks
    if ranks is not None and wanted not in (None, ranks):
        raise RecipeError(f"--ranks-per-node {ranks}: the recipe says run.ranks = {wanted}; give one of them")
    count = ranks or ranks_of(loaded.recipe)
    check_ranks(loaded, count * nodes)
    place = Place(ranks=count, nodes=nodes, node=str(node), address=address, port=port)
    rest = arguments(recipe, settings or [])
    if slurm:
        typer.echo(script(place, rest))
    elif dry_run:
        for number in range(nodes):
            typer.echo(shlex.join(command(replace(place, node=str(number)), rest)))
    elif code := run(place, rest):
        raise typer.Exit(code)
