"""Which program a completion hands in: a fenced block of Python, by the same rules for every problem.

Of what stands behind the thinking and before the end of the turn, the last block tagged as Python counts;
where no block is so tagged, the last without a tag.  Blocks of other languages never count.  Where the
problem names what is to be defined and the last block does not define it (an example of its use), the last
that does.  A last block that is never closed goes on to the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from rlvr_verifiers.turns import TURN_ENDS, after_thinking

PYTHON = {"python", "python3", "py", "py3", "ipython"}
FENCE = re.compile(r"([ \t]*+)(`{3,}+|~{3,}+)([^`\n]*+)")
"""No part gives back what it took: a long line costs no more than its length."""
LANGUAGE = re.compile(r"[{.\s]*([A-Za-z][\w+#-]*)?")


class Block(NamedTuple):
    """A fenced block."""

    language: str
    """First word behind the fence in lower case; empty where there is none."""
    code: str
    """What stands between the fences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """What was handed in."""

    program: str | None
    """Its text; None where there is none."""
    rule: str
    """Which rule took it, or why there is none."""


def find_program(completion: str, entry: str = "", *, bare: bool = False) -> Handed:
    """The program of a completion; `entry` is the name that it must define, if there is one.

    `bare` takes a text without any fence as a program.
    """
    text = after_thinking(TURN_ENDS.split(completion, maxsplit=1)[0].replace("\r\n", "\n"))
    if text is None:
        return Handed(program=None, rule="the thinking never ended")
    found = blocks(text)
    if not found:
        is_program = bare and bool(text.strip())
        return Handed(
            program=text if is_program else None, rule="the whole text" if is_program else "no fenced block"
        )
    tagged = [block for block in found if block.language in PYTHON]
    choice = tagged or [block for block in found if not block.language]
    if not choice:
        return Handed(program=None, rule=f"no block of Python, only of {found[-1].language}")
    taken, rule = choice[-1], f"the last block {'of Python' if tagged else 'without a tag'}"
    defining = [block for block in choice if _defines(block.code, entry)]
    if defining and taken is not defining[-1]:
        taken, rule = defining[-1], f"the last block that defines {entry}"
    if not taken.code.strip():
        return Handed(program=None, rule="the last block is empty")
    return Handed(program=taken.code, rule=rule)


def blocks(text: str) -> list[Block]:
    """All fenced blocks in order; a fence closes with at least as many marks of its kind, on a line alone."""
    found: list[Block] = []
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        mark = FENCE.fullmatch(line)
        if opened is None:
            if mark:
                opened, lines = (len(mark[1]), mark[2], _language(mark[3])), []
        elif mark and not mark[3].strip(" \t") and mark[2].startswith(opened[1]):
            found.append(_block(opened, lines))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        if lines and lines[-1].rstrip().endswith(opened[1]):  # closed behind its last line
            lines[-1] = lines[-1].rstrip().removesuffix(opened[1])
        found.append(_block(opened, lines))
    return found


def _block(opened: tuple[int, str, str], lines: list[str]) -> Block:
    """Without the indentation that the fence itself had."""
    indent, _, language = opened
    if indent:
        cut = re.compile(rf"[ \t]{{0,{indent}}}")
        lines = [cut.sub("", line, count=1) for line in lines]
    return Block(language, "\n".join(lines))


def _language(info: str) -> str:
    match = LANGUAGE.match(info)
    return (match[1] or "").lower() if match else ""


def _defines(code: str, entry: str) -> bool:
    if not entry:
        return False
    name = re.escape(entry)
    made = rf"^(?:(?:async[ \t]+)?def|class)[ \t]+{name}\b|^{name}[ \t]*=[^=]"
    return re.search(made, code, re.MULTILINE) is not None
