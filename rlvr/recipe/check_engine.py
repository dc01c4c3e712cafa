"""Checks of a recipe's engine and of its executor: see `check.py`."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.load import Loaded

Findings = Iterator[tuple[tuple[str, ...], str]]


def engine(loaded: Loaded) -> Findings:
    """What an engine cannot do."""
    sampling, vllm = loaded.recipe.sampling, loaded.recipe.vllm
    if sampling.max_lag and sampling.engine != "vllm_server":
        yield (
            ("sampling.max_lag", "sampling.engine"),
            f"`sampling.max_lag = {sampling.max_lag}` samples while the trainer updates: only the engine "
            f"vllm_server can, and `sampling.engine` is {sampling.engine}; set it, or max_lag to 0",
        )
    if sampling.carry and sampling.engine == "vllm_local":
        yield (
            ("sampling.carry", "sampling.engine"),
            f"`sampling.carry = {sampling.carry:g}` needs an engine whose sequences outlive a step: "
            "`sampling.engine` hf or vllm_server, vllm_local forgets them when it rests; or set carry to 0",
        )
    if vllm.tensor_parallel > 1 and sampling.engine == "vllm_local":
        yield (
            ("vllm.tensor_parallel",),
            f"`vllm.tensor_parallel = {vllm.tensor_parallel}` needs `sampling.engine: vllm_server`",
        )


def carried(loaded: Loaded) -> Findings:
    """What is asked beside each group, and cannot be carried over with it; how late, where nothing is."""
    algorithm, carry, steps = (
        loaded.recipe.algorithm,
        loaded.recipe.sampling.carry,
        loaded.recipe.sampling.carry_steps,
    )
    if steps > 1 and not carry:
        yield (
            ("sampling.carry_steps",),
            f"`sampling.carry_steps = {steps}` is not read: `sampling.carry` is 0; set it, to 0.25 for one",
        )
    for key, value in (("baseline", algorithm.baseline), ("credit", algorithm.credit)):
        if carry and value in ("greedy", "step_mc", "segment_mc"):
            yield (
                ("sampling.carry", f"algorithm.{key}", "algorithm.preset"),
                f"`sampling.carry = {carry:g}` lets groups outlive their step, and `algorithm.{key} = "
                f"{value}` asks the engine for more beside them; set carry to 0",
            )


def unread_sandbox(loaded: Loaded) -> Findings:
    """The interface of an executor that there is none of."""
    sandbox = loaded.recipe.sandbox
    if sandbox.remote is None and sandbox.kind != type(sandbox)().kind:
        yield (
            ("sandbox.kind",),
            "`sandbox.kind` is not read: it needs `sandbox.remote`, the address of an executor",
        )


def lagging(loaded: Loaded) -> Findings:
    """Old completions that the loss takes for new ones."""
    algorithm, sampling = loaded.recipe.algorithm, loaded.recipe.sampling
    key = "max_lag" if sampling.max_lag else "carry"
    lag = getattr(sampling, key)
    if lag and algorithm.correction == "none" and algorithm.ratio_base == "old":
        yield (
            ("algorithm.correction", "algorithm.preset", f"sampling.{key}"),
            f"`sampling.{key} = {lag:g}` trains on completions of older weights, and `algorithm.correction = "
            "none` takes no account of it; set correction to token_truncate, or ratio_base to rollout",
        )


def unread(loaded: Loaded) -> Findings:
    """Keys of vLLM that the chosen engine does not read."""
    engine, vllm = loaded.recipe.sampling.engine, loaded.recipe.vllm
    usual = type(vllm)()
    given = [
        f"vllm.{leaf}" for leaf in type(vllm).model_fields if getattr(vllm, leaf) != getattr(usual, leaf)
    ]
    if given and engine == "hf":
        yield tuple(given), f"`{given[0]}` is not read: `sampling.engine` is hf"
    elif engine != "vllm_server":
        for leaf in ("replicas", "servers", "key_file", "tensor_parallel", "transfer"):
            if f"vllm.{leaf}" in given:
                yield (f"vllm.{leaf}",), f"`vllm.{leaf}` is not read: it needs `sampling.engine: vllm_server`"
    elif vllm.servers:
        for leaf in ("replicas", "tensor_parallel", "memory_share", "kv_cache", "eager", "options"):
            if f"vllm.{leaf}" in given:
                yield (f"vllm.{leaf}",), f"`vllm.{leaf}` is not read: `vllm.servers` run already"
