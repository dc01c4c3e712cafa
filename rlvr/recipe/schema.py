"""What a recipe may say.  The line under each key is its documentation (`rlvr recipe explain KEY`).

Frozen pydantic: an unknown key is an error, every key but `model` and `problems` has a default.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from rlvr.errors import near_miss
from rlvr.recipe.schema_algorithm import Algorithm as Algorithm
from rlvr.recipe.schema_practice import Curriculum, Replay
from rlvr.recipe.schema_verifier import Audit as Audit
from rlvr.recipe.schema_verifier import Sandbox as Sandbox
from rlvr.recipe.schema_verifier import Verifier as Verifier
from rlvr.recipe.schema_vllm import Vllm
from rlvr.recipe.units import FROZEN, Fraction, Seconds


class Make(BaseModel):
    """A Qwen3-architecture model made on the spot with random weights."""

    model_config = FROZEN
    hidden_size: int = Field(default=64, ge=8)
    """Width of the residual stream."""
    layers: int = Field(default=4, ge=1)
    """Decoder layers."""
    heads: int = Field(default=2, ge=1)
    """Query heads."""
    kv_heads: int = Field(default=1, ge=1)
    """Key/value heads; divides `heads`."""
    head_dim: int = Field(default=32, ge=4)
    """Width of a head; even."""
    mlp_size: int = Field(default=192, ge=8)
    """Inner width of the MLP."""
    context: int = Field(default=512, ge=8)
    """Longest sequence, in tokens."""
    tokenizer: str = "bytes"
    """Vocabulary: `bytes` (any text) or the name of a problem generator with its own, such as `story`."""


class Lora(BaseModel):
    """Train a low-rank adapter and leave the weights alone (needs the `lora` extra)."""

    model_config = FROZEN
    rank: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale: the adapter's output is multiplied by alpha / rank."""
    targets: str | list[str] = "all-linear"
    """Names of the modules adapted, or `all-linear`."""


class Model(BaseModel):
    """The policy.  `model: NAME` is short for `model: {name: NAME}`."""

    model_config = FROZEN
    name: str | None = None
    """Folder or hub name of a transformers causal language model."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    make: Make | None = None
    """Instead of `name`: make a small random model on the spot."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights and of the forward pass; log-probabilities are always float32."""
    device: str = "auto"
    """`auto` (the GPU if there is one), `cpu`, `cuda`, `cuda:1`."""
    lora: Lora | None = None
    """Adapter to train instead of the weights."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""

    @model_validator(mode="after")
    def _one_origin(self) -> Model:
        if (self.name is None) == (self.make is None):
            raise ValueError("give exactly one of `name` (a model that exists) and `make` (a new random one)")
        return self


class Problems(BaseModel):
    """Source of problems, and how a row becomes a prompt.  `problems: NAME` is short for `{source: NAME}`."""

    model_config = FROZEN
    source: str
    """Hub data set (`openai/gsm8k`), file by the recipe (.jsonl, .json, .parquet), or generator (`story`)."""
    subset: str | None = None
    """Configuration of the hub data set (`main`)."""
    split: str = "train"
    """Split of the data set or generator."""
    revision: str | None = None
    """Branch, tag or commit of the hub data set."""
    question: str = "{question}"
    """Template over the row's fields that gives the question; a row field `messages` is used as it is."""
    answer: str | None = "{answer}"
    """Template of the answer; a bare `{field}` keeps lists and numbers; null: other fields hold the tests."""
    answer_after: str | None = None
    """Keep only what follows the last such marker in the answer (`####` for GSM8K)."""
    prompt: str = "plain"
    """Name of a prompt (`plain`, `boxed`, `answer_tag`) or a text with `{question}` in it."""
    system: str | None = None
    """System message."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many rows only."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of a generator."""
    curriculum: Curriculum | None = None
    """Ask by success rate; null asks every problem once an epoch."""


class WarmStart(BaseModel):
    """Supervised steps on worked solutions before the reinforcement learning (an R1-style cold start)."""

    model_config = FROZEN
    problems: Problems | None = None
    """Rows with solutions; by default the recipe's own problems, where their generator writes solutions."""
    solution: str = "{solution}"
    """Template over the row's fields that gives the solution to imitate."""
    steps: int = Field(default=500, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=32, ge=1)
    """Worked solutions a step."""
    learning_rate: float = Field(default=2e-3, gt=0)
    """Peak learning rate."""
    warmup_steps: int = Field(default=20, ge=0)
    """Steps of linear rise; the rate falls linearly to 0 over the second half."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    """Adam's two decay rates."""
    save_every: int = Field(default=200, ge=0)
    """Steps between checkpoints of the warm start; 0 saves none before its end."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` orthogonalises the updates of hidden matrices (torch.optim.Muon), AdamW does the rest."""


class SamplingKeys(BaseModel):
    """Rollouts, from the full distribution (no top-p or top-k): what is sampled is what is trained."""

    model_config = FROZEN
    engine: Literal["auto", "hf", "vllm_local", "vllm_server"] = "auto"
    """`hf`: the transformers model itself; vLLM in this process or in servers; `auto` chooses and says so."""
    group_size: int = Field(default=8, ge=2)
    """Completions a problem; advantages compare them."""
    temperature: float = Field(default=1.0, gt=0)
    """Divides the logits, in sampling and in training alike."""
    max_tokens: int = Field(default=512, ge=1)
    """Tokens of a completion at most."""
    batch_size: int = Field(default=512, ge=1)
    """Sequences that an engine (each vLLM server) decodes at once."""
    max_lag: int = Field(default=0, ge=0)
    """Weight versions that sampling may lag behind, while the trainer updates (vllm_server); 0: in turns."""
    carry: float = Field(default=0.0, ge=0, le=1)
    """Share of a step's groups that may be unfinished at its end and join a later one; 0 waits for all."""
    carry_steps: int = Field(default=1, ge=1)
    """Such a group is waited for so many steps later; its first tokens are at most so many versions older."""
    replay: Replay | None = None
    """Rare right completions that come back; null keeps none."""


LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "pt", "ru", "zh")
"""Languages with a list of pivot words (rlvr/algo/pivots.py)."""


class Pivots(BaseModel):
    """Words with which a solution turns round (wait, but, instead): the run watches whether they starve."""

    model_config = FROZEN
    languages: list[str] = ["en"]
    """Languages whose lists of such words are watched: de, en, es, fr, ja, ko, pt, ru, zh."""
    words: list[str] = Field(default_factory=list)
    """More words or phrases; capitals and line breaks do not matter."""

    @field_validator("languages")
    @classmethod
    def _have_lists(cls, given: list[str]) -> list[str]:
        for language in given:
            if language not in LANGUAGES:
                raise ValueError(f"`{language}` is no language with a list{near_miss(language, LANGUAGES)}")
        return given

    @field_validator("words")
    @classmethod
    def _are_words(cls, given: list[str]) -> list[str]:
        if "" in (word.strip() for word in given):
            raise ValueError("an empty word would be found everywhere; leave it out")
        return given


class Optim(BaseModel):
    """The optimizer and the size of its step."""

    model_config = FROZEN
    learning_rate: float = Field(default=1e-6, gt=0)
    """Peak learning rate of AdamW."""
    problems_per_step: int = Field(default=32, ge=1)
    """Groups that a step trains on; sequences = problems_per_step x group_size."""
    minibatches: int = Field(default=1, ge=1)
    """Optimizer updates a step; each takes an equal share of the groups."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Tokens in one forward and backward pass, a group's prompt once; bounds memory, changes no gradient."""
    packing: Literal["auto", "off"] = "auto"
    """`auto`: no padding and a prompt once for its group, where the model can; `off`: padded, by length."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps of linear rise of the learning rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """After the rise: constant, or down to 0 at the last step."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.95)
    """Adam's two decay rates."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Adam's epsilon."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are scaled down to this norm."""
    offload: bool = False
    """Keep AdamW's state and float32 weights in host memory and step there: less GPU memory, slower steps."""


class Eval(BaseModel):
    """Held-out measurement during the run."""

    model_config = FROZEN
    benchmarks: list[str] = Field(default_factory=list)
    """Names from the benchmark table (`rlvr eval --list`) or .jsonl files."""
    every: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates before the first and after the last step only."""
    samples: int = Field(default=1, ge=1)
    """Completions a problem (k of avg@k)."""
    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus mass kept."""
    top_k: int = Field(default=0, ge=0)
    """Most likely tokens kept; 0 keeps all."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of a completion at most; by default `sampling.max_tokens`."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first so many problems of each benchmark only."""


class Run(BaseModel):
    """The run and its folder."""

    model_config = FROZEN
    name: str | None = None
    """Name of the run folder; by default the recipe's name and the time."""
    dir: str = "runs"
    """Folder that holds run folders."""
    steps: int = Field(default=100, ge=0)
    """Steps of reinforcement learning."""
    tokens: int | None = Field(default=None, ge=1)
    """End after the step by which training has sampled so many tokens, if `steps` do not end it first."""
    save_every: int = Field(default=50, ge=0)
    """Steps between checkpoints; 0 saves the last only."""
    keep: int = Field(default=3, ge=1)
    """Newest checkpoints kept; the last step's is always among them."""
    seed: int = Field(default=0, ge=0)
    """Seeds everything: model making, order of problems, every completion."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; by default all cores."""
    hopeless: Literal["refuse", "go_on"] = "refuse"
    """Where the start teaches nothing: 128, all cut, unanswered or failed; 512 of 64 problems, none right."""
    ranks: int | None = Field(default=None, ge=1)
    """Processes on this machine that share the work and the weights; by default one a GPU, or one."""
    rank_deadline: Seconds = Field(default=600.0, ge=5)
    """A rank that is silent, or keeps the others waiting, for so long ends the run, which can be resumed."""
    verify_workers: int | None = Field(default=None, ge=1)
    """Processes that run verifiers; by default the number of cores, at most 8."""


class Recipe(BaseModel):
    """A whole training run."""

    model_config = FROZEN
    model: Model
    """The policy."""
    problems: Problems
    """What it practises on."""
    data_dir: str | None = None
    """Folder of local copies of hub data sets, laid out as NAME/SPLIT.jsonl; RLVR_DATA_DIR is the same."""
    warm_start: WarmStart | None = None
    """Supervised steps first."""
    verifier: list[Verifier] = Field(default_factory=lambda: [Verifier(name="math")], min_length=1)
    """One verifier or a list; the first decides what counts as right."""
    audit: Audit | None = None
    """A second verifier that looks for reward hacking."""
    sandbox: Sandbox = Field(default_factory=lambda: Sandbox())
    """Where programs run."""
    sampling: SamplingKeys = Field(default_factory=lambda: SamplingKeys())
    """Rollouts."""
    vllm: Vllm = Field(default_factory=lambda: Vllm())
    """The vLLM engines."""
    algorithm: Algorithm = Field(default_factory=lambda: Algorithm.model_validate({}))
    """The loss."""
    pivots: Pivots = Field(default_factory=lambda: Pivots())
    """Pivot words."""
    optim: Optim = Field(default_factory=lambda: Optim())
    """The optimizer."""
    eval: Eval = Field(default_factory=lambda: Eval())
    """Held-out measurement."""
    run: Run = Field(default_factory=lambda: Run())
    """The run."""

    @model_validator(mode="before")
    @classmethod
    def _expand_short_forms(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        full = dict(given)
        for key, name in (("model", "name"), ("problems", "source"), ("audit", "name")):
            if isinstance(full.get(key), str):
                full[key] = {name: full[key]}
        verifiers = full.get("verifier")
        if isinstance(verifiers, str | dict):
            verifiers = [verifiers]
        if isinstance(verifiers, list):
            full["verifier"] = [{"name": v} if isinstance(v, str) else v for v in verifiers]
        return full
