"""Pivot words (wait, but, instead, ...): where they stand in a completion, and what an update does to them.

A policy that is punished too hard for its mistakes unlearns the words with which it turns round (Lp-Reg,
arXiv:2510.03222; CISPO, arXiv:2506.13585 section 3.1).  Words are found in the text that the tokens spell and
handed back as tokens, so capitals, spaces and the tokenizer's way of cutting them do not matter.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from math import exp

import torch

from rlvr.types import Completion

LEXICON: dict[str, tuple[str, ...]] = {
    "en": (
        "actually",
        "alternatively",
        "but",
        "hmm",
        "however",
        "instead",
        "let me check",
        "maybe",
        "on second thought",
        "perhaps",
        "wait",
    ),
    "de": ("aber", "allerdings", "alternativ", "eigentlich", "jedoch", "moment", "stattdessen", "vielleicht"),
    "es": (
        "alternativamente",
        "en cambio",
        "en realidad",
        "espera",
        "pero",
        "quizás",
        "sin embargo",
        "tal vez",
    ),
    "fr": (
        "alternativement",
        "attends",
        "cependant",
        "en fait",
        "mais",
        "peut-être",
        "pourtant",
        "toutefois",
    ),
    "ja": ("あるいは", "しかし", "ところが", "もしかすると", "代わりに", "実は", "待って", "待てよ"),
    "ko": ("그러나", "대신", "아니면", "어쩌면", "잠깐", "하지만"),
    "pt": ("alternativamente", "contudo", "espere", "mas", "na verdade", "no entanto", "porém", "talvez"),
    "ru": ("возможно", "впрочем", "на самом деле", "но", "однако", "погоди", "подожди", "с другой стороны"),
    "zh": ("不过", "也许", "但是", "其实", "换个", "然而", "等一下", "等等", "让我检查", "重新检查"),
}
"""Words with which a solution turns round, by ISO 639-1 code; the reference's words, ours beyond English."""

RARE, NOISE = 0.1, 0.02
"""A token below this probability is rare; below this share of the likeliest one's it is noise (Lp-Reg)."""

UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI")
"""Scripts whose words stand without spaces, or take endings: no word boundary is asked for."""


class Lexicon:
    """Finds pivot words in sequences of tokens."""

    def __init__(self, words: Iterable[str], pieces: Sequence[bytes]) -> None:
        """`pieces[i]` is the UTF-8 that token i spells; tokens beyond its end spell nothing."""
        self.words = tuple(sorted(set(words)))
        longest_first = sorted(self.words, key=lambda word: (-len(word), word))
        self._pattern = re.compile("|".join(map(_pattern, longest_first)) or r"(?!)", re.IGNORECASE)
        self._pieces = pieces

    def find(self, token_ids: Sequence[int]) -> list[range]:
        """The tokens of each pivot word, as places in `token_ids`, in order."""
        parts = [self._pieces[i] if i < len(self._pieces) else b"" for i in token_ids]
        spelt = b"".join(parts)
        # What is no UTF-8, such as half a character at the end, keeps its length.
        text = spelt.decode("utf-8", "surrogateescape")
        found = [match.span() for match in self._pattern.finditer(text)]
        if not found:
            return []
        ends = list(accumulate(map(len, parts)))
        if not spelt.isascii():
            found = [(_bytes(text[:first]), _bytes(text[:last])) for first, last in found]
        return [range(bisect_right(ends, first), bisect_right(ends, last - 1) + 1) for first, last in found]


def _pattern(word: str) -> str:
    left = r"(?<!\w)" if _bounded(word[0]) else ""
    right = r"(?!\w)" if _bounded(word[-1]) else ""
    return left + r"\s+".join(map(re.escape, word.split())) + right


def _bounded(letter: str) -> bool:
    return letter.isalnum() and not unicodedata.name(letter, "").startswith(UNSPACED)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def usage(lexicon: Lexicon, completions: Iterable[Completion]) -> dict[str, float]:
    """How many pivot words, how many per 1000 tokens, and their mean probability when they were sampled.

    The probability of a word of several tokens is the product of theirs; without a word there is none.
    """
    probabilities, tokens = [], 0
    for completion in completions:
        tokens += len(completion.token_ids)
        found = lexicon.find(completion.token_ids)
        probabilities += [exp(sum(completion.logprobs[at.start : at.stop])) for at in found]
    count = len(probabilities)
    numbers = {"pivot/words": float(count), "pivot/rate": 1000 * count / max(tokens, 1)}
    return numbers | ({"pivot/probability": sum(probabilities) / count} if count else {})


def marks(lexicon: Lexicon, completions: Sequence[Completion], columns: int) -> torch.Tensor:
    """bool [B, C = `columns`]: tokens that belong to a pivot word."""
    marked_BC = torch.zeros(len(completions), columns, dtype=torch.bool)
    for row, completion in enumerate(completions):
        for place in lexicon.find(completion.token_ids):
            marked_BC[row, place.start : place.stop] = True
    return marked_BC


def push_sums(
    coefficient_BT: torch.Tensor, logprobs_BT: torch.Tensor, pivot_BT: torch.Tensor, mask_BT: torch.Tensor
) -> dict[str, float]:
    """Sums over the masked tokens, from which `push_metrics` tells how an update treats pivot words.

    How hard a token is pushed down is what its own logit loses to first order: -C (1 - pi) where C < 0.
    """
    pivot_N, coefficient_N = pivot_BT[mask_BT], coefficient_BT[mask_BT].double()
    push_N = (-coefficient_N * (1 - logprobs_BT[mask_BT].double().exp())).clamp_min(0)
    return {
        "pivot_tokens": float(pivot_N.sum()),
        "pivot_down": float((pivot_N & (coefficient_N < 0)).sum()),
        "pivot_push": float(push_N[pivot_N].sum()),
        "push": float(push_N.sum()),
    }


def push_metrics(sums: Mapping[str, float]) -> dict[str, float]:
    """Share of pivot tokens pushed down, and how hard on average over the average token (`tokens` in all)."""
    pivots, push = sums.get("pivot_tokens", 0.0), sums.get("push", 0.0)
    if not pivots:
        return {}
    numbers = {"pivot/pushed_down_share": sums["pivot_down"] / pivots}
    return numbers | (
        {"pivot/push_ratio": sums["pivot_push"] / pivots * sums["tokens"] / push} if push else {}
    )


def rare_tokens(logprobs_BT: torch.Tensor, peak_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """bool: sampled tokens below probability RARE that are no noise; `peak_BT` is the likeliest one's log pi.

    Their share of all tokens estimates the mass that the policy keeps for them (Lp-Reg's reasoning sparks).
    """
    p_BT = logprobs_BT.exp()
    return mask_BT & (p_BT < RARE) & (p_BT >= NOISE * peak_BT.exp())
