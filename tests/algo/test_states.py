"""Values of states to advantages, against the reference's numbers and against loops over plain floats."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlvr.algo.states import segment_ends, value_changes

FILE = Path(__file__).parents[2].parent / "shared/reference/golden_losses.json"


def changes(start, reward, states, columns):
    one = torch.tensor([start], dtype=torch.float64), torch.tensor([reward], dtype=torch.float64)
    return value_changes(*one, [states], columns)[0].tolist()


@pytest.mark.skipif(not FILE.exists(), reason="golden_losses.json is not beside this checkout")
def test_the_reference_program_of_vineppo_and_of_the_spo_tree():
    golden = json.loads(FILE.read_text())["credit"]
    vine = golden["vineppo"]
    start, *inner = vine["values"]
    states = tuple((2 * i + 2, value) for i, value in enumerate(inner))
    got = changes(start, vine["terminal_reward"], states, 8)
    assert got == pytest.approx([a for a in vine["step_advantages"] for _ in range(2)])
    assert sum(got) / 2 == pytest.approx(vine["expected_sum"])
    tree = golden["spo_tree"]
    for node, value in enumerate(tree["node_values"]):
        assert value == sum(tree["leaves"][node]) / 2
        for leaf, reward in enumerate(tree["leaves"][node]):
            path = [tree["level1_adv"][node], tree["level2_adv"][node][leaf]]
            assert changes(tree["root_value"], reward, ((1, value),), 2) == pytest.approx(path)


@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.sets(st.integers(1, n), max_size=n - 1).map(lambda cuts: sorted(c for c in cuts if c < n)),
        )
    ),
    st.lists(st.floats(-1, 1), min_size=14, max_size=14),
)
def test_a_token_gets_the_change_over_its_step(shape, numbers):
    length, cuts = shape
    start, reward = numbers[0], numbers[1]
    value = dict(zip(cuts, numbers[2:], strict=False))
    expected = []
    for token in range(length):
        before = max((cut for cut in cuts if cut <= token), default=None)
        after = min((cut for cut in cuts if cut > token), default=None)
        after_value = reward if after is None else value[after]
        expected.append(after_value - (start if before is None else value[before]))
    assert changes(start, reward, tuple(value.items()), length) == pytest.approx(expected)


@given(st.lists(st.floats(-3, 0), max_size=30), st.integers(1, 4), st.sampled_from([0.0, -0.1, -1.0]))
def test_segments_have_so_many_uncertain_tokens_and_begin_with_one(logprobs, tokens, limit):
    cuts = segment_ends(logprobs, tokens=tokens, log_probability=limit)
    expected, held = [], 0
    for place, logprob in enumerate(logprobs):
        if logprob <= limit:
            if held == tokens:
                expected.append(place)
                held = 0
            held += 1
    assert cuts == expected


def test_where_every_token_counts_segments_are_equally_long():
    assert segment_ends([-0.0] * 10, tokens=4, log_probability=0.0) == [4, 8]
