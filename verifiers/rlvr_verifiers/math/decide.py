"""Two answers as texts: the cheapest exact test that settles it, from one spelling to trees and values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from rlvr_verifiers.math import tree as t
from rlvr_verifiers.math.compare import compare
from rlvr_verifiers.math.conventions import Conventions
from rlvr_verifiers.math.equal import Finding, sign
from rlvr_verifiers.math.grammar import read
from rlvr_verifiers.math.numeric import UnboundedError, UndefinedError, refill
from rlvr_verifiers.math.relations import labelled
from rlvr_verifiers.math.spelling import spelled, words
from rlvr_verifiers.math.tokens import tokens
from rlvr_verifiers.math.tree import Tree, UnreadableError, canonical, names, show
from rlvr_verifiers.math.units import UNITS
from rlvr_verifiers.math.values import OutsideError, exact

MOST_CHARACTERS = 3000
"""A longer answer is compared as text alone."""
INTEGER = re.compile(r"\$?([-+]?)0*(\d+)(?:\.0*)?\$?")
GROUPS = re.compile(r"\d,\d")
COMMA = re.compile(r"(-?\d+),(\d{1,2}|\d{4,})")
POINT = re.compile(r"-?\d+\.\d+")
CHOICE = re.compile(r"\(?\s*([A-J])\s*(?:[).:]+|$)\s*((?!.*(?<![A-Za-z\\])[A-J]\s*[:)])(?!,|;|and\b|or\b).*)")
OPTION = re.compile(
    r"^(?:the\s+)?(?:final\s+)?(?:option|choice|answer)(?:\s+is)?\s*:?\s*(?=\(?[A-J]\b)", re.IGNORECASE
)
NAMED = re.compile(r"([A-J])\s+([A-Z][a-z]+.*)")
WRAPPER = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox|textrm|mathbf|bf|rm)\s*\{([^{}]*)\}")
TIME = re.compile(
    r"(\d{1,2})(?:\s*:\s*(\d\d)(?::(\d\d))?)?\s*(?:\\(?:text|mathrm|mbox)\s*\{)?\s*(?:([ap])\.?\s?m\.?)?\s*\}?",
    re.IGNORECASE,
)
PROSE = re.compile(r"[A-Za-z ,.;'\"]+(?:(?<=[a-z][a-z][a-z])-(?=[a-z][a-z])[A-Za-z ,.;'\"]+)*")
DIGITAL_DATE = re.compile(r"\d{1,2}/\d{1,2}/\d{4}|\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4}")
LETTER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])")
MONTH = (
    r"(jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
DATE = re.compile(
    rf"(?:{MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?|(?:the\s+)?(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{MONTH})(?:\s*,?\s*(\d{{4}}))?",
    re.IGNORECASE,
)
LOST_DEGREE = re.compile(r"-?\d+(?:\.\d+)?\^")
SENTENCE = re.compile(r"[A-Za-z][A-Za-z ,']*\s(?:is|are)\s+(.*\d.*)")
PRINTED = re.compile(r"-?\d*\.\d+")
MOST_PROSE = 400
"""Characters of prose that is compared word by word."""
DOUBLE = 15
"""Significant digits from which a decimal is the print of a double, not a rounded answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What came of a comparison, and how."""

    equal: bool | None
    """None: cannot decide."""
    test: str
    """Which test decided, in words."""
    gold_form: str
    """The gold's normal form: its tree on one line, or its one spelling where it is none."""
    found_form: str
    """That of the answer found."""


DEFAULT = Conventions()
PLAIN = Conventions(choice=False)


def decide(gold: str, found: str, conventions: Conventions = DEFAULT) -> Decision:
    """Whether `found` is the answer `gold`.  Never raises, and is bounded whatever the texts hold."""
    gold, found = gold.strip(), found.strip()
    if max(len(gold), len(found)) > MOST_CHARACTERS:
        return _as_text(gold, found)
    left, right = INTEGER.fullmatch(gold), INTEGER.fullmatch(found)
    if left and right:
        one, other = (_signed(match) for match in (left, right))
        is_equal = one == other or bool(
            conventions.tolerance and _is_close(one, other, conventions.tolerance)
        )
        return Decision(equal=is_equal, test="integers", gold_form=one, found_form=other)
    one, other = _spelled(gold), spelled(found)
    if one == other and _unwrapped(one):
        return Decision(equal=True, test="same text", gold_form=one, found_form=other)
    moments = _moment(one), _moment(other)
    if moments[0] and moments[1]:
        is_equal = _is_same_moment(moments[0], moments[1])
        return Decision(equal=is_equal, test="times of day", gold_form=one, found_form=other)
    if all(map(DIGITAL_DATE.fullmatch, (one, other))) or DIGITAL_DATE.fullmatch(one):
        return Decision(equal=one == other, test="dates in digits", gold_form=one, found_form=other)
    dates = _date(one), _date(other)
    if dates[0] and dates[1]:
        same_day = dates[0][:2] == dates[1][:2] and (
            dates[0][2] == dates[1][2] or "" in (dates[0][2], dates[1][2])
        )
        return Decision(equal=same_day, test="dates", gold_form=one, found_form=other)
    if _are_same_words(one, other):
        return Decision(equal=True, test="same words", gold_form=one, found_form=other)
    if _is_scrambled(one, other):
        return Decision(
            equal=None, test="cannot decide: letters in another order", gold_form=one, found_form=other
        )
    choice = _choice(one, other) if conventions.choice else None
    if choice is not None:
        return Decision(equal=choice, test="the letter chosen", gold_form=one, found_form=other)
    refill()
    finding, forms = _by_trees(one, other, conventions)
    return Decision(equal=finding.equal, test=finding.test, gold_form=forms[0], found_form=forms[1])


def is_readable(text: str) -> bool:
    """Whether a text is mathematics from end to end, with no more words than a unit."""
    try:
        spelling = spelled(text)
        tree = read(spelling)
        if any(
            token.kind == "word" and token.value.islower() and token.value not in UNITS
            for token in tokens(spelling)
        ):
            return False
    except (UnreadableError, RecursionError):
        return False
    return tree.head not in ("text", "name") and not any(node.head == "text" for node in tree)


@lru_cache(maxsize=4096)
def _spelled(gold: str) -> str:
    return spelled(gold)


def _date(text: str) -> tuple[str, int, str] | None:
    """Month, day and year; None where the text is no date."""
    match = DATE.fullmatch(_unwrapped(text))
    if match is None or not (match[1] or match[4]):
        return None
    return (match[1] or match[4]).lower()[:3], int(match[2] or match[3]), match[5] or ""


def _moment(text: str) -> tuple[int, int, str] | None:
    """Hour, seconds in it, and a, p or nothing; None where the text is no time of day."""
    match = TIME.fullmatch(_unwrapped(text))
    if match is None or not (match[2] or match[4]):
        return None
    return int(match[1]), 60 * int(match[2] or 0) + int(match[3] or 0), (match[4] or "").lower()


def _is_same_moment(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    """5:00 PM is 17:00; where one side has no a.m. or p.m. the other may be either."""
    if one[1] != other[1]:
        return False
    hours = [hour % 12 + 12 * (half == "p") if half else hour for hour, _, half in (one, other)]
    return hours[0] == hours[1] or (one[0] == other[0] and not (one[2] and other[2]))


def _signed(match: re.Match[str]) -> str:
    return match[2] if match[1] != "-" or match[2] == "0" else f"-{match[2]}"


def _is_close(one: str, other: str, tolerance: float) -> bool:
    return abs(int(one) - int(other)) <= tolerance * abs(int(one))


def _as_text(gold: str, found: str) -> Decision:
    same = "".join(gold.split()) == "".join(found.split())
    test = f"longer than {MOST_CHARACTERS} characters: compared as text"
    return Decision(
        equal=True if same else None,
        test=test if same else f"cannot decide: {test}",
        gold_form=gold[:200],
        found_form=found[:200],
    )


def _unwrapped(text: str) -> str:
    return WRAPPER.sub(r"\1", text).replace("{", "").replace("}", "").strip(" .*")


def _choice(gold: str, found: str) -> bool | None:
    """A gold letter against a letter, one with its text against either; None where it is no choice."""
    plain, answer = (OPTION.sub("", _unwrapped(side)) for side in (gold, found))
    match = CHOICE.fullmatch(plain) or NAMED.fullmatch(plain)
    if match is None:
        return None
    chosen = CHOICE.fullmatch(answer) or NAMED.fullmatch(answer)
    if chosen is None or (plain.startswith("(") and "," in plain):
        return True if match[2] and _says(match[2], answer) else None
    if not match[2] and not chosen[2] and plain == answer:
        return True
    if chosen[1] != match[1] or LETTER.search(chosen[2]):
        return False  # (B) (C) is no choice
    return not (match[2] and chosen[2]) or _says(match[2], chosen[2]) or None


def _says(gold: str, found: str) -> bool:
    """Whether a text behind a letter is the option's, as words or as mathematics."""
    return words(gold) == words(found) or decide(gold, found, PLAIN).equal is True


def _by_trees(gold: str, found: str, c: Conventions) -> tuple[Finding, tuple[str, str]]:
    findings: list[Finding] = []
    forms = (gold[:200], found[:200])
    for grouped in (True, False) if GROUPS.search(gold) or GROUPS.search(found) else (True,):
        try:
            left, right = _gold_tree(gold, grouped), read(found, grouped=grouped)
            if not findings:
                forms = (show(canonical(left))[:200], show(canonical(right))[:200])
            finding = compare(left, right, c)
        except (UnreadableError, RecursionError) as error:
            findings.append(_by_words(gold, found, str(error)))
            continue
        except (ArithmeticError, ValueError, TypeError, UndefinedError, UnboundedError) as error:
            findings.append(Finding(None, f"cannot decide: {type(error).__name__}: {str(error)[:80]}"))
            continue
        if finding.equal:
            return finding, forms
        findings.append(finding)
    for rule in (_decimal_comma, _printed):
        finding_or_none = rule(gold, found, c)
        if finding_or_none is not None:
            return finding_or_none, forms
    return findings[0], forms


@lru_cache(maxsize=4096)
def _gold_tree(gold: str, grouped: bool) -> Tree:
    """The gold's tree; a gold, which is no model's, may have a lost degree sign or be told in a sentence."""
    if LOST_DEGREE.fullmatch(gold):
        gold += r"\circ"
    try:
        return read(gold, grouped=grouped)
    except UnreadableError:
        match = SENTENCE.fullmatch(gold)
        if match is None:
            raise
        return read(match[1], grouped=grouped)


def _are_same_words(gold: str, found: str) -> bool:
    """Whether both are prose, with no sign or digit in them, and say the same."""
    prose = _unwrapped(gold), _unwrapped(found)
    return (
        len(prose[0]) + len(prose[1]) < 2 * MOST_PROSE
        and all(map(PROSE.fullmatch, prose))
        and words(prose[0]) == words(prose[1])
        and any(len(word) > 1 for word in words(prose[0]))
    )


def _is_scrambled(gold: str, found: str) -> bool:
    """Whether both are one run of three letters or more, or of capitals, in different orders: no products."""
    runs = [_unwrapped(side) for side in (gold, found)]
    are_runs = all(run.isalpha() and run.isascii() and (len(run) > 2 or run.isupper()) for run in runs)
    return are_runs and runs[0] != runs[1] and sorted(runs[0]) == sorted(runs[1])


def _by_words(gold: str, found: str, why: str) -> Finding:
    """Two texts that are not both mathematics: the same words, numbers and signs, or nothing is known."""
    left, right = words(gold), words(found)
    if left == right and any(len(word) > 2 and word.isalpha() for word in left):
        return Finding(True, "same words")
    return Finding(None, f"cannot decide: not readable: {why}")


def _decimal_comma(gold: str, found: str, c: Conventions) -> Finding | None:
    """1,5 for the gold 1.5: only against one decimal number."""
    match = COMMA.fullmatch(found)
    if not (c.decimal_comma and match and POINT.fullmatch(gold)):
        return None
    finding = compare(_gold_tree(gold, True), read(f"{match[1]}.{match[2]}"), c)
    return Finding(finding.equal, f"decimal comma: {finding.test}")


def _printed(gold: str, found: str, c: Conventions) -> Finding | None:
    """A decimal of fifteen digits or more for a gold that no decimal is: right where it is cut from it."""
    digits = found.lstrip("-0.").replace(".", "")
    if not PRINTED.fullmatch(found) or not DOUBLE <= len(digits) <= 18:
        return None
    try:
        value, decimal = _gold_tree(gold, True), Fraction(found)
        if names(value) or _terminates(value):
            return None
        label = labelled(value)
        value = label[1] if label else value
        gap = t.plus(value, t.number(-decimal))
        last = t.number(Fraction(1, 10 ** len(found.partition(".")[2])))
        is_near = sign(t.plus(gap, t.negative(last))) == -1 and sign(t.plus(gap, last)) == 1
    except (UnreadableError, UnboundedError):
        return None
    return Finding(True, "printed to fifteen digits") if is_near else None


def _terminates(tree: Tree) -> bool:
    """Whether it is a rational with a finite decimal."""
    try:
        below = exact(tree).denominator
    except OutsideError:
        return False
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1
