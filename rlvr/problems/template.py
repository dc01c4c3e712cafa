"""Templates over a row's fields: `{question}`, `{a.b}`, `{solution|boxed}`; `{{` and `}}` are braces.

Not `str.format`: only row values are reached, never attributes, and braces inside the data mean nothing.
Braces that hold no field name, such as the ones of `\\boxed{}`, stay as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rlvr.errors import near_miss

PIECE = re.compile(r"\{\{|\}\}|\{([A-Za-z_][^{}|]*)(?:\|([A-Za-z_]\w*))?\}")


def fill(template: str, row: Mapping[str, Any]) -> Any:
    """The template with the row's values in it; one bare `{field}` keeps the value's own type.

    Raises ValueError, with a sentence that names the field, where the row lacks it or it is null.
    """
    bare = PIECE.fullmatch(template)
    if bare and bare[1]:
        return _value(row, bare[1], bare[2])
    return PIECE.sub(lambda match: _text(row, match), template)


def names(template: str) -> list[str]:
    """The fields that a template reads, in order."""
    return [match[1] for match in PIECE.finditer(template) if match[1]]


def boxed(text: str) -> str:
    """What stands in the last `\\boxed{...}`, braces balanced."""
    start = text.rfind("\\boxed{")
    depth = 0
    for at in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : at].strip()
    raise ValueError("holds no complete \\boxed{...}")


def sentence(text: str) -> str:
    """The text with a full stop, if it lacks one."""
    text = text.strip()
    return text if text.endswith((".", "?", "!")) else text + "."


def _text(row: Mapping[str, Any], match: re.Match[str]) -> str:
    if not match[1]:
        return match[0][0]
    value = _value(row, match[1], match[2])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _value(row: Mapping[str, Any], path: str, filter_name: str | None) -> Any:
    value = row[path] if path in row else _walk(row, path)
    if value is None:
        raise ValueError(f"field `{path}` is null")
    if filter_name is None:
        return value
    if filter_name not in FILTERS:
        raise ValueError(f"`{{{path}|{filter_name}}}`: no such filter{near_miss(filter_name, FILTERS)}")
    if not isinstance(value, str):
        raise ValueError(f"field `{path}` is no text, so `|{filter_name}` cannot read it")
    try:
        return FILTERS[filter_name](value)
    except ValueError as error:
        raise ValueError(f"field `{path}` {error}") from None


def _walk(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for name in path.split("."):
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            known = [str(key) for key in value] if isinstance(value, Mapping) else []
            has = f" (the row has: {', '.join(known)})" if known else ""
            raise ValueError(f"no field `{path}`{_did_you_mean(name, known)}{has}")
    return value


def _did_you_mean(name: str, known: list[str]) -> str:
    hint = near_miss(name, known)
    return hint if hint.startswith("; did") else ""


FILTERS = {"boxed": boxed, "sentence": sentence}
"""What may stand behind the bar of `{field|filter}`."""
