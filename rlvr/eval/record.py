"""The record of an evaluation: one JSON line a problem, appended as it finishes, so that a stop loses little.

The first line says what was measured with what; a record is only ever continued under the same first line.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from rlvr.errors import RunError
from rlvr.types import Finish, Status

SYNC_EVERY = 64
"""Problems between two fsyncs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """One completion and what became of it."""

    text: str
    """What the model wrote."""
    status: Status
    """The verdict."""
    score: float
    """The verifier's score, 0 to 1."""
    found: str | None
    """The answer extracted."""
    why: str
    """Which rule decided, or what went wrong."""
    tokens: int
    """Length of the completion."""
    finish: Finish
    """`length` if it was cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One problem and its completions."""

    index: int
    """Place in the benchmark, from 0."""
    problem: str
    """The problem's id."""
    question: str
    """The last turn of the prompt."""
    answer: Any
    """The answer it was checked against."""
    completions: tuple[Graded, ...]
    """k of them, in the order of their seeds."""


class OtherRecordError(RunError):
    """The file holds another measurement than the one that is asked for."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}; give the same settings to continue it, --fresh to overwrite it, or another --out"
        )
        self.what = what
        """The difference alone, without what to do about it."""

    def __reduce__(self) -> tuple[type[OtherRecordError], tuple[str], dict[str, object]]:
        return type(self), (self.what,), self.__dict__


class Record:
    """Outcomes by index, kept in memory and, with a path, on disk."""

    def __init__(self, path: Path | None, header: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Open or continue the file; `fresh` starts it anew.

        Raises OtherRecordError if the file belongs to another measurement, RunError if it is in use, damaged,
        or cannot be written.
        """
        self.outcomes: dict[int, Outcome] = {}
        self._path = path
        self._file: IO[bytes] | None = None
        self._unsynced = 0
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            self._lock()
            self._load(json.loads(json.dumps(header)), fresh)
        except OSError as error:
            self._release()
            raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
        except BaseException:
            self._release()
            raise

    def add(self, outcome: Outcome) -> None:
        """Keep an outcome; on disk at the latest with the next `SYNC_EVERY`."""
        self.outcomes[outcome.index] = outcome
        self._write(asdict(outcome))
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY:
            self._sync()

    def close(self) -> None:
        """Write out and close; safe to call twice."""
        try:
            self._sync()
        finally:
            self._release()

    def _lock(self) -> None:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{self._path}: another evaluation is writing it; wait, or use --out") from None

    def _load(self, header: dict[str, Any], fresh: bool) -> None:
        assert self._file is not None
        self._file.seek(0)
        lines = [] if fresh else self._file.read().splitlines(keepends=True)
        # A kill in the middle of a write leaves a last line without its newline: it was never finished.
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        self._file.truncate(sum(map(len, lines)))
        if not lines:
            self._write({"header": header})
            self._sync()
            return
        for number, line in enumerate(lines, start=1):
            try:
                found = json.loads(line)
                if number == 1:
                    self._compare(found["header"], header)
                else:
                    outcome = _outcome(found)
                    self.outcomes[outcome.index] = outcome
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{self._path}:{number}: damaged line ({type(error).__name__}: {error}); "
                    "delete the line, or start anew with --fresh"
                ) from error

    def _compare(self, found: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
        differing = [key for key in {**ours, **found} if found.get(key) != ours.get(key)]
        if differing:
            detail = "; ".join(f"{key}: {found.get(key)} there, {ours.get(key)} now" for key in differing)
            raise OtherRecordError(f"{self._path}: records another measurement ({detail})")

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is not None:
            with _said(self._path):
                self._file.write(_dump(line) + b"\n")
                self._file.flush()  # a kill of this process loses nothing; a power cut at most SYNC_EVERY

    def _sync(self) -> None:
        if self._file is not None:
            with _said(self._path):
                self._file.flush()
                os.fsync(self._file.fileno())
        self._unsynced = 0

    def _release(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with _said(self._path):
                file.close()


class _said:  # noqa: N801 - reads as a clause: with _said(path)
    """Turns a failed write into a RunError that names the file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise RunError(
                f"{self.path}: cannot be written: {error.strerror or error}; what was synced is kept, "
                "and the same command continues from there"
            ) from error


def _outcome(found: Mapping[str, Any]) -> Outcome:
    completions = tuple(Graded(**graded) for graded in found["completions"])
    return Outcome(**{**found, "completions": completions})


def _dump(line: Mapping[str, Any]) -> bytes:
    # A completion may hold half a surrogate pair; escaped, it survives the trip.
    return json.dumps(line, default=str).encode()
