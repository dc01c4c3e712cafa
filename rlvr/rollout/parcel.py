"""Weights on their way to servers: files, in shared memory where they fit."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from rlvr.errors import EngineError
from rlvr.rollout.engine import Tell
from rlvr.rollout.weights import checksums, has_adapter, named_weights

SHARED_MEMORY = "/dev/shm"
COPIES = 2
"""Weight files that exist at once: the version in use and the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """All weights of one version."""

    version: int
    """The trainer's number for it."""
    base: dict[str, Any]
    """`path` and `checksums` of all weights: with an adapter, those it is trained on, which never change."""
    adapter: str | None
    """Folder of the adapter."""


def pack(model: Any, version: int, folder: str, previous: Parcel | None) -> Parcel:
    """Write `model`'s weights below `folder`; EngineError when there is no room."""
    place = Path(tempfile.mkdtemp(prefix="weights-", dir=folder))
    base = previous.base if previous is not None and has_adapter(model) else None
    adapter: str | None = None
    try:
        if base is None:
            weights = {name: tensor.cpu().contiguous() for name, tensor in named_weights(model)}
            save_file(weights, place / "weights.safetensors")
            base = {"path": str(place / "weights.safetensors"), "checksums": checksums(weights.items())}
        if has_adapter(model):
            adapter = str(place / "adapter")
            model.save_pretrained(adapter)
    except OSError as error:
        raise EngineError(
            f"{place}: the weights cannot be written for the servers ({error}); make room there"
        ) from error
    return Parcel(version=version, base=base, adapter=adapter)


def discard(old: Parcel, new: Parcel) -> None:
    """Delete files of `old` that no server will read again."""
    if old.adapter:
        shutil.rmtree(old.adapter, ignore_errors=True)
    if old.base["path"] != new.base["path"]:
        shutil.rmtree(Path(old.base["path"]).parent, ignore_errors=True)


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
