"""Which sandbox is offered, and what is said where none is to be had."""

import pytest

from rlvr.errors import RecipeError
from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.offer import LOCAL, REMOTE, UNSAFE, Offer, offer
from rlvr.verify.worker import make_sandbox
from tests.sandbox.executor import executor


def test_the_best_tier_of_this_machine_is_offered_and_no_other():
    made = offer()
    assert made.named in (f"{LOCAL} A", f"{LOCAL} B")
    assert made.words.startswith(f"tier {made.named[-1]}")
    assert "open: kernel" in made.words
    assert not made.is_unsafe
    with make_sandbox(made.named) as box:
        assert box.tier == made.named[-1]


def test_without_walls_everything_is_said_to_be_open():
    made = offer(unsafe=True)
    assert (made.named, made.is_unsafe) == (UNSAFE, True)
    assert made.words.startswith("tier none; open: everything")


def test_nothing_is_said_where_nobody_asks():
    assert (Offer().words, Offer().is_unsafe) == ("", False)


@pytest.mark.parametrize("kind", ["sandboxfusion", "piston"])
def test_an_executor_is_asked_to_run_a_program(kind):
    with executor() as url:
        made = offer(remote=url, kind=kind)
    assert made.named == f"{REMOTE} {url} {kind}"
    assert made.words.startswith("tier R; open: the executor's own isolation")
    with pytest.raises(SandboxError, match=rf"no {kind} executor .* answers at {url} .*mend the address"):
        offer(remote=url, kind=kind)


def test_an_executor_elsewhere_and_no_isolation_here_contradict_each_other():
    with pytest.raises(RecipeError, match=r"`sandbox.remote` is set: drop one"):
        offer(remote="http://127.0.0.1:9", unsafe=True)
