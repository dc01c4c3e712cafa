"""Packed sequences: a prompt once, the completions of its group behind it, and no padding.

    token     p p p a a a b b | q q c d d      a, b: completions of prompt p; c, d: of q
    position  0 1 2 3 4 5 3 4   0 1 2 2 3      each goes on where its prompt ends

A micro-batch is one row of N tokens for every layer but attention.  Attention alone gathers queries, keys and
values to padded sequences of similar lengths, a prompt's keys in front of each completion's own, and hands
back N rows.  The last token of a completion predicts nothing that counts and is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from rlvr.cpu import round_up

NAME = "rlvr_packed"
SIMILAR = 0.7
"""A completion shorter than this share of the longest beside it begins a block of its own ..."""
LEAST_BLOCK = 2**16
"""... once its block has so many query-key pairs: smaller ones cost more in calls than they save."""
MASK_ELEMENTS = 2**25
"""Largest mask of a block; beyond it whole sequences attend, which need none."""
CAUSAL_BLOCK = 512
"""Kernels skip what lies above the diagonal in blocks of about so many keys."""
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""How far, relative to their size, hidden states may be off by the order of sums alone."""
LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}
"""Kinds of layers that see other tokens through the attention kernel only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Sequences whose attention is one kernel call, as places in the packed row; padding repeats a token."""

    queries_BQ: torch.Tensor
    """int64 [B, Q] tokens that look."""
    keys_BK: torch.Tensor
    """int64 [B, K] tokens that are looked at: each sequence from its first."""
    places_BQ: torch.Tensor
    """int64 [B, Q] position in its sequence of each token that looks."""
    mask_BQK: torch.Tensor | None
    """0 or -inf; None where Q = K and position i looks at the positions up to i."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the tokens of a micro-batch stand in its packed row."""

    ids_N: torch.Tensor
    """int64 [N] token ids: prompts, then completions."""
    positions_N: torch.Tensor
    """int64 [N] position of each in its sequence."""
    sources_M: torch.Tensor
    """int64 [M] the token that predicts each completion token, completions one after the other."""
    blocks: tuple[Block, ...]
    """What attention computes."""
    outputs_N: torch.Tensor
    """int64 [N] place of each token among the blocks' queries, flattened one after the other."""
    longest: int
    """Tokens of the longest sequence."""


def lay_out(
    ids_BT: torch.Tensor,
    prompt_lengths_B: torch.Tensor,
    lengths_B: torch.Tensor,
    prompt_B: torch.Tensor,
    dtype: torch.dtype,
) -> Layout:
    """The layout of right-padded sequences; those of equal `prompt_B` begin with the same prompt.

    `dtype` is that of the queries.
    """
    device = ids_BT.device
    asked_B, all_B, group_B = (x.cpu() for x in (prompt_lengths_B, lengths_B, prompt_B))
    kept_B = (all_B - asked_B - 1).clamp_min(0)
    _, prompt_B = torch.unique(group_B, return_inverse=True)
    rows_B = torch.arange(len(all_B))
    # The first sequence of each prompt gives its tokens.
    first_P = torch.full((int(prompt_B.max()) + 1,), len(all_B)).scatter_reduce(0, prompt_B, rows_B, "amin")
    asked_P = asked_B[first_P]
    prompt_starts_P = asked_P.cumsum(0) - asked_P
    starts_B = int(asked_P.sum()) + kept_B.cumsum(0) - kept_B
    row_N = torch.cat([first_P.repeat_interleave(asked_P), rows_B.repeat_interleave(kept_B)])
    own_N = torch.arange(len(row_N))
    completion_N = own_N[int(asked_P.sum()) :]
    of_N = row_N[len(own_N) - len(completion_N) :]
    position_N = torch.cat([
        own_N[: len(own_N) - len(completion_N)] - prompt_starts_P.repeat_interleave(asked_P),
        completion_N - starts_B[of_N] + asked_B[of_N],
    ])  # fmt: skip
    seats = _Seats(prompt_starts_P[prompt_B], starts_B, asked_B, kept_B)
    blocks, outputs_N = _blocks(seats, first_P, len(own_N), dtype)
    made_B = all_B - asked_B
    row_M = rows_B.repeat_interleave(made_B)
    column_M = torch.arange(len(row_M)) - (made_B.cumsum(0) - made_B)[row_M]
    # Rows beyond the tokens repeat the last one; nobody reads what comes of them.
    fill = round_up(len(own_N)) - len(own_N)
    filled = (torch.cat([x, x[-1:].expand(fill)]) for x in (row_N, position_N, outputs_N))
    row_N, position_N, outputs_N = filled
    return Layout(
        ids_N=ids_BT[row_N.to(device), position_N.to(device)],
        positions_N=position_N.to(device),
        sources_M=seats.of(row_M, asked_B[row_M] + column_M - 1).to(device),
        blocks=tuple(_moved(block, device) for block in blocks),
        outputs_N=outputs_N.to(device),
        longest=int((asked_B + kept_B).max()),
    )


@dataclass(frozen=True, slots=True)
class _Seats:
    """Where the parts of each sequence begin in the packed row, and their lengths."""

    prompt_B: torch.Tensor
    completion_B: torch.Tensor
    asked_B: torch.Tensor
    kept_B: torch.Tensor

    def of(self, row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """The places of tokens, given by sequence and position; beyond its end a sequence's last token."""
        position = torch.minimum(position, (self.asked_B + self.kept_B)[row] - 1)
        asked = self.asked_B[row]
        inside = self.prompt_B[row] + position
        return torch.where(position < asked, inside, self.completion_B[row] + position - asked)


def _blocks(
    seats: _Seats, first_P: torch.Tensor, tokens: int, dtype: torch.dtype
) -> tuple[list[Block], torch.Tensor]:
    """Blocks, and for each token its place among their queries."""
    completing = seats.kept_B.nonzero()[:, 0]
    by_length = completing[seats.kept_B[completing].argsort(descending=True, stable=True)]
    parts = _similar(by_length, seats)
    none_B = torch.zeros_like(seats.asked_B)
    if _splits(seats, first_P, parts):
        prompts = first_P[seats.asked_B[first_P].argsort(descending=True, stable=True)]
        given = [(prompts, none_B, seats.asked_B)]
        given += [(part, seats.asked_B, seats.asked_B + seats.kept_B) for part in parts]
    else:
        whole_B = seats.asked_B + seats.kept_B
        given = [(whole_B.argsort(descending=True, stable=True), none_B, whole_B)]
    blocks, outputs_N, start = [], torch.zeros(tokens, dtype=torch.int64), 0
    for rows, begin_B, end_B in given:
        block = _block(seats, rows, begin_B[rows], end_B[rows], dtype)
        is_real = block.places_BQ < end_B[rows][:, None]
        count = block.queries_BQ.numel()
        outputs_N[block.queries_BQ[is_real]] = torch.arange(start, start + count)[is_real.flatten()]
        blocks.append(block)
        start += count
    return blocks, outputs_N


def _splits(seats: _Seats, first_P: torch.Tensor, parts: list[torch.Tensor]) -> bool:
    """Whether prompts attend by themselves, once, and completions look at them through a mask.

    Else whole sequences attend: a prompt once for each completion, but of a long square only half.
    """
    whole_B = seats.asked_B + seats.kept_B
    if len(first_P) == len(whole_B):
        return False
    masks = [len(p) * int(seats.kept_B[p].max()) * int(whole_B[p].max()) for p in parts]
    split = _pairs(seats.asked_B[first_P]) + int((seats.kept_B * whole_B).sum())
    return split < _pairs(whole_B) and max(masks, default=0) <= MASK_ELEMENTS


def _pairs(lengths: torch.Tensor) -> int:
    """Query-key pairs that a kernel computes of causal squares: of small ones all."""
    return int((lengths.square() // torch.where(lengths > CAUSAL_BLOCK, 2, 1)).sum())


def _similar(by_length: torch.Tensor, seats: _Seats) -> list[torch.Tensor]:
    """Cut completions, longest first, where the next is much shorter than the first of its block."""
    parts, start = [], 0
    lengths = seats.kept_B[by_length].tolist()
    wholes = (seats.asked_B + seats.kept_B)[by_length].tolist()
    for end, length in enumerate(lengths):
        enough = (end - start) * lengths[start] * wholes[start] >= LEAST_BLOCK
        if length < SIMILAR * lengths[start] and enough:
            parts.append(by_length[start:end])
            start = end
    return [*parts, by_length[start:]] if len(by_length) else []


def _block(
    seats: _Seats, rows: torch.Tensor, begin_B: torch.Tensor, end_B: torch.Tensor, dtype: torch.dtype
) -> Block:
    is_masked = bool(begin_B.any())
    queries = int((end_B - begin_B).max())
    # Kernels want rows of a mask that begin at round addresses.
    keys = -(-int(end_B.max()) // 8) * 8 if is_masked else queries
    places_BQ = begin_B[:, None] + torch.arange(queries)
    places_K = torch.arange(keys)
    mask_BQK = None
    if is_masked:
        seen = places_K <= torch.minimum(places_BQ, end_B[:, None] - 1)[:, :, None]
        mask_BQK = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
    return Block(
        queries_BQ=seats.of(rows[:, None].expand_as(places_BQ), places_BQ),
        keys_BK=seats.of(rows[:, None].expand(-1, keys), places_K.expand(len(rows), -1)),
        places_BQ=places_BQ,
        mask_BQK=mask_BQK,
    )


def _moved(block: Block, device: torch.device) -> Block:
    return Block(
        queries_BQ=block.queries_BQ.to(device),
        keys_BK=block.keys_BK.to(device),
        places_BQ=block.places_BQ.to(device),
        mask_BQK=None if block.mask_BQK is None else block.mask_BQK.to(device),
    )


def _packed(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over [1, heads, N, width]; without a layout, transformers' own."""
    if layout is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    rows = [x[0].transpose(0, 1) for x in (query, key, value)]
    found = []
    for block in layout.blocks:
        q, k, v = (
            embedding(places, x.reshape(len(x), -1)).view(*places.shape, *x.shape[1:]).transpose(1, 2)
            for places, x in zip((block.queries_BQ, block.keys_BK, block.keys_BK), rows, strict=True)
        )
        out, _ = sdpa_attention_forward(module, q, k, v, _mask(block, attention_mask), **options)
        found.append(out.flatten(0, 1).flatten(1))
    joined = torch.cat(found) if len(found) > 1 else found[0]
    out = joined.index_select(0, layout.outputs_N)
    return out.view(1, len(out), query.shape[1], -1), None


def _mask(block: Block, whole: torch.Tensor | None) -> torch.Tensor | None:
    """[B, 1, Q, K] or None; `whole` is the model's own rule for one sequence [1, 1, T, T]: a window."""
    if whole is None:
        return None if block.mask_BQK is None else block.mask_BQK[:, None]
    last = whole.shape[-1] - 1
    queries = block.places_BQ.clamp_max(last)
    keys = torch.arange(block.keys_BK.shape[1], device=whole.device).clamp_max(last)
    mask = whole[0, 0][queries][:, None, :, keys]
    return mask if block.mask_BQK is None else mask & (block.mask_BQK == 0)[:, None]


def _whole_mask(
    batch_size: int, q_length: int, kv_length: int, attention_mask: torch.Tensor | None = None, **options: Any
) -> torch.Tensor | None:
    """The mask of one sequence of `kv_length` tokens, where the packed row has another length."""
    if q_length != kv_length:
        batch_size, q_length, attention_mask = 1, kv_length, None
    return sdpa_mask(batch_size, q_length, kv_length, attention_mask=attention_mask, **options)


AttentionInterface.register(NAME, _packed)
AttentionMaskInterface.register(NAME, _whole_mask)


@contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Layers of a packed forward pass that are recomputed meet the same attention: take gradients inside."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def packed_hidden(model: Any, layout: Layout) -> torch.Tensor:
    """The decoder's hidden states [N, D] of the tokens of a layout."""
    with packed_attention(model):
        found = model.get_decoder()(
            input_ids=layout.ids_N[None],
            position_ids=layout.positions_N[None],
            # As long as one sequence: from it the model makes the mask of one, not of the packed row.
            attention_mask=torch.ones(1, layout.longest, dtype=torch.int64, device=layout.ids_N.device),
            use_cache=False,
            layout=layout,
        )
    hidden_ND: torch.Tensor = found.last_hidden_state[0]
    return hidden_ND


def misfit(model: Any) -> str | None:
    """Why this model cannot run packed; None where it can, by its configuration and by trying.

    Tried are two groups of made-up tokens, packed and one sequence after the other.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = base.config.get_text_config()
    if config._attn_implementation != "sdpa":
        return f"its attention is `{config._attn_implementation}`, not `sdpa`"
    others = set(getattr(config, "layer_types", None) or ()) - LAYERS
    if others:
        return f"it has layers of another kind: {', '.join(sorted(others))}"
    try:
        distance, allowed = _distance(base, config.vocab_size)
    except Exception as error:  # noqa: BLE001 - a model that cannot take it raises anything
        first = (str(error).strip().splitlines() or [""])[0]
        return f"it does not run packed ({type(error).__name__}: {first})"
    far = f"packed, its hidden states are off by {distance:.1g} of their size, above {allowed:g}"
    return None if distance <= allowed else far


@torch.no_grad()
def _distance(base: Any, vocabulary: int) -> tuple[float, float]:
    """The greatest relative distance between hidden states, packed and alone, and what rounding may cause."""
    weight = base.get_input_embeddings().weight
    prompts_B, lengths_B = torch.tensor([9, 9, 4, 4, 4]), torch.tensor([14, 21, 12, 8, 5])
    prompt_B = torch.tensor([0, 0, 1, 1, 1])
    draw = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(vocabulary, (5, 21), generator=draw)
    for row, first in ((1, 0), (3, 2), (4, 2)):
        ids_BT[row, : prompts_B[row]] = ids_BT[first, : prompts_B[row]]
    ids_BT = ids_BT.to(weight.device)
    layout = lay_out(ids_BT, prompts_B, lengths_B, prompt_B, weight.dtype)
    packed_MD = packed_hidden(base, layout)[layout.sources_M]
    alone_MD = torch.cat([
        base.get_decoder()(input_ids=ids[None, : length - 1], use_cache=False)
        .last_hidden_state[0, prompt - 1 :]
        for ids, prompt, length in zip(ids_BT, prompts_B.tolist(), lengths_B.tolist(), strict=True)
    ])  # fmt: skip
    distance_M = (packed_MD - alone_MD).float().norm(dim=-1) / alone_MD.float().norm(dim=-1)
    return float(distance_M.max()), ROUNDING[weight.dtype]
