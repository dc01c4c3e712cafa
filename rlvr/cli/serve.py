"""`rlvr serve`: vLLM servers that trainers and evaluations on this machine sample with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rlvr.errors import RecipeError


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model folder or hub name.")],
    replicas: Annotated[int, typer.Option(min=1, help="Servers.")] = 1,
    host: Annotated[str, typer.Option(help="Loopback or private address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the first; the others follow.")] = 8000,
    key_file: Annotated[
        Path, typer.Option(help="File with the key that they ask for; made where there is none.")
    ] = Path("~/.rlvr/serve-key"),
    dtype: Annotated[
        str, typer.Option(help="float32 or bfloat16, as the trainer's model.dtype.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Serve an adapter of at most this rank, as model.lora.rank.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences decoded at once by each.")] = 512,
    memory_share: Annotated[float, typer.Option(min=0.01, max=0.99, help="GPU: share of its memory.")] = 0.9,
    tensor_parallel: Annotated[int, typer.Option(min=1, help="GPUs of each.")] = 1,
    start_deadline: Annotated[float, typer.Option(help="Seconds that a start may take.")] = 600.0,
    failures: Annotated[int, typer.Option(min=0, help="Restarts of each before giving up.")] = 3,
) -> None:
    """Run rollout servers for `sampling.engine: vllm_server`; they end with this command.

    They read new weights from files, so trainer and servers share a machine (or a file system).
    """
    from rlvr.policy import model as models
    from rlvr.problems.hub import silence_about
    from rlvr.rollout.vllm_settings import VllmSettings
    from rlvr.serve import Plan, read_key
    from rlvr.serve import serve as run
    from rlvr.train.signals import Signals

    if dtype not in models.DTYPES:
        raise RecipeError(f"--dtype {dtype}: must be {' or '.join(models.DTYPES)}")
    on_gpu = models.resolve_device(device, key="--device").type == "cuda"
    config = models.load_config(model, quiet=silence_about(model))
    settings = VllmSettings(
        dtype=dtype,
        on_gpu=on_gpu,
        context=models.longest(config),
        sequences=batch_size,
        lora_rank=lora_rank,
        memory_share=memory_share,
        tensor_parallel=tensor_parallel,
        start_s=start_deadline,
        failures=failures,
    )
    path = key_file.expanduser()
    key = read_key(path)

    with Signals():
        run(
            Plan(
                config=config,
                settings=settings,
                replicas=replicas,
                host=host,
                port=port,
                key=key,
                threads=None if on_gpu else max(1, (os.cpu_count() or 1) // (replicas + 1)),
                say=lambda words: typer.echo(words, err=True),
            ),
            partial(_ready, path),
        )


def _ready(key_file: Path, urls: Sequence[str]) -> None:
    """Say where they are, and what a recipe must say to use them."""
    typer.echo(f"ready: {' '.join(urls)}")
    typer.echo("in a recipe:")
    typer.echo("  sampling: {engine: vllm_server}")
    typer.echo(f"  vllm: {{servers: [{', '.join(urls)}], key_file: {shlex.quote(str(key_file.absolute()))}}}")
