"""Durations and sizes as people write them: `5 s`, `200 ms`, `2 min`, `2 GiB`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_seconds(given: Any) -> Any:
    """Seconds of `5 s`, `200 ms`, `2 min`, `1 h`; a bare number is seconds."""
    return _parse(given, SECONDS, "a duration such as `5 s`")


def parse_bytes(given: Any) -> Any:
    """Bytes of `2 GiB`, `500 MB`; a bare number is bytes."""
    parsed = _parse(given, BYTES, "a size such as `2 GiB`")
    return round(parsed) if isinstance(given, str) and math.isfinite(parsed) else parsed


def _parse(given: Any, units: dict[str, Any], expected: str) -> Any:
    if not isinstance(given, str):
        return given
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", given)
    if match is None or match[2] not in units:
        raise ValueError(f"`{given}` is not {expected} (units: {', '.join(units)})")
    return float(match[1]) * units[match[2]]


Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0)]
Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]

FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
