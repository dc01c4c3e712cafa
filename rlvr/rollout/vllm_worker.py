"""What runs inside vLLM's worker: it takes the trainer's weights and says what it has taken.

Registered as a weight-transfer backend of vLLM (docs/training/weight_transfer).  An update is
start -> receive -> finish; only a finish that covered every weight of the model returns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import safe_open
from vllm.distributed.weight_transfer import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from rlvr.rollout.broadcast import Broadcast
from rlvr.rollout.weights import checksum

BACKEND = "rlvr"


@dataclass
class Hello(WeightTransferInitInfo):  # type: ignore[misc]  # vLLM ships no types
    """What is agreed on once."""

    meeting: dict[str, Any] | None = None
    """Where the trainer waits (Broadcast.place), when weights come through a process group."""


@dataclass
class Parcel(WeightTransferUpdateInfo):  # type: ignore[misc]  # as above
    """All weights of one version."""

    checksums: dict[str, int]
    """What must arrive, by name (rlvr/rollout/weights.py)."""
    path: str | None = None
    """A safetensors file that holds them, or ..."""
    group: dict[str, list[Any]] | None = None
    """... names, dtypes and shapes of what the trainer sends through the process group, or ..."""
    tensors: list[Any] = field(default_factory=list)
    """... (name, tensor) pairs, within one process."""


class Receiver(WeightTransferEngine[Hello, Parcel]):  # type: ignore[misc]  # as above
    """Loads a parcel layer by layer, as if from a checkpoint: fused, sharded and packed anew."""

    init_info_cls = Hello
    update_info_cls = Parcel
    is_half_loaded = False
    """Whether an update was begun and not finished: then layers are in pieces that no later one mends."""

    def init_transfer_engine(self, init_info: Hello) -> None:
        """Note which weights the model has, while tied ones still are one; meet the trainer."""
        if not hasattr(self, "_wanted"):
            self._wanted = {_plain(name) for name, _ in self.model.named_parameters() if "lora_" not in name}
        self._trainer = None
        if init_info.meeting is not None:
            self._trainer = Broadcast(**init_info.meeting, rank=1 + self.parallel_config.rank)
            self._trainer.meet()

    def start_weight_update(self) -> None:
        """Bring the layers back into the shape in which checkpoints are loaded."""
        self._loaded: set[str] = set()
        self.is_half_loaded = True
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: Parcel) -> None:
        """Load the parcel; RuntimeError when anything in it is not what was sent."""
        expected = dict(update_info.checksums)
        arriving = _tensors(update_info, self.device, self._trainer)
        self._loaded |= self.model.load_weights(_checked(arriving, expected))
        if expected:
            raise RuntimeError(f"{len(expected)} weights did not arrive: {_few(expected)}")

    def finish_weight_update(self) -> None:
        """Pack the layers for use; RuntimeError when the model has weights that were not loaded."""
        partly = [name for name, layer in self.model.named_modules() if _is_partly_loaded(layer)]
        if partly:
            raise RuntimeError(f"{len(partly)} layers were not loaded: {_few(partly)}")
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_head(self.model)
        missing = self._wanted - {_plain(name) for name in self._loaded}
        if missing:
            raise RuntimeError(f"{len(missing)} weights of the engine were not loaded: {_few(missing)}")
        self.is_half_loaded = False

    def shutdown(self) -> None:
        """Leave the trainer's group."""
        self._trainer = None


class Extension:
    """Methods added to vLLM's worker, called through `collective_rpc`."""

    vllm_config: Any
    weight_transfer_engine: Any

    def rlvr_drop_update(self) -> None:
        """Make ready for a new update: a worker left in pieces by the last one ends, and its server with it.

        Who keeps the server then starts it anew.
        """
        if self.weight_transfer_engine.is_half_loaded:
            os._exit(1)
        self._weight_update_active = False

    def rlvr_about(self) -> dict[str, Any]:
        """What a trainer must know of a server that it did not start."""
        model = self.vllm_config.model_config
        lora = self.vllm_config.lora_config
        return {
            "dtype": str(model.dtype).removeprefix("torch."),
            "context": model.max_model_len,
            "logprobs_mode": str(getattr(model.logprobs_mode, "value", model.logprobs_mode)),
            "vocabulary": model.get_vocab_size(),
            "lora_rank": lora.max_lora_rank if lora else None,
        }


def repack_tied_head(model: Any) -> None:
    """On CPU an output head holds its own packed copy of the embeddings, which a reload leaves as it was."""
    for module in model.modules():
        if isinstance(module, ParallelLMHead) and hasattr(module, "cpu_linear"):
            module.quant_method.process_weights_after_loading(module)


def _tensors(
    parcel: Parcel, device: torch.device, trainer: Broadcast | None
) -> Iterator[tuple[str, torch.Tensor]]:
    yield from parcel.tensors
    if parcel.group is not None:
        assert trainer is not None, "the trainer was not met"
        yield from trainer.receive(**parcel.group, device=device)
    if parcel.path is not None:
        with safe_open(parcel.path, framework="pt", device=str(device)) as file:
            for name in file.keys():  # noqa: SIM118 - a file, not a dict
                yield name, file.get_tensor(name)


def _checked(
    tensors: Iterable[tuple[str, torch.Tensor]], expected: dict[str, int]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Pass the tensors on, taking each off the list of what is expected."""
    for name, tensor in tensors:
        if name not in expected:
            raise RuntimeError(f"{name} was not announced")
        if checksum(tensor) != expected.pop(name):
            raise RuntimeError(f"{name} did not arrive as it was sent")
        yield name, tensor


def _is_partly_loaded(layer: torch.nn.Module) -> bool:
    """Whether a part of a fused layer is missing; a vocabulary padded to a round number always is short."""
    info = get_layerwise_info(layer)
    if isinstance(layer, VocabParallelEmbedding) or not info.can_load():
        return False
    return bool(0 < info.load_numel < info.load_numel_total)


def _plain(name: str) -> str:
    """The name of a weight whether or not an adapter is wrapped around its layer."""
    return name.replace(".base_layer.", ".")


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:3]) + (", ..." if len(ordered) > 3 else "")


if BACKEND not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(BACKEND, Receiver)
