"""A server's command and place: which GPUs it takes, and what its log says of its end."""

import pytest

from rlvr.errors import EngineError
from rlvr.rollout.replica import chosen_gpus


@pytest.mark.parametrize(
    ("wanted", "visible", "expected"),
    [
        ([0], None, "0"),
        ([0, 1], "", "0,1"),
        ([1], "4,5,6", "5"),
        ([1, 2], "4, 5,6", "5,6"),
        ([0], "GPU-8f7a", "GPU-8f7a"),
        (range(1, 3), None, "1,2"),
    ],
)
def test_gpus_are_numbers_among_those_that_are_visible(wanted, visible, expected):
    assert chosen_gpus(wanted, visible) == expected


def test_a_gpu_outside_of_the_allotment_is_not_taken():
    with pytest.raises(EngineError, match=r"need 2 GPUs, .*shows 1"):
        chosen_gpus([1], "3")
