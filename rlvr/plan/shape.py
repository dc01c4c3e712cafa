"""The shape of a model, read off its config.json: parameters by part, as transformers builds them.

Read as JSON: neither torch nor transformers is imported, and no weights are touched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlvr.errors import ModelError
from rlvr.plan.families import FAMILIES, Family
from rlvr.recipe.files import is_local
from rlvr.recipe.load import Loaded
from rlvr.recipe.schema import Make

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
"""What every configuration says."""
CONTEXT = 32_768
"""Longest sequence, where a configuration names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear module of a decoder layer."""

    name: str
    """`q_proj`."""
    inputs: int
    """Width of what it reads."""
    outputs: int
    """Width of what it writes."""
    biased: bool = False
    """Whether it adds a bias."""

    @property
    def parameters(self) -> int:
        """Numbers in it."""
        return self.inputs * self.outputs + self.outputs * self.biased


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The widths of a decoder."""

    name: str
    """Of the model, for a person."""
    kind: str
    """Its `model_type`."""
    family: Family
    """What that means."""
    hidden: int
    """Width of the residual stream."""
    layers: int
    """Decoder layers."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key/value heads."""
    head_dim: int
    """Width of a head."""
    mlp: int
    """Inner width of a dense MLP."""
    vocabulary: int
    """Rows of the embedding."""
    tied: bool
    """Whether the output head is the embedding."""
    attention_bias: bool
    """`attention_bias` of the configuration."""
    mlp_bias: bool
    """`mlp_bias` likewise."""
    experts: int = 0
    """Experts of a sparse layer; 0: all layers are dense."""
    chosen: int = 0
    """Experts that a token goes through."""
    expert_mlp: int = 0
    """Inner width of an expert."""
    dense_layers: int = 0
    """Layers with a dense MLP in a model with experts."""
    window_layers: int = 0
    """Layers that attend to a sliding window."""
    window: int = 0
    """Its tokens."""
    context: int = CONTEXT
    """Longest sequence, in tokens."""
    notes: tuple[str, ...] = ()
    """What of this is a guess."""

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads, and of all value heads."""
        return self.kv_heads * self.head_dim

    def attention(self) -> list[Linear]:
        """The four projections of a layer."""
        asked = self.family.biases == "asked" and self.attention_bias
        read = asked or self.family.biases == "qkv"
        return [
            Linear(name="q_proj", inputs=self.hidden, outputs=self.queries, biased=read),
            Linear(name="k_proj", inputs=self.hidden, outputs=self.keys, biased=read),
            Linear(name="v_proj", inputs=self.hidden, outputs=self.keys, biased=read),
            Linear(name="o_proj", inputs=self.queries, outputs=self.hidden, biased=asked),
        ]

    def dense(self) -> list[Linear]:
        """The three projections of a dense MLP."""
        biased = self.family.has_mlp_bias and self.mlp_bias
        return [
            Linear(name="gate_proj", inputs=self.hidden, outputs=self.mlp, biased=biased),
            Linear(name="up_proj", inputs=self.hidden, outputs=self.mlp, biased=biased),
            Linear(name="down_proj", inputs=self.mlp, outputs=self.hidden, biased=biased),
        ]

    @property
    def sparse_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def router(self) -> int:
        """Parameters that choose a token's experts, a sparse layer."""
        return self.experts * self.hidden

    @property
    def expert(self) -> int:
        """Parameters of one expert."""
        return 3 * self.hidden * self.expert_mlp

    @property
    def embedding(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of the largest decoder layer."""
        mlp = self.experts * self.expert + self.router if self.sparse_layers else _count(self.dense())
        return _count(self.attention()) + mlp + self._norms

    @property
    def parameters(self) -> int:
        """All of them."""
        dense = self.layers - self.sparse_layers
        return (
            self.root
            + self.layers * (_count(self.attention()) + self._norms)
            + dense * _count(self.dense())
            + self.sparse_layers * (self.experts * self.expert + self.router)
        )

    @property
    def root(self) -> int:
        """Parameters outside the decoder layers: embedding, head, last norm."""
        return self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def active(self) -> int:
        """Weights of the layers' matrices that one token is multiplied with; the head is not among them."""
        dense = self.layers - self.sparse_layers
        return (
            self.layers * sum(m.inputs * m.outputs for m in self.attention())
            + dense * sum(m.inputs * m.outputs for m in self.dense())
            + self.sparse_layers * (self.chosen * self.expert + self.router)
        )

    def linears(self) -> Iterator[tuple[int, Linear]]:
        """(layers that have it, module) of every linear module in the decoder layers."""
        yield from ((self.layers, module) for module in self.attention())
        yield from ((self.layers - self.sparse_layers, module) for module in self.dense())

    @property
    def _norms(self) -> int:
        return self.family.norms * self.hidden + 2 * self.head_dim * self.family.has_head_norms


def shape_of(loaded: Loaded) -> Shape:
    """The shape of a recipe's model; ModelError names the fields that its configuration lacks."""
    model = loaded.recipe.model
    if model.make is not None:
        return made(model.make)
    name = model.name or ""
    if is_local("model.name", name) or Path(name).is_dir():
        folder = loaded.resolve(name) if is_local("model.name", name) else Path(name)
        return read(folder / "config.json", name)
    return read(_fetched(name, model.revision), name)


def made(make: Make) -> Shape:
    """The shape of a model that the recipe makes on the spot (rlvr/policy/model.py)."""
    from rlvr.problems.vocabulary import vocabulary_size

    return Shape(
        name="made on the spot",
        kind="qwen3",
        family=FAMILIES["qwen3"],
        hidden=make.hidden_size,
        layers=make.layers,
        heads=make.heads,
        kv_heads=make.kv_heads,
        head_dim=make.head_dim,
        mlp=make.mlp_size,
        vocabulary=vocabulary_size(make.tokenizer),
        tied=True,
        attention_bias=False,
        mlp_bias=False,
        context=make.context,
    )


def read(path: Path, name: str) -> Shape:
    """The shape in a config.json, of the model called `name`."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"model `{name}`: {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ModelError(f"model `{name}`: {path} is not JSON ({error}); is the download complete?") from None
    if not isinstance(config, dict):
        raise ModelError(f"model `{name}`: {path} is no configuration of a model: it holds no mapping")
    return shape(config, name, str(path))


def shape(config: Mapping[str, Any], name: str, place: str) -> Shape:
    """The shape that a configuration says; `place` is what errors call it."""
    notes = []
    inner = config.get("text_config")
    if isinstance(inner, dict):
        config = inner
        notes.append("only its text model is counted")
    kind = str(config.get("model_type", ""))
    family = FAMILIES.get(kind)
    if family is None:
        family = FAMILIES["llama"]
        notes.append(f"model_type `{kind}` is none that is counted exactly: taken for a llama of its sizes")
    width = family.expert_width
    if width and "num_local_experts" in config:
        config = {"num_experts": config["num_local_experts"], **config}
    wanted = [*NEEDED, *(("num_experts", "num_experts_per_tok", width) if width else ())]
    lacking = [key for key in dict.fromkeys(wanted) if not _is_size(config.get(key))]
    if lacking:
        said = ", ".join(f"{key} = {config[key]!r}" if key in config else key for key in lacking)
        raise ModelError(
            f"model `{name}`: {place} lacks {said}: a positive whole number each; "
            "save the model anew with save_pretrained, or complete the file"
        )
    heads = int(config["num_attention_heads"])
    layers = int(config["num_hidden_layers"])
    window_layers, window = _window(config, layers)
    return Shape(
        name=name,
        kind=kind,
        family=family,
        hidden=int(config["hidden_size"]),
        layers=layers,
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or family.head_dim or config["hidden_size"] // heads),
        mlp=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        attention_bias=bool(config.get("attention_bias")),
        mlp_bias=bool(config.get("mlp_bias")),
        experts=int(config["num_experts"]) if width else 0,
        chosen=int(config["num_experts_per_tok"]) if width else 0,
        expert_mlp=int(config[width]) if width else 0,
        dense_layers=_dense_layers(config, layers) if width else 0,
        window_layers=window_layers,
        window=window,
        context=int(config.get("max_position_embeddings") or CONTEXT),
        notes=tuple(notes),
    )


def _dense_layers(config: Mapping[str, Any], layers: int) -> int:
    """Layers without experts: those named, and all but every `decoder_sparse_step`-th."""
    named = set(config.get("mlp_only_layers") or ())
    step = int(config.get("decoder_sparse_step") or 1)
    return sum(layer in named or (layer + 1) % step != 0 for layer in range(layers))


def _window(config: Mapping[str, Any], layers: int) -> tuple[int, int]:
    """Layers of sliding-window attention, and its tokens."""
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return 0, 0
    kinds = config.get("layer_types")
    return (kinds.count("sliding_attention") if isinstance(kinds, list) else layers), int(window)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _count(modules: list[Linear]) -> int:
    return sum(module.parameters for module in modules)


def _fetched(name: str, revision: str | None) -> Path:
    """The config.json of a hub model, downloaded or from the cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    from rlvr.problems.hub import silence

    quiet = silence()
    try:
        return Path(hf_hub_download(name, "config.json", revision=revision, local_files_only=bool(quiet)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:  # not in the cache: an OSError too
        line = quiet or (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"model `{name}` is no folder here, and its config.json cannot be fetched from the hub: {line}; "
            "give a local folder that holds one: --set model=FOLDER"
        ) from None
