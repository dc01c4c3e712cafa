"""Pivot words: found in tokens, and their numbers, against loops over plain Python floats."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr.algo.pivots import LEXICON, NOISE, RARE, Lexicon, marks, push_metrics, push_sums, rare_tokens, usage
from rlvr.recipe.schema import LANGUAGES
from rlvr.types import Completion
from tests.algo.steps import loss_of, terms_of
from tests.algo.test_properties import batch
from tests.checkout import ROOT

PIECES = [
    b"",
    b" wait",
    b" W",
    b"ait",
    b",",
    b" butter",
    b" but",
    b"let me",
    b" ",
    b"check",
    b"\n",
    b"er",
    b"no",
]
EMPTY, WAIT, W, AIT, COMMA, BUTTER, BUT, LET_ME, SPACE, CHECK, NEWLINE, ER, NO = range(len(PIECES))


def completion(*tokens, logprobs=None):
    return Completion(token_ids=tokens, logprobs=logprobs or (-0.5,) * len(tokens), text="", finish="stop")


@pytest.mark.parametrize(
    ("tokens", "places"),
    [
        ((WAIT, COMMA, WAIT), [(0, 1), (2, 3)]),
        ((NO, W, AIT, COMMA), [(1, 3)]),
        ((BUTTER, BUT, ER, BUT), [(3, 4)]),
        ((NO, NEWLINE, LET_ME, NEWLINE, SPACE, CHECK), [(2, 6)]),
        ((NO, LET_ME, SPACE, CHECK), []),
        ((W, EMPTY, AIT, 999), [(0, 3)]),
        ((AIT, ER), []),
        ((), []),
    ],
    ids=[
        "space",
        "capital, in two",
        "not in butter",
        "a phrase",
        "not inside a word",
        "unknown ids",
        "a part",
        "none",
    ],
)
def test_words_are_found_whatever_the_tokens(tokens, places):
    lexicon = Lexicon(["wait", "but", "let me check"], PIECES)
    assert [(at.start, at.stop) for at in lexicon.find(tokens)] == places


def test_every_language_has_its_list_and_finds_its_own_words():
    assert sorted(LEXICON) == sorted(LANGUAGES)
    for language, words in LEXICON.items():
        text = "".join(f"1. {word} 2, {word.upper()}. " for word in words)
        bytewise = Lexicon(words, [bytes([value]) for value in range(256)])
        found = [text.encode()[at.start : at.stop].decode().casefold() for at in bytewise.find(text.encode())]
        assert found == [word.casefold() for word in words for _ in range(2)], language
    assert Lexicon([], [b"wait"]).find([0]) == []


def test_the_docs_list_the_words():
    told = (ROOT / "docs" / "exploration.md").read_text(encoding="utf-8")
    for language, words in LEXICON.items():
        assert f"| {language} | {', '.join(words)} |" in told


def test_usage_and_marks():
    said = [
        completion(NO, W, AIT, COMMA, BUT, logprobs=(-0.1, -1.0, -0.25, -0.5, -3.0)),
        completion(NO, COMMA),
        completion(WAIT, logprobs=(-2.0,)),
    ]
    lexicon = Lexicon(["wait", "but"], PIECES)
    assert usage(lexicon, said) == {
        "pivot/words": 3.0,
        "pivot/rate": 1000 * 3 / 8,
        "pivot/probability": pytest.approx((math.exp(-1.25) + math.exp(-3.0) + math.exp(-2.0)) / 3),
    }
    assert usage(lexicon, said[1:2]) == {"pivot/words": 0.0, "pivot/rate": 0.0}
    assert marks(lexicon, said, 6).int().tolist() == [[0, 1, 1, 0, 1, 0], [0] * 6, [1, 0, 0, 0, 0, 0]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), cuts=st.sets(st.integers(1, 11), max_size=4))
def test_pushes(seed, cuts):
    """-C (1 - pi) of each token of a real loss, however the step is split."""
    x = batch(seed)
    pivot = torch.rand(x["mask"].shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    coefficient = terms_of(loss_of("default"), x).coefficient
    down, push, all_push, count = 0, [], [], int(x["mask"].sum())
    for c, p, is_pivot in zip(
        coefficient[x["mask"]].tolist(),
        x["logp"][x["mask"]].exp().tolist(),
        pivot[x["mask"]].tolist(),
        strict=True,
    ):
        all_push.append(max(0.0, -c * (1 - p)))
        if is_pivot:
            down += c < 0
            push.append(all_push[-1])
    sums = {"tokens": count}
    for first, last in pairwise([0, *sorted(cuts), 12]):
        part = push_sums(
            coefficient[first:last], x["logp"][first:last], pivot[first:last], x["mask"][first:last]
        )
        sums = {name: sums.get(name, 0.0) + part.get(name, 0.0) for name in {*sums, *part}}
    found = push_metrics(sums)
    assert push, "no pivot token: nothing is compared"
    assert found["pivot/pushed_down_share"] == pytest.approx(down / len(push))
    expected = (sum(push) / len(push)) / (sum(all_push) / count)
    assert found["pivot/push_ratio"] == pytest.approx(expected, rel=1e-5)
    assert push_metrics({"tokens": 7.0, "pivot_tokens": 0.0}) == {}


def test_rare_tokens_are_unlikely_but_no_noise():
    """Four tokens of each of some distributions, beside their definition."""
    logits = torch.randn(50, 30, generator=torch.Generator().manual_seed(1)) * 2.5
    mask = torch.rand(50, 4, generator=torch.Generator().manual_seed(2)) < 0.8
    picked = torch.randint(0, 30, (50, 4), generator=torch.Generator().manual_seed(3))
    logprobs = logits.log_softmax(-1)
    peak = logprobs.amax(-1, keepdim=True).expand(50, 4)
    found = rare_tokens(logprobs.gather(-1, picked), peak, mask)
    kinds = set()
    for row in range(50):
        p = logits[row].double().softmax(-1).tolist()
        for column in range(4):
            mine = p[picked[row, column]]
            kind = "common" if mine >= RARE else "noise" if mine < NOISE * max(p) else "rare"
            assert bool(found[row, column]) == (bool(mask[row, column]) and kind == "rare")
            kinds.add(kind)
    assert kinds == {"common", "noise", "rare"}
