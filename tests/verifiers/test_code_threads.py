"""The `code` verifier in several threads of one process, as a data check uses it."""

import gc
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from rlvr_verifiers.code.prelude import parse

SOURCE = "\n".join(
    f"def f{i}(a, b):\n    return [x * (a + b) for x in (1, (2, (3, {i})))]" for i in range(100)
)


@pytest.fixture
def collector_with_a_hook():
    """A collection that runs Python lets another thread go on in the middle of a tree, as hypothesis does."""

    def hook(*_):
        sum(range(2000))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    gc.callbacks.append(hook)
    yield
    gc.callbacks.remove(hook)
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("collector_with_a_hook")
def test_trees_of_several_threads_do_not_disturb_each_other():
    with ThreadPoolExecutor(6) as threads:
        trees = list(threads.map(parse, [SOURCE] * 200))
    assert [len(tree.body) for tree in trees] == [100] * 200
