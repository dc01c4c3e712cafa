"""What a run that is taken up again must share with the one that began: recipe, data, files, weights.

A new run writes hashes into its manifest; here they are compared.  Manifests of older runs hold fewer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlvr.errors import RecipeError, RunError
from rlvr.policy import checkpoint
from rlvr.policy.parallel import World
from rlvr.problems.sources import Source
from rlvr.recipe.load import Loaded, load
from rlvr.recipe.schema import Recipe
from rlvr.rollout.weights import checksums, has_adapter, named_weights
from rlvr.runs.folder import RunFolder
from rlvr.runs.manifest import Manifest, read_manifest, write_manifest

SAFE = (
    "run.steps",
    "run.tokens",
    "run.save_every",
    "run.keep",
    "run.verify_workers",
    "run.hopeless",
    "run.ranks",
    "run.rank_deadline",
    "vllm.servers",
    "vllm.key_file",
    "vllm.replicas",
    "vllm.deadline",
    "vllm.start_deadline",
    "vllm.failures",
    "eval",
    "audit",
    "sandbox",
)
"""Keys, and sections, that decide nothing of what a run learns."""
WARM_START, BASE = "warm_start.problems", "model"


def is_safe(key: str) -> bool:
    """Whether a key may change when a run is taken up."""
    return any(key == safe or key.startswith(f"{safe}.") for safe in SAFE)


def resumed_recipe(folder: RunFolder, changes: Sequence[str]) -> Loaded:
    """The recipe of a run folder with `KEY=VALUE` changes, its relative paths where they were.

    Raises RecipeError for changes that would make it another run, also those made in its file by hand.
    """
    loaded = load(folder.expanded_recipe, changes)
    unsafe = [change for change in changes if not is_safe(change.partition("=")[0].strip())]
    if unsafe:
        raise RecipeError(
            f"--set {unsafe[0]}: a run goes on as it began; at a resume only {', '.join(SAFE)}.* may change. "
            "Start a new run from its weights instead: --set model=RUN/checkpoints/STEP/model"
        )
    manifest, before = read_manifest(folder), load(folder.expanded_recipe)
    now = flat(before.recipe)
    given = [key for key in now if key in before.spots]  # others may be keys of a newer rlvr
    for key in [*given, *manifest.recipe] if manifest.recipe else ():
        then, found = manifest.recipe.get(key, "nothing"), now.get(key, "nothing")
        if then != found and not is_safe(key):
            raise RecipeError(
                f"{before.place(key)}: `{before.called(key)}` is {found} and was {then} when the run began: "
                "a run goes on as it began. Put it back, or start a new run from its weights: "
                "--set model=RUN/checkpoints/STEP/model"
            )
    return replace(loaded, path=Path(manifest.base_dir) / folder.expanded_recipe.name)


def flat(recipe: Recipe) -> dict[str, str]:
    """Every value of a recipe in words, by dotted key."""

    def walk(value: Any, above: str) -> dict[str, str]:
        parts = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        if not parts:
            return {above: json.dumps(value, default=str)}
        return {key: text for name, inner in parts for key, text in walk(inner, f"{above}.{name}").items()}

    return {key[1:]: text for key, text in walk(recipe.model_dump(), "").items()}


def file_hashes(recipe: Recipe, base_dir: Path, worked: Any | None, model: Any) -> dict[str, str]:
    """sha256 of what a recipe only names: verifier files, worked solutions, the weights below an adapter."""
    found: dict[str, str] = {}
    audits = [recipe.audit.verifier] if recipe.audit else []
    for verifier in [*recipe.verifier, *audits]:
        path = base_dir / verifier.name.partition(":")[0]
        if ":" in verifier.name and path.suffix == ".py" and path.is_file():
            found[f"verifier {path}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    if isinstance(worked, Sequence):
        digest = hashlib.sha256()
        for one in worked:
            digest.update(repr((one.problem.messages, one.solution, one.weight)).encode("utf-8", "replace"))
        found[WARM_START] = digest.hexdigest()
    if has_adapter(model):
        sums = sorted(checksums(named_weights(model)).items())
        found[BASE] = hashlib.sha256(json.dumps(sums).encode()).hexdigest()
    return found


def changed_files(before: Mapping[str, str], now: Mapping[str, str], *, is_warm: bool) -> list[str]:
    """Words for the record about verifiers edited since; RunError where the run cannot go on as it began.

    `is_warm`: the warm start is not over.
    """
    notes = []
    for name in before:
        if before[name] == now.get(name):
            continue
        hashes = f"sha256 {before[name][:12]} then, {now.get(name, 'gone')[:12]} now"
        if name == BASE:
            raise RunError(
                f"the model's own weights have changed since the run began ({hashes}), and its adapter was "
                "trained on the old ones; put them back, or start a new run"
            )
        if name == WARM_START:
            if is_warm:
                raise RunError(
                    f"the worked solutions have changed since the run began ({hashes}), and the warm start "
                    "is not over; put them back, or start a new run"
                )
            continue
        notes.append(f"{name} has changed since the run began ({hashes}): rewards may mean something else")
    return notes


def changed_sandbox(before: str, now: str, step: int) -> list[str]:
    """Words for the record where other walls hold the programs than until now."""
    if not before or before == now:
        return []
    return [f"sandbox until step {step}: {before}; from there on: {now or 'no verifier asks for one'}"]


def changed_ranks(before: Manifest, world: World, step: int) -> list[str]:
    """Words for the record where another number of ranks goes on: its sums are rounded otherwise."""
    if before.ranks == world.count:
        return []
    return [f"run.ranks until step {step}: {before.ranks}; from there on: {world.count}"]


def note_recipe(
    folder: RunFolder, recipe: Recipe, files: Mapping[str, str], sandbox: str, world: World
) -> None:
    """Bring the manifest up to what the resumed run uses."""
    manifest = read_manifest(folder)
    files = {**manifest.files, **files}
    changes = {"steps": recipe.run.steps, "recipe": flat(recipe), "files": files, "sandbox": sandbox}
    changes |= {"ranks": world.count, "hosts": world.hosts, "backend": world.backend}
    if any(getattr(manifest, key) != value for key, value in changes.items()):
        write_manifest(folder, manifest.model_copy(update=changes))


def something_to_continue(
    folder: RunFolder, restored: checkpoint.Checkpoint | None, damage: Sequence[str]
) -> None:
    """A run without a whole checkpoint may start over only while nothing of it would be lost."""
    if restored is None and any(folder.rollouts.glob("step-*")):
        why = "; ".join(damage) or f"{folder.checkpoints} holds none"
        raise RunError(
            f"{folder.path}: no checkpoint to continue from ({why}). Its record is left as it is: put a "
            "checkpoint back, or start a new run."
        )


def same_data(folder: RunFolder, source: Source) -> None:
    """RunError where the problems are others than those that the run began with."""
    before = read_manifest(folder).data_hash
    if source.fingerprint != before:
        raise RunError(
            f"{folder.path}: {source.name} has changed since the run began (sha256 {before[:12]} then, "
            f"{source.fingerprint[:12]} now); put the data back, or start a new run."
        )
