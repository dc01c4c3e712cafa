"""What `rlvr doctor` says of the sandbox."""

from dataclasses import replace

import pytest

from rlvr.doctor import diagnose
from rlvr.sandbox.api import Isolation
from tests.test_doctor import CPU


@pytest.mark.parametrize(
    ("tier", "words"), [("A", "namespaces, Landlock and seccomp"), ("B", "without namespaces")]
)
def test_a_tier_is_told_in_words_and_where_to_read_on(tier, words):
    held = Isolation(tier=tier, open_doors=("kernel: shared",), refusals=())
    row = next(row for row in diagnose(replace(CPU, sandbox=held)) if row.check == "sandbox")
    assert (row.status, row.fix) == ("ok", "")
    assert words in row.found
    assert f"tier {tier}; open: kernel: shared" in row.found
    assert "docs/sandbox.md" in row.found
