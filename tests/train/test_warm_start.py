"""The supervised steps: one is the same packed, padded and in small micro-batches."""

import copy

import pytest
import torch

from rlvr import build
from rlvr.problems.generators import make_generator
from rlvr.train.warm_start import _pack, examples, imitate
from tests.tiny import tiny


def batch_of(model, tokenizer, count=12):
    worked = examples(make_generator("story", split="train", options={}), 0, 0, count)
    return _pack(worked, build.renderer(tokenizer, model), torch.device("cpu"))


def imitated(model, batch, budget, packed):
    model = copy.deepcopy(model)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.0)]
    rows = torch.arange(len(batch.lengths_B))
    loss = imitate(model, optimizers, batch, 0.5, budget, rows, packed=packed)
    return loss, torch.nn.utils.parameters_to_vector(model.parameters()).detach()


@pytest.mark.parametrize(("budget", "packed"), [(10**6, True), (60, True), (1, True), (60, False)])
def test_a_step_is_the_same_packed_and_padded(budget, packed):
    model, tokenizer = tiny()
    batch = batch_of(model, tokenizer)
    expected, moved = imitated(model, batch, 10**6, packed=False)
    loss, found = imitated(model, batch, budget, packed)
    start = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    assert float((moved - start).abs().max()) > 1e-3
    assert loss == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(found, moved, atol=2e-6, rtol=0)


def test_two_solutions_of_a_problem_share_its_prompt():
    batch = batch_of(*tiny())
    numbers = batch.group_B.tolist()
    assert len(set(numbers)) == 6
    for row, number in enumerate(numbers):
        length = int(batch.prompt_lengths_B[row])
        assert torch.equal(batch.ids_BT[row, :length], batch.ids_BT[number, :length])
