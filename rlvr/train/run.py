"""A run: everything the loop works with, and where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from rlvr import build
from rlvr.algo.pivots import Lexicon
from rlvr.algo.ranks import ALONE, Ranks, Together
from rlvr.errors import RankError
from rlvr.policy import checkpoint
from rlvr.policy.parallel import ONE, World, gather, shard
from rlvr.problems.prompts import Renderer
from rlvr.problems.sources import Source
from rlvr.recipe.schema import Recipe
from rlvr.rollout.engine import Engine, Tell
from rlvr.runs.folder import RunFolder
from rlvr.runs.writer import Record, Silence, note_end
from rlvr.sandbox.offer import Offer
from rlvr.train.clock import Clock
from rlvr.train.course import Course
from rlvr.train.memory import BLANK, Memory, Practice
from rlvr.train.pace import Pace
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
    carried: Sequence[int] = ()
    """Serials of the problems asked that belong to the next step (`sampling.carry`)."""
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
    record: Record | Silence
    """The writer of that folder; of several ranks the first one's alone writes."""
    signals: Signals
    """Who turns Ctrl-C into a clean end."""
    tell: Tell
    """Who hears what there is no number for."""
    model: Any
    """The policy; with several ranks each holds a share of its weights."""
    whole: Any
    """The policy in one piece as `gathered` last left it, for engines and files; with one rank `model`."""
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
    clock: Clock
    """Where the trainer's time goes."""
    pace: Pace
    """How fast it could be."""
    world: World = ONE
    """The ranks that train it."""
    reference: Any | None = None
    """The starting model, where the method compares with it."""
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)
    """Those of the present phase."""
    saved: str = ""
    """Name of the newest checkpoint."""
    packs: bool = False
    """Whether the update runs packed."""

    @property
    def device(self) -> torch.device:
        """Where the policy lives."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def ranks(self) -> Ranks:
        """Who adds up the statistics of a step."""
        return ALONE if self.world.count == 1 else Together(device=self.device)

    def gathered(self) -> Any:
        """The policy's weights of this moment in one piece; all ranks together."""
        if self.whole is not self.model:
            gather(self.model, self.whole)
        return self.whole

    def placed(self, model: Any) -> Any:
        """A model that is not trained, as this run's ranks hold it."""
        model = model.requires_grad_(False).eval()
        return model if self.world.count == 1 else shard(model, self.world)

    def use(self, phase: str, optimizers: list[torch.optim.Optimizer]) -> None:
        """Take up the optimizers of a phase, with their saved state where the run was resumed in it."""
        self.optimizers = optimizers
        if self.restored is not None and self.restored.state["phase"] == phase:
            self.restored.load_optimizers(self.model, optimizers)
        self.restored = None

    def save(self, state: State) -> None:
        """Write a checkpoint of `state`, unless there is one; a signal waits until it is whole."""
        if self.saved == state.name:
            return
        self.record.phase("save")
        whole = self.gathered()

        def write_model(folder: Path) -> None:
            whole.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)

        with self.signals.deferred(), self.clock.phase("save"):
            checkpoint.save(
                self.folder.checkpoints,
                state.name,
                write_model=write_model,
                model=self.model,
                optimizers=self.optimizers,
                state=state.counters,
                keep=self.recipe.run.keep,
                memory=state.memory.to_state() if self.practice.remembers else None,
                world=self.world,
            )
            self.saved = state.name

    def part(self, error: Exception) -> None:
        """After an error that may mean lost ranks: RankError, which one rank tells and records."""
        if self.world.hearts is None:
            return
        with self.signals.deferred():  # who starts the ranks ends the others at once: this is what to tell
            lost, words = self.world.hearts.lost()
            if not lost:
                broke = f"the ranks have lost each other: {str(error).splitlines()[0]}"
                words = "; ".join(filter(None, [broke, words]))
            parted = RankError(words)
            parted.teller = self.world.hearts.speaker(lost)
            if parted.teller == self.world.rank and self.world.hearts.may_record:
                note_end(self.folder, words)
            raise parted from error
