"""The `hf` engine: sampling with the transformers model itself.

Slots in one static KV cache hold the sequences being decoded.  A prompt runs once for its whole group; a
finished sequence frees its slot at once, and when enough are free the next prompts move in:

    requests -> prefill P prompts -> copy KV to P*G slots -> decode all slots -> sample -> finished? -> groups

A prompt that begins another prompt of the same prefill is not run again: its slots take a part of those keys
and values, and decoding begins with its last token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch

from rlvr.cpu import round_up
from rlvr.errors import EngineError
from rlvr.rollout.attention import grouped_decode_attention
from rlvr.rollout.cache import SlotCache, Span
from rlvr.rollout.engine import Decode, Inbox
from rlvr.rollout.prefill import held, left_pad
from rlvr.rollout.sample import draw, uniforms
from rlvr.types import Completion, Finish, Group, Request, Sampling

PREFILL_TOKENS = 16_384
"""Padded prompt tokens in one forward pass."""
GLANCE = 8
"""Passes after which a flow lets its caller look around."""
Row: TypeAlias = tuple[list[int], list[float], Finish, tuple[int, int]]
"""What a sequence has said: tokens, their log-probabilities, how it ended, first and last weight version."""


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
        """Nothing is held between calls; a flow keeps the keys and values of what it has begun."""

    def close(self) -> None:
        """Likewise."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Group]]:
        """Yield (index, group) as groups finish; see `rollout/engine.py`."""
        yield from filter(None, self.flow(deque(enumerate(requests)), sampling))

    def flow(self, inbox: Inbox, sampling: Sampling) -> Iterator[tuple[int, Group] | None]:
        """See `rlvr/rollout/engine.py`; keys and values of earlier weights are kept."""
        decoder = _Decoder(self._model, inbox, sampling, self._slots, self._pad_id, lambda: self._version)
        steps = decoder.run()
        while True:
            with self._sampling(), torch.inference_mode():  # the caller trains the same model in between
                events = list(islice(steps, GLANCE))
            for index in events:
                if index is not None:
                    yield index, self._group(decoder.requests.pop(index), decoder.take(index))
            if not events:
                return
            yield None

    @contextmanager
    def _sampling(self) -> Iterator[None]:
        """The model as it samples, and afterwards as it was."""
        was_training = self._model.training
        if was_training:
            self._model.eval()
        try:
            with grouped_decode_attention(self._model):
                yield
        finally:
            if was_training:
                self._model.train()

    def _group(self, request: Request, rows: list[Row]) -> Group:
        texts = self._decode([tokens for tokens, _, _, _ in rows])
        return Group(
            problem=request.problem,
            prompt_ids=request.prompt_ids,
            completions=tuple(
                Completion(
                    token_ids=tuple(tokens),
                    logprobs=tuple(logprobs),
                    text=text,
                    finish=finish,
                    version=version,
                )
                for (tokens, logprobs, finish, version), text in zip(rows, texts, strict=True)
            ),
        )


class _Decoder:
    """One call of `generate` or `flow`: which sequence sits in which slot, and what it has said so far."""

    def __init__(
        self,
        model: Any,
        inbox: Inbox,
        sampling: Sampling,
        slots: int,
        pad_id: int,
        version: Callable[[], int],
    ) -> None:
        self.model = model
        self.inbox = inbox
        self.sampling = sampling
        self.most = slots
        self.pad_id = pad_id
        self.version = version
        self.device = next(model.parameters()).device
        self.cache = SlotCache(0, 0)
        self.requests: dict[int, Request] = {}
        self.waiting: deque[int] = deque()
        self.unfinished: dict[int, int] = {}
        self.done: dict[int, list[Row | None]] = {}
        self.active = 0
        # Per slot; only the first `active` entries mean anything.
        self.owner = np.zeros((0, 2), np.int64)  # request, sibling
        self.seed = np.zeros(0, np.uint64)
        self.made = np.zeros(0, np.int64)  # tokens sampled
        self.limit = np.zeros(0, np.int64)  # tokens to sample at most
        self.newest = np.zeros(0, np.int64)  # the token to be read next
        self.position = np.zeros(0, np.int64)  # tokens in the cache
        self.begun = np.zeros(0, np.int64)  # version of the weights that drew the first token
        self.tokens = np.zeros((0, sampling.max_tokens), np.int64)
        self.logprobs = np.zeros((0, sampling.max_tokens), np.float32)
        self.stop_ids = np.array(sampling.stop_ids, np.int64)

    def run(self) -> Iterator[int | None]:
        """Yield the index of each request whose last completion has just finished, and None after a pass."""
        while self.inbox or self.waiting or self.active:
            self._admit()
            yield from self._refill()
            if self.active:
                yield from self._step()
            yield None

    def take(self, index: int) -> list[Row]:
        """The finished completions of a request, in seed order."""
        del self.unfinished[index]
        return [row for row in self.done.pop(index) if row is not None]

    def _admit(self) -> None:
        """Take up what was asked since, and make room for it."""
        if not self.inbox:
            return
        while self.inbox:
            index, request = self.inbox.popleft()
            self.requests[index] = request
            self.waiting.append(index)
            self.unfinished[index] = len(request.seeds)
        known = self.requests.values()
        largest = max(len(r.seeds) for r in known)
        total = self.active + sum(len(self.requests[index].seeds) for index in self.waiting)
        slots = min(max(self.most, largest), total)
        length = max(len(r.prompt_ids) + r.limit(self.sampling) for r in known)
        if slots > self.cache.slots or length > self.cache.length:
            self.cache.grow(slots, length)
        more = self.cache.slots - len(self.seed)
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(self, name, np.concatenate([column, np.zeros((more, *column.shape[1:]), column.dtype)]))

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
        holders = held(batch, [self.requests[i].prompt_ids for i in batch])
        run = [index for index in batch if holders[index] == index]
        ids, mask = left_pad([self.requests[i].prompt_ids for i in run], self.pad_id, self.device)
        # Picked by an index: of a slice, matmul would copy a frozen head's weights for each prompt.
        last = torch.tensor([ids.shape[1] - 1], device=self.device)
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp_min(0),
            use_cache=True,
            logits_to_keep=last,
        )
        row = {index: number for number, index in enumerate(run)}
        begun = [index for index in batch if index not in row]
        spans = {
            index: Span(
                row=row[holders[index]],
                begin=ids.shape[1] - len(self.requests[holders[index]].prompt_ids),
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
        self.begun[rows] = self.version()
        self.done[index] = [None] * span.slots
        self.active += span.slots

    def _step(self) -> Iterator[int]:
        """One forward pass: each active sequence reads its newest token and draws the next."""
        # Some slots beyond the active ones compute along, unread: see rlvr/cpu.py.
        n = min(round_up(self.active), self.cache.slots)
        position = torch.from_numpy(self.position[:n]).to(self.device)
        self.cache.begin_step(position, int(self.position[: self.active].max()) + 1)
        output = self.model(
            input_ids=torch.from_numpy(self.newest[:n]).to(self.device)[:, None],
            attention_mask=self.cache.mask,
            position_ids=position[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.position[: self.active] += 1
        yield from self._draw(output.logits[: self.active, -1], 0)

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
            versions = (int(self.begun[row]), self.version())
            self.done[index][sibling] = (*said, "stop" if stop else "length", versions)
            self.unfinished[index] -= 1
            if self.unfinished[index] == 0:
                complete.append(index)
        left = self.active - len(rows)
        holes = rows[rows < left]
        movers = np.setdiff1d(np.arange(left, self.active), rows)
        for name in _COLUMNS:
            column = getattr(self, name)
            column[holes] = column[movers]
        self.cache.move(movers, holes)
        self.active = left
        yield from complete


_COLUMNS = ("owner", "seed", "made", "limit", "newest", "position", "begun", "tokens", "logprobs")
"""What a decoder knows of each slot."""
