"""Tokens spell their text in every kind of tokenizer: real ones, trained here."""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlvr import build
from rlvr.problems.pieces import token_bytes
from rlvr.problems.vocabulary import make_tokenizer
from rlvr.recipe.schema import Pivots

CORPUS = [
    "The sum is 12, but wait: let me check. 3 + 9 = 12. However, butter is not a number.",
    "Wait, that is wrong. Alternatively we could halve it; actually no. Instead, take 7.",
    "Но подожди, это неверно. Однако попробуем иначе. 等等，不对。但是我们可以重新检查。",
    "Perhaps é, ñ and ß are letters, maybe not. Hmm. On second thought, try again.",
] * 3
LLAMA = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
"""A pattern that lets a quote or a bracket stand in one token with the word behind it."""
TEXT = (
    'First 3 + 9. "Wait, (But not butter; rebut) WAIT\nlet me\ncheck… However—instead.'
    "\nНо однако, 等等 and 但是: el niño; maybe."
)
WORDS = [
    "Wait",
    "But",
    "WAIT",
    "let me\ncheck",
    "However",
    "instead",
    "Но",
    "однако",
    "等等",
    "但是",
    "maybe",
]


def byte_level(pattern=None, merges=40):
    tokenizer = Tokenizer(models.BPE())
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, last])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=257 + merges,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=["<unk>", "<|end|>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    trained = json.loads(tokenizer.to_str())
    for byte in range(256):
        trained["model"]["vocab"][f"<0x{byte:02X}>"] = len(trained["model"]["vocab"])
    return Tokenizer.from_str(json.dumps(trained))


def fast(tokenizer):
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


TOKENIZERS = {
    "GPT-2's split": lambda: fast(byte_level()),
    "many merges": lambda: fast(byte_level(merges=300)),
    "Llama's split": lambda: fast(byte_level(LLAMA, merges=300)),
    "SentencePiece": lambda: fast(sentencepiece()),
    "bytes": lambda: make_tokenizer("bytes"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_spell_the_text_and_pivot_words_are_found(name):
    tokenizer = TOKENIZERS[name]()
    ids = [*tokenizer(TEXT, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    pieces = token_bytes(tokenizer)
    spelt = b"".join(pieces[i] for i in ids)
    assert spelt.decode().removeprefix(" ") == TEXT + tokenizer.eos_token
    lexicon = build.lexicon(Pivots(languages=["en", "ru", "zh"]), tokenizer)
    found = [b"".join(pieces[ids[at]] for at in place).decode() for place in lexicon.find(ids)]
    assert [text.strip(' "(—') for text in found] == WORDS
    assert lexicon.find(ids[:-1]) == lexicon.find(ids)


def test_words_of_several_tokens_are_among_those_tried():
    """Else the test above would prove nothing about them."""
    few = fast(byte_level())
    lexicon = build.lexicon(Pivots(), few)
    assert any(len(place) > 2 for place in lexicon.find(few(TEXT, add_special_tokens=False).input_ids))


def test_the_story_model_and_words_of_the_recipe():
    tokenizer = make_tokenizer("story")
    ids = tokenizer("<think>Ana:6. Bo:6-2=4</think>", add_special_tokens=False).input_ids
    lexicon = build.lexicon(Pivots(languages=[], words=["bo", "Dee"]), tokenizer)
    assert [tokenizer.decode(ids[at.start : at.stop]) for at in lexicon.find(ids)] == ["Bo"]
