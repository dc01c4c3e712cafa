# ruff: noqa: E501 - exact messages stand on one line
"""Roles that leave nothing to pay, channels of which there are not two, an audit that agrees with itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipe.test_check import HEAD, checked, refused


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (
            "verifier:\n  - {name: exact, role: gate}\n  - math",
            "a.yaml:4: `verifier.0.role = gate`: the first verifier decides what counts as right, so its role is reward; "
            "list `math` first",
        ),
        (
            "verifier: {name: exact, role: bonus}",
            "a.yaml:3: `verifier.role = bonus`: the first verifier decides what counts as right, so its role is reward; "
            "list a verifier of the answer before it",
        ),
        (
            "verifier:\n  - math\n  - {name: exact, role: gate, weight: 2}",
            "a.yaml:5: `verifier.1.weight = 2` is the weight of a gate, which pays nothing; take the weight out, or make it "
            "a bonus",
        ),
        (
            "verifier:\n  - math\n  - {name: exact, role: gate}\nalgorithm: {preset: gdpo}",
            "a.yaml:6: `algorithm.baseline = gdpo` normalises each reward by itself, and there is only one, of `math` (a "
            "gate pays none); list a second verifier, or set baseline to group_mean",
        ),
        (
            "verifier: [math, exact]\nalgorithm:\n  baseline: gdpo",
            "a.yaml:5: `algorithm.baseline = gdpo` normalises by group and by batch itself; `scale = group_std` would do so "
            "again; set scale to none",
        ),
        (
            "verifier: [math, exact]\nalgorithm: {preset: gdpo, correction: token_truncate}\nsampling: {replay: {share: 0.5}}",
            "a.yaml:5: `sampling.replay` stores one reward of a completion, and `algorithm.baseline = gdpo` needs each of "
            "them; take replay out, or set baseline to group_mean",
        ),
        (
            "audit: math",
            "a.yaml:3: `audit.name = math` is the verifier that trains, with the same options: it would agree with itself; "
            "name another verifier, or give it stricter options",
        ),
        (
            "audit: ./gone.py:check",
            "a.yaml:3: `audit.name`: gone.py does not exist; choose from: a.yaml",
        ),
    ],
)
def test_one_contradiction(tmp_path: Path, lines: str, fault: str) -> None:
    assert refused(tmp_path, f"{HEAD}{lines}\n") == [fault]


def test_what_is_meant_passes(tmp_path: Path) -> None:
    gated = "verifier: [math, {name: exact, role: gate}]\naudit: {name: exact, share: 0.5}\n"
    assert checked(tmp_path, HEAD + gated) == []
    two = "verifier: [math, {name: exact, role: bonus, weight: 0.5}]\nalgorithm: {preset: gdpo}\n"
    assert checked(tmp_path, HEAD + two) == []
    assert checked(tmp_path, f"{HEAD}verifier: math\naudit: {{name: math, boxed_only: true}}\n") == []
