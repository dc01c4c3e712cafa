"""Weights on their way to servers: files, in shared memory where they fit, and the trainer's own tensors."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from rlvr.errors import EngineError
from rlvr.rollout.engine import Tell
from rlvr.rollout.weights import checksums, has_adapter, named_weights

SHARED_MEMORY = "/dev/shm"
COPIES = 2
"""Weight files that exist at once: the version in use and the next."""


class Base:
    """All weights of one version, as they were when it was made."""

    def __init__(self, weights: Sequence[tuple[str, torch.Tensor]], folder: str, *, write: bool) -> None:
        """Copy them; without `write` the file is written when it is first asked for."""
        self.checksums = checksums(weights)
        self._path = Path(tempfile.mkdtemp(prefix="weights-", dir=folder)) / "weights.safetensors"
        self._lock = threading.Lock()
        self._kept: dict[str, torch.Tensor] | None = {
            name: tensor.to("cpu", copy=not write).contiguous() for name, tensor in weights
        }
        if write:
            self.file()

    def file(self) -> str:
        """Path of a safetensors file that holds them; EngineError when there is no room for it."""
        with self._lock:
            if self._kept is not None:
                try:
                    save_file(self._kept, self._path)
                except OSError as error:
                    raise EngineError(
                        f"{self._path}: weights cannot be written for the servers ({error}); make room there"
                    ) from error
                self._kept = None
        return str(self._path)

    def discard(self) -> None:
        """Delete the file."""
        shutil.rmtree(self._path.parent, ignore_errors=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """The weights of one version."""

    version: int
    """The trainer's number for it."""
    base: Base
    """All weights: with an adapter, those it is trained on, which never change."""
    live: Sequence[tuple[str, torch.Tensor]] = field(repr=False)
    """The trainer's own tensors, which are of this version while `load_weights` runs and no longer."""
    adapter: str | None
    """Folder of the adapter."""


def pack(model: Any, version: int, folder: str, previous: Parcel | None, *, write: bool) -> Parcel:
    """Take `model`'s weights, into a file below `folder` where `write` says so."""
    live = list(named_weights(model))
    is_known = previous is not None and has_adapter(model)
    base = previous.base if is_known and previous is not None else Base(live, folder, write=write)
    adapter: str | None = None
    if has_adapter(model):
        adapter = tempfile.mkdtemp(prefix="adapter-", dir=folder)
        try:
            model.save_pretrained(adapter)
        except OSError as error:
            raise EngineError(
                f"{adapter}: the adapter cannot be written ({error}); make room there"
            ) from error
    return Parcel(version=version, base=base, live=live, adapter=adapter)


def discard(old: Parcel, new: Parcel) -> None:
    """Delete files of `old` that no server will read again."""
    if old.adapter:
        shutil.rmtree(old.adapter, ignore_errors=True)
    if old.base is not new.base:
        old.base.discard()


def roomy(model: Any, tell: Tell) -> str | None:
    """Shared memory, where the weights fit in it; None, for the folder of temporary files, where not."""
    needed = COPIES * sum(t.numel() * t.element_size() for _, t in named_weights(model))
    if os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).free > 1.1 * needed:
        return SHARED_MEMORY
    tell(
        f"{SHARED_MEMORY} has no room for {needed / 2**20:.0f} MiB of weights: they are handed over on disk, "
        "which is slower (a container takes --shm-size)",
        lasting=True,
    )
    return None
