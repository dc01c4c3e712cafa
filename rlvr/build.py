"""From a recipe to objects: the one place where names become things.

The rooms take values, never a recipe.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlvr.errors import RecipeError, RunError, near_miss
from rlvr.eval.benchmarks import Benchmark, find, open_benchmark
from rlvr.policy import checkpoint
from rlvr.policy import model as models
from rlvr.problems.generators import GENERATORS, make_generator
from rlvr.problems.hub import silence_about
from rlvr.problems.pieces import token_bytes
from rlvr.problems.prompts import Renderer, texts
from rlvr.problems.rows import READERS
from rlvr.problems.sources import Source, open_source, worked_source
from rlvr.recipe import schema
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema_vllm import Vllm
from rlvr.rollout.engine import Engine, Tell, log
from rlvr.rollout.hf import HfEngine
from rlvr.rollout.vllm_settings import VllmSettings
from rlvr.runs.reader import find_run
from rlvr.sandbox.offer import LOUD, Offer, offer
from rlvr.verify.compose import Overlong, Scorer
from rlvr.verify.pool import Pool, Spec

if TYPE_CHECKING:
    from rlvr.algo.loss import Loss
    from rlvr.algo.pivots import Lexicon
    from rlvr.rollout.vllm_server import Fleet

logger = logging.getLogger(__name__)

ENGINES = ("auto", "hf", "vllm_local", "vllm_server")
NOT_ASKED = Offer()
"""No verifier asks for a sandbox."""


def resolve_run(name: str) -> Path | None:
    """The run folder that a person means by a path, a name under runs/ or `last`; None where it is none."""
    path = Path(name)
    if path.exists() or len(path.parts) > 1:
        return path if (path / "manifest.json").is_file() else None
    if name != "last" and not (Path("runs") / name / "manifest.json").is_file():
        return None
    return find_run(name).path


def resolve_model(name: str) -> str:
    """The model that a person means by a model folder, a hub name, a run or one of its checkpoints."""
    run, path = resolve_run(name), Path(name)
    if run is not None:
        faults: list[str] = []
        newest = checkpoint.latest(run / "checkpoints", on_damage=faults.append)
        if newest is None:
            raise RunError(f"{run}: this run has no whole checkpoint yet{''.join(f'; {f}' for f in faults)}")
        for fault in faults:
            logger.warning("%s", fault)
        return str(newest.model)
    if (path / "model" / "config.json").is_file() or (path / "model" / "adapter_config.json").is_file():
        return str(path / "model")
    return f"./{name}" if path.is_dir() and not path.is_absolute() and not name.startswith(".") else name


def load_policy(name: str, *, dtype: str, device: str, revision: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a folder or hub name."""
    quiet = silence_about(name)
    tokenizer = models.load_tokenizer(name, revision=revision, quiet=quiet)
    return models.load_model(name, revision=revision, dtype=dtype, device=device, quiet=quiet), tokenizer


def policy(loaded: Loaded, resumed: Path | None) -> tuple[Any, Any]:
    """The recipe's model and tokenizer; `resumed` is the model folder of a checkpoint to go on from."""
    spec, seed = loaded.recipe.model, loaded.recipe.run.seed
    if resumed is not None and spec.lora is None:
        model, tokenizer = load_policy(str(resumed), dtype=spec.dtype, device=spec.device)
    elif spec.make is not None:
        from rlvr.problems.vocabulary import make_tokenizer

        tokenizer = make_tokenizer(spec.make.tokenizer)
        sizes = spec.make.model_dump(exclude={"tokenizer"})
        made: Any = models.make_model(tokenizer, **sizes, seed=seed)
        model = made.to(models.resolve_device(spec.device), models.DTYPES[spec.dtype])
    else:
        assert spec.name is not None, "the schema asks for `name` or `make`"
        name = (
            str(loaded.resolve(spec.name).resolve()) if spec.name.startswith((".", "/", "~")) else spec.name
        )
        model, tokenizer = load_policy(name, dtype=spec.dtype, device=spec.device, revision=spec.revision)
    if spec.lora is not None:
        if resumed is not None:
            model = models.load_lora(model, resumed)
        else:
            lora = spec.lora
            model = models.add_lora(model, rank=lora.rank, alpha=lora.alpha, targets=lora.targets, seed=seed)
    if spec.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    return model, tokenizer


def renderer(tokenizer: Any, model: Any) -> Renderer:
    """Prompts in, texts out, for this model."""
    return Renderer(tokenizer, models.context_length(model), getattr(model, "generation_config", None))


def check_engine(name: str) -> None:
    """RecipeError with the near miss where there is no engine of that name."""
    if name not in ENGINES:
        raise RecipeError(f"there is no engine `{name}`{near_miss(name, ENGINES)}")


def choose_engine(name: str, model: Any) -> tuple[str, str | None]:
    """What an engine's name means for this model on this machine, and words for the record where it chose."""
    check_engine(name)
    if name != "auto":
        return name, None
    if not _on_gpu(model):
        return "hf", "sampling.engine auto -> hf: the model is not on a GPU"
    try:
        import vllm  # noqa: F401
    except Exception as error:  # noqa: BLE001 - a package beside it that does not fit raises anything
        return "hf", f"sampling.engine auto -> hf: vLLM does not import ({error}); see `rlvr doctor`"
    return "vllm_local", "sampling.engine auto -> vllm_local"


def engine(
    name: str,
    model: Any,
    tokenizer: Any,
    *,
    batch_size: int,
    vllm: Vllm,
    base_dir: Path = Path(),
    tell: Tell = log,
    first_wait_s: float | None = None,
    trainers: int = 1,
) -> Engine:
    """The rollout engine called `name`, as `choose_engine` gave it, with `model`'s weights as version 0.

    Servers started here leave the first GPUs to so many `trainers`.
    `first_wait_s`: how long `vllm.servers` may take to answer at first; by default as long as to start.
    """

    def decode(rows: Sequence[Sequence[int]]) -> list[str]:
        return texts(tokenizer, rows)

    if name == "hf":
        return HfEngine(model, decode, pad_id=tokenizer.pad_token_id, slots=batch_size)
    settings = _vllm_settings(model, vllm, batch_size)
    tell(f"starting the engine {name}")
    if name == "vllm_local":
        from rlvr.rollout.vllm_local import VllmLocal

        return VllmLocal(model, decode, settings, tell=tell)
    from rlvr.rollout.vllm_server import VllmServer

    fleet = _fleet(vllm, settings, base_dir, first_wait_s, trainers)
    return VllmServer(model, decode, settings, fleet, tell=tell)


def _fleet(
    vllm: Vllm, settings: VllmSettings, base_dir: Path, first_wait_s: float | None, trainers: int
) -> Fleet:
    """The servers to start or to find, and how weights get there."""
    from rlvr.rollout.vllm_server import Fleet

    cpus, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    own_gpus = settings.on_gpu and gpus >= vllm.replicas * vllm.tensor_parallel + trainers
    by_group = vllm.transfer == "group" or (vllm.transfer == "auto" and own_gpus and not vllm.servers)
    if vllm.transfer == "group" and settings.on_gpu and not own_gpus:
        raise RecipeError(
            f"vllm.transfer = group: NCCL needs GPUs beside the trainer's, {gpus} are visible; use files"
        )
    return Fleet(
        replicas=vllm.replicas,
        urls=vllm.servers,
        key=_key(vllm, base_dir) if vllm.servers else "",
        patience_s=first_wait_s,
        threads=None if settings.on_gpu else max(1, cpus // (vllm.replicas + 1)),
        first_gpu=trainers if own_gpus else 0,
        backend=("nccl" if settings.on_gpu else "gloo") if by_group else None,
    )


def _vllm_settings(model: Any, vllm: Vllm, batch_size: int) -> VllmSettings:
    adapters = getattr(model, "peft_config", {})
    return VllmSettings(
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        on_gpu=_on_gpu(model),
        context=models.context_length(model),
        sequences=batch_size,
        lora_rank=next((int(adapter.r) for adapter in adapters.values()), None),
        memory_share=vllm.memory_share,
        kv_cache_bytes=vllm.kv_cache,
        tensor_parallel=vllm.tensor_parallel,
        eager=vllm.eager,
        sleep=vllm.sleep,
        deadline_s=vllm.deadline,
        start_s=vllm.start_deadline,
        failures=vllm.failures,
        options=vllm.options,
    )


def _on_gpu(model: Any) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")


def _key(vllm: Vllm, base_dir: Path) -> str:
    path = base_dir / Path(vllm.key_file).expanduser()
    try:
        key = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"vllm.key_file: {path} cannot be read ({error}); `rlvr serve` writes it"
        ) from error
    if not key:
        raise RecipeError(f"vllm.key_file: {path} is empty; `rlvr serve` writes it")
    return key


@contextmanager
def scorer(
    verifiers: Sequence[schema.Verifier],
    workers: int,
    base_dir: Path,
    *,
    overlong: Overlong = "keep",
    overlong_buffer: int = 1,
    max_tokens: int = 1,
    sandbox: Offer = NOT_ASKED,
    is_separate: bool = False,
) -> Iterator[Scorer]:
    """Worker processes that run the verifiers; all gone when the block ends.

    `sandbox` is what they may run programs in; `is_separate` keeps the rewards of several apart.
    """
    specs = [spec_of(verifier, base_dir) for verifier in verifiers]
    with Pool(specs, workers, sandbox=sandbox.named) as pool:
        yield Scorer(pool, specs, overlong, overlong_buffer, max_tokens, is_separate=is_separate)


def sandbox(
    verifiers: Sequence[tuple[schema.Verifier, Path]],
    section: schema.Sandbox,
    *,
    unsafe: bool = False,
    tell: Tell = log,
) -> Offer:
    """What verifiers, each with its base folder, run programs in; nothing is tried where none asks for it.

    Loads each of them once: VerifierError says which cannot be, or does not take its options.  SandboxError
    where no program would run.
    """
    with Pool([spec_of(verifier, base_dir) for verifier, base_dir in verifiers], 1) as pool:
        if "sandbox" not in pool.wants:
            return NOT_ASKED
    made = offer(unsafe=unsafe, remote=section.remote, kind=section.kind)
    if made.is_unsafe:
        tell(LOUD)
    return made


def spec_of(verifier: schema.Verifier, base_dir: Path) -> Spec:
    """A verifier of a recipe as a pool takes it."""
    return Spec(
        name=verifier.name,
        options=dict(verifier.model_extra or {}),
        timeout_s=verifier.timeout,
        memory_bytes=verifier.memory,
        weight=verifier.weight,
        role=verifier.role,
        base_dir=base_dir,
    )


def data_dir(loaded: Loaded, environment: str | None) -> Path | None:
    """Where local copies of hub data sets lie: the recipe's `data_dir`, else RLVR_DATA_DIR."""
    if loaded.recipe.data_dir is not None:
        return loaded.resolve(loaded.recipe.data_dir)
    return Path(environment) if environment else None


def source(spec: schema.Problems, base_dir: Path, data: Path | None) -> Source:
    """The problems of a recipe section."""
    return open_source(**spec.model_dump(exclude={"curriculum"}), base_dir=base_dir, data_dir=data)


def worked(spec: schema.WarmStart, problems: schema.Problems, base_dir: Path, data: Path | None) -> Any:
    """Worked solutions: a generator with `worked(index)`, or a sequence of `Worked` read from file or hub."""
    rows = spec.problems or problems
    if rows.source in GENERATORS:
        return make_generator(rows.source, split=rows.split, options=rows.options)
    keys = rows.model_dump(
        include={"source", "subset", "split", "revision", "question", "prompt", "system", "limit"}
    )
    return worked_source(**keys, solution=spec.solution, base_dir=base_dir, data_dir=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A benchmark of a recipe, ready to be measured."""

    benchmark: Benchmark
    """Its row of the table, or one made for a file."""
    source: Source
    """Its problems."""
    verifier: schema.Verifier
    """Who checks them."""


def benchmarks(recipe: schema.Recipe, base_dir: Path, data: Path | None) -> list[HeldOut]:
    """The held-out sets of a recipe; a file is asked and checked as the recipe's own problems are."""
    opened: list[HeldOut] = []
    for name in recipe.eval.benchmarks:
        is_file = Path(name).suffix in READERS
        row = find(str(base_dir / Path(name).expanduser()) if is_file else name)
        verifier = schema.Verifier.model_validate({"name": row.verifier})
        if is_file:
            asked = recipe.problems.model_dump(include={"question", "answer", "answer_after", "prompt"})
            verifier = recipe.verifier[0]
            row = replace(row, **asked, verifier=verifier.name)
        if row.name in {other.benchmark.name for other in opened}:
            raise RecipeError(f"eval.benchmarks: two are called `{row.name}`; rename one")
        rows = open_benchmark(row, data_dir=data, base_dir=base_dir, limit=recipe.eval.limit)
        opened.append(HeldOut(benchmark=row, source=rows, verifier=verifier))
    return opened


def lexicon(spec: schema.Pivots, tokenizer: Any) -> Lexicon:
    """The pivot words of a recipe, in the tokens of its model."""
    from rlvr.algo.pivots import LEXICON, Lexicon

    words = [word for language in spec.languages for word in LEXICON[language]]
    return Lexicon([*words, *spec.words], token_bytes(tokenizer))


def loss(spec: schema.Algorithm) -> Loss:
    """The loss of an `algorithm` section."""
    from rlvr.algo.loss import Loss

    return Loss(**spec.model_dump(include=set(Loss.__dataclass_fields__)))
