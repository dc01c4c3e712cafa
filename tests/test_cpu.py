"""Products of linear layers by oneDNN are torch's own; memory that was freed is used again."""

import copy
import platform
import subprocess
import sys

import pytest
import torch

from rlvr.cpu import LEAST_ROWS, Linear, is_faster, round_up, take_faster
from rlvr.policy.model import add_lora
from tests.tiny import tiny

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this build of torch has no oneDNN"
)
PAGES = """
import ctypes, resource, torch
from rlvr.cpu import keep_memory
torch.set_num_threads(1)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(12 * 2**20)  # 48 MiB: malloc's own rules give back what is above 32
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
gave_back = faults()
keep_memory()
faults()
print(gave_back, faults())
"""


def pair(into, out, bias=True):
    torch.manual_seed(0)
    plain = torch.nn.Linear(into, out, bias)
    fast = copy.deepcopy(plain)
    fast.__class__ = Linear
    return plain, fast


def names(node):
    """Of an autograd graph's nodes."""
    return {node.name()}.union(*(names(before) for before, _ in node.next_functions if before))


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("into", "out"), [(24, 80), (80, 24), (1, 7), (64, 64)])
@pytest.mark.parametrize("shape", [(LEAST_ROWS,), (1, 1088), (4, 17)])
def test_results_and_gradients_are_those_of_torch(shape, into, out, bias):
    plain, fast = pair(into, out, bias)
    torch.manual_seed(1)
    x, push = torch.randn(*shape, into), torch.randn(*shape, out)
    found = []
    for layer in (plain, fast):
        own = x.clone().requires_grad_()
        y = layer(own)
        y.backward(push)
        found.append([y, own.grad, *(p.grad for p in layer.parameters())])
    assert "_ProductBackward" in names(fast(x).grad_fn), "oneDNN was not asked"
    for mine, theirs in zip(found[1], found[0], strict=True):
        assert mine.shape == theirs.shape
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x), atol=2e-5, rtol=1e-5)


@needs_onednn
def test_frozen_weights_and_inputs_have_no_gradient():
    _, fast = pair(8, 8)
    x = torch.randn(LEAST_ROWS, 8)
    fast(x).sum().backward()
    assert x.grad is None
    assert fast.weight.grad is not None
    fast.weight.requires_grad_(False)
    fast.weight.grad = None
    fast(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    assert fast.weight.grad is None


@pytest.mark.parametrize("x", [torch.randn(LEAST_ROWS - 1, 8), torch.randn(LEAST_ROWS + 1, 8)])
def test_numbers_of_rows_that_do_not_come_again_are_left_to_torch(x):
    plain, fast = pair(8, 8)
    assert torch.equal(fast(x), plain(x))


def test_other_types_are_left_to_torch():
    plain, fast = pair(8, 8)
    x = torch.randn(LEAST_ROWS, 8).bfloat16()
    assert torch.equal(fast.bfloat16()(x), plain.bfloat16()(x))


def test_other_devices_are_left_to_torch():
    """A model that is moved to a GPU keeps its class."""
    _, fast = pair(8, 8)
    y = fast.to("meta")(torch.zeros(LEAST_ROWS, 8, device="meta"))
    assert y.shape == (LEAST_ROWS, 8)
    assert "_ProductBackward" not in names(y.grad_fn)


def test_rows_are_rounded_up_by_little_and_to_few_numbers():
    rounded = [round_up(rows) for rows in range(1, 16_385)]
    assert rounded[: LEAST_ROWS - 1] == list(range(1, LEAST_ROWS))
    for rows, to in enumerate(rounded, start=1):
        assert rows <= to <= rows * 17 / 16
        assert round_up(to) == to
    assert len({to for to in rounded if to >= LEAST_ROWS}) == 8 * 16 + 1


def test_models_take_it_where_it_is_faster():
    model = tiny()[0]
    take_faster(model)
    kinds = {type(part) for part in model.modules() if isinstance(part, torch.nn.Linear)}
    assert kinds == {Linear if is_faster() else torch.nn.Linear}
    adapted = add_lora(model, rank=2, alpha=4, targets="all-linear", seed=0)
    assert adapted(torch.ones(1, 3, dtype=torch.long)).logits.isfinite().all()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_was_freed_is_not_asked_for_anew():
    said = subprocess.run([sys.executable, "-c", PAGES], capture_output=True, text=True, check=True)
    gave_back, kept = map(int, said.stdout.split())
    assert gave_back > 10_000 > 100 > kept
