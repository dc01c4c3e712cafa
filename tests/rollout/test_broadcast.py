"""A process group carries any tensor to the bit, and does not wait for ever."""

import threading
import time

import pytest
import torch

from rlvr.rollout.broadcast import Broadcast, described, own_address

WEIGHTS = [
    ("matrix", torch.randn(5, 7)),
    ("transposed", torch.randn(4, 6).T),
    ("half", torch.randn(9).bfloat16()),
    ("scalar", torch.tensor(3.5)),
    ("empty", torch.empty(0, 4)),
    ("integers", torch.arange(6)),
]


def first(size, timeout_s=10.0):
    return Broadcast(host="127.0.0.1", port=0, rank=0, size=size, backend="gloo", timeout_s=timeout_s)


@pytest.mark.parametrize("others", [1, 2])
def test_everything_arrives_to_the_bit_and_again(others):
    sender = first(1 + others)
    got = {rank: [] for rank in range(1, 1 + others)}

    def receive(rank):
        end = Broadcast(**sender.place(), rank=rank)
        end.meet()
        for _ in range(2):
            got[rank].append(dict(end.receive(**described(WEIGHTS), device=torch.device("cpu"))))

    threads = [threading.Thread(target=receive, args=(rank,)) for rank in got]
    for thread in threads:
        thread.start()
    sender.meet()
    for sign in (1, -1):
        sender.send(sign * tensor for _, tensor in WEIGHTS)
    for thread in threads:
        thread.join(10)
    for rounds in got.values():
        for sign, found in zip((1, -1), rounds, strict=True):
            assert list(found) == [name for name, _ in WEIGHTS]
            for name, tensor in WEIGHTS:
                assert found[name].dtype == tensor.dtype
                assert torch.equal(found[name], sign * tensor), name


def test_who_waits_alone_gives_up():
    sender = first(2, timeout_s=1.0)
    started = time.monotonic()
    with pytest.raises(RuntimeError):
        sender.meet()
    assert time.monotonic() - started < 10


def test_the_address_is_the_one_that_the_server_can_reach():
    assert own_address("http://127.0.0.1:8000") == "127.0.0.1"
