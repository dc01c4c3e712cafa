"""A run: everything the loop works with, made from a recipe or taken up from a run folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from rlvr import build
from rlvr.algo.pivots import Lexicon
from rlvr.errors import RecipeError
from rlvr.policy import checkpoint
from rlvr.policy import model as models
from rlvr.problems.overlap import trained_on
from rlvr.problems.prompts import Renderer
from rlvr.problems.sources import Source
from rlvr.recipe.explain import expand
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Recipe
from rlvr.rollout.engine import Engine, Tell, log
from rlvr.runs.atomic import write_bytes_atomic
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import build_manifest, read_manifest, write_manifest
from rlvr.runs.reader import read_metrics
from rlvr.runs.writer import Record
from rlvr.sandbox.offer import Offer
from rlvr.train import resume as resumes
from rlvr.train.course import Course
from rlvr.train.memory import BLANK, Memory, Practice
from rlvr.train.signals import Signals


@dataclass(slots=True)
class State:
    """Where a run stands; with the weights and the optimizer it is all that a checkpoint holds."""

    phase: str = "warm"
    """`warm` during the supervised steps, then `step`."""
    warm_step: int = 0
    """Supervised steps done."""
    step: int = 0
    """Steps of reinforcement learning done; also the weight version."""
    cursor: int = 0
    """Problems used up."""
    tokens: int = 0
    """Tokens sampled for training."""
    skipped_in_a_row: int = 0
    """Updates left out one after the other since gradients were not finite."""
    memory: Memory = BLANK
    """What is known of the problems."""
    entropy_coef: float | None = None
    """Weight of the entropy bonus, where the recipe lets it adapt; None: as the recipe says."""

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return f"{self.phase}-{self.step if self.phase == 'step' else self.warm_step:06d}"

    @property
    def counters(self) -> dict[str, Any]:
        """All but the memory."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "memory"}


@dataclass(slots=True, kw_only=True)
class Run:
    """The objects of one run in this process."""

    recipe: Recipe
    """What to do."""
    base_dir: Path
    """Folder that relative paths of the recipe start from."""
    folder: RunFolder
    """Where it is written down."""
    record: Record
    """The writer of that folder."""
    signals: Signals
    """Who turns Ctrl-C into a clean end."""
    tell: Tell
    """Who hears what there is no number for."""
    model: Any
    """The policy."""
    tokenizer: Any
    """Its tokenizer."""
    renderer: Renderer
    """Problems to tokens."""
    lexicon: Lexicon
    """Pivot words to watch."""
    course: Course
    """Its numbers beside its start."""
    engine: Engine
    """Who samples."""
    source: Source
    """What it practises on."""
    worked: Any | None
    """Worked solutions of the warm start."""
    benchmarks: list[build.HeldOut]
    """Held-out sets."""
    workers: int
    """Verifier processes."""
    sandbox: Offer
    """What those run programs in."""
    restored: checkpoint.Checkpoint | None
    """What it was taken up from, until its optimizer state is loaded."""
    practice: Practice
    """Which problems and completions come back."""
    reference: Any | None = None
    """The starting model, where the method compares with it."""
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    """Those of the present phase."""
    saved: str = ""
    """Name of the newest checkpoint."""
    packs: bool = False
    """Whether the update runs packed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent between steps, by metric, for the next step's row."""

    @property
    def device(self) -> torch.device:
        """Where the policy lives."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def use(self, phase: str, optimizers: list[torch.optim.Optimizer]) -> None:
        """Take up the optimizers of a phase, with their saved state where the run was resumed in it."""
        self.optimizers = optimizers
        if self.restored is not None and self.restored.state["phase"] == phase:
            for optimizer, saved in zip(optimizers, self.restored.optimizer_states(), strict=True):
                optimizer.load_state_dict(saved)
        self.restored = None

    def save(self, state: State) -> None:
        """Write a checkpoint of `state`, unless there is one; a signal waits until it is whole."""
        if self.saved == state.name:
            return
        started = perf_counter()
        self.record.phase("save")

        def write_model(folder: Path) -> None:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

        with self.signals.deferred():
            checkpoint.save(
                self.folder.checkpoints,
                state.name,
                write_model=write_model,
                optimizers=self.optimizers,
                state=state.counters,
                keep=self.recipe.run.keep,
                memory=state.memory.to_state() if self.practice.remembers else None,
            )
            self.saved = state.name
        self.spent("time/save_s", perf_counter() - started)

    def spent(self, metric: str, seconds: float) -> None:
        """Add to the time between steps."""
        self.seconds[metric] = self.seconds.get(metric, 0.0) + seconds


@dataclass(slots=True)
class Voice:
    """Hears what the engine waits for, for the record; until there is one it keeps what is lasting."""

    aloud: Tell
    """Who hears the rest until then."""
    record: Record | None = None
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
) -> tuple[Run, State]:
    """Everything a run needs, and where it stands; its lock and engine are let go when `stack` unwinds.

    A new run's folder is made last: a recipe, data or model that is wrong leaves nothing behind.  `tell`
    hears what the engine waits for until then.  `unsafe` lets verifiers run programs without walls.
    """
    recipe, base_dir = loaded.recipe, loaded.path.parent.resolve()
    torch.set_num_threads(recipe.run.threads or os.cpu_count() or 1)
    data = _data(loaded, environment_data_dir)
    audits = [recipe.audit.verifier] if recipe.audit else []
    verifiers = [*recipe.verifier, *audits, *(held_out.verifier for held_out in data.benchmarks)]
    asked = [(verifier, base_dir) for verifier in verifiers]
    sandbox = build.sandbox(asked, recipe.sandbox, unsafe=unsafe, tell=tell)
    measured = [(held.benchmark.name, held.benchmark.prompt, held.source) for held in data.benchmarks]
    notes = trained_on(data.source, recipe.problems.prompt, measured)
    restored = _restored(resume, data, notes, stack) if resume is not None else None
    state = State(**restored.state) if restored else State(phase="warm" if data.worked else "step")
    practice = Practice.of(recipe)
    state.memory = practice.recall(data.source.size, restored.memory() if restored else None)
    model, tokenizer = build.policy(loaded, restored.model if restored else None)
    renderer = build.renderer(tokenizer, model)
    _room_to_write(recipe, renderer)
    files = resumes.file_hashes(recipe, base_dir, data.worked, model)
    if resume is not None:
        before = read_manifest(resume)
        notes += resumes.changed_files(before.files, files, is_warm=state.phase == "warm")
        notes += resumes.changed_sandbox(before.sandbox, sandbox.words, state.step)
    voice = Voice(tell)
    engine = _engine(recipe, model, tokenizer, base_dir, voice, notes)
    stack.callback(engine.close)
    engine.rest()  # the warm start, if there is one, has the device for itself
    if resume is None:
        folder = _new_folder(loaded, data.source, model, files, sandbox.words)
        stack.enter_context(folder.lock())
    else:
        folder = resume
        write_bytes_atomic(folder.expanded_recipe, expand(recipe).encode())
        resumes.note_recipe(folder, recipe, files, sandbox.words)
    voice.record = record = Record(folder, state.step if restored else None, state.warm_step)
    for note in notes + voice.said:
        record.note(note)
    run = Run(
        recipe=recipe,
        base_dir=base_dir,
        folder=folder,
        record=record,
        signals=signals,
        tell=tell,
        model=model,
        tokenizer=tokenizer,
        renderer=renderer,
        lexicon=build.lexicon(recipe.pivots, tokenizer),
        course=_course(recipe, folder),
        engine=engine,
        source=data.source,
        worked=data.worked,
        benchmarks=data.benchmarks,
        workers=recipe.run.verify_workers or min(8, os.cpu_count() or 1),
        sandbox=sandbox,
        restored=restored,
        practice=practice,
        saved=state.name if restored else "",
    )
    return run, state


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


def _engine(
    recipe: Recipe, model: Any, tokenizer: Any, base_dir: Path, voice: Voice, notes: list[str]
) -> Engine:
    name, note = build.choose_engine(recipe.sampling.engine, model)
    notes += [note] if note else []
    slots = recipe.sampling.batch_size
    return build.engine(
        name, model, tokenizer, batch_size=slots, vllm=recipe.vllm, base_dir=base_dir, tell=voice
    )


def _new_folder(
    loaded: Loaded, source: Source, model: Any, files: Mapping[str, str], sandbox: str
) -> RunFolder:
    recipe = loaded.recipe
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
        data_hash=source.fingerprint,
        base_dir=str(loaded.path.parent.resolve()),
        recipe=resumes.flat(recipe),
        files=files,
        gpus=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        sandbox=sandbox,
    )
    write_manifest(folder, manifest)
    return folder


def _room_to_write(recipe: Recipe, renderer: Renderer) -> None:
    longest = max(recipe.sampling.max_tokens, recipe.eval.max_tokens or 0)
    if longest >= renderer.context:
        raise RecipeError(
            f"sampling.max_tokens or eval.max_tokens = {longest}: the model's context is "
            f"{renderer.context} tokens, prompt included; set it to {renderer.context // 2} or less."
        )
