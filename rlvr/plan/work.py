"""What a recipe asks of one rank: sequences, tokens, micro-batches, copies of the weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

from rlvr.algo.choices import Loss
from rlvr.plan.assumed import Assumed
from rlvr.plan.shape import Linear, Shape
from rlvr.policy.gpus import Gpu
from rlvr.recipe.schema import Recipe

BYTES = {"float32": 4, "bfloat16": 2}
PROMPT = 256
"""Tokens of a prompt, where nobody says how many."""


class Micro(NamedTuple):
    """The largest micro-batch, and how many there are."""

    prompts: int
    """Prompts in it, each once."""
    rows: int
    """Completions in it."""
    tokens: int
    """Tokens that pass through the layers."""
    passes: int
    """Micro-batches of one optimizer update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A recipe for a model on some devices of a kind."""

    recipe: Recipe
    """What is asked."""
    shape: Shape
    """Of the model."""
    gpu: Gpu
    """The kind of device."""
    gpus: int
    """How many there are."""
    prompt: int
    """Tokens of a prompt."""
    mean: int | None = None
    """Tokens of a completion on average, for times; None: all are the longest, as they are for memory."""
    assumed: Assumed = field(default_factory=Assumed)
    """Guesses."""
    loss: Loss = field(init=False)
    """The method: which log-probabilities it needs."""

    def __post_init__(self) -> None:
        spec = self.recipe.algorithm
        object.__setattr__(self, "loss", Loss(**spec.model_dump(include=set(Loss.__dataclass_fields__))))

    @property
    def engine(self) -> str:
        """Who samples; `auto` is decided as rlvr/build.py does where vLLM imports."""
        name = self.recipe.sampling.engine
        return ("hf" if self.gpu.is_cpu else "vllm_local") if name == "auto" else name

    @property
    def _serving(self) -> int:
        """GPUs that this run's own vLLM servers want."""
        vllm = self.recipe.vllm
        is_ours = self.engine == "vllm_server" and not vllm.servers and not self.gpu.is_cpu
        return vllm.replicas * vllm.tensor_parallel if is_ours else 0

    @property
    def server_gpus(self) -> int:
        """GPUs that they have to themselves: none where nothing would be left for the trainer."""
        return self._serving if self._serving < self.gpus else 0

    @property
    def ranks(self) -> int:
        """Trainer processes, one a device, as rlvr/launch.py counts them."""
        if self.recipe.run.ranks is not None:
            return self.recipe.run.ranks
        return max(1, self.gpus - self._serving) if self.recipe.model.device in ("auto", "cuda") else 1

    @property
    def samples_here(self) -> bool:
        """Whether an engine shares the trainer's device."""
        return not self.server_gpus and not (self.engine == "vllm_server" and self.recipe.vllm.servers)

    @property
    def engines(self) -> int:
        """Engines that share the sampling."""
        if self.engine != "vllm_server":
            return self.ranks
        return len(self.recipe.vllm.servers) or self.recipe.vllm.replicas

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return BYTES[self.recipe.model.dtype]

    @property
    def completion(self) -> int:
        """Tokens of the longest completion."""
        return self.recipe.sampling.max_tokens

    @property
    def mean_completion(self) -> int:
        """Tokens of a completion on average."""
        return min(self.mean or self.completion, self.completion)

    @property
    def length(self) -> int:
        """Tokens of the longest sequence that is trained on."""
        return self.prompt + self.completion

    @property
    def sequences(self) -> int:
        """Completions a step, on all ranks."""
        return self.recipe.optim.problems_per_step * self.recipe.sampling.group_size

    @property
    def rank_sequences(self) -> int:
        """Completions of a step on the rank with most; groups stay whole."""
        return ceil(self.recipe.optim.problems_per_step / self.ranks) * self.recipe.sampling.group_size

    @property
    def update_groups(self) -> int:
        """Groups of one optimizer update there."""
        return ceil(ceil(self.recipe.optim.problems_per_step / self.ranks) / self.recipe.optim.minibatches)

    @property
    def is_packed(self) -> bool:
        """Whether a micro-batch holds a prompt once for its group."""
        return self.recipe.optim.packing == "auto"

    @property
    def micro(self) -> Micro:
        """A micro-batch of completions of full length, as rlvr/train/batch.py makes them."""
        size, budget = self.recipe.sampling.group_size, self.recipe.optim.micro_batch_tokens
        if not self.is_packed:
            most = self.update_groups * size
            rows = min(most, max(1, budget // self.length))
            return Micro(rows, rows, rows * self.length, ceil(most / rows))
        added = max(self.completion - 1, 1)  # a completion's last token predicts nothing
        group = self.prompt + size * added
        if group <= budget:
            prompts = min(budget // group, self.update_groups)
            return Micro(prompts, prompts * size, prompts * group, ceil(self.update_groups / prompts))
        rows = min(size, max(1, (budget - self.prompt) // added))
        return Micro(1, rows, self.prompt + rows * added, self.update_groups * ceil(size / rows))

    @property
    def has_lora(self) -> bool:
        """Whether an adapter trains instead of the weights."""
        return self.recipe.model.lora is not None

    @property
    def adapted(self) -> list[tuple[int, Linear]]:
        """(layers, module) of the modules that have an adapter."""
        lora = self.recipe.model.lora
        if lora is None:
            return []
        return [(count, m) for count, m in self.shape.linears() if is_adapted(m, lora.targets)]

    @property
    def adapter(self) -> int:
        """Parameters of the adapter; peft keeps them in float32."""
        lora = self.recipe.model.lora
        return sum(lora.rank * n * (m.inputs + m.outputs) for n, m in self.adapted) if lora else 0

    @property
    def trained(self) -> int:
        """Parameters that have a gradient."""
        return self.adapter if self.has_lora else self.shape.parameters

    @property
    def hosted_bytes(self) -> int:
        """Bytes of host memory that `optim.offload` fills: two moments, copies and gradients, in float32."""
        return 16 * self.trained if self.recipe.optim.offload else 0

    @property
    def trained_bytes(self) -> int:
        """Bytes of all that has a gradient."""
        return 4 * self.adapter if self.has_lora else self.width * self.shape.parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of the policy, adapter included."""
        return self.width * self.shape.parameters + 4 * self.adapter

    @property
    def has_reference(self) -> bool:
        """Whether a second copy of the weights is kept to compare with."""
        return self.loss.needs_reference and not self.has_lora

    @property
    def compares(self) -> bool:
        """Whether the reference reads a micro-batch while the policy's gradients wait."""
        return self.loss.kl != "off" and not self.loss.shapes_by_reference

    @property
    def looks(self) -> int:
        """Forward passes over the batch beside those of the update itself."""
        loss, several = self.loss, self.recipe.optim.minibatches > 1
        old = several or loss.needs_old or loss.selects
        return int(old) + int(loss.selects and several) + int(loss.needs_reference)


def is_adapted(module: Linear, targets: str | list[str]) -> bool:
    """Whether peft adapts it: names end a module's name, a text is a pattern for the whole of it."""
    if isinstance(targets, list):
        return any(f".{module.path}".endswith(f".{target}") for target in targets)
    return targets == "all-linear" or re.fullmatch(targets, f"model.layers.0.{module.path}") is not None


def usual_prompt(recipe: Recipe, shape: Shape) -> int:
    """PROMPT, or what the model's context leaves beside the completion."""
    return max(1, min(PROMPT, shape.context - recipe.sampling.max_tokens))


def work_of(
    recipe: Recipe,
    shape: Shape,
    gpu: Gpu,
    gpus: int,
    *,
    prompt: int | None = None,
    mean: int | None = None,
    assumed: Assumed | None = None,
) -> Work:
    """A recipe for a model on `gpus` devices; by default `usual_prompt` and longest completions.

    Ranks on a CPU share it: each has its part of the memory and of the rates.
    """
    if gpu.is_cpu:
        gpus = recipe.run.ranks or 1
        gpu = replace(
            gpu,
            memory_bytes=gpu.memory_bytes / gpus,
            bandwidth=gpu.bandwidth / gpus,
            flops={kind: rate / gpus for kind, rate in gpu.flops.items()},
            link=gpu.link / gpus,
        )
    return Work(
        recipe=recipe,
        shape=shape,
        gpu=gpu,
        gpus=gpus,
        prompt=prompt or usual_prompt(recipe, shape),
        mean=mean,
        assumed=assumed or Assumed(),
    )
