"""`rlvr train RECIPE --probe`: what the model does with the first problems, and what the run would cost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

from rlvr.cli.terminal import Terminal
from rlvr.errors import TrainingError

if TYPE_CHECKING:
    from rlvr.recipe.load import Loaded
    from rlvr.train.probe import Look, Probe


def run_probe(loaded: Loaded, unsafe: bool) -> None:
    """Probe and print; raises TrainingError for a hopeless start, unless `run.hopeless` says to go on."""
    typer.echo(f"{loaded.path}: loading model and problems", err=True)
    from rlvr.train.probe import probe

    with ExitStack() as stack:
        found = probe(
            loaded,
            environment_data_dir=os.environ.get("RLVR_DATA_DIR"),
            stack=stack,
            tell=Terminal(),
            unsafe=unsafe,
        )
    typer.echo("\n".join(_table(found)))
    recipe = loaded.recipe
    steps = f"{recipe.run.steps} steps x {recipe.optim.problems_per_step} problems"
    typer.echo(f"\ncost of {steps} x {recipe.sampling.group_size} completions: {_cost(found)}")
    if found.has_warm_start:
        typer.echo("this is the model before its warm start; the run looks again after it")
    if found.hopeless is not None:
        if recipe.run.hopeless == "refuse":
            raise TrainingError(f"a hopeless start: {found.hopeless}.")
        typer.echo(f"a hopeless start, run.hopeless says go_on: {found.hopeless}")
    if found.better is not None:
        typer.echo(f"try problems.prompt: {found.better.prompt}, which does better here")


def _table(found: Probe) -> Iterator[str]:
    looks = (found.own, *found.others)
    width = max(len(_name(look)) for look in looks)
    titles = ("right [95 %]", "uniform", "cut", "no answer", "length")
    yield f"{'prompt':<{width}}  {titles[0]:>20}  " + "  ".join(f"{title:>9}" for title in titles[1:])
    for look in looks:
        n = look.start.numbers
        rate = look.pass_rate
        right = f"{100 * n['right_share']:.1f}% [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
        cells = [f"{n[f'{name}_share']:.0%}" for name in ("zero_variance", "truncated", "no_answer")]
        cells.append(f"{n['length_mean_tokens']:.0f}")
        yield f"{_name(look):<{width}}  {right:>20}  " + "  ".join(f"{cell:>9}" for cell in cells)
    counts = [
        f"{look.start.problems} problems x {look.start.completions // look.start.problems}" for look in looks
    ]
    rest = f", the other prompts {counts[1]}" if found.others else ""
    yield f"(the recipe's prompt: {counts[0]} completions{rest}; uniform: groups with equal rewards)"


def _name(look: Look) -> str:
    text = " ".join(look.prompt.split())
    return text if len(text) <= 24 else f"{text[:23]}…"


def _cost(found: Probe) -> str:
    from rlvr.view.lines import clock

    parts = {"sampling": found.sample_s, "update": found.update_s, "evaluation": found.eval_s}
    shares = ", ".join(f"{name} {clock(seconds)}" for name, seconds in parts.items())
    return (
        f"about {found.tokens / 1e6:.3g} M tokens and {clock(sum(parts.values()))} here "
        f"({shares}), if lengths stay as they are"
    )
