"""`rlvr plan RECIPE`: memory, KV cache, micro-batches and time on GPUs that need not be here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rlvr.cli.recipe import Name, Settings

if TYPE_CHECKING:
    from rlvr.plan.forecast import Forecast
    from rlvr.plan.pace import Assumed

MOST = 8


def plan(
    recipe: Name,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME[,NAME]", help="Kinds of GPU, or `cpu`: this machine.")
    ] = "",
    gpus: Annotated[
        str, typer.Option("--gpus", metavar="N[,N]", help="How many, 1 to 8 in one machine.")
    ] = "1,2,4,8",
    prompt_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a prompt; 256, or what the context leaves.")
    ] = None,
    completion_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of a completion on average, for times; sampling.max_tokens."),
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Share of the peak FLOP/s assumed; 0.35.")
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(min=0.01, max=1.0, help="Share of the memory's bandwidth; 0.6.")
    ] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the same, and all parts, as JSON.")] = False,
) -> None:
    """Predict what a recipe takes on GPUs: memory by phase, KV cache, micro-batches, time; starts nothing.

    Reads the model's config.json alone.  Where something does not fit it names keys, with values that do.
    Exit code 1 where nothing fits.
    """
    from rlvr.cli.doctor import memory_bytes
    from rlvr.plan.forecast import forecast, work_of
    from rlvr.plan.gpus import GPUS, find
    from rlvr.plan.pace import Assumed
    from rlvr.plan.shape import shape_of
    from rlvr.recipe.check import check
    from rlvr.recipe.load import find as find_recipe
    from rlvr.recipe.load import load

    counts = _counts(gpus)
    kinds = find(gpu or ",".join(GPUS), memory_bytes())
    loaded = load(find_recipe(recipe), settings or ())
    check(loaded)
    shape = shape_of(loaded)
    given = {"mfu": mfu, "bandwidth": bandwidth}
    assumed = Assumed(**{name: value for name, value in given.items() if value is not None})
    rows = [
        forecast(
            work_of(loaded.recipe, shape, kind, n, prompt=prompt_tokens, mean_completion=completion_tokens),
            assumed,
        )
        for kind in kinds
        for n in ([1] if kind.is_cpu else counts)
    ]
    if as_json:
        typer.echo(json.dumps(_as_json(rows, assumed), indent=2))
    else:
        from rlvr.cli.plan_shown import shown

        typer.echo(shown(loaded, rows, assumed))
    if not any(row.fits for row in rows):
        raise typer.Exit(1)


def _counts(text: str) -> list[int]:
    """The numbers in `1,2,4`; RecipeError where one is none, or not from 1 to 8."""
    from rlvr.errors import RecipeError

    found = []
    for word in text.split(","):
        if not word.strip().isdecimal() or not 1 <= int(word) <= MOST:
            raise RecipeError(f"--gpus {text}: `{word.strip()}` is no number from 1 to {MOST}; write 1,2,4")
        found.append(int(word))
    return sorted(set(found))


def _as_json(rows: list[Forecast], assumed: Assumed) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": {"name": rows[0].work.shape.name, "parameters": rows[0].work.shape.parameters},
        "assumed": asdict(assumed),
        "plans": [_row(row, assumed) for row in rows],
    }


def _row(row: Forecast, assumed: Assumed) -> dict[str, Any]:
    from rlvr.plan.advice import advise
    from rlvr.plan.memory import fitting, kv_bytes, total

    work, pace = row.work, row.pace
    advice = [] if row.fits else advise(row, assumed)
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
