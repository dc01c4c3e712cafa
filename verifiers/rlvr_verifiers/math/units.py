"""Units: which dimension, how many of the base unit; the words behind a number that are none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

F = Fraction
_BASE: dict[str, tuple[str, Fraction]] = {}


def _unit(dimension: str, factor: Fraction | int | str, *spellings: str) -> None:
    for spelling in spellings:
        _BASE[spelling] = (dimension, F(factor))


_unit("L", 1, "m", "meter", "meters", "metre", "metres")
_unit("L", "1/100", "cm", "centimeter", "centimeters", "centimetre", "centimetres")
_unit("L", "1/1000", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_unit("L", "1/10", "dm", "decimeter", "decimeters")
_unit("L", "1/1000000000", "nm", "nanometer", "nanometers")
_unit("L", 1000, "km", "kilometer", "kilometers", "kilometre", "kilometres", "kms")
_unit("L", "0.0254", "inch", "inches")
_unit("L", "0.3048", "ft", "foot", "feet")
_unit("L", "0.9144", "yd", "yard", "yards")
_unit("L", "1609.344", "mi", "mile", "miles")
_unit("M", 1, "kg", "kilogram", "kilograms", "kilos")
_unit("M", "1/1000", "g", "gram", "grams", "gm")
_unit("M", "1/1000000", "mg", "milligram", "milligrams")
_unit("M", 1000, "ton", "tons", "tonne", "tonnes")
_unit("M", "0.45359237", "lb", "lbs", "pound", "pounds")
_unit("M", "0.028349523125", "oz", "ounce", "ounces")
_unit("T", 1, "s", "sec", "secs", "second", "seconds")
_unit("T", "1/1000", "ms", "millisecond", "milliseconds")
_unit("T", 60, "min", "mins", "minute", "minutes")
_unit("T", 3600, "h", "hr", "hrs", "hour", "hours")
_unit("T", 86400, "day", "days")
_unit("T", 604800, "week", "weeks")
_unit("Y", 1, "year", "years", "yr", "yrs")
_unit("Y", "1/12", "month", "months")
_unit("V", 1, "liter", "liters", "litre", "litres", "l")
_unit("V", "1/1000", "ml", "milliliter", "milliliters", "millilitres")
_unit("V2", 1, "gallon", "gallons")
_unit("V2", "1/4", "quart", "quarts")
_unit("V2", "1/8", "pint", "pints")
_unit("V2", "1/16", "cup", "cups")
_unit("USD", 1, "dollar", "dollars", "usd")
_unit("USD", "1/100", "cent", "cents", "¢")
_unit("EUR", 1, "euro", "euros", "eur")
_unit("GBP", 1, "pounds sterling", "gbp")
_unit("CNY", 1, "yuan", "rmb")
_unit("JPY", 1, "yen")
_unit("INR", 1, "rupee", "rupees", "rs")
_unit("angle", 1, "rad", "radian", "radians")
_unit("degree", 1, "degree", "degrees", "deg")
_unit("percent", 1, "percent", "percentage", "pct")
_unit("celsius", 1, "celsius")
_unit("fahrenheit", 1, "fahrenheit")
_unit("kelvin", 1, "kelvin")
_unit("hertz", 1, "hz", "hertz")
_unit("newton", 1, "newton", "newtons", "N")
_unit("joule", 1, "joule", "joules", "J")
_unit("watt", 1, "watt", "watts", "W")
_unit("volt", 1, "volt", "volts", "V")
_unit("ampere", 1, "ampere", "amperes", "amp", "amps")
_unit("mole", 1, "mol", "mole", "moles")
_unit("pascal", 1, "pa", "pascal", "pascals")
_unit("count", 1, "unit", "units")

UNITS = frozenset(spelling for spelling in _BASE if len(spelling) > 1)
"""Known unit words; a letter alone is a unit only inside of \\text."""
MANY = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""Words that multiply the number before them."""
TWISTING = frozenset((
    "tens", "hundreds", "thousands", "millions", "billions", "trillions", "dozens", "pair", "pairs",
    "score", "scores", "gross", "millionth", "millionths", "billionth", "billionths", "square", "choose",
    "cube", "root", "or", "and", "not", "no", "nor", "but", "maybe", "perhaps", "possibly", "probably",
    "either", "neither", "between", "more", "less", "fewer", "than", "about", "approximately", "roughly",
    "around", "almost", "nearly", "if", "when", "unless", "otherwise", "alternatively", "instead",
    "except", "without", "wrong", "incorrect", "false", "guess", "answer", "equals", "is", "are", "was",
    "plus", "minus", "times", "over", "divided", "by", "half", "halves", "third", "thirds", "fourth",
    "fourths", "quarter", "quarters", "fifth", "fifths", "sixth", "sixths", "eighth", "eighths", "tenth",
    "tenths", "hundredth", "hundredths", "thousandth", "thousandths", "zero", "one", "two", "three",
    "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "thirty", "forty", "fifty",
    "sixty", "seventy", "eighty", "ninety", "quadrillion", "lakh", "crore", "double", "twice", "triple",
    "factorial", "inverse", "reciprocal", "opposite", "negative", "below", "above", "under", "least",
    "most", "nope", "never", "none", "nothing", "every", "other", "to", "up", "down", "yes", "true",
))  # fmt: skip
"""Words that change what the number before them says: with one of these it is no number with a unit."""
DEGREES = re.compile(r"(?i)degrees?\s+(?=celsius|fahrenheit)()")
PART = re.compile(r"([^\s^/]+)|\^\s*(-?\d)|(/)")


@dataclass(frozen=True, slots=True)
class Unit:
    """What stands behind a number."""

    dimension: tuple[tuple[str, int], ...]
    """Its known dimensions with their powers; empty where no word is a known unit."""
    factor: Fraction
    """How many base units one of it is."""
    words: tuple[str, ...]
    """The words that are no unit, in the singular: cats."""
    many: int = 1
    """What the number before it is multiplied by: a million."""


@lru_cache(maxsize=4096)
def unit(text: str) -> Unit | None:
    """The unit that a text names; None where it holds a word that changes what is said."""
    text = DEGREES.sub(r"\1", text)
    dimension: dict[str, int] = {}
    factor, sign, power_next = F(1), 1, 1
    others: list[str] = []
    many = 1
    last: tuple[str, Fraction, int] | None = None
    parts = PART.findall(
        text.replace("\\", " ").replace(",", " ").replace(".", " ").replace("(", " ").replace(")", " ")
    )
    for position, (word, exponent, slash) in enumerate(parts):
        if slash or word.lower() == "per":
            sign = -1
        elif exponent:
            if last is not None:
                name, scale, direction = last
                more = int(exponent) - 1
                dimension[name] = dimension.get(name, 0) + direction * more
                factor *= scale ** (direction * more)
                last = None
        elif word.lower() in ("square", "sq", "cubic", "cu", "squared", "cubed"):
            degree = 2 if word.lower().startswith("sq") else 3
            if word.lower().endswith("ed") and last is None:
                return None  # 5 squared is no 5
            if word.lower().endswith("ed") and last is not None:
                name, scale, direction = last
                dimension[name] += direction * (degree - 1)
                factor *= scale ** (direction * (degree - 1))
            else:
                power_next = degree
        elif word.lower() in MANY and position == 0:
            many = MANY[word.lower()]
        else:
            if (
                word.lower() in TWISTING
                or word.lower() in MANY
                or any(c in word for c in "=<>+*")
                or word.isdecimal()
            ):
                return None
            known = _BASE.get(word) or (_BASE.get(word.lower()) if len(word) > 2 else None)
            if known is None:
                others.append(_singular(word.lower()))
                continue
            name, scale = known
            dimension[name] = dimension.get(name, 0) + sign * power_next
            factor *= scale ** (sign * power_next)
            last = (name, scale, sign)
            power_next = 1
    if len(others) > 3:
        return None
    dimension.pop("count", None)
    return Unit(tuple(sorted((k, v) for k, v in dimension.items() if v)), factor, tuple(others), many)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
