"""Checkpoints that are whole or not there: written under a temporary name, synced, then renamed.

    checkpoints/step-000050/
      model/         weights, config and tokenizer in transformers' format (a peft adapter for LoRA)
      trainer.pt     optimizer state of one rank
      shards/        instead, of several: each rank's share (torch.distributed.checkpoint), by parameter name
      state.json     where the run stands
      memory.pt      what it remembers of its problems, where it does
      hashes.json    sha256 of every other file, written last and checked at load

`warm-000200` stands for a place inside the warm start; the order is warm-* before step-*.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlvr.errors import RunError
from rlvr.policy import shards
from rlvr.policy.parallel import ONE, World, is_broken, is_shared

logger = logging.getLogger(__name__)

NAME = re.compile(r"(warm|step)-(\d{6,})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One that is on disk and whole."""

    path: Path
    """Its folder."""
    state: Mapping[str, Any]
    """Contents of state.json."""

    @property
    def model(self) -> Path:
        """The folder that transformers loads."""
        return self.path / "model"

    def optimizer_states(self) -> list[dict[str, Any]]:
        """What one rank saved: state dictionaries in the order they were saved."""
        states: list[dict[str, Any]] = torch.load(
            self.path / "trainer.pt", map_location="cpu", weights_only=True
        )
        return states

    def load_optimizers(self, model: Any, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Give optimizers of `model` their saved state, whatever number of ranks saved it; all ranks do.

        Raises RunError where it is another model's.
        """
        if (self.path / "shards").is_dir():
            shards.load(self.path / "shards", model, optimizers)
            return
        states = self.optimizer_states()
        shards.check(self.path / "trainer.pt", states, optimizers)
        if is_shared(model):
            shards.spread(states, optimizers)
        else:
            for optimizer, saved in zip(optimizers, states, strict=True):
                optimizer.load_state_dict(saved)

    def memory(self) -> dict[str, Any] | None:
        """What was saved as `memory`; None where nothing was."""
        path = self.path / "memory.pt"
        if not path.exists():
            return None
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return found


def save(
    folder: Path,
    name: str,
    *,
    write_model: Callable[[Path], None],
    optimizers: list[torch.optim.Optimizer],
    state: Mapping[str, Any],
    keep: int,
    memory: Mapping[str, Any] | None = None,
    model: Any = None,
    world: World = ONE,
) -> Path:
    """Write checkpoint `name` into `folder` and delete all but the newest `keep`; all ranks together.

    Where the ranks share `model`, each writes its share of the optimizers' state, the first one everything
    else.  Raises RunError when the disk is full or refuses; older checkpoints are untouched then.
    """
    assert NAME.fullmatch(name), name
    final, temporary = folder / name, folder / f".{name}.tmp"

    def begin() -> None:
        with _written(final):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)

    def finish() -> None:
        with _written(final, temporary):
            write_model(temporary / "model")
            if not is_shared(model):
                torch.save([o.state_dict() for o in optimizers], temporary / "trainer.pt")
            _seal(temporary, final, state, memory)

    def share() -> None:
        with _written(final, temporary):
            shards.save(temporary / "shards", model, optimizers, world)

    world.lead(begin)
    if is_shared(model):
        world.attempt(share)
    world.lead(finish)
    for old in _names(folder)[keep:] if world.leads else ():
        _delete(folder / old)
    return final


def _seal(temporary: Path, final: Path, state: Mapping[str, Any], memory: Mapping[str, Any] | None) -> None:
    """Make what was written a checkpoint: its state and hashes, all of it on the disk, under its name."""
    if memory is not None:
        torch.save(dict(memory), temporary / "memory.pt")
    (temporary / "state.json").write_text(json.dumps(dict(state), indent=2))
    (temporary / "hashes.json").write_text(json.dumps(_hashes(temporary), indent=2))
    for path in (*temporary.rglob("*"), temporary):
        _sync(path)
    _delete(final)
    temporary.rename(final)
    _sync(final.parent)


@contextmanager
def _written(final: Path, temporary: Path | None = None) -> Iterator[None]:
    """RunError where the block cannot write; what it wrote is removed."""
    folder = final.parent
    try:
        yield
    except Exception as error:  # libraries raise anything on a full disk
        if is_broken(error):
            raise
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        free = shutil.disk_usage(folder).free if folder.exists() else 0
        raise RunError(
            f"{final}: the checkpoint could not be written: {str(error).splitlines()[0]} "
            f"({free / 2**20:.0f} MiB free); earlier checkpoints are whole. "
            "Free some space, then continue with --resume."
        ) from error


def latest(folder: Path, *, on_damage: Callable[[str], None], set_aside: bool = False) -> Checkpoint | None:
    """The newest checkpoint whose files match their hashes; `on_damage` hears of newer ones that do not.

    With `set_aside` those become NAME.damaged: a run that goes on must not count them among its newest.
    """
    for name in _names(folder):
        path = folder / name
        fault = _fault(path)
        if fault is None:
            return Checkpoint(path=path, state=json.loads((path / "state.json").read_text()))
        on_damage(f"checkpoint {path} is damaged ({fault}); an older one is used")
        if set_aside:
            aside = path.with_name(f"{name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
    return None


def remove_leftovers(folder: Path) -> None:
    """Delete what a killed writer left half-written."""
    for path in folder.glob(".*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _delete(path: Path) -> None:
    """Out of sight first: a kill in the middle must not leave half a checkpoint under its name."""
    if path.exists():
        hidden = path.with_name(f".{path.name}.deleted.tmp")
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _names(folder: Path) -> list[str]:
    """Newest first."""
    found = [m for p in folder.iterdir() if (m := NAME.fullmatch(p.name))] if folder.is_dir() else []
    return [m[0] for m in sorted(found, key=lambda m: (m[1] == "step", int(m[2])), reverse=True)]


def _fault(path: Path) -> str | None:
    try:
        expected = json.loads((path / "hashes.json").read_text())
        actual = _hashes(path)
    except (OSError, ValueError) as error:
        return f"it cannot be read: {error}"
    named = expected.keys() if isinstance(expected, dict) else set()
    if "state.json" not in named or not named & {"trainer.pt", shards.INDEX}:
        return "hashes.json does not name its files"
    for name, digest in expected.items():
        if actual.get(name) != digest:
            return f"{name} is missing" if name not in actual else f"{name} has changed"
    return None


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "hashes.json")
    return {str(p.relative_to(folder)): _digest(p) for p in files}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
