"""What vLLM gives back, checked before it is believed, as a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rlvr.errors import EngineError
from rlvr.rollout.engine import Decode
from rlvr.types import Completion, Finish, Group, Request, Sampling

LEAST_TEMPERATURE = 0.01
"""vLLM takes anything between it and 0 for it."""
ROUNDING = 1e-3
"""A log-probability may exceed 0 by so much."""
SEED_BITS = 2**62
"""vLLM adds a sibling's number to the seed of its group; both must fit a signed 64-bit integer."""


class GarbageError(Exception):
    """The engine's answer cannot be what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One completion as vLLM tells it."""

    token_ids: Sequence[int]
    """Sampled tokens [T], end token included."""
    logprobs: Sequence[float]
    """[T] under the processed distribution."""
    finish: str | None
    """vLLM's `finish_reason`."""
    labels: Sequence[str]
    """Names of the weight versions over its tokens, in order."""


def label(run: str, version: int) -> str:
    """The name by which an engine knows a weight version; `run` tells one trainer from another."""
    return f"{run}:{version}"


def parameters(request: Request, sampling: Sampling, context: int) -> dict[str, object]:
    """vLLM's SamplingParams for the siblings of a request: one prompt, computed once.

    Child i of vLLM draws with seed + i, so the group's first seed is that of them all.  EngineError for what
    vLLM would quietly do otherwise: cut at the context's end, or raise the temperature.
    """
    length, limit = len(request.prompt_ids), request.limit(sampling)
    if length + limit > context:
        raise EngineError(
            f"problem {request.problem.id}: a prompt of {length} tokens and a completion of "
            f"{limit} do not fit the context of {context}"
        )
    if 0 < sampling.temperature < LEAST_TEMPERATURE:
        raise EngineError(
            f"temperature {sampling.temperature:g}: vLLM samples at {LEAST_TEMPERATURE:g} or more, or at 0"
        )
    greedy = sampling.temperature == 0
    return {
        "n": 1 if greedy else len(request.seeds),
        "seed": request.seeds[0] % SEED_BITS,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": limit,
        "stop_token_ids": list(sampling.stop_ids),
        "ignore_eos": True,
        "logprobs": 0,
        "detokenize": False,
    }


def group(
    request: Request, sampling: Sampling, rows: Sequence[Row], decode: Decode, *, run: str, vocabulary: int
) -> Group:
    """The group of a request; GarbageError says what is wrong with `rows`."""
    if sampling.temperature == 0:  # vLLM draws a greedy completion once
        rows = list(rows) * len(request.seeds)
    if len(rows) != len(request.seeds):
        raise GarbageError(f"{len(rows)} completions came back of {len(request.seeds)} asked for")
    for row in rows:
        _check(row, sampling, request.limit(sampling), vocabulary)
    texts = decode([list(row.token_ids) for row in rows])
    return Group(
        problem=request.problem,
        prompt_ids=request.prompt_ids,
        completions=tuple(
            Completion(
                token_ids=tuple(row.token_ids),
                # A greedy draw has probability 1 under the distribution drawn from.
                logprobs=tuple(row.logprobs) if sampling.temperature else (0.0,) * len(row.token_ids),
                text=text,
                finish=cast(Finish, row.finish),
                version=_versions(row.labels, run),
            )
            for row, text in zip(rows, texts, strict=True)
        ),
    )


def _check(row: Row, sampling: Sampling, limit: int, vocabulary: int) -> None:
    count = len(row.token_ids)
    if not 0 < count <= limit or len(row.logprobs) != count:
        raise GarbageError(
            f"a completion of {count} tokens with {len(row.logprobs)} log-probabilities, where at most "
            f"{limit} were asked for"
        )
    if not all(0 <= token < vocabulary for token in row.token_ids):
        raise GarbageError(f"a token outside of the vocabulary of {vocabulary}")
    if not all(math.isfinite(p) and p <= ROUNDING for p in row.logprobs):
        raise GarbageError("a log-probability that is none: are the weights finite?")
    ended = row.token_ids[-1] in sampling.stop_ids
    if row.finish != ("stop" if ended else "length") or not (ended or count == limit):
        raise GarbageError(f"a completion of {count} tokens that ended for the reason `{row.finish}`")


def _versions(labels: Sequence[str], run: str) -> tuple[int, int]:
    found = [int(name.removeprefix(f"{run}:")) for name in labels if name.startswith(f"{run}:")]
    if len(found) != len(labels) or not found:
        raise GarbageError(
            f"tokens sampled by weights that are not this run's: {', '.join(labels) or 'unnamed'}"
        )
    return min(found), max(found)
