"""What no single key can tell: keys that contradict each other, files that are not there.  Needs no torch.

Each check yields (keys, message); the first of the keys that the recipe gives is guilty: its line is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError
from rlvr.recipe.check_algorithm import algorithm, algorithm_doubts
from rlvr.recipe.check_engine import Findings, carried, engine, lagging, unread, unread_sandbox
from rlvr.recipe.check_practice import practice
from rlvr.recipe.check_ranks import ranks
from rlvr.recipe.check_verifier import audit, channels, roles
from rlvr.recipe.files import ROWS, holds_model, is_local, lacking
from rlvr.recipe.load import Loaded

CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What `config.json` calls the longest sequence."""


def check(loaded: Loaded) -> list[str]:
    """Warnings about a recipe, each with its place; raises one RecipeError with all that cannot work."""
    errors = placed(loaded, CHECKS)
    if errors:
        raise RecipeError("\n".join(errors))
    return placed(loaded, DOUBTS)


def check_ranks(loaded: Loaded, count: int) -> None:
    """RecipeError where `count` ranks, a number that the recipe does not say, cannot follow it."""
    errors = placed(loaded, (partial(ranks, count=count),))
    if errors:
        raise RecipeError("\n".join(errors))


def placed(loaded: Loaded, checks: tuple[Callable[[Loaded], Findings], ...]) -> list[str]:
    """What `checks` find, each with its place, in the order of the file."""

    def line(keys: tuple[str, ...]) -> float:
        spot = next((loaded.spots[key] for key in keys if key in loaded.spots), None)
        return inf if spot is None or spot.line is None else spot.line

    found = sorted(
        (finding for each in checks for finding in each(loaded)), key=lambda finding: line(finding[0])
    )
    return [f"{loaded.place(*keys)}: {message}" for keys, message in found]


def _minibatches(loaded: Loaded) -> Findings:
    optim = loaded.recipe.optim
    problems, parts = optim.problems_per_step, optim.minibatches
    if problems % parts == 0:
        return
    multiples = [n for n in (problems // parts * parts, -(-problems // parts) * parts) if n]
    divisors = [n for n in range(1, problems + 1) if problems % n == 0]
    near = {max(n for n in divisors if n < parts), min((n for n in divisors if n > parts), default=1)}
    yield (
        ("optim.minibatches", "optim.problems_per_step"),
        f"`optim.problems_per_step = {problems}` does not divide into `optim.minibatches = {parts}` equal "
        f"parts; set problems_per_step to {_either(multiples)}, or "
        f"minibatches to {_either(sorted(near - {parts}))}",
    )


def _made_model(loaded: Loaded) -> Findings:
    make = loaded.recipe.model.make
    if make is None:
        return
    if make.heads % make.kv_heads:
        fitting = [n for n in range(1, make.heads + 1) if make.heads % n == 0]
        yield (
            ("model.make.kv_heads", "model.make.heads"),
            f"`model.make.kv_heads = {make.kv_heads}` does not divide `heads = {make.heads}`; "
            f"set kv_heads to {_either(fitting)}",
        )
    if make.head_dim % 2:
        yield (
            ("model.make.head_dim",),
            f"`model.make.head_dim = {make.head_dim}` is odd, and rotary positions turn pairs of numbers; "
            f"set {make.head_dim - 1} or {make.head_dim + 1}",
        )


def _context(loaded: Loaded) -> Findings:
    context, source = _longest(loaded)
    recipe = loaded.recipe
    wanted = {"sampling.max_tokens": recipe.sampling.max_tokens, "eval.max_tokens": recipe.eval.max_tokens}
    for key, tokens in wanted.items():
        if context is None or tokens is None or tokens + 1 <= context:
            continue
        in_recipe = source == "model.make.context"
        grow = f", or {source} to {tokens + 1} plus the longest prompt" if in_recipe else ""
        yield (
            (key, "model.make.context", "model.name"),
            f"`{key} = {tokens}` and a prompt of at least 1 token make {tokens + 1}, more than the {context} "
            f"of {source}; set {key} to {max(context - 1, 1)} less the longest prompt{grow}",
        )


def _model_folder(loaded: Loaded) -> Findings:
    name = loaded.recipe.model.name
    if name is None or not is_local("model.name", name):
        return
    folder = loaded.resolve(name)
    if not folder.exists():
        yield ("model.name",), f"model: {lacking(folder, holds_model, 'model (a folder with config.json)')}"
    elif not holds_model(folder):
        yield (
            ("model.name",),
            f"model: {folder} holds no config.json, so no transformers model; give its folder",
        )
    elif _config(folder) is None:
        yield ("model.name",), f"model: {folder / 'config.json'} is not JSON; is the download complete?"


def _longest(loaded: Loaded) -> tuple[int | None, str]:
    """The longest sequence of the model in tokens, where that can be known, and where it stands."""
    model = loaded.recipe.model
    if model.make is not None:
        return model.make.context, "model.make.context"
    name = model.name or ""
    folder = loaded.resolve(name) if is_local("model.name", name) else Path(name or "no model")
    config = _config(folder) or {}
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        for key in CONTEXT_KEYS:
            if isinstance(part.get(key), int):
                return part[key], f"{key} in {folder / 'config.json'}"
    return None, ""


def _config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) else None


def _files(loaded: Loaded) -> Findings:
    recipe = loaded.recipe
    named = [("problems.source", "problems.source", recipe.problems.source)]
    if recipe.warm_start and recipe.warm_start.problems:
        key = "warm_start.problems.source"
        named.append((key, key, recipe.warm_start.problems.source))
    named += [
        (f"eval.benchmarks.{i}", "eval.benchmarks", name) for i, name in enumerate(recipe.eval.benchmarks)
    ]
    for i, verifier in enumerate(recipe.verifier):
        file, colon, _ = verifier.name.rpartition(":")
        named.append((f"verifier.{i}.name", "verifier.name", file if colon else verifier.name))
    if recipe.audit is not None:
        file, colon, _ = recipe.audit.name.rpartition(":")
        named.append(("audit.name", "audit.name", file if colon else recipe.audit.name))
    for key, kind, value in named:
        if not is_local(kind, value):
            continue
        path = loaded.resolve(value)
        if not path.exists():
            yield (key,), f"`{loaded.called(key)}`: {lacking(path)}"
        elif path.is_dir():
            yield (key,), f"`{loaded.called(key)}`: {path} is a folder; give a file in it"
    data = None if recipe.data_dir is None else loaded.resolve(recipe.data_dir)
    if data is not None and not data.is_dir():
        yield (
            ("data_dir",),
            f"`data_dir`: {lacking(data) if not data.exists() else f'{data} is a file, not a folder'}",
        )


def _warm_start(loaded: Loaded) -> Findings:
    recipe = loaded.recipe
    source = recipe.problems.source
    from_rows = "/" in source or source.endswith(ROWS)
    if recipe.warm_start and recipe.warm_start.problems is None and from_rows:
        yield (
            ("warm_start.problems", "warm_start"),
            f"`warm_start` needs worked solutions, and `problems.source = {source}` is no generator that "
            "writes them; give `warm_start.problems: {source: FILE}`, rows with a field `solution`",
        )


def _one_by_one(loaded: Loaded) -> Findings:
    tokens, budget = loaded.recipe.sampling.max_tokens, loaded.recipe.optim.micro_batch_tokens
    if tokens >= budget:
        optim, group = loaded.recipe.optim, loaded.recipe.sampling.group_size
        sequences = optim.problems_per_step * group // optim.minibatches
        yield (
            ("optim.micro_batch_tokens", "sampling.max_tokens"),
            f"`optim.micro_batch_tokens = {budget}` is less than one sequence of `sampling.max_tokens = "
            f"{tokens}`: the longest go one by one, up to {sequences} passes an update",
        )


def _never(loaded: Loaded) -> Findings:
    recipe = loaded.recipe
    if recipe.eval.every and not recipe.eval.benchmarks:
        yield (
            ("eval.every",),
            f"`eval.every = {recipe.eval.every}` measures nothing: `eval.benchmarks` is empty",
        )
    if recipe.run.steps and recipe.optim.warmup_steps >= recipe.run.steps:
        yield (
            ("optim.warmup_steps", "run.steps"),
            f"`optim.warmup_steps = {recipe.optim.warmup_steps}` is not less than `run.steps = "
            f"{recipe.run.steps}`: the learning rate never reaches its peak",
        )


def _lora(loaded: Loaded) -> Findings:
    model = loaded.recipe.model
    if model.lora is None:
        return
    if model.make is not None:
        yield (
            ("model.lora", "model.make"),
            "`model.lora` adapts a model that exists, `model.make` makes a random one: give `model.name`",
        )
    algorithm = loaded.recipe.algorithm
    for key, value, off in (("kl", algorithm.kl, "off"), ("credit", algorithm.credit, "sequence")):
        compares = value == "self_logratio" if key == "credit" else value != "off"
        if loaded.recipe.warm_start is not None and compares:
            yield (
                (f"algorithm.{key}", "algorithm.preset", "warm_start"),
                f"`algorithm.{key} = {value}` with `model.lora` compares with the model "
                f"without its adapter, which is not the one after `warm_start`; set {key} to {off}",
            )


def _rounding(loaded: Loaded) -> Findings:
    model, rate = loaded.recipe.model, loaded.recipe.optim.learning_rate
    if model.dtype == "bfloat16" and model.lora is None and rate < 1e-4:
        yield (
            ("model.dtype",),
            f"`model.dtype = bfloat16` keeps the weights in 8 bits of precision: updates of "
            f"`optim.learning_rate = {rate:g}` mostly round to nothing; use float32, or `model.lora`",
        )


def _either(numbers: list[int]) -> str:
    return " or ".join(str(number) for number in numbers)


CHECKS = (
    _minibatches,
    _made_model,
    _model_folder,
    _context,
    algorithm,
    practice,
    _files,
    _warm_start,
    _lora,
    engine,
    carried,
    ranks,
    roles,
    channels,
    audit,
)
DOUBTS = (_one_by_one, _never, algorithm_doubts, unread, unread_sandbox, lagging, _rounding)
