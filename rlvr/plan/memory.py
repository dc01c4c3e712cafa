"""Memory of one device by phase, in bytes by part: what the code holds at its fullest moment.

    update:  weights + gradients + optimizer + reference
             + what backward keeps of a micro-batch, layer by layer  (transformers' models)
             + one chunk of logits, four times: raw, normalised, the entropy's two  (policy/logprobs.py)

Derived from the tensors that autograd saves, not fitted; compared with measurements in docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Mapping

from rlvr.plan.work import Work

Parts = dict[str, float]

GIB = 2**30
CHUNK_ELEMENTS = 2**26
"""Logits in float32 that exist at once (rlvr/policy/logprobs.py)."""
CDF_ELEMENTS = 2**24
"""Logits that the hf engine draws from at once (rlvr/rollout/sample.py)."""
MASK_ELEMENTS = 2**25
"""Largest mask of packed attention (rlvr/policy/packing.py)."""
PREFILL_TOKENS = 16_384
"""Prompt tokens that it reads at once (rlvr/rollout/hf.py)."""
VLLM_TOKENS = 8192
"""Tokens of one forward pass of vLLM, which sizes its KV cache by a trial of that size."""
BATCH_BYTES = 40
"""A completion token in the step's batch: masks, advantages and log-probabilities of several policies."""
LOSS_BYTES = 60
"""A completion token of a micro-batch while its loss is made."""


def memory(work: Work) -> dict[str, Parts]:
    """Parts of each phase on a trainer's device; `server` where vLLM servers have devices of their own."""
    found = {"sampling": sampling(work)}
    if work.looks:
        found["logprobs"] = logprobs(work)
    found["update"] = held(work) | resting(work) | _fullest(_update(work))
    found["sync"] = _sync(work)
    if work.server_gpus:
        found["server"] = engine(work)
    return {phase: {name: size for name, size in parts.items() if size} for phase, parts in found.items()}


def held(work: Work) -> Parts:
    """What a trainer holds in every phase.  FSDP2 shards it; each rank keeps a whole copy for its engine."""
    batch = work.rank_sequences * (8 * work.length + BATCH_BYTES * work.completion)
    return {
        "process": GIB * (work.assumed.python_gib if work.gpu.is_cpu else work.assumed.cuda_gib),
        "weights": work.weight_bytes / work.ranks,
        "optimizer state": 0 if work.recipe.optim.offload else 2 * work.trained_bytes / work.ranks,
        "optimizer in host memory": 12 * work.trained if work.recipe.optim.offload and work.gpu.is_cpu else 0,
        "whole copy to sample from": work.weight_bytes if work.ranks > 1 else 0,
        "reference": work.weight_bytes / work.ranks if work.has_reference else 0,
        "batch": batch,
    }


def sampling(work: Work) -> Parts:
    """The engine at work beside the trainer's own."""
    if not work.samples_here:
        return held(work)
    return held(work) | (_hf(work) if work.engine == "hf" else engine(work))


def logprobs(work: Work) -> Parts:
    """A pass without gradients, beside what is held."""
    return held(work) | resting(work) | _fullest(_look(work))


def resting(work: Work) -> Parts:
    """What an engine keeps while the trainer works."""
    if not work.samples_here or work.engine == "hf":
        return {}
    if work.engine == "vllm_local" and work.recipe.vllm.sleep and not work.gpu.is_cpu:
        return {"engine asleep": GIB * work.assumed.vllm_gib}
    return engine(work)


def engine(work: Work) -> Parts:
    """A vLLM engine's share of its device."""
    own = work.width * work.shape.parameters / _split(work)
    return {"engine's weights": own, "engine's work": _vllm_work(work), "KV cache": max(kv_bytes(work), 0.0)}


def token_bytes(work: Work) -> int:
    """Keys and values of one token in all layers."""
    return 2 * work.shape.layers * work.shape.keys * work.width


def sequence_bytes(work: Work, length: int) -> float:
    """Keys and values of a sequence; layers with a sliding window keep no more than that."""
    shape = work.shape
    layer = 2 * shape.keys * work.width
    windowed = shape.window_layers * min(length, shape.window)
    return layer * (windowed + (shape.layers - shape.window_layers) * length)


def kv_bytes(work: Work) -> float:
    """Size of an engine's KV cache on one device; negative where vLLM's share has no room for one."""
    vllm = work.recipe.vllm
    if work.engine == "hf":
        return token_bytes(work) * slots(work) * work.length
    if vllm.kv_cache is not None:
        return vllm.kv_cache
    if work.gpu.is_cpu:
        needed = work.recipe.sampling.batch_size * sequence_bytes(work, work.shape.context)
        return min(max(needed, GIB / 16), 4 * GIB)
    own = work.width * work.shape.parameters / _split(work) + _vllm_work(work)
    return vllm.memory_share * work.gpu.memory_bytes - own


def least_kv(work: Work) -> float:
    """What vLLM wants to start: room for one sequence as long as the model's context."""
    return sequence_bytes(work, work.shape.context) / _split(work) if work.engine != "hf" else 0.0


def fitting(work: Work) -> int:
    """Sequences of full length that the KV cache of one engine holds."""
    if work.engine == "hf":
        return slots(work)
    return max(0, int(kv_bytes(work) * _split(work) // sequence_bytes(work, work.length)))


def slots(work: Work) -> int:
    """Sequences that the hf engine decodes at once."""
    size = work.recipe.sampling.group_size
    return min(max(work.recipe.sampling.batch_size, size), max(work.rank_sequences, size))


def _split(work: Work) -> int:
    return work.recipe.vllm.tensor_parallel if work.engine == "vllm_server" else 1


def _vllm_work(work: Work) -> float:
    """Activations of its largest pass, and float32 logits of a decoding step, three times over."""
    if work.gpu.is_cpu:
        return VLLM_TOKENS * _transient(work)
    logits = 3 * 4 * work.recipe.sampling.batch_size * work.shape.vocabulary
    return GIB * work.assumed.vllm_gib + (VLLM_TOKENS * _transient(work) + logits) / _split(work)


def _hf(work: Work) -> Parts:
    """Slots for all, and the fuller of reading prompts and drawing tokens."""
    shape, n = work.shape, slots(work)
    drawn: float = 24 * min(n * shape.vocabulary, CDF_ELEMENTS) + 2 * work.width * n * shape.vocabulary
    drawn += n * (12 * work.completion + _transient(work))
    prompts = max(1, min(n // work.recipe.sampling.group_size, PREFILL_TOKENS // work.prompt))
    read = prompts * work.prompt * (token_bytes(work) + _transient(work))
    read += prompts * (1 + work.width) * work.prompt**2
    return {"KV cache": kv_bytes(work), "engine's work": max(drawn, read)}


def _sync(work: Work) -> Parts:
    """A whole tensor at a time on its way, into an engine whose KV cache is not there yet or is."""
    largest = work.width * max(work.shape.embedding, work.shape.layer if work.ranks > 1 else 0)
    whole = {"a tensor on its way": 0 if work.engine == "hf" and work.ranks == 1 else largest}
    awake = engine(work) if work.samples_here and work.engine != "hf" else resting(work)
    return held(work) | awake | whole


def _transient(work: Work) -> float:
    """Bytes a token of one layer's forward pass that nothing remembers."""
    shape = work.shape
    mlp = shape.chosen * (3 * shape.expert_mlp + 2 * shape.hidden) if shape.sparse_layers else 3 * shape.mlp
    attention = 2 * shape.queries + 2 * shape.keys + shape.hidden
    return work.width * (2 * shape.hidden + max(mlp, attention)) + 4 * shape.hidden


def _kept(work: Work) -> float:
    """Bytes a token that backward keeps of the largest layer."""
    shape, b, full = work.shape, work.width, not work.has_lora
    rest = 4 if shape.family.wide_norms else b
    norms = shape.family.norms * (4 + (4 + rest * full) * shape.hidden)
    inputs = 2 * b * shape.hidden * full  # what the projections read, under a norm each
    if shape.family.has_head_norms:
        norms += (4 + rest * full) * (shape.queries + shape.keys)
    if shape.sparse_layers:
        outer = 2 * b * shape.hidden if full else b * shape.hidden
        mlp = shape.chosen * (outer + (4 if full else 3) * b * shape.expert_mlp + 32) + 4 * shape.experts
    else:
        mlp = (4 if full else 3) * b * shape.mlp
    output = b * shape.queries  # what the last projection of the attention reads
    return norms + inputs + output + mlp + _kept_by_adapters(work)


def _kept_by_attention(work: Work) -> float:
    """Bytes that backward keeps of one layer's packed attention (rlvr/policy/packing.py).

    Prompts attend among themselves.  Completions look at their prompts' keys too, one copy each, under a mask
    that makes keys and values as many as queries; where it would be too large, whole sequences attend.
    """
    shape, b, micro = work.shape, work.width, work.micro
    added = max(work.completion - 1, 1)
    token = b * (2 * shape.queries + 2 * shape.keys) + 4 * shape.heads
    if not _is_masked(work):
        return micro.rows * (work.prompt + added) * token
    made = added * (2 * b * shape.queries + 4 * shape.heads)
    return micro.prompts * work.prompt * token + micro.rows * (made + 2 * b * shape.queries * _seen(work))


def _seen(work: Work) -> int:
    """Keys of a completion and its prompt, in whole eights."""
    return -(-(work.prompt + work.completion - 1) // 8) * 8


def _is_masked(work: Work) -> bool:
    size = work.micro.rows * (work.completion - 1) * _seen(work)
    return work.micro.rows > work.micro.prompts and size <= MASK_ELEMENTS


def _masks(work: Work) -> float:
    """The mask, and the places that attention gathers from: once for all layers."""
    if not work.is_packed:
        return 0
    rows, added, seen = work.micro.rows, work.completion - 1, _seen(work)
    places = 8 * (work.micro.tokens * 3 + rows * (2 * added + seen))
    return places + (work.width * rows * added * seen if _is_masked(work) else 0)


def _kept_by_adapters(work: Work) -> float:
    """Adapters work in float32: they keep their inputs so, copies in a bfloat16 model, and what A made."""
    lora = work.recipe.model.lora
    if lora is None:
        return 0
    modules = {module.name: module.inputs for _, module in work.adapted}
    if work.width == 4:  # no copies: q, k, v read one tensor, gate and up another, o what attention keeps
        read = {"qkv" if name[0] in "qkv" else "mlp" if name in ("gate_proj", "up_proj") else name: inputs
                for name, inputs in modules.items() if name != "o_proj"}  # fmt: skip
    else:
        read = modules
    return 4 * (sum(read.values()) + lora.rank * len(modules))


def _unsharded(work: Work, *, backward: bool) -> float:
    """FSDP2: this layer and the next are whole, and all outside the layers.

    Backward, so are gradients of one layer and of what is outside, and their float32 copies on the way.
    """
    if work.ranks == 1:
        return 0
    shape = work.shape
    gradients = 0 if work.has_lora or not backward else shape.layer + shape.root
    return work.width * (2 * shape.layer + shape.root) + (work.width + 4) * gradients


def _head_rows(work: Work) -> tuple[int, int]:
    """(completion tokens of a micro-batch, those whose logits exist at once)."""
    tokens = work.micro.rows * work.completion
    return tokens, min(tokens, max(1, CHUNK_ELEMENTS // work.shape.vocabulary))


def _look(work: Work) -> list[Parts]:
    """The moments of a pass without gradients."""
    tokens, at_once = _head_rows(work)
    whole = work.micro.tokens
    base = {"gathered layers": _unsharded(work, backward=False)}
    return [
        base | {"a layer's work": whole * _transient(work) + _kept_by_attention(work) + _masks(work)},
        base
        | {
            "hidden states": work.width * work.shape.hidden * (whole + tokens),
            "logits": 16.0 * work.shape.vocabulary * at_once,
        },
    ]


def _update(work: Work) -> list[Parts]:
    """The moments of one optimizer update at which memory may be fullest."""
    shape, b = work.shape, work.width
    tokens, at_once = _head_rows(work)
    whole = work.micro.tokens
    kept = whole * _kept(work) + _kept_by_attention(work)
    saved = shape.layers * kept
    backward = whole * b * _backward_width(work)
    again_kept = 0.0
    if work.recipe.model.gradient_checkpointing:
        saved, again_kept = shape.layers * whole * b * shape.hidden, kept
    masks = _masks(work)
    last = (
        masks
        + whole * shape.hidden * (4 + (2 - work.has_lora) * b)
        + tokens * (b * shape.hidden + LOSS_BYTES)
    )
    gradients = work.trained_bytes / work.ranks
    before = gradients if work.micro.passes > 1 else 0
    head_gradient = 0 if work.has_lora else b * shape.embedding
    gathered = {"gathered layers": _unsharded(work, backward=True)}
    first = gathered | {"gradients": before, "activations": saved + last}
    once = 4.0 * shape.vocabulary * at_once
    again = head_gradient if at_once < tokens else 0
    moments = [
        first | {"logits": 4 * once + again},
        first | {"logits": 3 * once, "gradient of the head": again},
        first | {"logits": b / 4 * once, "gradient of the head": head_gradient + again},
        gathered
        | {
            "gradients": before + (0 if before else head_gradient),
            "activations": saved + masks,
            "a layer's work": again_kept + backward,
        },
        gathered
        | {
            "gradients": gradients,
            "a layer's work": kept + backward,
            "gradient of the head": head_gradient,
        },
    ]
    if work.recipe.optim.offload and work.gpu.is_cpu:
        moments.append(gathered | {"gradients": 4.0 * work.trained})
    if work.compares:
        seen = b * shape.hidden * (whole + tokens)
        waiting = once if at_once == tokens else 0
        moments.append(first | {"logits": waiting + 4 * once, "reference's hidden states": seen})
    return moments


def _backward_width(work: Work) -> float:
    """Numbers a token that backward makes in the widest part of a layer: three inner gradients, less one."""
    shape = work.shape
    inner = shape.chosen * (shape.expert_mlp + shape.hidden) if shape.sparse_layers else shape.mlp
    return 2 * inner + shape.hidden


def _fullest(moments: list[Parts]) -> Parts:
    return max(moments, key=lambda parts: sum(parts.values()))


def total(parts: Mapping[str, float]) -> float:
    """All parts of a phase."""
    return sum(parts.values())
