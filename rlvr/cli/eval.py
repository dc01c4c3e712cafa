"""`rlvr eval`: measure a model on benchmarks or your own file, and keep a record of every answer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rlvr.cli.terminal import Terminal
from rlvr.cli.unsafe import Unsafe
from rlvr.errors import Interrupted, ProblemsError, RecipeError, RunError

if TYPE_CHECKING:
    from rlvr.cli.subject import Answering, Subject
    from rlvr.eval.benchmarks import Benchmark
    from rlvr.eval.result import Result
    from rlvr.eval.run import Measurement
    from rlvr.problems.sources import Source
    from rlvr.sandbox.offer import Offer
    from rlvr.types import Sampling

LONGEST_DEFAULT = 2048

MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Length of a completion; default: half the context, at most 2048.")
]
Servers = Annotated[
    list[str] | None, typer.Option(metavar="URL", help="A server under `rlvr serve`; may be repeated.")
]
Executor = Annotated[
    str | None, typer.Option(metavar="URL", help="Executor that runs programs, instead of this machine.")
]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL_OR_RUN", help="Model folder, hub name, run, or `last`."),
    ] = None,
    benchmarks: Annotated[
        str, typer.Option("-b", "--benchmarks", help="Names (see --list) and .jsonl files, with commas.")
    ] = "",
    samples: Annotated[int, typer.Option(min=1, help="Completions a problem: k of avg@k.")] = 1,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Nucleus mass kept.")] = 1.0,
    max_tokens: MaxTokens = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many problems only.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seeds every completion.")] = 0,
    engine: Annotated[str, typer.Option(help="auto, hf, vllm_local or vllm_server.")] = "auto",
    server: Servers = None,
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
    sandbox: Executor = None,
    sandbox_kind: Annotated[str, typer.Option(help="Its interface: sandboxfusion or piston.")] = "",
    unsafe: Unsafe = False,
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
    from rlvr import build
    from rlvr.cli.subject import Subject, answering, sandbox_section, vllm_section

    subject = Subject.called(model)
    given = {"question": question, "answer": answer, "verifier": verifier, "prompt": prompt}
    chosen = _choose(benchmarks, given, subject.asked())
    # The data is opened first: a mistake in it should not wait for the model to load.
    sources = [_open(benchmark, data_dir, limit) for benchmark in chosen]
    checkers = [subject.checker(benchmark) for benchmark in chosen]
    section = sandbox_section(subject, sandbox, sandbox_kind)
    offer = build.sandbox(checkers, section, unsafe=unsafe, tell=Terminal())
    with answering(
        subject,
        engine="vllm_server" if server else engine,
        vllm=vllm_section(server or (), key_file),
        dtype=dtype,
        device=device,
        batch_size=batch_size,
    ) as ready:
        how = _how(ready, max_tokens=max_tokens, temperature=temperature, top_p=top_p)
        plans = [
            (_what(b, ready, how, samples=samples, seed=seed, limit=limit), b, source)
            for b, source in zip(chosen, sources, strict=True)
        ]
        folder = out or subject.folder(ready.model_hash)
        results = _measure(subject, plans, ready, folder, offer, workers=workers, fresh=fresh)
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


def _choose(
    names: str, given: dict[str, str | None], asked: Mapping[str, str | None] | None = None
) -> list[Benchmark]:
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


def _open(benchmark: Benchmark, data_dir: Path | None, limit: int | None) -> Source:
    from rlvr.eval.benchmarks import open_benchmark

    try:
        return open_benchmark(benchmark, data_dir=data_dir, base_dir=Path(), limit=limit)
    except ProblemsError as error:
        if ": no field `" not in str(error):
            raise
        raise ProblemsError(
            f"{error}\n  say which fields hold question and answer: --question '{{q}}' --answer '{{a}}' (now "
            f"{benchmark.question!r} and {benchmark.answer!r})"
        ) from error


def _how(ready: Answering, *, max_tokens: int | None, temperature: float, top_p: float) -> Sampling:
    from rlvr.types import Sampling

    renderer = ready.renderer
    longest = max_tokens or max(1, min(LONGEST_DEFAULT, renderer.context // 2))
    return Sampling(max_tokens=longest, temperature=temperature, top_p=top_p, stop_ids=renderer.stop_ids)


def _what(
    benchmark: Benchmark, ready: Answering, how: Sampling, *, samples: int, seed: int, limit: int | None
) -> Measurement:
    from rlvr.eval.run import Measurement

    return Measurement(
        benchmark=benchmark.name,
        sampling=how,
        samples=samples,
        seed=seed,
        limit=limit,
        model_hash=ready.model_hash,
        verifier=benchmark.verifier,
        expected=benchmark.n,
    )


def _measure(
    subject: Subject,
    plans: list[tuple[Measurement, Benchmark, Source]],
    ready: Answering,
    folder: Path,
    offer: Offer,
    *,
    workers: int,
    fresh: bool,
) -> list[Result]:
    from rlvr import build
    from rlvr.eval.run import evaluate as measure

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            for what, benchmark, source in plans:
                checker, base_dir = subject.checker(benchmark)
                with build.scorer([checker], workers, base_dir, sandbox=offer) as scorer:
                    result = measure(
                        replace(what, sandbox=offer.words if scorer.runs_programs else ""),
                        source,
                        ready.renderer,
                        ready.engine,
                        scorer,
                        record_path=folder / f"{what.benchmark}.jsonl",
                        progress=partial(_advance, bars, bars.add_task(what.benchmark, total=source.size)),
                        fresh=fresh,
                    )
                results.append(result)
                _save(folder / "results.json", subject.name, results)
    except (KeyboardInterrupt, Interrupted) as stop:
        stop.add_note(f"stopped; what is done is in {folder}: the same command goes on from there")
        raise
    return results


def _advance(bars: Progress, task: TaskID, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


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
