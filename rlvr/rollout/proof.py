"""Proof that an engine samples with the weights it was given, and tells the log-probabilities it drew with.

One fixed prompt is asked before and after weights are changed beyond recognition, and changed back.  Each
time the engine's log-probabilities must be the trainer's for the weights of that moment: weights kept, a
packed copy left behind, an adapter not replaced and cached prefixes of old weights are all found out here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlvr.errors import EngineError
from rlvr.rollout.engine import Engine
from rlvr.rollout.weights import perturbed
from rlvr.types import Completion, Group, Problem, Request, Sampling

PROMPT_TOKENS = 70
"""Two blocks of KV cache and more: a prefix that would be found in the cache."""
SIBLINGS, TOKENS = 4, 8
TRIAL = -1
"""Version of the weights changed on purpose."""
EXACT_NATS = {"cpu": 1e-3, "cuda": 1e-2}
"""float32: engine and trainer differ by rounding alone, a token on average (GPU kernels may use TF32)."""
SHARE = 0.2
"""bfloat16: by so much of the distance between the two sets of weights, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How close the engine came, in nats a token."""

    mean_nats: float
    """Mean difference from the trainer's log-probabilities."""
    max_nats: float
    """The greatest one."""
    distance_nats: float
    """How far the changed weights are from the true ones: what a sync that did nothing would show."""


def prove(engine: Engine, model: Any, version: int, *, context: int, temperature: float = 1.0) -> Proof:
    """Load `model` as `version`, changed and unchanged; EngineError says what the engine did not take.

    Where a signal may come, defer it: the model is not itself in between.
    """
    request = _request(model, context)
    sampling = Sampling(max_tokens=TOKENS, temperature=temperature)
    engine.load_weights(model, version)
    exact = _exact(model)
    first = _ask(engine, request, sampling, version)
    _compare(_expected(model, first, sampling), first, None, "the starting weights", engine.name, exact)
    with perturbed(model):
        engine.load_weights(model, TRIAL)
        trial = _ask(engine, request, sampling, TRIAL)
        changed = _expected(model, trial, sampling)
    unchanged = _expected(model, trial, sampling)
    before = _compare(changed, trial, unchanged, "changed weights", engine.name, exact)
    engine.load_weights(model, version)
    again = _ask(engine, request, sampling, version)
    after = _compare(
        _expected(model, again, sampling), again, None, "the weights changed back", engine.name, exact
    )
    return Proof(
        mean_nats=max(before.mean_nats, after.mean_nats),
        max_nats=max(before.max_nats, after.max_nats),
        distance_nats=before.distance_nats,
    )


def _request(model: Any, context: int) -> Request:
    vocabulary = int(model.config.get_text_config().vocab_size)
    length = max(1, min(PROMPT_TOKENS, context - TOKENS))
    return Request(
        problem=Problem(id="of rlvr's own", messages=(), answer=None),
        prompt_ids=tuple((7919 * place + 13) % vocabulary for place in range(length)),
        seeds=tuple(range(1, SIBLINGS + 1)),
    )


def _ask(engine: Engine, request: Request, sampling: Sampling, version: int) -> Group:
    try:
        ((_, group),) = engine.generate([request], sampling)
    except EngineError as error:
        raise EngineError(
            f"the engine was asked to complete a short prompt, to prove its weights, and could not: {error}"
        ) from error
    said = {completion.version for completion in group.completions}
    if said != {(version, version)}:
        raise EngineError(f"{engine.name}: sampled with weight versions {sorted(said)} instead of {version}")
    return group


@torch.no_grad()
def _expected(model: Any, group: Group, sampling: Sampling) -> torch.Tensor:
    """The trainer's log-probabilities of the group's tokens, one after the other."""
    device = next(model.parameters()).device
    return torch.cat(
        [_of(model, group.prompt_ids, c, device, sampling.temperature) for c in group.completions]
    )


def _of(
    model: Any, prompt: Sequence[int], completion: Completion, device: torch.device, temperature: float
) -> torch.Tensor:
    ids = torch.tensor([[*prompt, *completion.token_ids]], device=device)
    logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logprobs: torch.Tensor = (logits.float() / temperature).log_softmax(-1)
    return logprobs.gather(-1, ids[0, len(prompt) :, None])[:, 0].cpu()


def _exact(model: Any) -> float | None:
    """The most that rounding explains; None where only the distance between two sets of weights tells."""
    parameter = next(model.parameters())
    return EXACT_NATS[parameter.device.type] if parameter.dtype == torch.float32 else None


def _compare(
    expected: torch.Tensor,
    group: Group,
    other: torch.Tensor | None,
    what: str,
    name: str,
    exact: float | None,
) -> Proof:
    """`other`: log-probabilities under the weights that the engine should no longer have."""
    said = torch.tensor([p for c in group.completions for p in c.logprobs])
    off = (expected - said).abs()
    mean, largest = float(off.mean()), float(off.max())
    distance = 1.0 if other is None else float((expected - other).abs().mean())
    limit = SHARE * min(distance, 1.0) if exact is None else exact
    if not mean <= limit:
        stale = other is not None and float((other - said).abs().mean()) < mean / 4
        raise EngineError(
            f"{name} does not sample with {what}: its log-probabilities are {mean:.3g} nats a token from the "
            f"trainer's (at most {limit:.3g} may be rounding). "
            + (
                "They are those of the weights it had before: the new ones were not taken."
                if stale
                else "Some of its weights or cached prefixes are old, or it computes another model."
            )
            + " Report it with the versions that `rlvr doctor` prints; sampling.engine: hf is not affected."
        )
    return Proof(mean_nats=mean, max_nats=largest, distance_nats=distance)
