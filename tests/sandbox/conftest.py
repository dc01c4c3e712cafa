"""The sandbox of this machine, in each of its tiers."""

import os

import pytest

from rlvr.sandbox.api import Sandbox, SandboxError
from rlvr.sandbox.local import LocalSandbox
from tests.sandbox.traces import below, gone


@pytest.fixture(scope="module", params=["A", "B", "none"])
def sandbox(request) -> Sandbox:
    with LocalSandbox(request.param) as made:
        try:
            assert made.tier == request.param
        except SandboxError as error:
            pytest.skip(f"this machine has no tier {request.param}: {error}")
        yield made
        family = below(os.getpid())
    assert gone(family, within_s=1.0)
