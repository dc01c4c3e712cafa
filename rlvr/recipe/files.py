"""Which recipe values name local files, and where those lie."""

from __future__ import annotations

from pathlib import Path

from rlvr.errors import near_miss

ROWS = (".jsonl", ".json", ".parquet")
"""Suffixes of files of problems."""

PATH_KEYS: dict[str, tuple[str, ...]] = {
    "model.name": (),
    "problems.source": ROWS,
    "warm_start.problems.source": ROWS,
    "eval.benchmarks": (".jsonl",),
    "verifier.name": (),
    "audit.name": (),
    "data_dir": ("",),
    "vllm.key_file": ("",),
}
"""Keys that may name a file or folder, and the endings that make a value one without a leading `./`."""


def is_local(key: str, value: str) -> bool:
    """Whether the value of `key` (without list indices) names a file or folder and nothing else."""
    return value.startswith(("./", "../", "/", "~")) or value.endswith(PATH_KEYS[key])


def resolve(recipe: Path, value: str) -> Path:
    """The path that a value in `recipe` names: relative ones are relative to the recipe's folder."""
    return Path(recipe).parent / Path(value).expanduser()


def lacking(path: Path) -> str:
    """The sentence about a path that does not exist, with the nearest that does."""
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist: there is no folder {folder}"
    beside = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    near = near_miss(path.name, beside[:20]) if len(beside) > 20 else near_miss(path.name, beside)
    return f"{path} does not exist{near or f'; the folder {folder} is empty'}"
