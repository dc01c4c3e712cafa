"""`rlvr plan RECIPE`: memory, KV cache, micro-batches and time on GPUs that need not be here."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.cli.recipe import Name, Settings

if TYPE_CHECKING:
    from rlvr.plan.assumed import Assumed
    from rlvr.plan.forecast import Forecast
    from rlvr.plan.like import Measured
    from rlvr.plan.shape import Shape
    from rlvr.policy.gpus import Gpu
    from rlvr.recipe.load import Loaded
    from rlvr.recipe.schema import Recipe


def plan(
    recipe: Name,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu", metavar="NAME[,NAME]", help="Kinds of GPU, or `cpu`: this machine; repeatable."
        ),
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option("--gpus", metavar="N[,N]", help="How many, 1 to 8 in one machine; 1,2,4,8."),
    ] = None,
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt; 256, or what the context leaves.")
    ] = None,
    completion_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a completion on average, for times; sampling.max_tokens."),
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(
            "--assume", metavar="NAME=VALUE", help="Replace one of the guesses it ends with; repeatable."
        ),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option("--like", metavar="RUN", help="Times in proportion to those that this run measured."),
    ] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same, and all parts, as JSON.")] = False,
) -> None:
    """Predict what a recipe takes on GPUs: memory by phase, KV cache, micro-batches, time; starts nothing.

    Reads the model's config.json alone.  Where something does not fit it names keys, with values that do.
    Exit code 1 where nothing fits.
    """
    from rlvr.cli.doctor import memory_bytes
    from rlvr.errors import RecipeError
    from rlvr.plan.assumed import assumed
    from rlvr.plan.config import shape_of
    from rlvr.plan.forecast import forecast
    from rlvr.plan.gpus import find
    from rlvr.plan.work import work_of
    from rlvr.recipe.check import check
    from rlvr.recipe.load import find as find_recipe
    from rlvr.recipe.load import load

    counts, guesses = _counts(gpus or ()), assumed(assume or ())
    kinds = find(gpu or (), memory_bytes())
    loaded = load(find_recipe(recipe), settings or ())
    check(loaded)
    shape = shape_of(loaded)
    _suits(loaded, shape, completion_tokens)
    source = ""
    if like is not None:
        found = _measured(like, guesses, prompt_tokens, kinds)
        guesses, source = found.assumed, found.source
        kinds = [found.gpu if kind.is_cpu else kind for kind in kinds]
        completion_tokens = completion_tokens or found.mean
    works = [
        work_of(loaded.recipe, shape, kind, n, prompt=prompt_tokens, mean=completion_tokens, assumed=guesses)
        for kind in kinds
        for n in ([1] if kind.is_cpu else counts or _usual_counts(loaded.recipe))
    ]
    try:
        rows = [forecast(work) for work in works]
        if as_json:
            said = json.dumps(_as_json(rows, source), indent=2)
        else:
            from rlvr.cli.plan_shown import shown

            said = shown(loaded, rows, source)
    except OverflowError:
        raise RecipeError(f"{loaded.path}: a number in it is beyond all measure") from None
    typer.echo(said)
    if not any(row.fits for row in rows):
        raise typer.Exit(1)


def _counts(texts: Sequence[str]) -> list[int]:
    """The numbers in `1,2,4`; RecipeError where one is none, or not from 1 to 8."""
    from rlvr.errors import RecipeError
    from rlvr.plan.advice import MOST_GPUS

    found = []
    for text in texts:
        for word in text.split(","):
            if not re.fullmatch(rf"\s*[1-{MOST_GPUS}]\s*", word, re.ASCII):
                raise RecipeError(
                    f"--gpus {text}: `{word.strip()}` is no number from 1 to {MOST_GPUS}; write 1,2,4"
                )
            found.append(int(word))
    return sorted(set(found))


def _usual_counts(recipe: Recipe) -> list[int]:
    """What the recipe's ranks and servers want, or powers of two."""
    from rlvr.plan.advice import MOST_GPUS

    if recipe.run.ranks is None:
        return [1, 2, 4, 8]
    vllm = recipe.vllm
    serving = recipe.sampling.engine == "vllm_server" and not vllm.servers
    wanted = recipe.run.ranks + (vllm.replicas * vllm.tensor_parallel if serving else 0)
    return [min(wanted, MOST_GPUS)]


def _measured(run: str, guesses: Assumed, prompt: int | None, kinds: Sequence[Gpu]) -> Measured:
    """What the run teaches; RecipeError where it ran on a CPU and GPUs are planned, or the reverse."""
    from rlvr.cli.doctor import memory_bytes
    from rlvr.errors import RecipeError
    from rlvr.plan.like import like
    from rlvr.runs.reader import find_run

    found = like(find_run(run), guesses, prompt=prompt, memory_bytes=memory_bytes())
    other = next((kind for kind in kinds if kind.is_cpu != found.gpu.is_cpu), None)
    if other is not None:
        raise RecipeError(
            f"--like {run}: it ran on {found.gpu.name}, which tells nothing of {other.name}; "
            f"plan for its kind: --gpu {found.gpu.name}"
        )
    return found


def _suits(loaded: Loaded, shape: Shape, completion_tokens: int | None) -> None:
    """RecipeError where recipe, model and options contradict each other."""
    from rlvr.errors import RecipeError
    from rlvr.plan.work import is_adapted

    most, lora = loaded.recipe.sampling.max_tokens, loaded.recipe.model.lora
    if completion_tokens is not None and completion_tokens > most:
        raise RecipeError(
            f"--completion-tokens {completion_tokens}: {loaded.place('sampling.max_tokens')}: "
            f"`sampling.max_tokens = {most}` is the longest, so no mean; give at most that"
        )
    modules = [module for _, module in shape.linears()]
    if lora is not None and isinstance(lora.targets, str):
        try:
            re.compile(lora.targets)
        except re.error as error:
            raise RecipeError(
                f"{loaded.place('model.lora.targets')}: `model.lora.targets = {lora.targets}` is no pattern: "
                f"{error}; a list names modules by the ends of their names"
            ) from None
    if lora is not None and not any(is_adapted(module, lora.targets) for module in modules):
        raise RecipeError(
            f"{loaded.place('model.lora.targets')}: `model.lora.targets = {lora.targets}` names no module "
            f"of the model's layers; choose from: all-linear, {', '.join(module.name for module in modules)}"
        )


def _as_json(rows: list[Forecast], source: str) -> dict[str, Any]:
    return {
        "model": {"name": rows[0].work.shape.name, "parameters": rows[0].work.shape.parameters},
        "like": source or None,
        "assumed": rows[0].work.assumed.model_dump(),
        "plans": [_row(row) for row in rows],
    }


def _row(row: Forecast) -> dict[str, Any]:
    from rlvr.plan.advice import advise
    from rlvr.plan.memory import fitting, kv_bytes, total

    work, pace = row.work, row.pace
    advice = [] if row.fits else advise(row)
    return {
        "gpu": work.gpu.name,
        "gpus": work.gpus,
        "source": work.gpu.source,
        "engine": work.engine,
        "trainer_ranks": work.ranks,
        "fits": row.fits,
        "faults": [f"{fault.phase}: {fault.why}" for fault in row.faults],
        "advice": [
            {"gpus": each.forecast.work.gpus, "set": {key: _plain(v) for key, v in each.settings.items()}}
            for each in advice
        ],
        "room_bytes": work.gpu.memory_bytes,
        "memory_bytes": {
            phase: {"total": round(total(parts)), **{name: round(part) for name, part in parts.items()}}
            for phase, parts in row.memory.items()
        },
        "host_memory_bytes": 0 if work.gpu.is_cpu else work.hosted_bytes,
        "kv_cache_bytes": max(round(kv_bytes(work)), 0),
        "sequences_at_once": fitting(work),
        "micro_batches": work.micro.passes * work.recipe.optim.minibatches,
        "micro_batch_sequences": work.micro.rows,
        "micro_batch_tokens": work.micro.tokens,
        "tokens_a_step": row.tokens,
        "seconds": {
            "sample": pace.sample,
            "logprobs": pace.logprobs,
            "update": pace.update,
            "sync": pace.sync,
            "step": pace.step,
            "run": row.run_s,
        },
    }


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    return value.model_dump() if isinstance(value, BaseModel) else value
