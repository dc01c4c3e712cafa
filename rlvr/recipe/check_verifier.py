"""Checks of a recipe's verifiers and its audit: see `check.py`."""

from __future__ import annotations

from collections.abc import Iterator

from rlvr.recipe.load import Loaded

Findings = Iterator[tuple[tuple[str, ...], str]]


def roles(loaded: Loaded) -> Findings:
    """Roles that leave nothing to be paid, or that cannot be where they stand."""
    listed = loaded.recipe.verifier
    first = listed[0]
    if first.role != "reward":
        others = [v.name for v in listed if v.role == "reward"]
        mend = f"list `{others[0]}` first" if others else "list a verifier of the answer before it"
        yield (
            ("verifier.0.role", "verifier"),
            f"`{loaded.called('verifier.0.role')} = {first.role}`: the first verifier decides what counts as "
            f"right, so its role is reward; {mend}",
        )
    for i, verifier in enumerate(listed):
        if verifier.role == "gate" and verifier.weight != 1.0:
            yield (
                (f"verifier.{i}.weight",),
                f"`{loaded.called(f'verifier.{i}.weight')} = {verifier.weight:g}` is the weight of a gate, "
                "which pays nothing; take the weight out, or make it a bonus",
            )


def channels(loaded: Loaded) -> Findings:
    """Rewards to be normalised one by one, of which there are not two."""
    recipe = loaded.recipe
    if recipe.algorithm.baseline != "gdpo":
        return
    paying = [verifier.name for verifier in recipe.verifier if verifier.role != "gate"]
    if len(paying) + (recipe.algorithm.overlong == "soft") < 2:
        yield (
            ("algorithm.baseline", "algorithm.preset", "verifier"),
            f"`algorithm.baseline = gdpo` normalises each reward by itself, and there is only one, of "
            f"`{paying[0] if paying else 'no verifier'}` (a gate pays none); list a second verifier, or set "
            "baseline to group_mean",
        )
    if recipe.sampling.replay is not None:
        yield (
            ("sampling.replay", "algorithm.baseline", "algorithm.preset"),
            "`sampling.replay` stores one reward of a completion, and `algorithm.baseline = gdpo` needs each "
            "of them; take replay out, or set baseline to group_mean",
        )
    if recipe.algorithm.scale != "none":
        yield (
            ("algorithm.scale", "algorithm.baseline", "algorithm.preset"),
            "`algorithm.baseline = gdpo` normalises by group and by batch itself; "
            f"`scale = {recipe.algorithm.scale}` would do so again; set scale to none",
        )


def audit(loaded: Loaded) -> Findings:
    """An audit that is the very verifier that trains."""
    audit, listed = loaded.recipe.audit, loaded.recipe.verifier
    if audit is None or len(listed) > 1:
        return
    if (audit.name, audit.model_extra) == (listed[0].name, listed[0].model_extra):
        yield (
            ("audit.name", "audit"),
            f"`audit.name = {audit.name}` is the verifier that trains, with the same options: it would agree "
            "with itself; name another verifier, or give it stricter options",
        )
