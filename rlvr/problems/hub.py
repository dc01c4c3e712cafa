"""Hub data sets: a local copy in the data folder first, then the hub itself.

    <data_dir>/<name>/[<subset>/]<split>.jsonl | .json | .parquet

`<name>` is tried as the full hub name (`openai/gsm8k`, nested or in one), as its last part (`gsm8k`), then
as each alias; case and punctuation do not count.  An alias `folder:split` names the file of a copy whose
split is called otherwise.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import islice
from pathlib import Path

from rlvr.errors import ProblemsError
from rlvr.problems.rows import READERS, Row, read_rows, rows_of

log = logging.getLogger(__name__)

ANSWER_S = 5.0
"""Time for the hub to answer at all."""


def load_rows(
    source: str,
    subset: str | None,
    split: str,
    revision: str | None,
    *,
    data_dir: Path | None,
    aliases: Sequence[str],
    limit: int | None,
) -> list[Row]:
    """Rows of a hub data set, from `data_dir` if it holds a copy.

    Raises ProblemsError that says how to lay out the folder where neither has it.
    """
    if data_dir is not None:
        if not data_dir.is_dir():
            raise ProblemsError(f"data_dir `{data_dir}`: no such folder")
        copy = find_copy(data_dir, source, subset, split, aliases)
        if copy is not None:
            if revision:
                log.warning("%s: revision %s is not checked in the local copy %s", source, revision, copy)
            return read_rows(copy, str(copy), limit)
    return _download(source, subset, split, revision, data_dir, limit)


def find_copy(
    data_dir: Path, source: str, subset: str | None, split: str, aliases: Sequence[str]
) -> Path | None:
    """The file of `data_dir` that holds this split, or None."""
    named = [alias.partition(":") for alias in aliases]
    tries = [([source], split), (source.split("/"), split), (source.split("/")[-1:], split)]
    tries += [(folder.split("/"), own or split) for folder, _, own in named]
    for folder, stem in tries:
        for parts in ([*folder, subset], folder) if subset else (folder,):
            for place in _descend(data_dir, parts):
                files = [f for f in _sorted(place) if f.suffix.lower() in READERS and f.is_file()]
                for file in files:
                    if _squash(file.stem) == _squash(stem):
                        return file
    return None


def _descend(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    for child in _sorted(folder):
        if child.is_dir() and _squash(child.name) == _squash(parts[0]):
            yield from _descend(child, parts[1:])


def _download(
    source: str,
    subset: str | None,
    split: str,
    revision: str | None,
    data_dir: Path | None,
    limit: int | None,
) -> list[Row]:
    import datasets

    shown = ", ".join(part for part in (source, subset, split) if part)
    quiet = silence()
    try:
        with _cache_only() if quiet else nullcontext():
            found = datasets.load_dataset(source, subset, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, ImportError, LookupError) as error:
        reason = quiet or str(error).strip().split("\n")[0] or type(error).__name__
        folder = data_dir if data_dir is not None else "DATA_DIR"
        last = source.split("/")[-1]
        where = f"{folder}/{last}/{split}.jsonl"
        then = (
            ""
            if data_dir is not None
            else ", and set `data_dir:` in the recipe or RLVR_DATA_DIR to that folder"
        )
        raise ProblemsError(
            f"data set `{shown}`: not a file, not a generator, and the hub did not give it: {reason}\n"
            f"  without a network, put a copy at {where} (or .json, .parquet){then}"
        ) from error
    rows = list(islice(rows_of(found, shown), limit))
    if not rows:
        raise ProblemsError(f"data set `{shown}`: holds no rows")
    return rows


@cache
def silence() -> str:
    """Why the hub cannot be reached, found with one request; empty where it answers, or is not to be asked.

    Its library asks six times, with pauses between, for every file.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return ""
    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
    except Exception as error:  # noqa: BLE001 - which library asks, and so what it raises, is the hub's affair
        why = f"{constants.ENDPOINT} does not answer: {str(error) or type(error).__name__}"
        log.warning("%s; what is wanted is taken from the cache of earlier downloads", why)
        return why
    return ""


def silence_about(model: str) -> str:
    """The same, where a model of that name would be fetched from there: it is no folder here."""
    is_folder = model.startswith((".", "/", "~")) or Path(model).is_dir()
    return "" if is_folder else silence()


@contextmanager
def _cache_only() -> Iterator[None]:
    """Inside, the hub's libraries ask nobody, as with HF_HUB_OFFLINE=1."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _sorted(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def _squash(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
