"""Two ranks, real processes over gloo, that hold half of the groups each, learn what one does of them all."""

import pytest
import torch
import torch.distributed as dist

from rlvr.algo.ranks import Together
from rlvr.policy import parallel
from rlvr.policy.parallel import World
from rlvr.recipe.presets import PRESETS
from tests.algo.steps import loss_of, terms_of
from tests.algo.test_properties import VARIANTS, batch
from tests.algo.test_updates import REWARDS, trained
from tests.spawned import spawn
from tests.tiny import tiny

BY_LAYER = ", by layer"
BAND = {"correction_low": 0.5, "correction_high": 2.0}  # narrower ones reject all that was made up here
HALVES = ({0, 2}, {1, 3})
"""Groups of each rank: an update of two takes one of either, as it takes the first two of one rank."""
IDLE = ({0, 1, 2, 3}, set())
"""The second rank has no group at all."""
LAYERS = ("default, 1", "dapo, 2", "uneven", "idle gspo", "bonus")
"""Also with weights gathered layer by layer, as those of large models are."""
IDLERS = ("default", "dapo", "gspo", "gdpo", "lp_reg", "m2po", "forking20", "reinforce_pp", "spro")
SILENT = (*REWARDS[:1], (None,) * 4, *REWARDS[2:3], (None,) * 4)
"""The second rank has nothing that counts."""
CASES = {
    **{f"{preset}, {n}": (preset, n, REWARDS, HALVES, {}) for preset in PRESETS for n in (1, 2)},
    "passk, 1": ("passk", 1, REWARDS, HALVES, {"baseline": "pass_at_2"}),
    "passk, 2": ("passk", 2, REWARDS, HALVES, {"baseline": "pass_at_2"}),
    "uneven": ("magistral", 1, REWARDS, ({0, 1, 3}, {2}), {}),
    "top of the entropies": ("forking20", 1, REWARDS, ({0, 1, 3}, {2}), {"denominator": "kept"}),
    "bonus": ("dapo", 2, REWARDS, HALVES, {"entropy": "bonus", "entropy_coef": 0.1}),
    "bonus below its target": (
        "skywork_or1", 1, REWARDS, HALVES, {"entropy_coef": 0.1, "entropy_target": 9.0},
    ),
    **{f"silent {preset}": (preset, 1, SILENT, HALVES, {}) for preset in ("dapo", "lp_reg", "m2po")},
    **{f"idle {preset}": (preset, 2, REWARDS, IDLE, {}) for preset in IDLERS},
}  # fmt: skip
ROWS = (list(range(4)) + list(range(8, 12)), list(range(4, 8)))
"""Sequences of each rank in the batch of test_properties: two groups and one."""


def world(rank):
    return World(rank=rank, count=2, device=torch.device("cpu"))


def of_case(name, rank=None, ranks=None):
    name = name.removesuffix(BY_LAYER)
    preset, minibatches, rewards, halves, changes = CASES[name]
    here = {} if ranks is None else {"own": halves[rank], "ranks": ranks, "world": world(rank)}
    return trained(preset, 40, minibatches, rewards, **here, **BAND | changes)


def coefficients(variant, seed, rank=None, ranks=None):
    preset, changes = VARIANTS[variant]
    x = batch(seed)
    if ranks is None:
        return terms_of(loss_of(preset, **changes), x).coefficient
    own = {name: values[ROWS[rank]] for name, values in x.items()}
    own["group"] = torch.unique(own["group"], return_inverse=True)[1]
    return terms_of(loss_of(preset, **changes), own, None, ranks).coefficient


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    ranks = Together(device=torch.device("cpu"))
    updated = {name: of_case(name, rank, ranks) for name in CASES}
    parallel.SMALL_BYTES = 0
    updated |= {name + BY_LAYER: of_case(name, rank, ranks) for name in LAYERS}
    pushed = {(v, seed): coefficients(v, seed, rank, ranks) for v in VARIANTS for seed in range(3)}
    # More updates than this rank has groups: it takes part in each, or the other would wait for ever.
    more, _ = trained("dapo", 40, 3, own=({0, 1, 3}, {2})[rank], ranks=ranks, world=world(rank), **BAND)
    torch.save((updated, pushed, more), f"{folder}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What either rank computed, for all tests here."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, str(folder))
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *(name + BY_LAYER for name in LAYERS)])
def test_gradient_and_metrics_are_those_of_one_rank(found, name):
    start = torch.nn.utils.parameters_to_vector(tiny()[0].parameters()).detach()
    expected, metrics = of_case(name)
    assert float((expected - start).abs().max()) > 1e-6, "nothing moved: nothing is compared"
    for updated, _, _ in found:
        parameters, own_metrics = updated[name]
        torch.testing.assert_close(parameters, expected, atol=2e-6, rtol=0)
        assert own_metrics.keys() == metrics.keys()
        for metric, value in metrics.items():
            if not metric.startswith("time/"):
                assert own_metrics[metric] == pytest.approx(value, rel=1e-4, abs=1e-7), metric


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_coefficients_are_those_of_one_rank(found, variant):
    for seed in range(3):
        whole = coefficients(variant, seed)
        for rank, (_, pushed, _) in enumerate(found):
            torch.testing.assert_close(pushed[variant, seed], whole[ROWS[rank]], atol=1e-8, rtol=1e-6)


@pytest.mark.slow
def test_a_rank_of_few_groups_takes_part_in_every_update(found):
    (_, _, one), (_, _, other) = found
    torch.testing.assert_close(one, other, atol=0, rtol=0)
