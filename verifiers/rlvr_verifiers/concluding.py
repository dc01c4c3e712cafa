r"""What a completion ends in, where its last sentence says that this is it: "The pair is $(7, 6)$." """

from __future__ import annotations

import re

MOST_CHARACTERS = 600
"""Of the end of the text, which are looked at."""
FORMULA = r"(?:\$\$?([^$\n]+)\$\$?|\\\(((?:(?!\\[()]).)+)\\\)|\\\[((?:(?!\\[\[\]]).)+)\\\])"
NAMED = re.compile(rf"(?:\b(?:is|are|equals)|:)[ \t\n]*{FORMULA}[.!]?\s*\Z")
NAMES = re.compile(
    rf"{FORMULA}[ \t]+(?:is|are)[ \t]+(?:the|our)[ \t]+(?:final[ \t]+)?(?:answer|solution|result)s?[.!]?\s*\Z"
)
CHOSEN = re.compile(r"\b(?:it's|it is|I choose|I pick|I select|option)[ \t]+\(?([A-J])\)?[.!]?\s*\Z")


def concluded(text: str) -> str | None:
    """What the text ends in behind "is" or a colon, before "is the answer", or as "it's B"; else None."""
    end = text[-MOST_CHARACTERS:].rpartition("\n\n")[2]
    match = NAMED.search(end) or NAMES.search(end) or CHOSEN.search(end)
    found = next((group for group in match.groups() if group), "") if match else ""
    return found.strip() or None
