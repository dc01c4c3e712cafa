"""Optimizer state that ranks share: each saves and loads its own part, in PyTorch's own format.

Entries are called `NUMBER.PARAMETER.STATE` (`0.model.layers.0.mlp.up_proj.weight.exp_avg`): any number of
ranks, or one without a process group, finds its part of what any other number saved.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.tensor import DTensor, distribute_tensor

from rlvr.policy.parallel import World

INDEX = "shards/.metadata"
"""The file that names all entries, written last."""


def save(folder: Path, model: Any, optimizers: Sequence[torch.optim.Optimizer], world: World) -> None:
    """Write this rank's part into `folder`; all ranks together.  Raises anything on a full disk."""
    entries = {
        f"{number}.{name}.{key}": value
        for number, optimizer in enumerate(optimizers)
        for name, parameter in _names(model, optimizer)
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    writer = FileSystemWriter(str(folder), sync_files=True)
    save_shards(entries, storage_writer=writer, process_group=world.group)


def load(folder: Path, model: Any, optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Give the optimizers of `model`, shared or whole, their state; all ranks together."""
    reader = FileSystemReader(str(folder))
    sizes = {
        key: (entry.size, entry.properties.dtype)
        for key, entry in reader.read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    entries: dict[str, torch.Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for name, parameter in _names(model, optimizer):
            start = f"{number}.{name}."
            for key in [key for key in sizes if key.startswith(start)]:
                size, dtype = sizes[key]
                like = parameter if size == parameter.shape else torch.empty(size, device=parameter.device)
                entries[key] = torch.empty_like(like.detach(), dtype=dtype)
    missing = sizes.keys() - entries.keys()
    assert not missing, f"{folder}: no parameter for {sorted(missing)[:3]}"
    with warnings.catch_warnings():  # that one process alone reads is what we ask for
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        load_shards(entries, storage_reader=reader, no_dist=not dist.is_initialized())
    for number, optimizer in enumerate(optimizers):
        for name, parameter in _names(model, optimizer):
            start = f"{number}.{name}."
            found = {
                key.removeprefix(start): value for key, value in entries.items() if key.startswith(start)
            }
            if found:
                optimizer.state[parameter] = found


def spread(saved: Sequence[Mapping[str, Any]], optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Give optimizers of shared weights what one rank saved, each rank its part."""
    for optimizer, whole in zip(optimizers, saved, strict=True):
        numbers = [number for group in whole["param_groups"] for number in group["params"]]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            assert isinstance(parameter, DTensor), "the model is shared"
            state = whole["state"].get(number, {})
            optimizer.state[parameter] = {
                key: _part(value.to(parameter.device), parameter) for key, value in state.items()
            }


def _part(value: torch.Tensor, parameter: DTensor) -> torch.Tensor:
    """This rank's part of a state that is as large as the parameter; another is everybody's."""
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _names(model: Any, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
    """The optimizer's parameters with the names that `model` has for them."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in own]
