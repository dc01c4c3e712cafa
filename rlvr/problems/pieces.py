"""What each token of a vocabulary spells, in UTF-8, whatever way the tokenizer writes it down."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

SPACE = "▁"
"""How SentencePiece writes a space."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How it writes a byte that no token spells."""


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The bytes of every token id: byte-level BPE, SentencePiece, or tokens that are plain text.

    Added tokens spell their text, also special ones; ids without a token spell nothing.  Joined, the pieces
    of a text are the text (SentencePiece: with a space before it).
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    added = {str(token): index for index, token in tokenizer.added_tokens_decoder.items()}
    pieces = [b""] * (max([*vocabulary.values(), *added.values()], default=-1) + 1)
    spell = _spelling([token for token in vocabulary if token not in added])
    for token, index in vocabulary.items():
        pieces[index] = spell(token)
    for token, index in added.items():
        pieces[index] = token.encode()
    return pieces


def _spelling(tokens: list[str]) -> Callable[[str], bytes]:
    # A byte-level vocabulary has a sign for every byte and never a ▁, which it writes with three signs.
    if any(SPACE in token for token in tokens):
        return _sentencepiece
    if "Ġ" in tokens and "Ċ" in tokens:
        return _byte_level
    return str.encode


def _sentencepiece(token: str) -> bytes:
    byte = BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace(SPACE, " ").encode()


def _byte_level(token: str) -> bytes:
    return b"".join(bytes([_SIGNS[sign]]) if sign in _SIGNS else sign.encode() for sign in token)


def _signs() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100 onwards in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(hidden)}


_SIGNS = _signs()
