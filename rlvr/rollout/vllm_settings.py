"""How vLLM is set up: one place for the arguments of an engine in this process and of a server."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rlvr.errors import EngineError
from rlvr.rollout.vllm_options import faults, normal
from rlvr.rollout.weights import has_adapter

ADAPTER = "policy"
"""Name of the adapter served, and its number is 1: there is one, replaced in place."""
CPU_BLOCK = 32
"""Tokens of a KV block on CPU: vLLM's 128 there would share little of a short prompt among siblings."""
CPU_BATCH = 8192
"""Tokens of one forward pass there."""
MIB = 2**20
LEAST_CACHE = 64 * MIB
MOST_CPU_CACHE = 4 * 2**30
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as max_lora_rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """Everything about vLLM that a recipe or the machine decides."""

    dtype: str
    """`float32` or `bfloat16`: the trainer's own."""
    on_gpu: bool
    """Whether the policy lives on a GPU."""
    context: int
    """Longest sequence, in tokens."""
    sequences: int
    """Sequences decoded at once."""
    lora_rank: int | None = None
    """Rank of the adapter trained, where there is one."""
    memory_share: float = 0.4
    """GPU: share of the whole memory that weights and KV cache may take."""
    kv_cache_bytes: int | None = None
    """Size of the KV cache; by default what `sequences` of full length need, on CPU at most 4 GiB."""
    tensor_parallel: int = 1
    """GPUs of one server."""
    eager: bool | None = None
    """Whether to do without compilation and CUDA graphs; by default on CPU only."""
    sleep: bool = True
    """GPU, in the trainer's process: give the memory back during the update."""
    deadline_s: float = 300.0
    """Longest wait for an answer of the engine."""
    start_s: float = 600.0
    """Longest wait for an engine to start."""
    failures: int = 3
    """Restarts of an engine before the run stops."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of vLLM, as they are."""


def engine_arguments(settings: VllmSettings, folder: str, config: Any) -> dict[str, Any]:
    """Arguments of vLLM's EngineArgs for the model whose configuration lies in `folder`.

    The weights start as random numbers: an engine that was never given any says nonsense, and is found out.
    """
    for _, fault in faults(settings.options):
        raise EngineError(fault)
    arguments: dict[str, Any] = {
        "model": folder,
        "runner": "generate",
        "skip_tokenizer_init": True,
        "load_format": "dummy",
        "generation_config": "vllm",
        "dtype": settings.dtype,
        "max_model_len": settings.context,
        "max_num_seqs": settings.sequences,
        "logprobs_mode": "processed_logprobs",
        "enable_prefix_caching": True,
        "enforce_eager": not settings.on_gpu if settings.eager is None else settings.eager,
        "tensor_parallel_size": settings.tensor_parallel,
        "worker_extension_cls": "rlvr.rollout.vllm_worker.Extension",
        "weight_transfer_config": {"backend": "rlvr"},
    }
    if settings.lora_rank is not None:
        rank = next((r for r in LORA_RANKS if r >= settings.lora_rank), None)
        if rank is None:
            raise EngineError(f"model.lora.rank = {settings.lora_rank}: vLLM serves at most {LORA_RANKS[-1]}")
        arguments |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
    if settings.on_gpu:
        arguments["gpu_memory_utilization"] = settings.memory_share
    else:
        arguments["block_size"] = CPU_BLOCK
        # Where a prompt is read in parts, vLLM sets a sibling's random numbers back: CPU generators cannot.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(CPU_BATCH, settings.context, settings.sequences)
    if settings.kv_cache_bytes is not None or not settings.on_gpu:
        _check_cache(settings, config)
        arguments["kv_cache_memory_bytes"] = settings.kv_cache_bytes or cpu_cache(settings, config)
    return arguments | normal(settings.options)


def write_config(model: Any, folder: str) -> None:
    """Save what vLLM must know of a model besides its weights."""
    base = model.get_base_model() if has_adapter(model) else model
    config = copy.deepcopy(base.config)
    config.architectures = [type(base).__name__]  # a model that was never saved does not name it
    config.save_pretrained(folder)


def cpu_cache(settings: VllmSettings, config: Any) -> int:
    """Bytes of KV cache that `sequences` of full length need, within bounds."""
    blocks = -(-settings.context // CPU_BLOCK) + 1
    needed = settings.sequences * blocks * CPU_BLOCK * _token_bytes(settings, config)
    return min(max(needed, LEAST_CACHE), MOST_CPU_CACHE)


def _token_bytes(settings: VllmSettings, config: Any) -> int:
    """Keys and values of one token in all layers."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    size: int = 2 * text.num_hidden_layers * heads * width * (4 if settings.dtype == "float32" else 2)
    return size


def _check_cache(settings: VllmSettings, config: Any) -> None:
    """EngineError where not even one sequence fits; other kinds of attention need less than is known here."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ()) | {"full_attention"}
    if settings.kv_cache_bytes is None or len(kinds) > 1 or hasattr(text, "kv_lora_rank"):
        return
    if settings.tensor_parallel > 1 or {"kv_cache_dtype", "hf_overrides"} & normal(settings.options).keys():
        return
    needed = -(-settings.context // CPU_BLOCK) * CPU_BLOCK * _token_bytes(settings, config)
    if settings.kv_cache_bytes < needed:
        raise EngineError(
            f"vllm.kv_cache = {settings.kv_cache_bytes / MIB:.3g} MiB: one sequence as long as the model's "
            f"context, {settings.context} tokens, takes {needed / MIB:.3g} MiB; "
            f"set {-(-needed // MIB)} MiB or more"
        )


def misfits(about: Mapping[str, Any], settings: VllmSettings, vocabulary: int) -> list[str]:
    """Why a server that describes itself as `about` (vllm_worker.py) is of no use to a run."""
    faults = []
    if about["dtype"] != settings.dtype:
        faults.append(f"it computes in {about['dtype']}, the trainer in {settings.dtype}")
    if about["context"] < settings.context:
        faults.append(f"its context is {about['context']}, this run's {settings.context}")
    if about["logprobs_mode"] != "processed_logprobs":
        faults.append(f"its logprobs_mode is {about['logprobs_mode']}")
    if about["vocabulary"] != vocabulary:
        faults.append(f"its vocabulary is {about['vocabulary']}, the model's {vocabulary}")
    if settings.lora_rank is not None and (about["lora_rank"] or 0) < settings.lora_rank:
        faults.append(f"it serves adapters up to rank {about['lora_rank'] or 0}")
    return faults


def serve_command(model: Any, settings: VllmSettings, url: str) -> str:
    """The command that starts a server at `url` that fits a trainer's model."""
    base = model.get_base_model() if has_adapter(model) else model
    words = ["rlvr", "serve", getattr(base, "name_or_path", "") or "MODEL", "--dtype", settings.dtype]
    if settings.lora_rank is not None:
        words += ["--lora-rank", str(settings.lora_rank)]
    place = urlsplit(url)
    if place.hostname not in (None, "127.0.0.1", "localhost"):
        words += ["--host", str(place.hostname)]
    if place.port not in (None, 8000):
        words += ["--port", str(place.port)]
    return shlex.join(words)


def quiet_environment(scratch: str, *, threads: int | None) -> dict[str, str]:
    """Variables for a vLLM process: no usage reports, nothing fetched, few words, its litter in `scratch`."""
    quiet = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "TMPDIR": scratch,
    }
    return quiet | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
