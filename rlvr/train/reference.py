"""The policy that a KL penalty or `self_logratio` compares with: that of step 0, or of the last refresh.

Refreshed every N steps, it is the policy of step (step // N) * N.  It is written to the run folder before the
next step begins, so that a run taken up at any later checkpoint finds it there.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import cast

import torch

from rlvr import build
from rlvr.policy.model import load_model
from rlvr.train.run import Run, State

NAME = re.compile(r"(warm|step)-(\d+)(\.damaged)?")


def take_up(run: Run, state: State) -> None:
    """Give the run the reference that belongs to `state`; None where the method reads none."""
    if not _is_read(run):
        return
    if run.recipe.model.lora is not None:
        run.reference = cast(torch.nn.Module, run.model)  # without its adapter
    elif state.step == _origin(run, state.step):
        refresh(run, state)
    else:
        made: torch.nn.Module = load_model(
            str(_folder(run, _origin(run, state.step))),
            revision=None,
            dtype=run.recipe.model.dtype,
            device=str(run.device),
        )
        run.reference = run.placed(made)


def refresh(run: Run, state: State) -> None:
    """Where a refresh is due after `state.step` steps, make the policy of this moment the reference."""
    if not _is_read(run) or run.recipe.model.lora is not None or state.step != _origin(run, state.step):
        return
    run.record.phase("save the reference")
    with run.signals.deferred(), run.clock.phase("save"):
        whole = run.gathered()
        run.world.lead(lambda: whole.save_pretrained(_folder(run, state.step)))
        run.reference = run.placed(copy.deepcopy(whole))
        run.world.lead(lambda: _forget(run))


def _is_read(run: Run) -> bool:
    return build.loss(run.recipe.algorithm).needs_reference


def _origin(run: Run, step: int) -> int:
    """The step whose policy is the reference in the step after `step`."""
    every = run.recipe.algorithm.kl_refresh
    return step // every * every if every else 0


def _folder(run: Run, origin: int) -> Path:
    return run.folder.path / (f"reference-{origin:06d}" if origin else "reference")


def _forget(run: Run) -> None:
    """Delete references that no checkpoint, a damaged one's predecessor included, goes back to."""
    names = [NAME.fullmatch(path.name) for path in run.folder.checkpoints.iterdir()]
    oldest = min((int(name[2]) if name[1] == "step" else 0 for name in names if name), default=0)
    for path in run.folder.path.glob("reference*"):
        origin = int(path.name.removeprefix("reference").removeprefix("-") or 0)
        if origin < _origin(run, oldest):
            shutil.rmtree(path)
