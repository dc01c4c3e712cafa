"""What `rlvr eval` measures: a model, or a run with the recipe that says how its problems are asked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr.cli.terminal import Terminal
from rlvr.errors import RecipeError

if TYPE_CHECKING:
    from rlvr.eval.benchmarks import Benchmark
    from rlvr.problems.prompts import Renderer
    from rlvr.recipe.schema import Recipe, Sandbox, Verifier
    from rlvr.recipe.schema_vllm import Vllm
    from rlvr.rollout.engine import Engine

FIRST_WAIT_S = 20.0
"""Who measures sits before the terminal: servers that do not answer by then were not started."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model by the name that a person gave."""

    name: str
    """Model folder, hub name, run or checkpoint."""
    run: Path | None = None
    """Its run folder, where it is a run."""
    recipe: Recipe | None = None
    """That run's recipe."""

    @classmethod
    def called(cls, name: str) -> Subject:
        """The subject of that name, its recipe read."""
        from rlvr import build
        from rlvr.recipe.load import load
        from rlvr.runs.folder import RunFolder

        run = build.resolve_run(name)
        return cls(name, run, load(RunFolder(run).expanded_recipe).recipe if run is not None else None)

    def asked(self) -> dict[str, str | None]:
        """How a run asks its problems, for files measured with that run; nothing for a model.

        Nulls count: with `answer: null` the tests stand in other fields.
        """
        if self.recipe is None:
            return {}
        asked = self.recipe.problems.model_dump(include={"question", "answer", "answer_after", "prompt"})
        return asked | {"verifier": self.recipe.verifier[0].name}

    def checker(self, benchmark: Benchmark) -> tuple[Verifier, Path]:
        """The benchmark's verifier, with the run's options where it is the run's own, and its base folder."""
        from rlvr.recipe.schema import Verifier
        from rlvr.runs.folder import RunFolder
        from rlvr.runs.manifest import read_manifest

        if self.run is not None and self.recipe is not None and Path(benchmark.source).suffix:
            own = self.recipe.verifier[0]
            if own.name == benchmark.verifier:
                return own, Path(read_manifest(RunFolder(self.run)).base_dir)
        return Verifier.model_validate({"name": benchmark.verifier}), Path()

    def folder(self, model_hash: str) -> Path:
        """Where records go: a run's own `evals`, else `evals/NAME-HASH` here."""
        if self.run is not None:
            return self.run / "evals" / f"model-{model_hash[:8]}"
        path = Path(self.name)
        name = re.sub(r"[^\w.-]+", "-", path.resolve().name if path.exists() else self.name).strip("-")
        return Path("evals") / f"{name}-{model_hash[:8]}"


@dataclass(frozen=True, slots=True)
class Answering:
    """A model that is ready to be asked."""

    renderer: Renderer
    """Problems to tokens."""
    engine: Engine
    """Who samples."""
    model_hash: str
    """Of its weights."""


@contextmanager
def answering(
    subject: Subject, *, engine: str, vllm: Vllm, dtype: str, device: str, batch_size: int
) -> Iterator[Answering]:
    """Load the model and start its engine; vLLM's is proven to sample from this very model."""
    from rlvr import build
    from rlvr.policy import model as models
    from rlvr.rollout.proof import prove

    if dtype not in models.DTYPES:
        raise RecipeError(f"--dtype {dtype}: must be {' or '.join(models.DTYPES)}")
    models.resolve_device(device, key="--device")
    build.check_engine(engine)
    model, tokenizer = build.load_policy(build.resolve_model(subject.name), dtype=dtype, device=device)
    renderer, tell = build.renderer(tokenizer, model), Terminal()
    chosen, note = build.choose_engine(engine, model)
    if note is not None:
        tell(note)
    started = build.engine(
        chosen, model, tokenizer, batch_size=batch_size, vllm=vllm, tell=tell, first_wait_s=FIRST_WAIT_S
    )
    try:
        if chosen != "hf":
            prove(started, model, 0, context=renderer.context)
        yield Answering(renderer, started, models.fingerprint(model))
    finally:
        started.close()


def vllm_section(servers: Sequence[str], key_file: Path | None) -> Vllm:
    """The recipe section that --server and --key-file stand for."""
    from rlvr.recipe.schema_vllm import Vllm

    for server in servers:
        if not server.startswith("http://"):
            raise RecipeError(f"--server {server}: must be an address such as http://127.0.0.1:8000")
    given: dict[str, Any] = {"servers": list(servers)}
    return Vllm.model_validate(given | ({"key_file": str(key_file.absolute())} if key_file else {}))


def sandbox_section(subject: Subject, remote: str | None, kind: str) -> Sandbox:
    """The recipe section that --sandbox and --sandbox-kind stand for; without them the run's own, if any."""
    from pydantic import ValidationError

    from rlvr.recipe.schema import Sandbox

    if remote is None:
        if kind:
            raise RecipeError("--sandbox-kind is how to talk to an executor: give its address, --sandbox URL")
        return subject.recipe.sandbox if subject.recipe is not None else Sandbox()
    given = {"remote": remote} | ({"kind": kind} if kind else {})
    try:
        return Sandbox.model_validate(given)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        wanted = {"remote": "an address such as http://10.0.0.5:8080", "kind": "sandboxfusion or piston"}
        option = {"remote": "--sandbox", "kind": "--sandbox-kind"}[key]
        raise RecipeError(f"{option} {given[key]}: must be {wanted[key]}") from None
