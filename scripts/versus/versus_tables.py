"""Tables of scripts/bench_vs_trl: the two trainers, and how far ours is from what the machine could do."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

Results = dict[str, list[dict[str, Any]]]

GOAL = 0.8
"""Accuracy whose time is told."""
COLUMNS = (
    "side",
    "s a step",
    "sample",
    "update",
    "rest",
    "tokens/s",
    "x TRL",
    "CPU s a step",
    "x TRL, CPU",
    "peak MiB",
    "accuracy",
    f"s to {GOAL:.0%}",
)
MIB = 2**20


def versus(results: Results, accuracy: dict[str, float], task: dict[str, Any]) -> list[str]:
    """Medians over rounds (least to most); TRL is its fastest variant here."""
    good = {name: [run for run in runs if "error" not in run] for name, runs in results.items()}
    theirs = [name for name, runs in good.items() if name.startswith("trl") and runs]
    best = min(theirs, key=lambda name: median(map(step_s, good[name])), default=None)
    rows = [row(name, runs, good.get(best or "", []), accuracy, task) for name, runs in good.items() if runs]
    failed = [f"{name}: `{runs[0]['error']}`" for name, runs in results.items() if "error" in runs[0]]
    told = [f"TRL at its best here: {best}." if best else "TRL did not run."]
    told += ["", *(f"Did not run: {words}" for words in failed)] if failed else []
    return [*markdown(COLUMNS, rows), "", *told]


def row(
    name: str,
    runs: list[dict],
    trl: list[dict],
    accuracy: dict[str, float],
    task: dict[str, Any],
) -> Sequence[str]:
    phases = [median(s["phases"].get(p, 0.0) for r in runs for s in r["steps"]) for p in ("sample", "update")]
    rest = [
        s["wall_s"] - s["phases"].get("sample", 0) - s["phases"]["update"] for r in runs for s in r["steps"]
    ]
    pairs = list(zip(runs, trl, strict=False))
    before, after = accuracy.get(task["model"]), [accuracy.get(r["kept"][str(task["steps"])]) for r in runs]
    return (
        name,
        spread([step_s(r) for r in runs], ".2f"),
        *(f"{value:.2f}" for value in (*phases, median(rest))),
        spread([speed(r) for r in runs], ",.0f"),
        spread([speed(ours) / speed(other) for ours, other in pairs], ".2f"),
        spread([cpu_s(r) for r in runs], ".2f"),
        spread([cpu_s(other) / cpu_s(ours) * share(ours, other) for ours, other in pairs], ".2f"),
        f"{median(r['peak_bytes'] for r in runs) / MIB:.0f}",
        f"{before:.3f} -> {spread(after, '.3f')}" if before is not None else "-",
        reached(runs[0], before, accuracy),
    )


def step_s(run: dict[str, Any]) -> float:
    """Median wall time of a step: a neighbour's burst on the machine does not move it."""
    return median(step["wall_s"] for step in run["steps"])


def cpu_s(run: dict[str, Any]) -> float:
    return median(step["cpu_s"] for step in run["steps"])


def speed(run: dict[str, Any]) -> float:
    """Sampled tokens a second, end to end: the mean step's tokens over the median step's time."""
    return mean_tokens(run) / step_s(run)


def mean_tokens(run: dict[str, Any]) -> float:
    return sum(step["tokens"] for step in run["steps"]) / len(run["steps"])


def share(ours: dict[str, Any], other: dict[str, Any]) -> float:
    return mean_tokens(ours) / mean_tokens(other)


def reached(run: dict[str, Any], before: float | None, accuracy: dict[str, float]) -> str:
    """Seconds of training until GOAL, between two measurements along a straight line."""
    if before is None:
        return "-"
    at, level, done, clock = 0.0, before, 0, 0.0
    for step, model in sorted((int(step), model) for step, model in run["kept"].items()):
        clock += sum(s["wall_s"] for s in run["steps"][done:step])
        if accuracy[model] >= GOAL:
            return f"{at + (clock - at) * max(0.0, GOAL - level) / max(accuracy[model] - level, 1e-9):.1f}"
        at, level, done = clock, accuracy[model], step
    return "not reached"


def spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


# --- the floor ---------------------------------------------------------------------------------------------


def floor(results: Results, task: dict[str, Any]) -> list[str]:
    """What a step must compute and move, at the rates that this machine shows now, beside what it took."""
    runs = [run for run in results.get("rlvr", []) if "error" not in run]
    if not runs or task["device"] != "cpu":
        return ["The floor is computed for variant rlvr on a CPU."]
    rate, bandwidth = matmul_rate(task["threads"]), copy_rate(task["threads"])
    config = json.loads((Path(task["model"]) / "config.json").read_text())
    prompts = [json.loads(line)["ids"] for line in Path(task["prompts"]).read_text().splitlines()]
    prompt = sum(map(len, prompts)) / len(prompts)
    tokens = sum(map(mean_tokens, runs)) / len(runs)
    flops, moved = work(config, task["problems"], prompt, tokens, task["group_size"])
    rows = []
    for name, key in (("sampling", "sample"), ("update", "update")):
        took = median(s["phases"][key] for run in runs for s in run["steps"])
        least = max(flops[name] / rate, moved[name] / bandwidth)
        cells = (
            flops[name] / 1e9,
            flops[name] / rate,
            moved[name] / 1e9,
            moved[name] / bandwidth,
            least,
            took,
        )
        rows.append((name, *(f"{cell:.3f}" for cell in cells), f"{took / least:.1f} x"))
    head = ("phase", "GFLOP", "s at that rate", "GB", "s at that rate", "floor s", "took s", "distance")
    words = (
        f"A step of {tokens:,.0f} sampled tokens behind {task['problems']} prompts of {prompt:.0f}; measured "
        f"in this run on {task['threads']} cores: {rate / 1e9:.0f} GFLOP/s (float32 products of 1024 x "
        f"1024), {bandwidth / 1e9:.1f} GB/s (copies of 256 MiB, read and written)."
    )
    return [words, "", *markdown(head, rows)]


def work(
    config: dict[str, Any], problems: int, prompt: float, tokens: float, siblings: int
) -> tuple[dict[str, float], dict[str, float]]:
    """FLOPs and bytes of sampling and of the update, by phase; `prompt` and `tokens` count tokens.

    A prompt is read once a group.  The backward pass is two forward passes.  While decoding every token reads
    its own keys and values, and all sequences together the weights; an update reads weights and writes
    gradients once.
    """
    layers, width, heads = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
    wide, kv = config["head_dim"], config["num_key_value_heads"]
    inner = layers * (2 * width * wide * (heads + kv) + 3 * width * config["intermediate_size"])
    head = width * config["vocab_size"]
    length = tokens / (problems * siblings)
    context = prompt + length / 2
    read = problems * prompt * (2 * inner + 4 * layers * heads * wide * prompt / 2)
    said = tokens * (2 * (inner + head) + 4 * layers * heads * wide * context)
    cached = 4 * layers * 2 * kv * wide
    weights = 4 * (inner + head)
    flops = {"sampling": read + said, "update": 3 * (read + said)}
    return flops, {"sampling": tokens * cached * context + weights * length, "update": 3 * weights}


def matmul_rate(threads: int) -> float:
    """FLOPs a second of a large float32 product; the best of several."""
    import torch

    from rlvr.cpu import is_faster, product

    torch.set_num_threads(threads)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    multiply = product if is_faster() else torch.matmul
    return 2 * 1024**3 / fastest(lambda: multiply(a, b), 20)


def copy_rate(threads: int) -> float:
    """Bytes a second, read and written, of a copy that no cache holds; the best of several."""
    import torch

    torch.set_num_threads(threads)
    a = torch.zeros(2**26)
    b = torch.empty_like(a).fill_(1)
    return 2 * 4 * 2**26 / fastest(lambda: b.copy_(a), 8)


def fastest(call: Any, times: int) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return min(taken)


# --- markdown ----------------------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return lines + [f"| {' | '.join(cells)} |" for cells in rows]


def insert(page: Path, name: str, lines: Sequence[str]) -> None:
    """Put `lines` between the marks `<!-- NAME -->` and `<!-- /NAME -->` of the page."""
    text = page.read_text(encoding="utf-8")
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    if not mark.search(text):
        raise SystemExit(f"{page}: no <!-- {name} --> ... <!-- /{name} --> to write between")
    body = "\n".join(lines)
    page.write_text(mark.sub(lambda found: f"{found[1]}{body}\n{found[2]}", text), encoding="utf-8")
