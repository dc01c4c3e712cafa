"""The task of scripts/bench_guard: which two numbers of a list add to a target, searched with `wait`.

    9,4,17,6,12 to 18?  ->  9+4=13 wait,4+17=21 wait,6+12=18 so
                            6+12

The solutions to start from are of two habits: a search that says `wait` after each pair that does not fit,
and a blind guess of one pair.  Both make slips, and the search gives up after a few pairs.
"""

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from rlvr.problems.vocabulary import ASSISTANT, CHAT_TEMPLATE, END, PAD, SPECIAL, SYSTEM, UNKNOWN, USER

COUNT, LARGEST = 5, 20
"""Numbers of a problem, and the largest one."""
EASY = 0.6
"""Share of problems whose first two numbers are the pair: what a guess is right on."""
TRIES = 6
"""Pairs that a search of the warm start tries at most."""
GIVES_UP, SLIPS = 0.5, 0.05
"""How often a worked solution stops at a pair that does not fit, and how often it adds up wrongly."""
SIZES = {
    "hidden_size": 64,
    "layers": 3,
    "heads": 2,
    "kv_heads": 1,
    "head_dim": 32,
    "mlp_size": 192,
    "context": 128,
}
"""Of the model: about 200,000 parameters with its vocabulary."""

Pair = tuple[int, int]
Row = dict[str, str]


def problem(rng: random.Random) -> tuple[list[int], int, Pair]:
    """Numbers, a target, and the only pair of them that adds to it."""
    while True:
        numbers = rng.sample(range(1, LARGEST + 1), COUNT)
        pairs = list(combinations(numbers, 2))
        pair = pairs[0] if rng.random() < EASY else rng.choice(pairs[1:])
        if [sum(other) for other in pairs].count(sum(pair)) == 1:
            return numbers, sum(pair), pair


def question(numbers: list[int], target: int) -> str:
    return f"{','.join(map(str, numbers))} to {target}?"


def solution(rng: random.Random, numbers: list[int], target: int) -> str:
    """A worked solution of either habit; often enough wrong."""
    pairs = list(combinations(numbers, 2))
    tries = [pairs[0]] if rng.random() < EASY else []
    tries += [pair for pair in rng.sample(pairs, len(pairs)) if pair not in tries]
    written = []
    for a, b in tries[:TRIES]:
        said = a + b + (rng.choice((-1, 1)) if rng.random() < SLIPS else 0)
        written.append(f"{a}+{b}={said}")
        if said == target or rng.random() < GIVES_UP:
            break
    return f"{' wait,'.join(written)} so\n{a}+{b}"


def rows(count: int, seed: str, *, apart_from: frozenset[str] = frozenset()) -> list[Row]:
    """Problems with a worked solution each, none of them among the questions `apart_from`."""
    rng, found = random.Random(seed), []
    while len(found) < count:
        numbers, target, (a, b) = problem(rng)
        asked = question(numbers, target)
        worked = solution(rng, numbers, target)
        if asked not in apart_from:
            found.append({"question": asked, "answer": f"{a}+{b}", "solution": worked})
    return found


def write(path: Path, some: list[Row]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in some), encoding="utf-8")


def tokenizer(some: list[Row]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, trained on the rows, as a chat tokenizer."""
    bpe = Tokenizer(models.BPE(unk_token=UNKNOWN))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + 96,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator((row[key] for row in some for key in ("question", "solution")), trainer)
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=bpe,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    return made
