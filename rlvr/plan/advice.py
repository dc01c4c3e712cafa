"""What to change in a recipe that does not fit: keys with values that do, each tried by the same formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rlvr.plan.forecast import Forecast, forecast
from rlvr.plan.work import Work
from rlvr.recipe.schema import Lora, Recipe

MOST_GPUS = 8
"""Devices of one machine."""
SHARES = tuple(n / 20 for n in range(1, 20))
"""Values of vllm.memory_share that are tried."""
ORDER = (
    ("optim.micro_batch_tokens",),
    ("sampling.batch_size",),
    ("vllm.sleep",),
    ("vllm.memory_share",),
    ("vllm.kv_cache",),
    ("model.gradient_checkpointing",),
    ("model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("vllm.memory_share", "optim.micro_batch_tokens"),
    ("vllm.memory_share", "sampling.batch_size"),
    ("vllm.memory_share", "model.gradient_checkpointing"),
    ("vllm.memory_share", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("optim.offload",),
    ("optim.offload", "optim.micro_batch_tokens"),
    ("optim.offload", "vllm.memory_share"),
    ("optim.offload", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("optim.offload", "sampling.batch_size", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("optim.offload", "vllm.memory_share", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("sampling.batch_size", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("model.lora",),
    ("model.lora", "vllm.memory_share"),
    ("model.lora", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("model.lora", "vllm.memory_share", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    ("model.lora", "model.dtype"),
    ("model.lora", "model.dtype", "vllm.memory_share"),
    ("model.lora", "model.dtype", "model.gradient_checkpointing", "optim.micro_batch_tokens"),
    (
        "model.lora",
        "model.dtype",
        "vllm.memory_share",
        "model.gradient_checkpointing",
        "optim.micro_batch_tokens",
    ),
)
"""Keys changed together, from what costs least: time before what is learned."""
SHOWN = 3
"""Ways shown at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A change after which it fits."""

    settings: dict[str, Any]
    """New values by key; empty where the number of devices alone changes."""
    forecast: Forecast
    """Of the changed recipe."""


def advise(failed: Forecast) -> list[Advice]:
    """Ways to make it fit: keys of the recipe, or more devices of the kind; empty where there is none."""
    work = failed.work
    if work.prompt >= work.shape.context:
        return []
    must = _contradictions(work)
    if must:
        work = replace(work, recipe=changed(work.recipe, must))
        mended = forecast(work)
        if mended.fits:
            return [Advice(settings=must, forecast=mended)]
    found: list[Advice] = []
    for keys in ORDER:
        if len(found) == SHOWN:
            break
        if any(set(other.settings) <= must.keys() | set(keys) for other in found):
            continue
        advice = _first(work, keys)
        found += [replace(advice, settings=must | advice.settings)] if advice else []
    more = () if work.gpu.is_cpu or work.recipe.run.ranks else range(work.gpus + 1, MOST_GPUS + 1)
    for gpus in more:
        wider = forecast(replace(work, gpus=gpus))
        if wider.fits:
            return [*found, Advice(settings=must, forecast=wider)]
    return found


def _contradictions(work: Work) -> dict[str, Any]:
    """Keys that cannot stay whatever the memory, with the nearest values that can."""
    recipe, settings = work.recipe, dict[str, Any]()
    if work.length > work.shape.context:
        settings["sampling.max_tokens"] = work.shape.context - work.prompt
    left = work.gpus - work.server_gpus
    if work.ranks > left:
        settings["run.ranks"] = left
    if min(work.ranks, left) > 1:
        settings |= {"optim.offload": False} if recipe.optim.offload else {}
        settings |= {"sampling.carry": 0.0} if recipe.sampling.carry else {}
    return settings


def changed(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """The recipe with other values for some keys `section.leaf`."""
    for key, value in settings.items():
        section, _, leaf = key.partition(".")
        recipe = recipe.model_copy(
            update={section: getattr(recipe, section).model_copy(update={leaf: value})}
        )
    return recipe


def _first(work: Work, keys: tuple[str, ...]) -> Advice | None:
    """The mildest values of `keys`, all of them changed, that fit."""
    for values in product(*(list(_values(work, key)) for key in keys)):
        settings = dict(zip(keys, values, strict=True))
        tried = forecast(replace(work, recipe=changed(work.recipe, settings)))
        if tried.fits:
            return Advice(settings=settings, forecast=tried)
    return None


def _values(work: Work, key: str) -> Iterator[Any]:
    """Other values of a key that may help, the nearest to the present one first; none if it is not read."""
    recipe, vllm = work.recipe, work.recipe.vllm
    has_vllm = work.engine != "hf" and (work.samples_here or work.server_gpus > 0)
    if key == "optim.micro_batch_tokens":
        yield from _halved(min(recipe.optim.micro_batch_tokens, work.micro.tokens), work.length)
    if key == "sampling.batch_size":
        yield from _halved(recipe.sampling.batch_size, recipe.sampling.group_size)
    if key == "model.gradient_checkpointing" and not recipe.model.gradient_checkpointing:
        yield True
    if key == "optim.offload" and not (recipe.optim.offload or work.ranks > 1 or work.gpu.is_cpu):
        yield True
    if key == "vllm.sleep" and work.engine == "vllm_local" and not (vllm.sleep or work.gpu.is_cpu):
        yield True
    if key == "vllm.memory_share" and has_vllm and vllm.kv_cache is None and not work.gpu.is_cpu:
        others = (share for share in SHARES if share != vllm.memory_share)
        yield from sorted(others, key=lambda share: (abs(share - vllm.memory_share), share))
    if key == "vllm.kv_cache" and has_vllm and vllm.kv_cache is not None:
        yield from (2**power for power in range(38, 25, -1) if 2**power != vllm.kv_cache)
    if key == "model.lora" and recipe.model.name is not None and not work.has_lora:
        yield Lora()
    if key == "model.dtype" and recipe.model.dtype == "float32":
        yield "bfloat16"  # beside an adapter only: small updates of whole weights would round to nothing


def _halved(now: int, least: int) -> Iterator[int]:
    value = now
    while value // 2 >= least:
        value //= 2
        yield value
    if value > least:
        yield least
