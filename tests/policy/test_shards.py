"""Optimizer state goes back to the model it is of, and to no other."""

from pathlib import Path

import pytest
import torch

from rlvr.errors import RunError
from rlvr.policy import checkpoint, optim, shards
from rlvr.policy.parallel import ONE


def stepped(features, rank=4, *, offload=False):
    """A low-rank model after a step, and its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(features, rank), torch.nn.Linear(rank, features))
    optimizer = optim.adamw(
        model.parameters(),
        learning_rate=0.1,
        betas=(0.9, 0.99),
        epsilon=1e-8,
        weight_decay=0.0,
        offload=offload,
    )
    model(torch.ones(1, features)).sum().backward()
    optim.step([optimizer], 0.1, 1.0)
    return model, optimizer


def shared(folder, model, optimizers):
    """A checkpoint as several ranks write one, by one rank that has all."""
    path = folder / "step-000001"
    (path / "model").mkdir(parents=True)
    shards.save(path / "shards", model, optimizers, ONE)
    return checkpoint.Checkpoint(path=path, state={})


def whole(folder, model, optimizers):
    """A checkpoint as one rank writes it."""
    path = checkpoint.save(
        folder, "step-000001", write_model=Path.mkdir, model=model, optimizers=optimizers, state={}, keep=1
    )
    return checkpoint.Checkpoint(path=path, state={})


@pytest.mark.parametrize("write", [whole, shared])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"features": 16}, r"exp_avg.* is \[4, 8\], the parameter \[4, 16\]"),
        ({"features": 8, "rank": 2}, r"exp_avg.* is \[4, 8\], the parameter \[2, 8\]"),
        ({"features": 8, "offload": True}, r"`optim.offload`"),
    ],
)
def test_optimizer_state_of_another_model_is_refused(tmp_path, write, other, words):
    model, optimizer = stepped(8)
    found = write(tmp_path, model, [optimizer])
    again, empty = stepped(8)
    empty.state.clear()
    found.load_optimizers(again, [empty])
    for before, after in zip(model.parameters(), again.parameters(), strict=True):
        for key, value in optimizer.state[before].items():
            torch.testing.assert_close(empty.state[after][key], value, rtol=0, atol=0)
    model, optimizer = stepped(**other)
    file = found.path / ("shards" if write is shared else "trainer.pt")
    with pytest.raises(
        RunError, match=f"{file}: this optimizer state is not .*{words}.*--set model={found.model}"
    ):
        found.load_optimizers(model, [optimizer])


@pytest.mark.parametrize(
    ("write", "words"), [(whole, "2 optimizers"), (shared, "no parameter for 12 of them")]
)
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_optimizer_state_of_more_than_there_is_is_refused(tmp_path, write, words):
    model, optimizer = stepped(8)
    found = write(tmp_path, model, [optimizer, optimizer])
    with pytest.raises(RunError, match=words):
        found.load_optimizers(model, [optimizer])
