"""From what models type to one spelling: Unicode signs, sizing, fonts and spacing become plain LaTeX."""

from __future__ import annotations

import re
import unicodedata

THOUSANDS = "\ue000"
"""Stands between groups of three digits where LaTeX says that no list is meant: 1{,}000 and 1,\\!000."""

SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ", "·": r"\cdot ",
    "∙": r"\cdot ", "÷": r"\div ", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "≡": r"\equiv ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∜": r"\sqrt[4] ", "℃": r"^\circ C", "℉": r"^\circ F", "⁄": "/", "∕": "/", "⋂": r"\cap ", "⋃": r"\cup ",
    "⊕": r"\oplus ", "⊗": r"\otimes ", "ℵ": r"\aleph ", "∅": r"\emptyset ", "±": r"\pm ", "∓": r"\mp ",
    "√": r"\sqrt ", "∛": r"\sqrt[3] ", "°": r"^\circ ",
    "∘": r"\circ ", "…": r"\ldots ", "⋯": r"\ldots ", "′": "'", "″": "''", "’": "'", "‘": "'",
    "∀": r"\forall ",
    "∃": r"\exists ", "∧": r"\wedge ", "∨": r"\vee ", "∖": r"\setminus ", "∣": r"\mid ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "⟨": r"\langle ", "⟩": r"\rangle ", "→": r"\to ",
    "∠": r"\angle ", "△": r"\triangle ", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ", "ℝ": r"\mathbb{R}",
    "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "½": r"\frac{1}{2}",
    "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅛": r"\frac{1}{8}",
    "％": "%", "“": '"', "”": '"', "\u200b": "", "\ufeff": "", "\u2061": "", "\u2062": "", "\u00a0": " ",
    "\u2009": " ", "\u202f": " ", "\u3000": " ", "＝": "=", "，": ",", "；": ";", "：": ":",
    "（": "(", "）": ")",
    "µ": r"\mu ", "ϕ": r"\phi ", "ϵ": r"\epsilon ", "ϑ": r"\theta ",
    "⊆": r"\subseteq ", "⊂": r"\subset ", "∉": r"\notin ", "⊥": r"\perp ", "€": r"\euro ", "£": r"\pounds ",
    "¥": r"\yen ", "₹": r"\rupee ",
}  # fmt: skip
GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₙₖₘ", "0123456789+-=()aeoxnkm", strict=True))
for _word in GREEK:
    _letter = unicodedata.lookup(f"GREEK SMALL LETTER {'LAMDA' if _word == 'lambda' else _word.upper()}")
    SIGNS[_letter] = f"\\{_word} "
for _word in ("gamma", "delta", "theta", "xi", "pi", "sigma", "phi", "psi", "omega"):
    SIGNS[unicodedata.lookup(f"GREEK CAPITAL LETTER {_word.upper()}")] = f"\\{_word.capitalize()} "
TABLE = str.maketrans(SIGNS)

SHIFTED = re.compile(f"[{''.join(RAISED)}]+|[{''.join(LOWERED)}]+")
GROUPED = re.compile(r"(?<=\d)(?:\{,\}|,\s?\\!+\s*|\\,|\\ |\\;|~)(?=\d{3}(?!\d))")
SPACES = re.compile(r"(?<!\\)\\[!,;: >]|\\(?:hspace|phantom)\s*\{[^{}]*\}|~|\s+")
GAPS = re.compile(r"\\q?quad")
SIZES = re.compile(
    r"\\(?:left|right|middle)\s*\.|\\(?:[bB]igg?[lrm]?|left|right|middle|displaystyle|textstyle|scriptstyle|limits|nolimits|mathstrut|strut"
    r"|rm|bf|it|large|Large|small|tiny|normalsize|boldmath|allowbreak|nonumber|notag)(?![a-zA-Z])"
)
MARKS = re.compile(r"\\[()\[\]](?!\d)|\$")
LONE_BAR = re.compile(r"\\left\s*\|(?:\s*\\right\s*\.)?")
BARS = re.compile(r"\\left\s*\||\\right\s*\|")
FONTS = re.compile(
    r"\\(?:mathbf|mathit|mathcal|mathscr|mathsf|boldsymbol|bm|vec|overrightarrow|pmb|ensuremath"
    r"|displaylines|underline|overparen|wideparen)(?![a-zA-Z])"
)
FRACTIONS = re.compile(r"\\(?:[dtcs]|nice)frac(?![a-zA-Z])")
BINOMIALS = re.compile(r"\\[dt]binom(?![a-zA-Z])")
DOUBLED = re.compile(r"\\\\(?=[a-zA-Z]{2}|[{}|])")
GROUPED_BY_SPACE = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?")
LONE_DOT = re.compile(r"(?<=[\d}])\.(?=\s*[\])])")
LOST = re.compile(  # an escape that was read as one: a tab and `ext{`, a form feed and `rac{`
    r"[\t\x08\f\r\x07]?(?<![a-zA-Z\\])(?:ext\{|rac\{)|\t(?=imes|heta|an\b|o\b|riangle|frac)"
    r"|\x08(?=eta|egin|inom|ar\b|oxed|inom|mod)|\r(?=ight|ho\b)|\x07(?=lpha|pprox|ngle)|\x0b(?=ar|ec)"
)
RESTORED = {"\t": "\\t", "\x08": "\\b", "\r": "\\r", "\x07": "\\a", "\x0b": "\\v"}
SYSTEM = re.compile(
    r"\\left\s*\\\{\s*\\begin\{(?:array|aligned|matrix|gathered|align\*?)\}(?:\s*\{[lcr| ]*\})?"
)
SYSTEM_END = re.compile(r"\\end\{(?:array|aligned|matrix|gathered|align\*?)\}\s*\\right\s*\.")
MODULE = re.compile(r"\b(?:np|numpy|math|sp|sympy|cmath)\.(?=[a-z])|\bMatrix(?=\()")
BOXES = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
BASE = re.compile(r"(\d++)\s*+\(?\s*+(?:\\text\s*\{\s*)?(?:in\s+)?base[ -]*\}?\s*(\d+)\s*\)?")
ROOTS = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?)")
DEGREES = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
CELSIUS = re.compile(r"\^\s*\{?\s*\\circ\s*\}?\s*(?:\\(?:text|mathrm)\s*\{\s*)?([CF])(?![a-zA-Z])\s*\}?")
CIRCLE = re.compile(r"\^\s*\{?\s*\\?(?:text|ext)\s*\{?\s*\\?circ\s*\}*|\\u00[bB]0|\\degree")
CHOOSE = re.compile(r"\{([^{}\\]*)\\choose\s*([^{}\\]*)\}")
OVER = re.compile(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}")
COMBINATIONS = re.compile(
    r"(?:\{\}|(?<![\w)}\] ]))[_^]\{?(\d+)\}?\s*C_\{?(\d+)\}?|(?<![a-zA-Z])C_\{?(\d+)\}?\^\{?(\d+)\}?"
)
DECORATED = re.compile(
    r"\\(?:color|textcolor)\s*\{\w+\}|\\(?:blacksquare|square|qed|Box)(?![a-zA-Z])|(?<=\\)\[\d+(?:pt|ex|em)\]|\\hline(?![a-zA-Z])"
)
BUILDER = re.compile(r"([a-z])\s*\|([^|]*[<>=\\][^|]*)")
BETWEEN = re.compile(r"\$\s+\$")
BOLD = re.compile(r"\s*\*\*(.*)\*\*\s*")
HTML = (("<sup>", "^{"), ("</sup>", "}"), ("<sub>", "_{"), ("</sub>", "}"), ("&lt;", "<"), ("&gt;", ">"))


def spelled(text: str) -> str:
    """The text in plain LaTeX on one line; what the text means is left alone."""
    text = LOST.sub(_restored, text)
    if not text.isascii():
        text = ROOTS.sub(lambda root: f"{DEGREES[root[1]]}{{{root[2]}}}", text)
        text = SHIFTED.sub(_shifted, text).translate(TABLE)
        text = "".join(unicodedata.normalize("NFKC", c) if "\uff01" <= c <= "\uff5e" else c for c in text)
    if "<s" in text or "&" in text:
        for old, new in HTML:
            text = text.replace(old, new)
    text = MODULE.sub("", GROUPED.sub(THOUSANDS, BETWEEN.sub("$ , $", text)))
    if "\\" in text or "circ" in text:
        text = _unslashed(text)
    else:
        text = text.replace("$", "") if not _is_money(text) else text.replace("$", r"\dollar ")
    text = text.replace("**", "^") if re.search(r"\w\s*\*\*\s*[\w(]", text) else BOLD.sub(r"\1", text)
    if "base" in text:
        text = BASE.sub(r"\1_{\2}", text)
    if "C" in text:
        text = COMBINATIONS.sub(_combination, text)
    text = SPACES.sub(" ", GAPS.sub(" , ", text)).strip()
    text = text.lstrip("= ") or text
    if text.endswith("}") and text.count("}") > text.count("{"):
        text = text[:-1]
    if (match := BUILDER.fullmatch(text)) and re.search(rf"(?<![a-zA-Z]){match[1]}(?![a-zA-Z])", match[2]):
        text = rf"\{{{match[1]} \mid {match[2]}\}}"
    if GROUPED_BY_SPACE.fullmatch(text):
        text = text.replace(" ", "")
    text = LONE_DOT.sub("", text)
    return text if text.endswith("...") else text.rstrip(".,;:\\ ")


def _unslashed(text: str) -> str:
    if "\\begin" not in text:
        text = DOUBLED.sub(r"\\", text)
    text = BOXES.sub("", DECORATED.sub(" ", text)).replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = CELSIUS.sub(lambda unit: r"\text{ celsius}" if unit[1] == "C" else r"\text{ fahrenheit}", text)
    text = CIRCLE.sub(r"^\\circ ", text)
    if "\\choose" in text or "\\over" in text:
        text = OVER.sub(r"{\\frac{\1}{\2}}", CHOOSE.sub(r"\\binom{\1}{\2}", text))
    if "\\right." in text.replace(" ", "") and "\\left|" in text.replace(" ", ""):
        text = LONE_BAR.sub(r"\\mid ", text)
    if SYSTEM.search(text) and SYSTEM_END.search(text):
        text = SYSTEM_END.sub(r"\\end{cases}", SYSTEM.sub(r"\\begin{cases}", text))
    text = re.sub(r"\\[$](?!\s*$)", r"\\dollar ", text).replace("\\$", "")
    text = BARS.sub(lambda bar: r"\lvert " if bar[0][1] == "l" else r"\rvert ", text)
    text = BINOMIALS.sub(r"\\binom", FRACTIONS.sub(r"\\frac", text))
    text = FONTS.sub(" ", text)
    text = SIZES.sub(" ", text)
    text = MARKS.sub(" ", text)
    return text.replace("\\%", "%").replace("\\#", "#").replace("\\&", "&").replace("\\_", "_")


def _combination(match: re.Match[str]) -> str:
    above, below = (int(group) for group in match.groups() if group)
    if not 0 < below <= above:
        return match[0]
    return rf"\binom{{{above}}}{{{below}}}"


def _restored(match: re.Match[str]) -> str:
    lost = match[0]
    if lost.endswith("{"):
        return "\\text{" if lost.endswith("ext{") else "\\frac{"
    return RESTORED[lost]


def _is_money(text: str) -> bool:
    """Whether its one dollar sign stands before a number: $5, not $x$."""
    return text.count("$") == 1 and re.match(r"\s*-?\s*\$\s*-?[\d.]", text) is not None


def _shifted(match: re.Match[str]) -> str:
    raised = match[0][0] in RAISED
    table = RAISED if raised else LOWERED
    return f"{'^' if raised else '_'}{{{''.join(table[c] for c in match[0])}}}"


WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|mathrm|mbox|operatorname|emph|mathbb)\s*\{([^{}]*)\}"
)
COMMAND = re.compile(r"\\([a-zA-Z]+)")
WORD = re.compile(r"\d*\.?\d+|[^\W\d_]+|[^\s\w]")
HYPHEN = re.compile(r"(?<=[a-z][a-z][a-z][a-z])-(?=[a-z][a-z][a-z])")
PLAIN = frozenset(("yes", "no", "true", "false", "none", "odd", "even"))
LITTLE = frozenset(("a", "an", "the", "An", ".", ";", ":", '"'))
"""What is left out of words: articles, and what ends a sentence."""


def words(text: str) -> tuple[str, ...]:
    """The words of an answer in prose, without articles, full stops, wrappers and Title case."""
    text = COMMAND.sub(r" \1 ", WRAPPED.sub(r" \1 ", text))
    found = WORD.findall(HYPHEN.sub(" ", text))
    if found[:1] == ["A"] and len(found) > 1 and len(found[1]) > 3 and found[1].islower():
        found = found[1:]
    found = [word.lower() if word[1:].islower() and len(word) > 2 else word for word in found]
    found = [word.lower() if word.lower() in PLAIN else word for word in found]
    return tuple(word for word in found if word not in LITTLE) or tuple(found)
