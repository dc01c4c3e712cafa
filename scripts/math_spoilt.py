r"""Golds spoilt a little: right answers turned into wrong ones that look much the same.

A spoilt gold must truly be another answer: wherever that is in doubt (a base, a unit, an even power, `\pm`, a
family over the integers, an equation with a side 0, ...) none is made.  A missed chance costs nothing; a
spoilt gold that is right after all would be told as a false positive.
"""

import re
from collections.abc import Callable, Iterator

HIDDEN = "\0"
HIDE = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf|cal|bb)|mbox|operatorname|hspace|vspace|begin|end"
    r"|label|tag|unit|underset|overline)\s*\*?(?=\{)|_\s*|\\[hv]?phantom\s*|\\begin\{array\}(?=\{)|\\\\(?=\[)"
)
"""Whose argument is a name, a unit, a base or a length, with an exponent behind it."""
COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)")
DOUBTFUL = re.compile(
    r"\\(?:approx|equiv|sim|p?mod|bmod|lfloor|lceil|floor|binom|[dt]binom|choose|max|min|gcd|lcm|circ\s*f"
    r"|propto|[lc]?dots|cong|forall|exists)(?![A-Za-z])|≈|≡|⌊|⌈|\.\.\.|\bOR\b|\bO\s*\(|\+\s*[cC]\b(?!_)"
    r"|\\?mathbb\s*\{?\s*[ZN]|[ℤℕ]|integer|\\in\s*Z\b|\bmod\b|floor|any|arbitrary|constant|natural"
    r"|\\aleph|^\W*[A-H]\s*[:.)]\s*\S|\^\s*\Z"
)
"""Two forms of one answer, a family, a rounding, a residue, a choice: a change may leave it right."""
ZERO_SIDE = re.compile(
    r"(?:[=<>]|\\(?:[lg]eq?(?:slant)?|[lg]t|neq?))\s*0(?![.\d])|(?<![.\d])0\s*(?:[=<>]|\\[lg](?:eq?|t)\b)"
)
ZERO_FACTOR = re.compile(
    r"frac\s*\{?\s*0\s*[}\d]|(?<![\d.])0\s*(?:/|\\cdot|\\times|\*|\\?[a-zA-Z(])|[\^(]\s*\{?0"
)
FUNCTION = re.compile(
    r"\\?(?:(?:arc)?(?:sin|cos|tan|cot|sec|csc)|log|ln|exp|arg|det|deg)(?![a-z])|\\pi\s*i|e\s*\^"
)
NUMBER = re.compile(r"\d+(?:\.\d+|\.(?=\s*\\overline))|\.\d+|\d+")
VARIABLE_POWER = re.compile(r"(?<![A-Za-z\\])([A-Za-z])\s*\^\s*(?:(\d)|\{\s*(\d+)\s*\})")
UNIT = re.compile(r"[\d}]\s*(?:\\[,;: ]|~)*\s*[mshgN]\s*\^\s*\{?\d\}?\s*\$?\s*$")
PROSE = re.compile(r"(?<![A-Za-z])(?:[A-Za-z]{3,}|or|is|in|to|of|if|no)(?![A-Za-z])")
SIGN = re.compile(r"[+\-−]")
UNSIGNED = re.compile(r"\s*(?:(?:0+(?:\.0*)?|\.0+)(?![\d.])|\\infty|∞|[+\-−])")
TERM = re.compile(r"\.?\d+(?!st|nd|rd|th)|[A-Za-z](?!\s*\$?$|.*\\text)|\\[dt]?frac|\\sqrt|\\pi")
RELATION = re.compile(r"[=<>:≤≥∈|]|\\mid|\\(?:[lg]eq?|[lg]t|neq?|in|subset)(?![a-z])")
START = re.compile(r"\s*(?:\$|\\\$|\\\(|\\\[)?\s*")
NAMED = re.compile(r"\s*\$?\s*(?:\\[a-z]+|[A-Za-z])(?:_\w|\([a-z]\))?\s*=\s*")
ENDS = re.compile(r"(?<!\\)([\[(])([^\[\](),]+),([^\[\](),]*[^\[\](),\\])([\])])")
STRICT = re.compile(r"<|>|\\[lg]t(?![a-z])|\\[lg]eq?(?:slant)?(?![a-z])|≤|≥")
OTHER_END = {"(": "[", "[": "(", ")": "]", "]": ")"}
OTHER_STRICT = {"<": r"\le ", ">": r"\ge ", r"\lt": r"\le ", r"\gt": r"\ge ", "≤": "<", "≥": ">"}
BETWEEN = re.compile(
    r"(?<!\\),(?!\d{3}(?!\d))|(?<!\\);|\\text\s*\{\s*,?\s*(?:or|and)\s*\}|\$\s*,?\s*(?:or|and)\s*\$|\b(?:or|and)\b|\\cup"
)
THOUSANDS = re.compile(r"(?<!\d)\d{1,3}(?:(?:,|\{,\})\s?(?:\\!)?\s?\d{3})+(?!\d)")
CONDITION = re.compile(
    r"\\in\b|\\n[ei]|\\neq|[<>≤≥∈]|\\[lg][et]|\\text|where|\\dots|\\ldots|\.\.\.|^\s*$|[A-Za-z]{4}|%"
)


def spoilt(gold: str) -> Iterator[tuple[str, str]]:
    """(perturbation, another answer) for every place where one can be made."""
    if DOUBTFUL.search(gold):
        return
    before = as_set(gold)
    for name, make in PERTURBATIONS.items():
        for text in dict.fromkeys(make(gold)):
            if text != gold and as_set(text) != before:
                yield name, text


def integers(text: str) -> Iterator[str]:
    """Each integer in turn made one greater; decimals, bases, names and units are left alone."""
    if ZERO_SIDE.search(text) or ZERO_FACTOR.search(text):
        return
    seen = shown(text)
    plain = COMMAND.sub(lambda match: HIDDEN * len(match[0]), seen)
    powers = {start for match in VARIABLE_POWER.finditer(seen) for start in (match.start(2), match.start(3))}
    function = FUNCTION.search(text)
    for match in NUMBER.finditer(seen):
        start, end = match.span()
        before, after = plain[:start].rstrip("{ "), plain[end:]
        if (
            "." in match[0]
            or start in powers
            or plain[start - 1 : start].isalpha()
            or re.match(r"\s*!|st|nd|rd|th|\s*\.\s*\d", after)
            or (function and start > function.start())
            or (before.endswith("^") and re.search(r"(?<!\d)[01]\)?\s*\^$", before))
        ):
            continue
        bumped = str(int(match[0]) + 1).zfill(len(match[0]))
        if len(bumped) > len(match[0]) and re.search(r"(?:\^|frac|sqrt)\s*$", seen[:start]):
            bumped = "{" + bumped + "}"
        yield text[:start] + bumped + text[end:]


def signs(text: str) -> Iterator[str]:
    r"""Each sign in turn turned round, and a minus before what begins without one."""
    if re.search(r"\\pm|\\mp|±", text) or ZERO_SIDE.search(text):
        return
    seen = without_exponents(shown(text))
    if PROSE.search(COMMAND.sub("", seen)):
        return
    function = FUNCTION.search(text)
    for match in SIGN.finditer(seen):
        at = match.start()
        before = seen[:at].rstrip()
        if (function and at > function.start()) or UNSIGNED.match(seen, at + 1):
            continue
        is_first = not before or re.search(r"(?:[(\[{|,=<>$;:]|\\[a-z]+)$", before) is not None
        if not is_first:
            yield text[:at] + ("-" if match[0] == "+" else "+") + text[at + 1 :]
        elif not re.search(r"(?:\||\\lvert|[A-Za-z)\d]\s*(?:\\left)?\()$", before) and not is_raised(
            seen, at
        ):
            yield text[:at] + ("-" if match[0] == "+" else "") + text[at + 1 :]
    named = NAMED.match(seen) or START.match(seen)
    at = named.end() if named else 0
    if TERM.match(seen, at) and not UNSIGNED.match(seen, at) and not RELATION.search(seen, at):
        yield text[:at] + "-" + text[at:]


def is_raised(text: str, at: int) -> bool:
    """Whether a bracket around the place has an exponent or a bar behind it: `(-x)^2`, `|-x|`."""
    depth = 0
    for place in range(at, len(text)):
        depth += {"(": 1, ")": -1, "[": 1, "]": -1}.get(text[place], 0)
        if depth < 0:
            return re.match(r"\s*(?:\^|" + HIDDEN + ")", text[place + 1 :]) is not None
    return False


def ends(text: str) -> Iterator[str]:
    """One end of an interval opened or closed, or one bound made strict or not."""
    seen = shown(text)
    flat = re.sub(r"\\(?:left|right)(?![a-z])", lambda match: " " * len(match[0]), seen)
    if "[" in flat or "]" in flat or r"\infty" in flat or r"\cup" in flat:
        flat = re.sub(r"\\(?:sqrt)\[", lambda match: " " * len(match[0]), flat)
        for match in ENDS.finditer(flat):
            for bracket, value in ((1, 2), (4, 3)):
                end = match[value].strip()
                if "infty" in end or "∞" in end or len(re.findall(re.escape(end), flat)) > 1:
                    continue
                at = match.start(bracket)
                yield text[:at] + OTHER_END[match[bracket]] + text[at + 1 :]
    if PROSE.search(COMMAND.sub("", seen)):
        return
    for match in STRICT.finditer(seen):
        if not re.match(r"\s*[+-]?\s*(?:\\infty|∞)", seen[match.end() :]) and "∞" not in seen:
            sign = OTHER_STRICT.get(match[0]) or ("<" if match[0].startswith(r"\l") else ">")
            yield text[: match.start()] + sign + text[match.end() :]


def dropped(text: str) -> Iterator[str]:
    r"""Without the last member of a list, tuple, set or union; one of the two values of a `\pm`."""
    opening, inside, closing = unwrapped(text)
    places = at_depth_0(inside)
    if len(places) and not THOUSANDS.search(inside):
        last = places[-1]
        member = inside[last.end() :]
        has_words = PROSE.search(COMMAND.sub("", shown(BETWEEN.sub(",", inside))))
        if not CONDITION.search(member) and not has_words and "=" not in text[: len(opening)]:
            yield opening + inside[: last.start()].rstrip(" ,;") + ("$" if "$" in last[0] else "") + closing
    if len(re.findall(r"\\pm|±", text)) == 1 and r"\mp" not in text:
        yield re.sub(
            r"(?<=[\w)}])(\s*)(?:\\pm(?![a-z])|±)",
            r"\1+",
            re.sub(r"(^|[=,(\[{$]\s*)(?:\\pm(?![a-z])|±)", r"\1", text),
        )


def powers(text: str) -> Iterator[str]:
    """Each exponent of a variable in turn made one greater."""
    seen = shown(text)
    if ZERO_SIDE.search(text) or UNIT.search(seen):
        return
    for match in VARIABLE_POWER.finditer(seen):
        group = 2 if match[2] else 3
        bumped = str(int(match[group]) + 1)
        bumped = "{" + bumped + "}" if group == 2 and len(bumped) > 1 else bumped
        yield text[: match.start(group)] + bumped + text[match.end(group) :]


PERTURBATIONS: dict[str, Callable[[str], Iterator[str]]] = {
    "next integer": integers,
    "flipped sign": signs,
    "interval end": ends,
    "dropped element": dropped,
    "exponent": powers,
}


def shown(text: str) -> str:
    """The text, of the same length, with names, units, bases and lengths hidden."""
    hidden = list(text)
    for match in HIDE.finditer(text):
        end = argument_end(text, match.end())
        while (power := re.compile(r"\s*\^\s*").match(text, end)) and not match[0].startswith("_"):
            end = argument_end(text, power.end())
        hidden[match.end() : end] = HIDDEN * (end - match.end())
    return "".join(hidden)


def without_exponents(text: str) -> str:
    hidden = list(text)
    for match in re.finditer(r"\^\s*", text):
        end = argument_end(text, match.end())
        hidden[match.start() : end] = HIDDEN * (end - match.start())
    return "".join(hidden)


def argument_end(text: str, start: int) -> int:
    """Where the argument that begins here ends: a group, a command or one character."""
    if text[start : start + 1] not in ("{", "["):
        command = COMMAND.match(text, start)
        return command.end() if command else min(start + 1, len(text))
    depth = 0
    for place in range(start, len(text)):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    return len(text)


def unwrapped(text: str) -> tuple[str, str, str]:
    """(opening, inside, closing) of a text that is one bracketed group; all inside where it is none."""
    match = re.fullmatch(
        r"(\s*\$?\s*(?:\\left\s*)?(?:\\\{|[(\[]))(.*?)((?:\\right\s*)?(?:\\\}|[)\]])\s*\$?\s*)",
        text,
        re.DOTALL,
    )
    dollars = re.fullmatch(r"(\s*\$)([^$]*)(\$\s*)", text)
    whole = (dollars[1], dollars[2], dollars[3]) if dollars else ("", text, "")
    if not match:
        return whole
    depth = 0
    for bracket in re.finditer(r"[(\[{]|[)\]}]", match[2]):
        depth += 1 if bracket[0] in "([{" else -1
        if depth < 0:
            return whole
    return match[1], match[2], match[3]


def at_depth_0(text: str) -> list[re.Match[str]]:
    """What divides the members of a list, outside of all brackets."""
    depths, depth = [], 0
    for letter in text:
        depths.append(depth + (letter in ")]}" and -1))
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(letter, 0)
    return [match for match in BETWEEN.finditer(text) if depths[match.start()] == 0]


def as_set(text: str) -> frozenset[str]:
    """The members as text: a list with one of them twice is the same answer."""
    _, inside, _ = unwrapped(text)
    cuts = at_depth_0(inside)
    edges = [0, *(place for cut in cuts for place in cut.span()), len(inside)]
    members = {re.sub(r"\s|\$", "", inside[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)}
    return frozenset({*members, text[:1] + text[-1:]} if not cuts or text[:1] in "([" else members)
