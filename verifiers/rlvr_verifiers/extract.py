"""Where an answer stands in a completion: behind the thinking, in a box, behind a mark or between tags."""

from __future__ import annotations

import re

BOX_TOKEN = re.compile(r"\\(?:boxed|fbox)\s*\{|\\[{}]|\\\\(?!boxed|fbox)|[{}]")
TAGGED = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)
SAID = re.compile(r"\b(?:answer|result)\s*(?:is|:|=)\s*:?[ \t]*", re.IGNORECASE)
SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def after_thinking(completion: str) -> str | None:
    """The text behind the last `</think>`; all of it without thinking; None where thinking never ended."""
    text = completion.rpartition("</think>")[2]
    return None if "<think>" in text else text


def last_boxed(text: str) -> str | None:
    r"""What the last balanced `\boxed{...}` holds; a box around nothing but a box counts as one.

    One pass, whatever the text: only places are kept until the end.
    """
    open_braces: list[tuple[int, int] | None] = []
    box: tuple[int, int] | None = None
    held: tuple[int, int] | None = None
    for token in BOX_TOKEN.finditer(text):
        if token[0] == "{":
            open_braces.append(None)
        elif token[0].endswith("{") and token[0] != r"\{":
            open_braces.append(token.span())
        elif token[0] == "}" and open_braces and (opened := open_braces.pop()):
            start, end = opened[1], token.start()
            if not (box and box[0] >= start and _is_blank(text[start : box[0]] + text[box[1] : end])):
                held = (start, end)
            box = (opened[0], token.end())
    return text[held[0] : held[1]].strip() if held else None


def _is_blank(text: str) -> bool:
    return not text.strip()


def after_hashes(text: str) -> str | None:
    """The rest of the line behind the last `####`."""
    _, mark, rest = text.rpartition("####")
    line = rest.strip().partition("\n")[0].strip() if mark else ""
    return line or None


def tagged(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>`."""
    found = TAGGED.findall(text)
    return found[-1].strip() if found else None


def said(text: str) -> str | None:
    """What follows the last "answer is" or "answer:", to the end of its sentence."""
    matches = list(SAID.finditer(text))
    if not matches:
        return None
    rest = text[matches[-1].end() :].lstrip()
    end = SENTENCE_END.search(rest)
    return (rest[: end.start()] if end else rest).strip(" *`") or None
