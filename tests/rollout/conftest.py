"""Real engines of vLLM, started once a file."""

import pytest

from tests.rollout import vllm_cases as cases


@pytest.fixture(scope="module")
def rack():
    with cases.rack() as held:
        yield held


@pytest.fixture
def tied(rack):
    return cases.taken(rack, "tied")
