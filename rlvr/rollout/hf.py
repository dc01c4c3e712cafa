"""The `hf` engine: sampling with the transformers model itself.

Slots in one static KV cache hold the sequences being decoded.  A prompt runs once for its whole group; a
finished sequence frees its slot at once, and when enough are free the next prompts move in:

    requests -> prefill P prompts -> copy KV to P*G slots -> decode all slots -> sample -> finished? -> groups

A prompt that begins another prompt of the same prefill is not run again: its slots take a part of those keys
and values, and decoding begins with its last token.  On a CPU large batches are decoded in shares, at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from rlvr.errors import EngineError
from rlvr.rollout.attention import grouped_decode_attention
from rlvr.rollout.cache import SlotCache, Span
from rlvr.rollout.engine import Decode
from rlvr.rollout.sample import draw, uniforms
from rlvr.rollout.side_by_side import side_by_side
from rlvr.types import Completion, Finish, Group, Request, Sampling

PREFILL_TOKENS = 16_384
"""Padded prompt tokens in one forward pass."""
SHARE, MOST_SHARES = 192, 4
"""On a CPU: sequences in a share at least, so that its products outweigh Python's lock; shares at most."""
Row: TypeAlias = tuple[list[int], list[float], Finish]
"""What a sequence has said: tokens, their log-probabilities, how it ended."""


class HfEngine:
    """Continuous batching over a transformers model that the trainer may share.

    `decode` turns token ids into texts; `slots` is the number of sequences decoded at once.
    """

    name = "hf"

    def __init__(self, model: Any, decode: Decode, *, pad_id: int, slots: int, version: int = 0) -> None:
        self._decode = decode
        self._pad_id = pad_id
        self._slots = slots
        self.load_weights(model, version)

    def load_weights(self, model: Any, version: int) -> None:
        """Sample from `model` from now on; nothing is copied, the weights are the trainer's own."""
        window = getattr(model.config.get_text_config(), "sliding_window", None)
        layer_types = getattr(model.config.get_text_config(), "layer_types", None) or []
        if window and any(kind != "full_attention" for kind in layer_types):
            raise EngineError(
                "sampling.engine = hf: this model uses sliding-window or linear attention, which the "
                "hf engine cannot cache; use a vLLM engine."
            )
        self._model = model
        self._version = version

    def rest(self) -> None:
        """Nothing is held between calls."""

    def close(self) -> None:
        """Likewise."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield (index, group) as groups finish; see `rollout/engine.py`."""
        if not requests:
            return
        was_training = self._model.training
        self._model.eval()
        count = self._shares(requests)
        parts = [
            partial(self._part, range(first, len(requests), count), requests, sampling, self._slots // count)
            for first in range(count)
        ]
        try:
            with grouped_decode_attention(self._model):
                done = side_by_side(parts) if count > 1 else parts[0](threading.Event())
                for index, rows in done:
                    yield index, self._group(requests[index], rows)
        finally:
            self._model.train(was_training)

    def _shares(self, requests: Sequence[Request]) -> int:
        """A function of the requests and the number of threads alone: the same call has the same shares."""
        if next(self._model.parameters()).device.type != "cpu":
            return 1
        decoded = min(self._slots, sum(len(request.seeds) for request in requests))
        return max(1, min(torch.get_num_threads(), MOST_SHARES, decoded // SHARE, len(requests)))

    def _part(
        self,
        indices: Sequence[int],
        requests: Sequence[Request],
        sampling: Sampling,
        slots: int,
        stop: threading.Event,
    ) -> Iterator[tuple[int, list[Row]]]:
        """Decode the requests at `indices`."""
        with torch.inference_mode():
            mine = [requests[index] for index in indices]
            decoder = _Decoder(self._model, mine, sampling, slots, self._pad_id)
            for number in decoder.run(stop):
                yield indices[number], decoder.take(number)

    def _group(self, request: Request, rows: list[Row]) -> Group:
        texts = self._decode([tokens for tokens, _, _ in rows])
        return Group(
            problem=request.problem,
            prompt_ids=request.prompt_ids,
            completions=tuple(
                Completion(
                    token_ids=tuple(tokens),
                    logprobs=tuple(logprobs),
                    text=text,
                    finish=finish,
                    version=(self._version, self._version),
                )
                for (tokens, logprobs, finish), text in zip(rows, texts, strict=True)
            ),
        )


class _Decoder:
    """One call of `generate`: which sequence sits in which slot, and what it has said so far."""

    def __init__(
        self, model: Any, requests: Sequence[Request], sampling: Sampling, slots: int, pad_id: int
    ) -> None:
        self.model = model
        self.requests = requests
        self.sampling = sampling
        self.pad_id = pad_id
        self.device = next(model.parameters()).device
        largest = max(len(r.seeds) for r in requests)
        total = sum(len(r.seeds) for r in requests)
        slots = min(max(slots, largest), total)
        length = max(len(r.prompt_ids) + r.limit(sampling) for r in requests)
        self.cache = SlotCache(slots, length)
        self.waiting = deque(range(len(requests)))
        self.unfinished = [len(r.seeds) for r in requests]
        self.done: dict[int, list[Row | None]] = {}
        self.active = 0
        # Per slot; only the first `active` entries mean anything.
        self.owner = np.zeros((slots, 2), np.int64)  # request, sibling
        self.seed = np.zeros(slots, np.uint64)
        self.made = np.zeros(slots, np.int64)  # tokens sampled
        self.limit = np.zeros(slots, np.int64)  # tokens to sample at most
        self.newest = np.zeros(slots, np.int64)  # the token to be read next
        self.position = np.zeros(slots, np.int64)  # tokens in the cache
        self.tokens = np.zeros((slots, sampling.max_tokens), np.int64)
        self.logprobs = np.zeros((slots, sampling.max_tokens), np.float32)
        self.stop_ids = np.array(sampling.stop_ids, np.int64)

    def run(self, stop: threading.Event) -> Iterator[int]:
        """Yield the index of each request whose last completion has just finished, until `stop` is set."""
        while (self.waiting or self.active) and not stop.is_set():
            yield from self._refill()
            if self.active:
                yield from self._step()

    def take(self, index: int) -> list[Row]:
        """The finished completions of a request, in seed order."""
        return [row for row in self.done.pop(index) if row is not None]

    def _refill(self) -> Iterator[int]:
        """Move waiting prompts in once a quarter of the slots is free (each prefill costs a forward pass)."""
        free = self.cache.slots - self.active
        if not self.waiting or (self.active and free < self.cache.slots // 4):
            return
        batch: list[int] = []
        longest = 0
        while self.waiting:
            request = self.requests[self.waiting[0]]
            longest = max(longest, len(request.prompt_ids))
            if len(request.seeds) > free or (batch and longest * (len(batch) + 1) > PREFILL_TOKENS):
                break
            free -= len(request.seeds)
            batch.append(self.waiting.popleft())
        if batch:
            yield from self._prefill(batch)

    def _prefill(self, batch: list[int]) -> Iterator[int]:
        """Run the prompts, copy their keys and values to their siblings' slots and draw the first tokens."""
        held = _held(batch, [self.requests[i].prompt_ids for i in batch])
        run = [index for index in batch if held[index] == index]
        ids, mask = _left_pad([self.requests[i].prompt_ids for i in run], self.pad_id, self.device)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp_min(0),
            use_cache=True,
            logits_to_keep=1,
        )
        row = {index: number for number, index in enumerate(run)}
        begun = [index for index in batch if index not in row]
        spans = {
            index: Span(
                row=row[held[index]],
                begin=ids.shape[1] - len(self.requests[held[index]].prompt_ids),
                # What was not run reads its last token when decoding begins.
                length=len(self.requests[index].prompt_ids) - (index not in row),
                slots=len(self.requests[index].seeds),
            )
            for index in (*begun, *run)
        }
        self.cache.adopt(output.past_key_values, list(spans.values()), self.active)
        for index, span in spans.items():
            self._seat(index, span)
        siblings = torch.tensor([len(self.requests[i].seeds) for i in run], device=self.device)
        logits = output.logits[:, -1].repeat_interleave(siblings, dim=0)
        yield from self._draw(logits, self.active - len(logits))

    def _seat(self, index: int, span: Span) -> None:
        """Give the next slots to the siblings of a request."""
        request, rows = self.requests[index], slice(self.active, self.active + span.slots)
        self.owner[rows, 0], self.owner[rows, 1] = index, np.arange(span.slots)
        self.seed[rows] = np.array([s % 2**64 for s in request.seeds], np.uint64)
        self.made[rows], self.position[rows] = 0, span.length
        self.limit[rows], self.newest[rows] = request.limit(self.sampling), request.prompt_ids[-1]
        self.done[index] = [None] * span.slots
        self.active += span.slots

    def _step(self) -> Iterator[int]:
        """One forward pass: each active sequence reads its newest token and draws the next."""
        n = self.active
        position = torch.from_numpy(self.position[:n]).to(self.device)
        self.cache.begin_step(position, int(self.position[:n].max()) + 1)
        output = self.model(
            input_ids=torch.from_numpy(self.newest[:n]).to(self.device)[:, None],
            attention_mask=self.cache.mask,
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position[:n] += 1
        yield from self._draw(output.logits[:, -1], 0)

    def _draw(self, logits: torch.Tensor, start: int) -> Iterator[int]:
        """Draw one token for the slots from `start` to `active` and retire those that are finished."""
        rows = np.arange(start, self.active)
        uniform = torch.from_numpy(uniforms(self.seed[rows], self.made[rows])).to(logits.device)
        tokens, logprobs = draw(logits, uniform, self.sampling)
        drawn = tokens.cpu().numpy()
        self.tokens[rows, self.made[rows]] = self.newest[rows] = drawn
        self.logprobs[rows, self.made[rows]] = logprobs.cpu().numpy()
        self.made[rows] += 1
        stopped = np.isin(drawn, self.stop_ids)
        finished = stopped | (self.made[rows] >= self.limit[rows])
        if finished.any():
            yield from self._retire(rows[finished], stopped[finished])

    def _retire(self, rows: np.ndarray, stopped: np.ndarray) -> Iterator[int]:
        """Take finished sequences out and close the gaps with the last slots."""
        complete = []
        for row, stop in zip(rows.tolist(), stopped.tolist(), strict=True):
            index, sibling = self.owner[row].tolist()
            made = int(self.made[row])
            said = (self.tokens[row, :made].tolist(), self.logprobs[row, :made].tolist())
            self.done[index][sibling] = (*said, "stop" if stop else "length")
            self.unfinished[index] -= 1
            if self.unfinished[index] == 0:
                complete.append(index)
        left = self.active - len(rows)
        holes = rows[rows < left]
        movers = np.setdiff1d(np.arange(left, self.active), rows)
        columns = (self.owner, self.seed, self.made, self.limit, self.newest, self.position)
        for column in (*columns, self.tokens, self.logprobs):
            column[holes] = column[movers]
        self.cache.move(movers, holes)
        self.active = left
        yield from complete


def _held(batch: Sequence[int], prompts: Sequence[tuple[int, ...]]) -> dict[int, int]:
    """Which request's prompt holds each request's prompt: a longer one that begins with it, or its own."""
    found: dict[int, int] = {}
    longest: tuple[int, ...] = ()
    holder = -1
    # In falling order all that begin with a prompt stand right before it.
    for prompt, index in sorted(zip(prompts, batch, strict=True), reverse=True):
        if len(prompt) >= len(longest) or longest[: len(prompt)] != prompt:
            longest, holder = prompt, index
        found[index] = holder
    return found


def _left_pad(
    prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, int64 [P, T]: the last column holds the last token of every prompt."""
    longest = max(len(p) for p in prompts)
    ids = np.full((len(prompts), longest), pad_id, np.int64)
    mask = np.zeros((len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
