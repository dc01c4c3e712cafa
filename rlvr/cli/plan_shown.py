"""A plan as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rlvr.plan.advice import MOST_GPUS, advise
from rlvr.plan.assumed import words
from rlvr.plan.forecast import Forecast, size
from rlvr.plan.memory import fitting, kv_bytes, total
from rlvr.recipe.document import shown as written
from rlvr.recipe.load import Loaded

GIB = 2**30
PHASES = ("sampling", "logprobs", "update", "sync", "server")


def shown(loaded: Loaded, rows: Sequence[Forecast], source: str = "") -> str:
    """A row for each number of devices, what one of them holds, what does not fit and what mends it."""
    detailed = next((row for row in rows if row.fits), rows[0])
    failed = [row for row in rows if not row.fits]
    lines = [*_head(loaded, rows[0]), "", *_table(rows), "", *_parts(detailed)]
    if failed:
        lines += ["", *_mends(loaded, failed)]
    return "\n".join([*lines, "", *_assumed(rows, source)])


def _head(loaded: Loaded, row: Forecast) -> Iterator[str]:
    work, shape = row.work, row.work.shape
    model, sampling, optim = work.recipe.model, work.recipe.sampling, work.recipe.optim
    trained = f", {work.adapter:,} of an adapter train" if work.has_lora else ""
    numbers = f"{shape.parameters:,} parameters in {model.dtype}{trained}"
    yield f"{loaded.path}: {shape.name} ({shape.kind}), {numbers}"
    yield from (f"note: {note}" for note in shape.notes)
    if model.device == "cpu" and not work.gpu.is_cpu:
        yield "note: model.device = cpu: as it stands the recipe uses no GPU"
    yield (
        f"a step: {optim.problems_per_step} problems x {sampling.group_size} completions, "
        f"{work.prompt} + {work.mean_completion} tokens each (at most {work.completion}): "
        f"{row.tokens:,} tokens; say better by --prompt-tokens and --completion-tokens"
    )
    if work.hosted_bytes and not work.gpu.is_cpu:
        yield f"optim.offload: {size(work.hosted_bytes)} of host memory beside the GPU's"


def _table(rows: Sequence[Forecast]) -> list[str]:
    phases = [phase for phase in PHASES if any(phase in row.memory for row in rows)]
    times = ["sample s", "update s", "step s", "run h"]
    head = ["devices", "room, GiB", *phases, "KV cache", "at once", "passes", *times, ""]
    return aligned([head, *(_cells(row, phases) for row in rows)])


def _cells(row: Forecast, phases: Sequence[str]) -> list[str]:
    work, pace = row.work, row.pace
    bad = {fault.phase for fault in row.faults}
    totals = [
        f"{_gib(total(row.memory[phase]))}{'!' if phase in bad else ''}" if phase in row.memory else "-"
        for phase in phases
    ]
    return [
        f"{work.gpus} x {work.gpu.name}",
        _gib(work.gpu.memory_bytes),
        *totals,
        _gib(max(kv_bytes(work), 0)),
        str(fitting(work)),
        str(work.micro.passes * work.recipe.optim.minibatches),
        *(
            _number(seconds) if fitting(work) else "-"
            for seconds in (pace.sample, pace.logprobs + pace.update, pace.step, row.run_s / 3600)
        ),
        "fits" if row.fits else "does not fit",
    ]


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """Columns of one width each: the first and the last to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            f"{cell:<{width}}" if i in (0, last) else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _parts(row: Forecast) -> list[str]:
    """What a row's memory consists of, phase by phase."""
    names = list(dict.fromkeys(name for parts in row.memory.values() for name in parts))
    phases = [phase for phase in PHASES if phase in row.memory]
    table = [
        [name, *(size(row.memory[phase][name]) if name in row.memory[phase] else "-" for phase in phases), ""]
        for name in names
    ]
    title = [f"one of {row.work.gpus} x {row.work.gpu.name}", *phases, ""]
    return aligned([title, *table])


def _mends(loaded: Loaded, failed: Sequence[Forecast]) -> Iterator[str]:
    """The faults of each kind's smallest number of devices, and the ways out."""
    seen = set()
    for row in failed:
        if row.work.gpu.name in seen:
            continue
        seen.add(row.work.gpu.name)
        where = f"{row.work.gpus} x {row.work.gpu.name}"
        yield f"{where}: " + ";\n  ".join(f"{fault.phase} {fault.why}" for fault in row.faults)
        ways = advise(row)
        for way in ways:
            peak, taken = way.forecast.peak
            after = f"then {peak} takes most, {size(taken)}"
            if way.settings.get("optim.offload"):
                after += f", and {size(way.forecast.work.hosted_bytes)} of host memory"
            if not way.settings:
                yield f"  - fits on {way.forecast.work.gpus} x {row.work.gpu.name} as it is; {after}"
            else:
                changes = "; ".join(_change(loaded, key, value) for key, value in way.settings.items())
                yield f"  - {changes}; {after}"
        if row.work.prompt >= row.work.shape.context:
            yield "  - prompts alone fill the context: take shorter ones, or a model with a longer context"
        elif not ways:
            more = "" if row.work.gpu.is_cpu else f", nor do {MOST_GPUS} of them"
            yield f"  - no key makes it fit{more}: take a larger GPU or a smaller model"


def _change(loaded: Loaded, key: str, value: Any) -> str:
    text = f"{{rank: {value.rank}}}" if key == "model.lora" else written(value)
    if key == "vllm.kv_cache":
        text = f"{value // 2**20} MiB"
    return f"{loaded.place(key)}: set `{key}: {text}`"


def _assumed(rows: Sequence[Forecast], source: str) -> Iterator[str]:
    work = rows[0].work
    yield "memory is of the longest sequences; a GPU's from its datasheet in 10^9 bytes:"
    for gpu in {row.work.gpu.name: row.work.gpu for row in rows}.values():
        link = "" if gpu.is_cpu else f", link {gpu.link / 1e9:.0f} GB/s"
        rate = gpu.flops[work.recipe.model.dtype] / 1e12
        yield (
            f"  {gpu.name}: {gpu.memory_bytes / 1e9:.0f} GB, {gpu.bandwidth / 1e9:.0f} GB/s, "
            f"{rate:.4g} TFLOP/s in {work.recipe.model.dtype}{link} ({gpu.source})"
        )
    yield "times are without verification, step credit, evaluation, warm start and the engine's start"
    if source:
        yield f"factors measured by {source}"
    yield "guesses, each set by --assume NAME=VALUE:"
    yield from (f"  {line}" for line in words(work.assumed))


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}" if count >= 0.05 * GIB else f"{count / GIB:.3f}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
