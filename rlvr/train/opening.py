"""Opening a run: its objects made from a recipe, or taken up from a run folder."""

from __future__ import annotations

import copy
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rlvr import build
from rlvr.cpu import keep_memory
from rlvr.errors import RecipeError
from rlvr.launch import go_on
from rlvr.policy import checkpoint
from rlvr.policy import model as models
from rlvr.policy.parallel import ONE, World, shard
from rlvr.problems.overlap import trained_on
from rlvr.problems.prompts import Renderer
from rlvr.problems.sources import Source
from rlvr.recipe.explain import expand
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Recipe
from rlvr.rollout.engine import Tell, log
from rlvr.runs.atomic import write_bytes_atomic
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import build_manifest, read_manifest, write_manifest
from rlvr.runs.reader import read_metrics
from rlvr.runs.writer import Record, Silence, note_end
from rlvr.sandbox.offer import Offer
from rlvr.train import resume as resumes
from rlvr.train.clock import Clock, meter_of
from rlvr.train.course import Course
from rlvr.train.engines import engine_of
from rlvr.train.memory import Practice
from rlvr.train.pace import pace_of
from rlvr.train.run import Run, State
from rlvr.train.signals import Signals


@dataclass(slots=True)
class Voice:
    """Hears what the engine waits for, for the record; until there is one it keeps what is lasting."""

    aloud: Tell
    """Who hears the rest until then."""
    record: Record | Silence | None = None
    """Where it goes."""
    said: list[str] = field(default_factory=list)
    """Lasting words from before."""

    def __call__(self, words: str, *, lasting: bool = False) -> None:
        """See `rlvr/rollout/engine.py`."""
        if self.record is not None:
            (self.record.note if lasting else self.record.phase)(words)
        elif lasting:
            self.said.append(words)
        else:
            self.aloud(words)


def open_run(
    loaded: Loaded,
    *,
    resume: RunFolder | None,
    environment_data_dir: str | None,
    signals: Signals,
    stack: ExitStack,
    tell: Tell = log,
    unsafe: bool = False,
    world: World = ONE,
) -> tuple[Run, State]:
    """Everything a run needs, and where it stands; its lock and engine are let go when `stack` unwinds.

    A new run's folder is made last: what is wrong leaves nothing behind.  `tell` hears what the engine waits
    for until then.  `unsafe` lets verifiers run programs without walls.  All ranks in `world` load model and
    data; the first one touches the folder.
    """
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    cores = max(1, (os.cpu_count() or 1) // world.beside)
    torch.set_num_threads(recipe.run.threads or cores)
    keep_memory()
    data = _data(loaded, environment_data_dir)
    sandbox = _sandbox(loaded, data, unsafe, tell)
    measured = [(held.benchmark.name, held.benchmark.prompt, held.source) for held in data.benchmarks]
    notes = trained_on(data.source, recipe.problems.prompt, measured)
    restored = world.lead(lambda: _restored(resume, data, notes, stack)) if resume is not None else None
    state = State(**restored.state) if restored else State(phase="warm" if data.worked else "step")
    practice = Practice.of(recipe)
    state.memory = practice.recall(data.source.size, restored.memory() if restored else None)
    model, tokenizer = build.policy(loaded, restored.model if restored else None)
    renderer = build.renderer(tokenizer, model)
    _room_to_write(recipe, renderer)
    voice = Voice(tell)
    engine = engine_of(recipe, model, tokenizer, base_dir, tell=voice, note=notes.append, world=world)
    stack.callback(engine.close)
    engine.rest()  # the warm start, if there is one, has the device for itself
    folder = world.lead(
        lambda: (
            (resume and _up_to_date(loaded, resume, data, model, sandbox.words, world, state, notes))
            or _new_folder(loaded, data, model, sandbox.words, world, stack)
        )
    )
    first = state.step if restored else None
    voice.record = record = world.lead_or(lambda: Record(folder, first, state.warm_step), Silence)
    pace = pace_of(model, engine.name, record, notes, ranks=world.count)
    clock = Clock(meter_of(model.device, notes))
    for note in [*(notes if world.leads else ()), *voice.said]:
        record.note(note)
    whole, model = model, shard(copy.deepcopy(model), world) if world.count > 1 else model
    if world.hearts is not None:
        world.hearts.doing = lambda: record.doing
        world.hearts.ending = partial(_lost, world, folder, tell)
    run = Run(
        recipe=recipe,
        base_dir=base_dir,
        folder=folder,
        record=record,
        signals=signals,
        tell=tell,
        model=model,
        whole=whole,
        tokenizer=tokenizer,
        renderer=renderer,
        lexicon=build.lexicon(recipe.pivots, tokenizer),
        course=world.lead(lambda: _course(recipe, folder)),
        engine=engine,
        source=data.source,
        worked=data.worked,
        benchmarks=data.benchmarks,
        workers=recipe.run.verify_workers or min(8, cores),
        sandbox=sandbox,
        restored=restored,
        practice=practice,
        clock=clock,
        pace=pace,
        world=replace(world, listening=signals.heard, drawers=pace.drawers),
        saved=state.name if restored else "",
    )
    return run, state


def _sandbox(loaded: Loaded, data: Data, unsafe: bool, tell: Tell) -> Offer:
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    audits = [recipe.audit.verifier] if recipe.audit else []
    verifiers = [*recipe.verifier, *audits, *(held_out.verifier for held_out in data.benchmarks)]
    return build.sandbox([(v, base_dir) for v in verifiers], recipe.sandbox, unsafe=unsafe, tell=tell)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """All that a run reads problems from."""

    source: Source
    """What it practises on."""
    worked: Any | None
    """Worked solutions of the warm start."""
    benchmarks: list[build.HeldOut]
    """Held-out sets."""


def _data(loaded: Loaded, environment_data_dir: str | None) -> Data:
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    folder = build.data_dir(loaded, environment_data_dir)
    source = build.source(recipe.problems, base_dir, folder)
    if source.size is None and Practice.of(recipe).remembers:
        key = "problems.curriculum" if recipe.problems.curriculum else "sampling.replay"
        raise RecipeError(
            f"{loaded.place(key)}: `{key}` comes back to problems, and `problems.source = "
            f"{recipe.problems.source}` never asks one twice; set problems.limit, for example 10000"
        )
    return Data(
        source=source,
        worked=recipe.warm_start and build.worked(recipe.warm_start, recipe.problems, base_dir, folder),
        benchmarks=build.benchmarks(recipe, base_dir, folder),
    )


def _restored(
    folder: RunFolder, data: Data, notes: list[str], stack: ExitStack
) -> checkpoint.Checkpoint | None:
    """The newest whole checkpoint of a run that is this process's from now on."""
    stack.enter_context(folder.lock())
    checkpoint.remove_leftovers(folder.checkpoints)
    found = checkpoint.latest(folder.checkpoints, on_damage=notes.append, set_aside=True)
    resumes.something_to_continue(folder, found, notes)
    resumes.same_data(folder, data.source)
    return found


def _course(recipe: Recipe, folder: RunFolder) -> Course:
    """The run so far; its guard rests only where the recipe has one that waits for an alarm."""
    algorithm = recipe.algorithm
    steps = [row.metrics for row in read_metrics(folder.path) if row.kind == "train"]
    return Course(steps, "always" if algorithm.entropy == "off" else algorithm.entropy_when)


def _up_to_date(
    loaded: Loaded,
    folder: RunFolder,
    data: Data,
    model: Any,
    sandbox: str,
    world: World,
    state: State,
    notes: list[str],
) -> RunFolder:
    """The folder of a run that goes on, with what is otherwise than when it began in `notes` and manifest."""
    files = resumes.file_hashes(loaded.recipe, loaded.path.parent.resolve(), data.worked, model)
    before = read_manifest(folder)
    notes += resumes.changed_files(before.files, files, is_warm=state.phase == "warm")
    notes += resumes.changed_sandbox(before.sandbox, sandbox, state.step)
    notes += resumes.changed_ranks(before, world, state.step)
    write_bytes_atomic(folder.expanded_recipe, expand(loaded.recipe).encode())
    resumes.note_recipe(folder, loaded.recipe, files, sandbox, world)
    return folder


def _new_folder(
    loaded: Loaded, data: Data, model: Any, sandbox: str, world: World, stack: ExitStack
) -> RunFolder:
    """A folder, which this process has for itself until `stack` unwinds."""
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    name = recipe.run.name or f"{loaded.path.stem}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = RunFolder.create(Path(recipe.run.dir), name)
    write_bytes_atomic(folder.recipe, loaded.text.encode())
    write_bytes_atomic(folder.expanded_recipe, expand(recipe).encode())
    manifest = build_manifest(
        name=name,
        recipe_text=loaded.text,
        command=sys.argv,
        steps=recipe.run.steps,
        seed=recipe.run.seed,
        model_hash=models.fingerprint(model),
        data_hash=data.source.fingerprint,
        base_dir=str(base_dir),
        recipe=resumes.flat(recipe),
        files=resumes.file_hashes(recipe, base_dir, data.worked, model),
        gpus=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        sandbox=sandbox,
        ranks=world.count,
        hosts=world.hosts,
        backend=world.backend,
    )
    write_manifest(folder, manifest)
    stack.enter_context(folder.lock())
    return folder


def _lost(world: World, folder: RunFolder, tell: Tell, words: str) -> None:
    """Say that ranks are lost, where the record may be another's that is lost itself."""
    if world.hearts is not None and world.hearts.may_record:
        note_end(folder, words)
    tell(f"{words}\n{go_on(folder.path, world.hosts)}", lasting=True)


def _room_to_write(recipe: Recipe, renderer: Renderer) -> None:
    longest = max(recipe.sampling.max_tokens, recipe.eval.max_tokens or 0)
    if longest >= renderer.context:
        raise RecipeError(
            f"sampling.max_tokens or eval.max_tokens = {longest}: the model's context is "
            f"{renderer.context} tokens, prompt included; set it to {renderer.context // 2} or less."
        )
