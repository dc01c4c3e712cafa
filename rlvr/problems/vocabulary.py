"""Tokenizers made on the spot: real fast tokenizers that save, load and chat like any other."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from rlvr.errors import RecipeError, near_miss
from rlvr.problems.story import VOCABULARY

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, USER, ASSISTANT, SYSTEM, END = SPECIAL = (
    "<|pad|>",
    "<|unknown|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """`bytes` takes any text; the name of a generator gives its own small vocabulary.

    Raises RecipeError for an unknown name.
    """
    from transformers import PreTrainedTokenizerFast

    fast: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = fast(
        tokenizer_object=_maker(name)(),
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    return tokenizer


def vocabulary_size(name: str) -> int:
    """Tokens of such a tokenizer, special ones included.  Raises RecipeError for an unknown name."""
    return int(_maker(name)().get_vocab_size())


def _maker(name: str) -> Callable[[], Tokenizer]:
    makers: dict[str, Callable[[], Tokenizer]] = {"bytes": _bytes, "story": lambda: _phrases(VOCABULARY)}
    if name not in makers:
        raise RecipeError(f"model.make.tokenizer = {name}: no such vocabulary{near_miss(name, makers)}")
    return makers[name]


def _phrases(phrases: Sequence[str]) -> Tokenizer:
    """One token a phrase, longest match first; text outside the vocabulary becomes <|unknown|>."""
    tokenizer = Tokenizer(
        models.WordLevel({text: index for index, text in enumerate((*SPECIAL, *phrases))}, unk_token=UNKNOWN)
    )
    longest_first = "|".join(re.escape(p) for p in sorted(phrases, key=len, reverse=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(longest_first), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _bytes() -> Tokenizer:
    """Byte-level BPE without merges: one token a byte of UTF-8."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: index for index, text in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer
