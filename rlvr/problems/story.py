"""The quickstart's task: mini word problems that are easy with a chain of thought and a guess without.

    Ana has 6. Fay has 2 fewer than Ana. Bo has 3 times as many as Fay. How many does Bo have?
    <think>Ana:6. Fay:6-2=4. Bo:3*4=12</think><answer>12

A problem belongs to the `test` split when the hash of its whole text falls into one bucket of ten, so
training and held-out problems are disjoint by construction, whatever the seeds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import blake2b, sha256

from rlvr.errors import ProblemsError, near_miss
from rlvr.types import Message, Problem, Worked

NAMES = (
    "Ana",
    "Bo",
    "Cy",
    "Dee",
    "Eli",
    "Fay",
    "Gus",
    "Hal",
    "Ida",
    "Jo",
    "Kim",
    "Lou",
    "Max",
    "Ned",
    "Ora",
    "Pia",
)
PHRASES = {"+": " more than ", "-": " fewer than ", "*": " times as many as "}
VOCABULARY = (
    *"0123456789",
    *NAMES,
    *PHRASES.values(),
    *(" has ", ". ", "How many does ", " have?"),
    *("<think>", "</think>", "<answer>", ":", "+", "-", "*", "="),
)
"""Every piece of text that a problem or a solution is made of; the tokens of the story model."""

TEST_BUCKETS = 10
LARGEST = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    name: str
    value: int
    text: str
    """The sentence in the problem."""
    working: str
    """How a solver writes it down."""


class Story:
    """Endless source of word problems; each is a pure function of (seed, split, index)."""

    size = None

    def __init__(
        self,
        *,
        split: str,
        seed: int = 0,
        shortest: int = 3,
        longest: int = 5,
        distractors: int = 1,
        guesses: float = 3.0,
    ) -> None:
        """Chains of `shortest` to `longest` people; at most `distractors` people who do not matter.

        `guesses` is the weight of the answer given without any working among the worked solutions.
        """
        if split not in ("train", "test"):
            raise ProblemsError(f"story has no split `{split}`{near_miss(split, ('train', 'test'))}")
        if not 2 <= shortest <= longest or longest + distractors > len(NAMES):
            raise ProblemsError(
                f"story: shortest = {shortest}, longest = {longest}, distractors = {distractors}: "
                f"must be 2 <= shortest <= longest <= {len(NAMES)} - distractors"
            )
        self.name = f"story:{split}"
        self.split = split
        self.seed = seed
        self.shortest, self.longest, self.distractors, self.guesses = shortest, longest, distractors, guesses
        settings = f"story-1 {split} {seed} {shortest} {longest} {distractors}"
        self.fingerprint = sha256(settings.encode()).hexdigest()

    def __getitem__(self, index: int) -> Problem:
        text, chain = self._draw(index)
        return Problem(
            id=f"story-{self.seed}-{self.split}-{index}",
            messages=(Message(role="user", content=text),),
            answer=chain[-1].value,
            source=self.name,
            meta={"steps": len(chain)},
        )

    def worked(self, index: int) -> list[Worked]:
        """Two habits to start from: the working written out, and a blind guess.

        The guess is any number, right by luck alone.
        """
        problem = self[index]
        _, chain = self._draw(index)
        guess = random.Random(f"guess {problem.id}").randint(0, LARGEST)
        working = ". ".join(fact.working for fact in chain)
        return [
            Worked(problem=problem, solution=f"<think>{working}</think><answer>{problem.answer}"),
            Worked(problem=problem, solution=f"<think></think><answer>{guess}", weight=self.guesses),
        ]

    def _draw(self, index: int) -> tuple[str, list[_Fact]]:
        attempt = 0
        while True:
            key = f"{self.seed} {self.split} {index} {attempt}".encode()
            rng = random.Random(int.from_bytes(blake2b(key, digest_size=8).digest()))
            text, chain = self._compose(rng)
            if (_bucket(text) == 0) == (self.split == "test"):
                return text, chain
            attempt += 1

    def _compose(self, rng: random.Random) -> tuple[str, list[_Fact]]:
        length = rng.randint(self.shortest, self.longest)
        extra = rng.randint(0, self.distractors)
        names = rng.sample(NAMES, length + extra)
        chain = [_given(rng, names[0])]
        for name in names[1:length]:
            chain.append(_derive(rng, name, chain[-1]))
        facts = list(chain)
        for name in names[length:]:
            facts.insert(rng.randrange(1, len(facts) + 1), _given(rng, name))
        return ". ".join(f.text for f in facts) + f". How many does {chain[-1].name} have?", chain


def _given(rng: random.Random, name: str) -> _Fact:
    value = rng.randint(1, 9)
    return _Fact(name=name, value=value, text=f"{name} has {value}", working=f"{name}:{value}")


def _derive(rng: random.Random, name: str, other: _Fact) -> _Fact:
    choices = []
    for sign, operands in (("+", range(1, 10)), ("-", range(1, 10)), ("*", range(2, 4))):
        fitting = [n for n in operands if 0 <= _apply(sign, other.value, n) <= LARGEST]
        if fitting:
            choices.append((sign, fitting))
    sign, fitting = rng.choice(choices)
    operand = rng.choice(fitting)
    value = _apply(sign, other.value, operand)
    text = f"{name} has {operand}{PHRASES[sign]}{other.name}"
    return _Fact(name=name, value=value, text=text, working=f"{name}:{other.value}{sign}{operand}={value}")


def _apply(sign: str, value: int, operand: int) -> int:
    return value + operand if sign == "+" else value - operand if sign == "-" else value * operand


def _bucket(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) % TEST_BUCKETS
