"""The benchmarks that `-b NAME` knows, as a table.  A row names the exact data set, prompt and verifier.

Where the hub's split is called otherwise than that of the usual local copy, an alias `folder:split` names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlvr.errors import RecipeError, near_miss
from rlvr.problems.generators import GENERATORS
from rlvr.problems.rows import READERS
from rlvr.problems.sources import Source, open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A named measurement: which problems, asked how, checked by whom."""

    name: str
    """What `-b` calls it."""
    source: str
    """Hub data set, file or generator."""
    about: str
    """One line for `rlvr eval --list`."""
    n: int | None = None
    """Problems it should have; of a generator, problems drawn."""
    subset: str | None = None
    """Configuration of the hub data set."""
    split: str = "test"
    """Split of the data set or generator."""
    question: str = "{question}"
    """Template over the row that gives the question."""
    answer: str | None = "{answer}"
    """Template over the row that gives the answer; None: other fields hold the tests."""
    answer_after: str | None = None
    """Keep what follows the last such marker in the answer."""
    prompt: str = "boxed"
    """Name or text of the prompt."""
    verifier: str = "math"
    """Name of the verifier."""
    aliases: tuple[str, ...] = ()
    """Folders of the data folder that may hold it: `folder` or `folder:split`."""


BENCHMARKS = {
    row.name: row
    for row in (
        Benchmark(
            name="gsm8k",
            source="openai/gsm8k",
            subset="main",
            answer_after="####",
            n=1319,
            about="grade-school word problems, integer answers",
        ),
        Benchmark(
            name="math500",
            source="HuggingFaceH4/MATH-500",
            question="{problem}",
            n=500,
            aliases=("math500",),
            about="500 competition problems of the MATH test set",
        ),
        Benchmark(
            name="aime24",
            source="HuggingFaceH4/aime_2024",
            split="train",
            question="{problem}",
            n=30,
            aliases=("aime24:test",),
            about="AIME 2024 I and II, integers 0-999; use 16 samples or more",
        ),
        Benchmark(
            name="aime25",
            source="math-ai/aime25",
            question="{problem}",
            n=30,
            about="AIME 2025 I and II, integers 0-999; use 16 samples or more",
        ),
        Benchmark(
            name="amc23",
            source="knoveleng/AMC-23",
            split="train",
            question="{problem}",
            n=40,
            aliases=("amc23:test",),
            about="AMC 12 of 2023, the 40-problem set (an 83-problem set goes by the same name)",
        ),
        Benchmark(
            name="minerva",
            source="knoveleng/Minerva-Math",
            split="train",
            question="{problem}",
            answer="{solution|boxed}",
            n=272,
            aliases=("minerva_math:test",),
            about="undergraduate science from MIT OCW; units and scientific notation",
        ),
        Benchmark(
            name="olympiadbench",
            source="Hothan/OlympiadBench",
            subset="OE_TO_maths_en_COMP",
            split="train",
            answer="{final_answer.0}",
            n=675,
            aliases=("olympiadbench:test",),
            about="olympiad problems in English, text only; some ask for several values",
        ),
        Benchmark(
            name="svamp",
            source="ChilleD/SVAMP",
            question="{Body|sentence} {Question}",
            answer="{Answer}",
            n=1000,
            aliases=("svamp",),
            about="one-step word problems, all 1000 (the hub's test split holds 300 of them)",
        ),
        Benchmark(
            name="countdown",
            source="Jiayi-Pan/Countdown-Tasks-3to4",
            split="train[327680:328704]",
            question="Using the numbers {nums}, write an expression that equals {target}. Use + - * / and "
            "brackets, and each number at most once.",
            answer="{target}",
            prompt="answer_tag",
            verifier="countdown",
            n=1024,
            aliases=("countdown:test",),
            about="reach a target from 3 or 4 numbers",
        ),
        Benchmark(
            name="humaneval",
            source="openai/openai_humaneval",
            question="{prompt}",
            answer="{test}",
            prompt="Complete this Python function. Answer with all of it in a code block.\n"
            "```python\n{question}\n```",
            verifier="code",
            n=164,
            aliases=("humaneval",),
            about="Python functions from their docstrings, with tests",
        ),
        Benchmark(
            name="mbpp",
            source="google-research-datasets/mbpp",
            subset="full",
            question="{text}\nIt must pass these tests:\n{test_list.0}\n{test_list.1}\n{test_list.2}",
            answer="{test_list}",
            prompt="{question}\nAnswer with the program in a code block (```python).",
            verifier="code",
            n=500,
            about="short Python functions from a sentence, three tests each, tests shown",
        ),
        Benchmark(
            name="story",
            source="story",
            prompt="plain",
            verifier="story",
            n=256,
            about="mini word problems of the quickstart, held out by hash",
        ),
    )
}


def find(name: str) -> Benchmark:
    """The benchmark of that name, or one for a file of the user's own; raises RecipeError for neither."""
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if Path(name).suffix.lower() in READERS:
        return Benchmark(name=Path(name).stem, source=name, about="a file of your own")
    raise RecipeError(
        f"`{name}` is no benchmark and no {', '.join(READERS)} file{near_miss(name, BENCHMARKS)}"
    )


def open_benchmark(
    benchmark: Benchmark, *, data_dir: Path | None, base_dir: Path, limit: int | None = None
) -> Source:
    """The benchmark's problems, all of them; of a generator the first `limit`, by default `n`.

    A file's path is relative to `base_dir`.
    """
    is_endless = benchmark.source in GENERATORS
    return open_source(
        source=benchmark.source,
        subset=benchmark.subset,
        split=benchmark.split,
        question=benchmark.question,
        answer=benchmark.answer,
        answer_after=benchmark.answer_after,
        prompt=benchmark.prompt,
        limit=(limit or benchmark.n) if is_endless else None,
        data_dir=data_dir,
        base_dir=base_dir,
        aliases=benchmark.aliases,
    )
