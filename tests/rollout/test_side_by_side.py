"""Generators in threads: everything comes; an error or an early end leaves no thread, nor another number."""

import threading
import time
from functools import partial
from itertools import count

import pytest
import torch

from rlvr.rollout.side_by_side import side_by_side


@pytest.fixture(autouse=True)
def _four_threads():
    before, torch_before = threading.active_count(), torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(torch_before)
    assert threading.active_count() == before, "no thread stays"


def numbers(first, stop):
    """Two numbers and how many threads torch has here."""
    yield first
    yield first + 1
    yield torch.get_num_threads()


def endless(stop):
    for number in count():
        if stop.is_set():
            return
        yield number
        time.sleep(0.001)


def failing(stop):
    yield "one"
    raise ValueError("broken")


def test_all_parts_yield_and_share_the_threads_out():
    found = list(side_by_side([partial(numbers, 10), partial(numbers, 20)]))
    assert sorted(found) == [2, 2, 10, 11, 20, 21]
    assert sorted(side_by_side([partial(numbers, 10 * n) for n in range(1, 7)]))[:6] == [1] * 6


def test_the_parts_run_at_the_same_time():
    meeting = threading.Barrier(2)

    def waits(stop):
        meeting.wait(timeout=20)
        yield True

    assert list(side_by_side([waits, waits])) == [True, True]


def test_an_error_ends_the_others_and_is_raised():
    with pytest.raises(ValueError, match="broken"):
        list(side_by_side([endless, failing]))


def test_a_caller_that_stops_listening_ends_all():
    heard = side_by_side([endless, endless])
    assert next(heard) == 0
    heard.close()
