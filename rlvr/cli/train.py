"""`rlvr train`: run a recipe, or take up a run where it stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr.cli.terminal import Terminal, leads
from rlvr.cli.unsafe import Unsafe
from rlvr.errors import EngineError, Interrupted, RankError, RecipeError, RlvrError, RunError

if TYPE_CHECKING:
    from rlvr.policy.parallel import World
    from rlvr.recipe.load import Loaded
    from rlvr.runs.folder import RunFolder


def train(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a packaged one.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe.")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Continue this run: a folder, a name under runs/, or `last`."),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Only sample the first problems: pass rate, prompts compared, cost."),
    ] = False,
    unsafe: Unsafe = False,
) -> None:
    """Train a model on problems whose answers can be checked."""
    from rlvr.cli.examine import examine
    from rlvr.cli.probe import run_probe
    from rlvr.launch import Place, check_count, joined, ranks_of
    from rlvr.launch import run as start
    from rlvr.recipe.check import check_ranks

    changes = settings or []
    if probe and resume is not None:
        raise RecipeError("--probe looks before a run begins: give it the recipe, without --resume")
    loaded, folder = opened(recipe, resume, changes, "train")
    if not joined():
        for warning in examine(loaded):
            typer.echo(f"warning: {warning}", err=True)
    if probe:
        run_probe(loaded, unsafe)
    elif not joined() and (ranks := ranks_of(loaded.recipe)) > 1:
        check_ranks(loaded, ranks)
        check_count(loaded.recipe, ranks, nodes=1, is_here=True)
        rest = arguments(recipe, changes, resume=folder, unsafe=unsafe)
        if code := start(Place(ranks=ranks), rest, runs_of(loaded, folder)):
            raise typer.Exit(code)
    else:
        _run(loaded, folder, unsafe)


def opened(
    recipe: str | None, resume: str | None, changes: list[str], command: str
) -> tuple[Loaded, RunFolder | None]:
    """The recipe to train, and the folder of the run that is taken up, if one is."""
    from rlvr.recipe.load import find, load

    if recipe is not None and resume is not None:
        raise RecipeError("give a recipe or --resume, not both: a resumed run has its own recipe")
    if resume is not None:
        return _taken_up(resume, changes)
    if recipe is None:
        raise RecipeError(
            f"say what to train: `rlvr {command} RECIPE`, or `rlvr {command} --resume RUN` to continue one"
        )
    return load(find(recipe), changes), None


def arguments(
    recipe: str | None, changes: list[str], *, resume: RunFolder | None = None, unsafe: bool = False
) -> list[str]:
    """What follows `rlvr` on the command line of each rank; they all must mean the same run by it."""
    subject = ["--resume", str(resume.path)] if resume is not None else [str(recipe)]
    settings = [part for change in changes for part in ("--set", change)]
    return ["train", *subject, *settings, *(["--unsafe-no-isolation"] if unsafe else [])]


def runs_of(loaded: Loaded, resume: RunFolder | None) -> Path:
    """Where the run's folder lies, or will."""
    return resume.path.parent if resume is not None else Path(loaded.recipe.run.dir)


def _taken_up(name: str, changes: list[str]) -> tuple[Loaded, RunFolder]:
    """The recipe of a run folder, and the folder; refuses changes that would make it another run."""
    from rlvr.runs.reader import find_run
    from rlvr.train.resume import resumed_recipe

    folder = find_run(name)
    return resumed_recipe(folder, changes), folder


def _run(loaded: Loaded, resume: RunFolder | None, unsafe: bool) -> None:
    """Train in this process, which may be one of several ranks: the first one speaks for all."""
    recipe = loaded.path if resume is None else resume.expanded_recipe
    if leads():
        typer.echo(f"{recipe}: loading model and problems", err=True)
    from rlvr.policy.parallel import join
    from rlvr.recipe.check import check_ranks

    with join(loaded.recipe.model.device, loaded.recipe.run.rank_deadline) as world:
        try:
            check_ranks(loaded, world.count)
            path = _trained(loaded, resume, unsafe, world)
        except RankError:
            raise
        except (RlvrError, Interrupted):
            world.leave()
            raise
        if world.leads:
            typer.echo(f"run folder: {path}")
        world.leave()


def _trained(loaded: Loaded, resume: RunFolder | None, unsafe: bool, world: World) -> Path:
    """The folder of the run, once it has ended."""
    from rlvr.launch import LEFT, STOPS, go_on
    from rlvr.train.loop import train as loop
    from rlvr.train.opening import open_run
    from rlvr.train.signals import Signals

    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        run, state = open_run(
            loaded,
            resume=resume,
            environment_data_dir=os.environ.get("RLVR_DATA_DIR"),
            signals=signals,
            stack=stack,
            tell=Terminal(),
            unsafe=unsafe,
            world=world,
        )
        path = run.folder.path
        how = go_on(path, world.hosts)
        signals.stopping, signals.leaving = STOPS, f"{LEFT}; {how}"
        try:
            with _watched(path) if world.leads else nullcontext():
                loop(run, state)
        except (Interrupted, EngineError, RunError, RankError) as stop:
            stop.add_note(f"stopped after step {state.step}; {how}")
            raise
    return path


@contextmanager
def _watched(path: Path) -> Iterator[None]:
    """Show the run while the block works; the view reads the run folder, as `rlvr runs watch` does."""
    from rlvr.view.live import watch

    stop = threading.Event()
    view = threading.Thread(target=watch, args=(path,), kwargs={"stop": stop}, daemon=True)
    view.start()
    try:
        yield
    finally:
        stop.set()
        view.join(timeout=5)
