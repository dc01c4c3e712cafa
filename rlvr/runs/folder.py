"""A run's folder on disk: its layout, its lock, and writes that are whole or not there at all.

    manifest.json  recipe.yaml  recipe.expanded.yaml  metrics.jsonl  status.json  lock
    rollouts/step-000012.parquet   evals/step-000012-NAME.*   checkpoints/step-000012/

One trainer writes (it holds the lock); anybody may read at any time.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlvr.errors import RunError, near_miss
from rlvr.runs.atomic import disk_trouble

_LOCK_TRIES, _LOCK_PAUSE_S = 10, 0.05


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where each thing of a run lies."""

    path: Path
    """The folder itself."""

    @classmethod
    def create(cls, parent: Path | str, name: str) -> RunFolder:
        """A new folder `parent/name`; raises RunError where it exists already."""
        if not name.strip() or Path(name).name != name or name.startswith("."):
            raise RunError(f"run.name = {name!r}: must be a plain folder name, without `/` and leading `.`")
        folder = cls(Path(parent) / name)
        with disk_trouble(folder.path):
            Path(parent).mkdir(parents=True, exist_ok=True)
            try:
                folder.path.mkdir()
            except FileExistsError:
                raise RunError(
                    f"{folder.path} exists already: continue it with `rlvr train --resume {folder.path}`, "
                    "or give the new run another name with `--set run.name=NAME`"
                ) from None
            for part in (folder.rollouts, folder.evals, folder.checkpoints):
                part.mkdir()
        return folder

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """The run at `path`; raises RunError with the near miss among its siblings where there is none."""
        folder = cls(Path(path))
        if folder.manifest.is_file():
            return folder
        wrong = "is no run folder (it has no manifest.json)" if folder.path.exists() else "does not exist"
        parent = folder.path.parent
        siblings = [p.parent.name for p in parent.glob("*/manifest.json")]
        hint = near_miss(folder.path.name, siblings) or f"; {parent} holds no runs"
        raise RunError(f"{folder.path} {wrong}{hint}")

    @property
    def name(self) -> str:
        """The run's name: the folder's own."""
        return self.path.resolve().name

    @property
    def manifest(self) -> Path:
        """What ran: versions, hashes, seeds, resumes."""
        return self.path / "manifest.json"

    @property
    def recipe(self) -> Path:
        """The recipe as it was given."""
        return self.path / "recipe.yaml"

    @property
    def expanded_recipe(self) -> Path:
        """The recipe with every key spelled out."""
        return self.path / "recipe.expanded.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON line a step, evaluation or warm-start interval."""
        return self.path / "metrics.jsonl"

    @property
    def status(self) -> Path:
        """What is going on right now."""
        return self.path / "status.json"

    @property
    def rollouts(self) -> Path:
        """Every completion of every step, as Parquet."""
        return self.path / "rollouts"

    @property
    def evals(self) -> Path:
        """Per-problem records of evaluations."""
        return self.path / "evals"

    @property
    def checkpoints(self) -> Path:
        """Saved weights and trainer state."""
        return self.path / "checkpoints"

    def rollout_file(self, step: int) -> Path:
        """The completions of one step."""
        return self.rollouts / f"step-{step:06d}.parquet"

    def eval_file(self, step: int, benchmark: str, suffix: str = ".jsonl") -> Path:
        """The per-problem records of one benchmark after `step`; odd characters of its name become `_`."""
        return self.evals / f"step-{step:06d}-{re.sub(r'[^A-Za-z0-9._-]', '_', benchmark)}{suffix}"

    def remove_leftovers(self) -> None:
        """Delete temporary files that killed writers left behind; only the lock's holder may."""
        for place in (self.path, self.rollouts, self.evals):
            for temporary in place.glob(".*.tmp"):
                temporary.unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only trainer of this run; RunError names the other.  The kernel frees it on any death."""
        held = [_take_lock(self.path / "lock", self.path)]

        def drop() -> None:
            while held:
                os.close(held.pop())

        # A forked worker would share the lock and keep it when the trainer is killed: it lets go at birth.
        os.register_at_fork(after_in_child=drop)
        try:
            yield
        finally:
            drop()

    def is_locked(self) -> bool:
        """Whether a trainer, on a machine that shares locks with this one, is at work here."""
        try:
            handle = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(handle)
        return False


def _take_lock(path: Path, run: Path) -> int:
    """An exclusively locked descriptor of `path`.  Readers probe the lock for an instant, so a few tries."""
    with disk_trouble(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt + 1 == _LOCK_TRIES:
                    raise RunError(_refusal(handle, run)) from None
                time.sleep(_LOCK_PAUSE_S)
            except OSError as trouble:
                raise RunError(
                    f"{path}: this file system cannot lock files ({trouble.strerror})"
                ) from trouble
        with disk_trouble(path):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _refusal(handle: int, run: Path) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        who = f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        who = "another process"
    return f"{run} is being trained by {who}: stop that one first, or watch it with `rlvr runs watch {run}`"
