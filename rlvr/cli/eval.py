"""`rlvr eval`: measure a model on benchmarks or your own file, and keep a record of every answer."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rlvr.errors import Interrupted, RecipeError, RunError

if TYPE_CHECKING:
    from rlvr.eval.benchmarks import Benchmark
    from rlvr.eval.result import Result
    from rlvr.recipe.schema import Verifier
    from rlvr.recipe.schema_vllm import Vllm
    from rlvr.rollout.engine import Engine

LONGEST_DEFAULT = 2048


def evaluate(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL_OR_RUN", help="Model folder, hub name, or run folder.")
    ] = None,
    benchmarks: Annotated[
        str, typer.Option("-b", "--benchmarks", help="Names (see --list) and .jsonl files, with commas.")
    ] = "",
    samples: Annotated[int, typer.Option(min=1, help="Completions a problem: k of avg@k.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Nucleus mass kept.")] = 1.0,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Length of a completion; default: half the context, at most 2048."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many problems only.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds every completion.")] = 0,
    engine: Annotated[str, typer.Option(help="auto, hf, vllm_local or vllm_server.")] = "auto",
    server: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A server under `rlvr serve`; may be repeated.")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="The key of those servers.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(envvar="RLVR_DATA_DIR", help="Local copies of hub data: NAME/SPLIT.jsonl.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for records and results.json.")] = None,
    question: Annotated[str | None, typer.Option(help="Template of the question: '{problem}'.")] = None,
    answer: Annotated[str | None, typer.Option(help="Template of the answer: '{answer}'.")] = None,
    verifier: Annotated[str | None, typer.Option(help="Verifier to use instead.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Prompt to use instead: plain, boxed, 'text {question}'.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Sequences decoded at once.")] = 256,
    workers: Annotated[int, typer.Option(min=1, help="Processes that check answers.")] = min(
        8, os.cpu_count() or 1
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.json instead of the table.")] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start anew instead of continuing the record.")
    ] = False,
    list_: Annotated[bool, typer.Option("--list", help="List the benchmarks that have a name.")] = False,
) -> None:
    """Measure a model: avg@k, pass@k, maj@k, intervals clustered by problem, and what was lost."""
    from rlvr.eval.benchmarks import BENCHMARKS
    from rlvr.eval.table import listing

    if list_:
        Console().print(listing(list(BENCHMARKS.values())))
        return
    if model is None:
        raise RecipeError("say which model: rlvr eval MODEL_OR_RUN -b gsm8k,./mine.jsonl")
    given = {"question": question, "answer": answer, "verifier": verifier, "prompt": prompt}
    chosen = _choose(benchmarks, given, _asked_by_run(model))
    results, folder = _measure(
        model,
        chosen,
        out=out,
        data_dir=data_dir,
        limit=limit,
        samples=samples,
        seed=seed,
        engine="vllm_server" if server else engine,
        vllm=_vllm(server, key_file),
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        workers=workers,
        fresh=fresh,
    )
    _report(results, folder, as_json)


def _report(results: list[Result], folder: Path, as_json: bool) -> None:
    """Print the results; exit code 1 where one is not complete."""
    from rlvr.eval.table import render

    if as_json:
        typer.echo(json.dumps({"results": [result.to_json() for result in results]}, indent=2))
    else:
        console = Console()
        console.print(render(results))
        for result in results:
            for warning in result.warnings:
                console.print(f"{result.benchmark}: {warning}", style="yellow")
        console.print(f"records and results.json: {folder}", highlight=False)
    if not all(result.complete for result in results):
        raise typer.Exit(code=1)


def _asked_by_run(model: str) -> dict[str, str]:
    """How the recipe of a run asks its problems, for files measured with that run; nothing for a model."""
    from rlvr import build
    from rlvr.recipe.load import load
    from rlvr.runs.folder import RunFolder

    run = build.resolve_run(model)
    if run is None:
        return {}
    recipe = load(RunFolder(run).expanded_recipe).recipe
    asked = recipe.problems.model_dump(include={"question", "answer", "answer_after", "prompt"})
    return {key: value for key, value in asked.items() if value is not None} | {
        "verifier": recipe.verifier[0].name
    }


def _checker(benchmark: Benchmark, model: str) -> tuple[Verifier, Path]:
    """The benchmark's verifier, with the run's options where it is the run's own, and its base folder."""
    from rlvr import build
    from rlvr.recipe.load import load
    from rlvr.recipe.schema import Verifier
    from rlvr.runs.folder import RunFolder
    from rlvr.runs.manifest import read_manifest

    run = build.resolve_run(model)
    if run is not None and Path(benchmark.source).suffix:
        own = load(RunFolder(run).expanded_recipe).recipe.verifier[0]
        if own.name == benchmark.verifier:
            return own, Path(read_manifest(RunFolder(run)).base_dir)
    return Verifier.model_validate({"name": benchmark.verifier}), Path()


def _choose(names: str, given: dict[str, str | None], asked: dict[str, str] | None = None) -> list[Benchmark]:
    """The benchmarks named; files are asked as `asked` says, and everything as `given` says."""
    from rlvr.eval.benchmarks import find

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise RecipeError("say what to measure: -b gsm8k,math500,./mine.jsonl (rlvr eval --list)")
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    found = [find(name) for name in wanted]
    own: dict[str, Any] = dict(asked or {})
    chosen = [replace(b, **({**own, **changes} if Path(b.source).suffix else changes)) for b in found]
    twice = {b.name for b in chosen if sum(b.name == other.name for other in chosen) > 1}
    if twice:
        raise RecipeError(f"-b names {', '.join(sorted(twice))} more than once; records would mix")
    return chosen


def _measure(
    model_name: str,
    chosen: list[Benchmark],
    *,
    out: Path | None,
    data_dir: Path | None,
    limit: int | None,
    samples: int,
    seed: int,
    engine: str,
    vllm: Vllm,
    temperature: float,
    top_p: float,
    max_tokens: int | None,
    dtype: str,
    device: str,
    batch_size: int,
    workers: int,
    fresh: bool,
) -> tuple[list[Result], Path]:
    from rlvr import build
    from rlvr.eval.benchmarks import open_benchmark
    from rlvr.eval.run import evaluate as measure
    from rlvr.policy.model import fingerprint
    from rlvr.types import Sampling

    # The data is opened first: a mistake in it should not wait for the model to load.
    sources = [open_benchmark(b, data_dir=data_dir, base_dir=Path(), limit=limit) for b in chosen]
    path = build.resolve_model(model_name)
    model, tokenizer = build.load_policy(path, dtype=dtype, device=device)
    renderer = build.renderer(tokenizer, model)
    longest = max_tokens or max(1, min(LONGEST_DEFAULT, renderer.context // 2))
    sampling = Sampling(max_tokens=longest, temperature=temperature, top_p=top_p, stop_ids=renderer.stop_ids)
    model_hash = fingerprint(model)
    folder = out or _folder(model_name, model_hash)
    drawn = _engine(engine, model, tokenizer, batch_size, vllm, renderer.context)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            for benchmark, source in zip(chosen, sources, strict=True):
                task = bars.add_task(benchmark.name, total=source.size)
                checker, base_dir = _checker(benchmark, model_name)
                with build.scorer([checker], workers, base_dir) as scorer:
                    result = measure(
                        benchmark.name,
                        source,
                        renderer,
                        drawn,
                        scorer,
                        sampling,
                        samples=samples,
                        seed=seed,
                        limit=limit,
                        record_path=folder / f"{benchmark.name}.jsonl",
                        progress=partial(_advance, bars, task),
                        model_hash=model_hash,
                        verifier=benchmark.verifier,
                        expected=benchmark.n,
                        fresh=fresh,
                    )
                results.append(result)
                _save(folder / "results.json", model_name, results)
    except (KeyboardInterrupt, Interrupted):
        typer.echo(f"stopped; what is done is in {folder}: the same command goes on from there", err=True)
        raise
    finally:
        drawn.close()
    return results, folder


def _vllm(servers: list[str] | None, key_file: Path | None) -> Vllm:
    from rlvr.recipe.schema_vllm import Vllm

    for server in servers or []:
        if not server.startswith("http://"):
            raise RecipeError(f"--server {server}: must be an address such as http://127.0.0.1:8000")
    given: dict[str, Any] = {"servers": servers or []}
    return Vllm.model_validate(given | ({"key_file": str(key_file.absolute())} if key_file else {}))


def _engine(name: str, model: Any, tokenizer: Any, batch_size: int, vllm: Vllm, context: int) -> Engine:
    """The engine asked for; vLLM's is proven to sample from this very model."""
    from rlvr import build
    from rlvr.rollout.proof import prove

    chosen, note = build.choose_engine(name, model)
    if note is not None:
        typer.echo(note, err=True)
    engine = build.engine(chosen, model, tokenizer, batch_size=batch_size, vllm=vllm)
    if chosen != "hf":
        try:
            prove(engine, model, 0, context=context)
        except BaseException:
            engine.close()
            raise
    return engine


def _advance(bars: Progress, task: TaskID, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


def _folder(model_name: str, model_hash: str) -> Path:
    """A run's own `evals`, else `evals/NAME-HASH` here."""
    from rlvr import build

    run = build.resolve_run(model_name)
    if run is not None:
        return run / "evals" / f"model-{model_hash[:8]}"
    path = Path(model_name)
    name = re.sub(r"[^\w.-]+", "-", path.resolve().name if path.exists() else model_name).strip("-")
    return Path("evals") / f"{name}-{model_hash[:8]}"


def _save(path: Path, model_name: str, results: list[Result]) -> None:
    """Write results.json whole or not at all; other benchmarks measured earlier stay in it."""
    merged: dict[str, Any] = {}
    try:
        if path.exists():
            merged = {old["benchmark"]: old for old in json.loads(path.read_text())["results"]}
        merged |= {result.benchmark: result.to_json() for result in results}
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            json.dump({"model": model_name, "results": list(merged.values())}, file, indent=2, default=str)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); move it away, the records beside it are whole") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
