"""What scripts/bench_math judges a math verifier by: labelled cases, and the golds of public sets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr_verifiers.extract import last_boxed

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT.parent / "shared" / "cases" / "math_equiv_dev.jsonl"
DATA = ROOT.parent / "shared" / "data"

SETS = {
    "GSM8K train": ("gsm8k/train.jsonl", "answer"),
    "GSM8K test": ("gsm8k/test.jsonl", "answer"),
    "MATH train": ("math_train/train.jsonl", "answer"),
    "MATH test": ("math_test5000/test.jsonl", "answer"),
    "MATH-500": ("math500/test.jsonl", "answer"),
    "MATH levels 3-5": ("math_lvl3to5_8k/train.jsonl", "answer"),
    "AIME 1983-2023": ("aime_1983_2023/train.jsonl", "answer"),
    "AIME 2024": ("aime24/test.jsonl", "answer"),
    "AIME 2025": ("aime25/test.jsonl", "answer"),
    "AMC 2023": ("amc23/test.jsonl", "answer"),
    "AMC 2022-23": ("amc_22_23/test.jsonl", "answer"),
    "OlympiadBench": ("olympiadbench/test.jsonl", "final_answer"),
    "Minerva": ("minerva_math/test.jsonl", "solution"),
    "Omni-MATH rule": ("omni_math_rule/test.jsonl", "answer"),
    "Big-Math": ("bigmath_5k/train.jsonl", "answer"),
    "DeepMath": ("deepmath_5k/train.jsonl", "answer"),
    "Gaokao 2023": ("gaokao2023en/test.jsonl", "answer"),
    "SVAMP": ("svamp/test.jsonl", "Answer"),
}
"""File and field of each set's answers; a solution stands for what its last box holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A completion and a gold, with what a person says of them."""

    id: str
    completion: str
    gold: str
    expected: bool
    pred: str
    group: str
    category: str
    style: str
    contested: bool


@dataclass(frozen=True, slots=True)
class Gold:
    """One gold answer."""

    text: str
    """What a completion boxes; empty where the set has none."""
    answer: Any
    """What the verifier is handed: the field as it is."""


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def cases(path: Path) -> list[Case]:
    return [
        Case(
            completion=boxed(row["pred"]) if row["style"] == "pair" else row["pred"],
            **{key: row[key] for key in Case.__dataclass_fields__ if key != "completion"},
        )
        for row in read(path)
    ]


def boxed(answer: str) -> str:
    return f"\\boxed{{{answer}}}"


def sentence(answer: str) -> str:
    return f"Thus the answer is ${boxed(answer)}$."


def golds(data: Path, name: str) -> list[Gold]:
    """Every gold of a set, row by row."""
    file, key = SETS[name]
    return [gold for row in read(data / file) for gold in as_golds(row[key], key)]


def as_golds(value: Any, key: str) -> Iterator[Gold]:
    """One; of a list, whose members are all right, as many as it has."""
    if isinstance(value, list):
        yield from (Gold(as_text(one), value if len(value) > 1 else one) for one in value)
    elif key == "solution":
        yield Gold(as_text(value), as_text(value))
    else:
        yield Gold(as_text(value), value)


def as_text(value: Any) -> str:
    """What the last box holds, or what stands behind the last `####`, or all of it."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = "" if value is None else str(value)
    return last_boxed(text) or text.rpartition("####")[2].strip()
