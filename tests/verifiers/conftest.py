"""What the tests of verifiers share."""

import pytest

from rlvr.sandbox.api import SandboxError
from rlvr.sandbox.local import LocalSandbox


@pytest.fixture(scope="module")
def sandbox():
    """The best sandbox that this machine has."""
    with LocalSandbox() as made:
        try:
            assert made.tier
        except SandboxError as error:
            pytest.skip(f"this machine has no sandbox: {error}")
        yield made
