"""Which part of a completion speaks to the user: its turn, behind the thinking."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<scratchpad>", "</scratchpad>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
    ("<|think|>", "<|/think|>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""How thinking is opened and closed."""

THINKING_OPENS, THINKING_CLOSES = (
    re.compile("|".join(map(re.escape, marks)), re.IGNORECASE) for marks in zip(*THINKING, strict=True)
)

TURN_ENDS = re.compile(
    r"<\|(?:im_start|im_end|eot_id|eom_id|endoftext|end_of_text|start_header_id|end_of_solution|user|return"
    r"|END_RESPONSE|END_OF_TURN_TOKEN)\|>"
    r"|<\|end\|>(?!<\|start\|>)|</?(?:end|start)_of_turn>|<｜(?:end▁of▁sentence|User)｜>|\[/?INST\]"
    r"|</s>(?=\s*+(?:\Z|<s>|\[|<\|))"
)


def after_thinking(completion: str) -> str | None:
    """The text behind the last end of thinking; all of it without any; None where thinking never ended."""
    closed = last_of(THINKING_CLOSES.finditer(completion))
    text = completion[closed.end() :] if closed else completion
    return None if THINKING_OPENS.search(text) else text


def last_of(matches: Iterable[re.Match[str]]) -> re.Match[str] | None:
    """The last of some matches."""
    last = deque(matches, maxlen=1)
    return last[0] if last else None
