"""The `vllm` section of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from rlvr.recipe.units import FROZEN, Bytes, Seconds


class Vllm(BaseModel):
    """The vLLM engines, where `sampling.engine` is one of them."""

    model_config = FROZEN
    memory_share: float = Field(default=0.4, gt=0, lt=1)
    """GPU: share of its whole memory for weights and KV cache."""
    kv_cache: Bytes | None = None
    """Size of the KV cache instead; on CPU by default what `sampling.batch_size` needs, at most 4 GiB."""
    eager: bool | None = None
    """Without compilation and CUDA graphs: starts faster, samples slower; by default on CPU only."""
    sleep: bool = True
    """vllm_local on a GPU: give its memory to the trainer during the update."""
    replicas: int = Field(default=1, ge=1)
    """vllm_server: servers to start on this machine, on the GPUs behind the trainer's."""
    tensor_parallel: int = Field(default=1, ge=1)
    """vllm_server: GPUs of each."""
    servers: list[Annotated[str, Field(pattern=r"^http://[\w.:\[\]-]+:\d{1,5}/?$")]] = Field(
        default_factory=list
    )
    """vllm_server: addresses of servers that run already under `rlvr serve`, instead of starting some."""
    key_file: str = "~/.rlvr/serve-key"
    """File with the key of those servers, as `rlvr serve` wrote it; as paths are, relative to the recipe."""
    transfer: Literal["auto", "files", "group"] = "auto"
    """vllm_server: weights by files in shared memory, or by a process group (auto: to GPUs of their own)."""
    deadline: Seconds = 300.0
    """Longest wait for an answer (a group of completions) before an engine is taken for hung."""
    start_deadline: Seconds = 600.0
    """Longest wait for an engine to start."""
    failures: int = Field(default=3, ge=0)
    """Times that an engine is started anew before the run stops."""
    options: dict[str, Any] = Field(default_factory=dict)
    """More arguments of vLLM's EngineArgs: {max_num_batched_tokens: 4096}; none that another key sets."""
