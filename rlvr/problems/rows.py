"""Rows of JSON lines, JSON and Parquet files, each with the place it came from.

A bad row is not raised but returned as a complaint, so that the reader can name several at once.
NaN, Infinity and -Infinity, which JSON lacks and Python writes all the same, are read: test inputs hold them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from rlvr.errors import ProblemsError, near_miss

BOM = b"\xef\xbb\xbf"
SHOWN = 5
"""Complaints written out; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, read or not."""

    where: str
    """`FILE:LINE`, or `FILE: row N` counted from 1."""
    fields: Mapping[str, Any]
    """The row's fields (JSON-like); empty if it could not be read."""
    fault: str | None = None
    """What is wrong with it."""


def read_rows(path: Path, shown: str, limit: int | None) -> list[Row]:
    """The first `limit` rows of a file, named `shown` in messages; faulty rows are among them."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ProblemsError(f"{shown}: cannot read a `{path.suffix}` file; use one of {', '.join(READERS)}")
    try:
        rows = list(islice(reader(path, shown), limit))
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*") if p.suffix.lower() in READERS]
        where = "" if path.parent.is_dir() else f"; the folder `{path.parent}` does not exist either"
        raise ProblemsError(f"{shown}: no such file{near_miss(path.name, siblings)}{where}") from None
    except OSError as error:
        raise ProblemsError(f"{shown}: cannot be read: {error.strerror or error}") from error
    if not rows:
        raise ProblemsError(f"{shown}: holds no rows; a problem is one row")
    return rows


def rows_of(found: Iterable[Any], shown: str) -> Iterator[Row]:
    """Rows of something that is already parsed; values that JSON does not know become text."""
    for number, fields in enumerate(found, start=1):
        where = f"{shown}: row {number}"
        if isinstance(fields, Mapping):
            plain = json.loads(json.dumps(dict(fields), default=str))
            yield Row(where=where, fields=plain, fault=_unwritable(plain))
        else:
            yield Row(where=where, fields={}, fault=f"is {_kind(fields)}, not an object with fields")


def refuse(shown: str, faults: list[str]) -> NoReturn:
    """Raise ProblemsError with the first few faults and their number."""
    more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    if len(faults) == 1:
        raise ProblemsError(faults[0])
    listed = "".join(f"\n  {fault}" for fault in faults[:SHOWN])
    raise ProblemsError(f"{shown}: {len(faults)} bad rows:{listed}{more}")


def _read_jsonl(path: Path, shown: str) -> Iterator[Row]:
    # Split on the newline byte alone: U+2028 and its kin are ordinary characters inside JSON strings.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            content = (line.removeprefix(BOM) if number == 1 else line).strip()
            if content:
                yield _parse_line(content, f"{shown}:{number}")


def _parse_line(line: bytes, where: str) -> Row:
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        fault = f"is not UTF-8 at byte {error.start + 1}; save the file as UTF-8"
        return Row(where=where, fields={}, fault=fault)
    except RecursionError:
        return Row(where=where, fields={}, fault="is nested too deeply")
    except json.JSONDecodeError as error:
        return Row(where=where, fields={}, fault=f"is not JSON: {error.msg} at column {error.colno}")
    except ValueError as error:
        return Row(where=where, fields={}, fault=f"is not JSON: {error}")
    if not isinstance(fields, dict):
        return Row(where=where, fields={}, fault=f"is {_kind(fields)}, not an object with fields")
    return Row(where=where, fields=fields, fault=_unwritable(fields))


def _read_json(path: Path, shown: str) -> Iterator[Row]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ProblemsError(f"{shown}: is not JSON: {error}") from None
    if not isinstance(found, list):
        raise ProblemsError(f"{shown}: holds {_kind(found)}; expected a list of objects (or use .jsonl)")
    yield from rows_of(found, shown)


def _read_parquet(path: Path, shown: str) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from rows_of((row for batch in file.iter_batches() for row in batch.to_pylist()), shown)
    except pyarrow.ArrowException as error:
        raise ProblemsError(f"{shown}: is not a Parquet file: {error}") from error


def _unwritable(fields: Mapping[str, Any]) -> str | None:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair (\\ud800-\\udfff), which is no text"
    return None


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


READERS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}
"""File kinds by suffix."""
