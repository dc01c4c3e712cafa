r"""Where the final answer stands in a completion, and which rule says so; in doubt there is none.

First are dropped: what follows the end of the turn, the thinking, and a next problem that the policy made up.
Then the strongest rule that has a mark decides, by its last mark, alone: no weaker rule mends a broken mark.

    boxed, boxes   \boxed{5}, \fbox{5}, \boxed 5; `\boxed{1} and \boxed{2}` is the list `1, 2`
    tag, hashes    <answer>5</answer>; #### 5 (not a heading: `#### Step 2`)
    said           the answer is 5. / **Final Answer:** 5 / Answer $5$ / a line `Final Answer` and the next
    bold           so she has **5** apples, in the last line; then there too `the solution is 5`: said
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from rlvr_verifiers.turns import TURN_ENDS, after_thinking, last_of

UNMARKED = "no marked answer"
NEXT_PROBLEM = re.compile(
    r"\n[ \t]*+(?:#{1,4}[ \t]*+)?(?:User|Human|Question|Problem|Instruction|Q)[ \t]*+\d{0,3}[ \t]*+:"
)
BOX = r"\\(?:boxed|fbox)(?![A-Za-z])"
BOX_TOKEN = re.compile(
    rf"(?P<box>{BOX}\s*+\{{)"
    rf"|{BOX}\s*+(?P<single>-?\d++(?:[.,]\d++)*+|[A-Za-z])(?=\.?[ \t]*+(?:\$|\\[)\]]|\n|\Z))"
    rf"|(?P<cut>{BOX}\s*+(?:\Z|(?=-?\d|\\[A-Za-z])))"
    r"|\\[{}]|\\\\(?!boxed|fbox)|[{}]"
)
MISTYPED = re.compile(rf"({BOX}\s*+\{{[^{{}}\\]*+)\\\}}(?=[\s$.]*+\Z)")
r"""A box at the very end that `\}` closes."""
MOST_BETWEEN = 200
"""So many characters at most stand between two marks of one list."""
BETWEEN = re.compile(
    r"(?:[A-Za-z]{1,3}(?:_\w|_\{\w{1,5}\}|\([A-Za-z]\))?'*\s*+(?:=|\\in\b)|\\[A-Za-z]+(?:_\w)?\s*+="  # x_1 =
    r"|\\(?:text|textrm|mathrm|mbox)\{[\s,;]*+(?:and|or)?[\s,]*+\}|(?:and|or)\b"
    r"|\\q?quad(?![A-Za-z])|\\\\|\\[()\[\],;:! ]|\n[ \t]*[-*•][ \t]|[\s,;&~$])*+"
)
TAG = re.compile(r"<answer>([^<]*+(?:<(?!/?answer>)[^<]*+)*+)</answer>", re.IGNORECASE)
TAG_OPENS = re.compile("<answer>", re.IGNORECASE)
HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*+(?:\n\s*+)?([^\n]*+)")
HEADING = re.compile(r"[*_ \t]*+(?:[A-Za-z]{2}|\(?\w{1,3}[.)][ \t]+[*_]*[A-Za-z])")
BOLD = re.compile(r"\*\*(?=\S)([^*\n]++(?:\*(?!\*)[^*\n]*+)*+)\*\*")
VERB = (
    r"\b(?:is|are|equals|(?:would|should|must|will)[ \t]++be)\b"
    r"(?![ \t]++(?:(?:also|indeed|clearly)[ \t]++)?(?:(?:in)?correct|wrong|verified|confirmed|complete)\b)"
)
WELL = r"(?:,?[ \t]++(?:therefore|thus|then|indeed|simply|just|exactly|equal[ \t]+to|given[ \t]+by)\b,?)?"
MARK = rf"(?:{VERB}{WELL}[ \t]*+[:：]?|[:：=])"
OF_WHAT = (
    r"(?:[ \t]++(?:to|for|of)\b(?:[ \t]++(?!answer)(?:\$[^$\n]{1,40}\$|[^\s.:=$\\]++)){1,12}?)?"
    r"(?:[ \t]*+\([^()\n]{0,60}\))?"
)
ANSWER = re.compile(
    rf"\banswers?\b(?:{OF_WHAT}[*_}}]*+[ \t]*+{MARK}|[ \t]*+(?=\$|\\[(\[]))"
    r"|^[ \t#>*_]*+(?:(?:the|my)[ \t]+)?(?:(?:final|correct)[ \t]+)?answer[*_ \t]*+$",
    re.IGNORECASE | re.MULTILINE,
)
SOLUTION = re.compile(
    rf"\b(?:the|final)[ \t]+(?:solution(?:s|[ \t]+set)?|result)[ \t]*+{MARK}", re.IGNORECASE
)
FIRST_MARK = re.compile(rf"{BOX}|####|</answer>|{ANSWER.pattern}", re.IGNORECASE | re.MULTILINE)
TO_ANSWER = re.compile(r"(?:```[a-z]+\n|[\s*_}:`])*+")
LIST_ITEM = re.compile(r"(?:[-+*•]|\(?\w{1,2}[.)])[ \t]+\S")
ASIDE = r"(?:which|since|because|regardless|I[ \t]+(?:hope|think|believe))\b"
STATEMENT_TOKEN = re.compile(
    r"(?P<opens>\$\$|\\[(\[])|(?P<begin>\\begin\{)|(?P<close>\\end\{)"
    r"|\$(?:[^$\\\n]|\\[^\n])*+\$(?!\d)"  # $10 and $20 are prices
    r"|(?P<unclosed>\$(?=[\\A-Za-z({\[]))|\\[^\n]|\.{2,}|(?<=[A-Za-z])\.(?=[ \t]+[a-z])"
    r"|(?P<end>[.。](?=[\s\"'”’)\]}*<]|\Z)|\n"
    rf"|,[ \t]*+(?:{ASIDE}|(?:as|it|we)\b(?![ \t]+well))|(?<![ \t,])[ \t]++{ASIDE})"
)
CLOSERS = {"$$": "$$", r"\(": r"\)", r"\[": r"\]"}
BOLD_ENDS = re.compile(r"(?<![^\s(])\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,;:!?)]|\Z)")  # but 2**3 and 2 ** 3
GOES_ON = re.compile(r"(?::|=|\b(?:is|are|be))\Z")
MOST_LINES = 3
"""Over so many lines that end in a colon the answer is sought."""
PROSE = re.compile(r"(?!(?:if|when|whether|unless|no|none|neither|not)\b)[A-Za-z]{2,}[ \t]", re.IGNORECASE)
COPULA = re.compile(r"(?<![A-Za-z\\{])(?:is|are|equals|has|have)(?:[ \t]+equal[ \t]+to)?[ \t]++")
WRAPPERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"))
FULL_STOP = re.compile(r"(?<!\.)(?<!\\right)\.\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was extracted, and why."""

    text: str | None
    """The answer, without white space, math delimiters or bold around it; None where there is none."""
    rule: str
    """The rule that fired (`boxed`, `boxes`, `tag`, `hashes`, `said`, `bold`), or why there is no answer."""


class Mark(NamedTuple):
    """One mark in the text: where it stands, and where its inside does."""

    start: int
    end: int
    inside: tuple[int, int]


def find_answer(completion: str, *, boxed_only: bool = False) -> Found:
    """The final answer of a completion; never raises, and takes time in proportion to the length.

    No answer: thinking that never ended; a last box, tag or formula that is empty or never closed (the text
    was cut off); no mark at all, for a bare number in prose is none.
    """
    text = last_words(completion)
    if text is None:
        return Found(text=None, rule="thinking never ended")
    for rule in RULES[:1] if boxed_only else RULES:
        if found := rule(text):
            return found
    return Found(text=None, rule="no boxed answer" if boxed_only else UNMARKED)


def last_words(completion: str) -> str | None:
    """What answers: this turn behind the thinking, before a problem made up; None: it never ended."""
    text = after_thinking(TURN_ENDS.split(completion, maxsplit=1)[0].replace("\r\n", "\n"))
    return None if text is None else _before_next_problem(text)


def last_boxed(text: str) -> str | None:
    """What the last box holds; a box around nothing but a box counts as one; None if it was never closed."""
    boxes, is_cut = _boxes(text)
    return None if is_cut or not boxes else _inside(text, boxes[-1])


def after_hashes(text: str) -> str | None:
    """The rest of the line behind the last `####`."""
    _, mark, rest = text.rpartition("####")
    line = rest.strip().partition("\n")[0].strip() if mark else ""
    return line or None


def tagged(text: str) -> str | None:
    """What stands in the last `<answer>...</answer>`."""
    last = last_of(TAG.finditer(text))
    return last[1].strip() if last else None


def said(text: str) -> str | None:
    """What follows the last "answer is" or "answer:", to the end of its sentence."""
    found = _said(text)
    return found.text if found else None


def _inside(text: str, mark: Mark) -> str:
    return text[mark.inside[0] : mark.inside[1]].strip()


def _before_next_problem(text: str) -> str:
    """Without a line `Question:` and what follows, if a mark stood before it, and the box not only after."""
    first = FIRST_MARK.search(text) if NEXT_PROBLEM.search(text) else None
    following = NEXT_PROBLEM.search(text, first.end()) if first else None
    if not following:
        return text
    head = text[: following.start()]
    return text if r"\boxed" in text[len(head) :] and r"\boxed" not in head else head


def _boxed(text: str) -> Found | None:
    text = MISTYPED.sub(r"\1}", text)
    boxes, is_cut = _boxes(text)
    if is_cut:
        return Found(text=None, rule="unclosed box")
    if not boxes:
        return None
    if not _inside(text, boxes[-1]):
        return Found(text=None, rule="empty box")
    answer, count = _joined(text, boxes)
    return _found(answer, "boxes" if count > 1 else "boxed")


def _boxes(text: str) -> tuple[list[Mark], bool]:
    r"""The outermost closed boxes, and whether one is open after the last of them, or around it in its line.

    `\boxed` before more than one number or letter without braces counts as open.
    """
    open_braces: list[tuple[int, int] | None] = []
    boxes: list[Mark] = []
    cut = -1
    for token in BOX_TOKEN.finditer(text):
        if token["box"]:
            open_braces.append(token.span())
        elif token["single"]:
            boxes.append(Mark(*token.span(), token.span("single")))
        elif token["cut"]:
            cut = token.start()
        elif token[0] == "{":
            open_braces.append(None)
        elif token[0] == "}" and open_braces and (opened := open_braces.pop()):
            _close(text, boxes, opened, token.span())
    still_open = next((opened[0] for opened in reversed(open_braces) if opened), -1)
    if not boxes:
        return [], max(cut, still_open) >= 0
    last = boxes[-1]
    return boxes, cut >= last.end or (still_open >= 0 and "\n" not in text[still_open : last.start])


def _close(text: str, boxes: list[Mark], opened: tuple[int, int], closed: tuple[int, int]) -> None:
    """Add a box in place of those within it; where nothing but one box is in it, it holds what that holds."""
    inner: list[Mark] = []
    while boxes and boxes[-1].start >= opened[1]:
        inner.append(boxes.pop())
    inside = (opened[1], closed[0])
    if len(inner) == 1:
        around = text[opened[1] : inner[0].start] + text[inner[0].end : closed[0]]
        inside = inside if around.strip() else inner[0].inside
    boxes.append(Mark(opened[0], closed[1], inside))


def _joined(text: str, marks: list[Mark]) -> tuple[str, int]:
    """The last mark's inside, in a list with those that only `,`, `and`, `x =` and such divide from it.

    Returns the text and how many different insides are in it.
    """
    row = [marks[-1]]
    for mark in reversed(marks[:-1]):
        start, end = mark.end, row[-1].start
        if end - start > MOST_BETWEEN or not BETWEEN.fullmatch(text, start, end):
            break
        row.append(mark)
    insides = [inside for mark in reversed(row) if (inside := _inside(text, mark))]
    different = len(set(insides))
    return ", ".join(insides) if different > 1 else insides[-1], different


def _tag(text: str) -> Found | None:
    last = last_of(TAG.finditer(text))
    if TAG_OPENS.search(text, last.end() if last else 0):
        return Found(text=None, rule="unclosed tag")
    return _within(last[1], "tag") if last else None


def _hashes(text: str) -> Found | None:
    end = len(text.rstrip())
    last = last_of(mark for mark in HASHES.finditer(text) if not HEADING.match(mark[1]) or mark.end() >= end)
    return _within(last[1], "hashes") if last else None


def _within(inside: str, rule: str) -> Found:
    """What is marked, or what is said to be the answer in it."""
    found = _said(inside)
    return Found(text=found.text, rule=rule if found.text else found.rule) if found else _found(inside, rule)


def _said(text: str) -> Found | None:
    last = last_of(ANSWER.finditer(text))
    return _statement(text, last.end()) if last else None


def _last_line(text: str) -> str:
    return text.rstrip().rpartition("\n")[2]


def _bold(text: str) -> Found | None:
    line = _last_line(text)
    marks = [
        Mark(*match.span(), match.span(1)) for match in BOLD.finditer(line) if not match[1].endswith(":")
    ]
    return _found(_joined(line, marks)[0], "bold") if marks else None


def _solution(text: str) -> Found | None:
    line = _last_line(text)
    last = last_of(SOLUTION.finditer(line))
    return _statement(line, last.end()) if last else None


def _statement(text: str, start: int) -> Found:
    """The sentence that begins here; where the mark ends its line, on the next line that is not blank."""
    statement = ""
    for _ in range(MOST_LINES):
        begins = TO_ANSWER.match(text, start)
        first = begins.end() if begins else start
        if "\n" in text[start:first] and LIST_ITEM.match(text, first):
            return Found(text=None, rule="a list behind the mark")
        end = _sentence_end(text, first)
        if end is None:
            return Found(text=None, rule="unclosed formula")
        start, statement = end, BOLD_ENDS.sub("", text[first:end]).strip()
        if not GOES_ON.search(statement):
            break
    extra = max(statement.count("}") - statement.count("{"), 0)
    trailing = len(statement) - len(statement.rstrip("}"))
    statement = statement[: len(statement) - min(extra, trailing)].rstrip(" \t*_`,;")
    if statement.endswith(")") and not any(bracket in statement for bracket in "([]"):
        statement = statement[:-1]
    if PROSE.match(statement) and len(parts := COPULA.split(statement)) == 2:
        statement = parts[1]
    return _found(statement, "said")


def _sentence_end(text: str, start: int) -> int | None:
    """Where the sentence ends; formulas are jumped over; None where one is never closed."""
    depth = 0
    while token := STATEMENT_TOKEN.search(text, start):
        start = token.end()
        if token["opens"]:
            closed = text.find(CLOSERS[token[0]], start)
            if closed < 0:
                return None
            start = closed + 2
        elif token["unclosed"]:
            return None
        elif token["begin"]:
            depth += 1
        elif token["close"]:
            depth = max(depth - 1, 0)
        elif token["end"] and not depth:
            return token.start()
    return None if depth else len(text)


def _found(text: str, rule: str) -> Found:
    """An answer without what is wrapped around it; none where nothing is left."""
    text = FULL_STOP.sub("", text.strip())
    if text.isalnum():
        return Found(text=text, rule=rule)
    for _ in WRAPPERS:
        for opens, closes in WRAPPERS:
            inner = text[len(opens) : -len(closes)]
            if text == opens + inner + closes and not (opens in inner or closes in inner):
                text = FULL_STOP.sub("", inner.strip())
    return Found(text=text, rule=rule) if text else Found(text=None, rule="empty answer")


RULES: tuple[Callable[[str], Found | None], ...] = (_boxed, _tag, _hashes, _said, _bold, _solution)
"""From the strongest to the weakest."""
