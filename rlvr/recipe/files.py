"""Which recipe values name local files, and where those lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rlvr.errors import near_miss

ROWS = (".jsonl", ".json", ".parquet")
"""Suffixes of files of problems."""
SHOWN = 20
"""Names proposed at most."""

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


def lacking(path: Path, fits: Callable[[Path], bool] = Path.exists, kind: str = "file") -> str:
    """The sentence about a path that does not exist, with the nearest beside it that `fits`, or a few."""
    folder = path.parent
    if not folder.is_dir():
        return f"{path} does not exist: there is no folder {folder}"
    beside = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".") and fits(file))
    near = near_miss(path.name, beside)
    if len(beside) > SHOWN and "did you mean" not in near:
        near = f"{near_miss(path.name, beside[:SHOWN])}, ..."
    return f"{path} does not exist{near or f'; the folder {folder} holds no {kind}'}"


def holds_model(folder: Path) -> bool:
    """Whether a transformers model lies there."""
    return (folder / "config.json").is_file()
