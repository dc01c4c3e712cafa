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

from rlvr.errors import RunError
from rlvr.policy.optim import OffloadedAdamW
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
    """Give the optimizers of `model`, shared or whole, their state; all ranks together.

    Raises RunError where `folder` holds that of another model.
    """
    reader = FileSystemReader(str(folder))
    sizes = {
        key: (entry.size, entry.properties.dtype)
        for key, entry in reader.read_metadata().state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    if any(isinstance(optimizer, OffloadedAdamW) for optimizer in optimizers):
        raise misfit(folder, "several ranks saved it, and `optim.offload` is for one process")
    entries: dict[str, torch.Tensor] = {}
    for number, optimizer in enumerate(optimizers):
        for name, parameter in _names(model, optimizer):
            start = f"{number}.{name}."
            for key in [key for key in sizes if key.startswith(start)]:
                size, dtype = sizes[key]
                if not fits(size, parameter):
                    raise misfit(folder, f"{key} is {list(size)}, the parameter {list(parameter.shape)}")
                like = parameter if size == parameter.shape else torch.empty(size, device=parameter.device)
                entries[key] = torch.empty_like(like.detach(), dtype=dtype)
    if missing := sorted(sizes.keys() - entries.keys()):
        raise misfit(folder, f"the model has no parameter for {len(missing)} of them, such as {missing[0]}")
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
    """Give optimizers of shared weights what one rank saved and `check` found to fit, each rank its part."""
    for optimizer, whole in zip(optimizers, saved, strict=True):
        for number, parameter in _numbered(whole, optimizer):
            assert isinstance(parameter, DTensor), "the model is shared"
            state = whole["state"].get(number, {})
            optimizer.state[parameter] = {
                key: _part(value.to(parameter.device), parameter) for key, value in state.items()
            }


def check(
    path: Path, saved: Sequence[Mapping[str, Any]], optimizers: Sequence[torch.optim.Optimizer]
) -> None:
    """RunError where what one rank saved in `path` is no state of these optimizers."""
    if len(saved) != len(optimizers):
        raise misfit(path, f"it is of {len(saved)} optimizers, and there are {len(optimizers)}")
    for optimizer, whole in zip(optimizers, saved, strict=True):
        before, now = (
            [len(g["params"]) for g in groups] for groups in (whole["param_groups"], optimizer.param_groups)
        )
        if before != now:
            raise misfit(path, f"it is of {before} parameters, and the model has {now} (matrices, vectors)")
        if ("copies" in whole) != isinstance(optimizer, OffloadedAdamW):
            raise misfit(path, "it was saved with another `optim.offload`")
        for number, parameter in _numbered(whole, optimizer):
            for key, value in whole["state"].get(number, {}).items():
                if not fits(value.shape, parameter):
                    sizes = f"{list(value.shape)}, the parameter {list(parameter.shape)}"
                    raise misfit(path, f"{key} of parameter {number} is {sizes}")


def fits(size: torch.Size, parameter: torch.Tensor) -> bool:
    """Whether a state of that size can be the parameter's: one of its elements each, or one number."""
    return size == parameter.shape or size.numel() == 1


def misfit(path: Path, why: str) -> RunError:
    """What to raise where the optimizer state in `path` is another model's."""
    return RunError(
        f"{path}: this optimizer state is not that of the model beside it: {why}. Files of two runs were "
        "mixed, or the names of its weights have changed with the version of transformers or peft: put the "
        "checkpoint or the version back, or start a new run from its weights: "
        f"--set model={path.parent}/model"
    )


def _numbered(
    saved: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> list[tuple[int, torch.nn.Parameter]]:
    """The optimizer's parameters with the numbers that `saved` has for them."""
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return list(zip(numbers, parameters, strict=True))


def _part(value: torch.Tensor, parameter: DTensor) -> torch.Tensor:
    """This rank's part of a state that is as large as the parameter; another is everybody's."""
    if value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _names(model: Any, optimizer: torch.optim.Optimizer) -> list[tuple[str, torch.nn.Parameter]]:
    """The optimizer's parameters with the names that `model` has for them."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in own]
