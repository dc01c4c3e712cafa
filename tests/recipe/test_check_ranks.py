"""What several ranks cannot do is refused before anything is loaded, with its place."""

import pytest

from rlvr.errors import RecipeError
from rlvr.recipe.check import check, check_ranks
from rlvr.recipe.load import find, load


def test_what_is_for_one_process_is_refused_with_several():
    key = "optim.offload=true"
    alone = load(find("quickstart"), [key, "sampling.engine=hf"])
    check(alone)
    check_ranks(alone, 1)
    with pytest.raises(RecipeError, match=rf"--set {key}: .*for one process"):
        check_ranks(alone, 2)
    with pytest.raises(RecipeError, match=rf"--set {key}: .*for one process"):
        check(load(find("quickstart"), [key, "sampling.engine=hf", "run.ranks=2"]))


def test_a_deadline_shorter_than_signs_of_life_is_refused():
    with pytest.raises(RecipeError, match=r"run.rank_deadline.*5"):
        load(find("quickstart"), ["run.rank_deadline=0.1"])
