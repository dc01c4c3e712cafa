r"""What a completion ends in, where its last sentence says that this is it: "The pair is $(7, 6)$." """

from __future__ import annotations

import re

MOST_CHARACTERS = 600
"""Of the end of the text, which are looked at."""
FORMULA = r"(?:\$\$?([^$\n]+)\$\$?|\\\(((?:(?!\\[()]).)+)\\\)|\\\[((?:(?!\\[\[\]]).)+)\\\])"
FORMULAS = re.compile(FORMULA)
NAMED = re.compile(rf"(?:\b(?:is|are|equals)|:)[ \t\n]*{FORMULA}[.!]?\s*\Z")
NAMES = re.compile(
    rf"{FORMULA}[ \t]+(?:is|are)[ \t]+(?:the|our)[ \t]+(?:final[ \t]+)?(?:answer|solution|result)s?[.!]?\s*\Z"
)
CHOSEN = re.compile(r"\b(?:it's|it is|I choose|I pick|I select|option)[ \t]+\(?([A-J])\)?[.!]?\s*\Z")
THERE = re.compile(
    r"\bthere (?:is|are) (?:exactly |only |a total of )?(\d[\d,]*)(?![\d.])[^.\d$\\]*[.!]?\s*\Z"
)
HOPE = re.compile(r"\s*I hope (?:it|this) is correct\.?\s*\Z")
DOUBT = re.compile(
    r"\b(?:not|never|cannot|wrong|or|either|neither|guess|if|unless|maybe|perhaps)\b|n't", re.IGNORECASE
)


def concluded(text: str) -> str | None:
    """What the text ends in behind "is" or a colon, before "is the answer", or as "it's B"; else None."""
    end = HOPE.sub("", text[-MOST_CHARACTERS:]).rpartition("\n\n")[2]
    last = re.split(r"(?<=[.!?])\s+(?=[A-Z])", end)[-1]
    if DOUBT.search(re.split(r",\s+(?=[a-z])", FORMULAS.sub(" ", last))[-1]):
        return None
    match = NAMED.search(last) or NAMES.search(last) or CHOSEN.search(last) or THERE.search(last)
    found = next((group for group in match.groups() if group), "") if match else ""
    return found.strip() or None
